//! Two agents meet over real UDP sockets on loopback, driven by nothing but blocking calls.
//!
//! `cargo run -p towline-ice --example pair`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use towline_ice::{
    Action, Agent, Candidate, Config, Description, Disposition, Event, Role, SelectedPath, Transport,
};

struct Side {
    name: &'static str,
    agent: Agent,
    socket: UdpSocket,
    address: SocketAddr,
}

impl Side {
    fn new(name: &'static str, role: Role, seed: [u8; 32]) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(5)))?;
        let address = socket.local_addr()?;
        let mut agent = Agent::new(Config::default(), role, Instant::now(), seed);
        agent.add_local(Instant::now(), Candidate::host(Transport::Udp, address, 0));
        Ok(Self { name, agent, socket, address })
    }

    /// The driving rule: after every call that changes the agent, do what it wants.
    fn drain(&mut self) -> io::Result<()> {
        while let Some(action) = self.agent.poll_action() {
            // Without TCP candidates there are no other actions.
            if let Action::SendUdp { remote, payload, .. } = action {
                self.socket.send_to(&payload, remote)?;
            }
        }
        while let Some(event) = self.agent.poll_event() {
            if let Event::Selected { path, role, rtt, .. } = event {
                println!("{}: {path:?} as {role:?}, round trip {rtt:?}", self.name);
            }
        }
        Ok(())
    }

    /// Waits a moment for a datagram; returns application data.
    fn turn(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.agent.poll_timeout().is_some_and(|at| at <= Instant::now()) {
            self.agent.handle_timeout(Instant::now());
        }
        self.drain()?;
        let mut buffer = [0; 2048];
        let data = match self.socket.recv_from(&mut buffer) {
            Ok((len, remote)) => {
                let packet = &buffer[..len];
                let disposition = self.agent.handle_udp(Instant::now(), self.address, remote, packet);
                matches!(disposition, Disposition::Data | Disposition::Early).then(|| packet.to_vec())
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => None,
            Err(e) => return Err(e),
        };
        self.drain()?;
        Ok(data)
    }
}

fn main() -> io::Result<()> {
    // A program takes its seeds from the operating system.
    let mut a = Side::new("a", Role::Controlling, [1; 32])?;
    let mut b = Side::new("b", Role::Controlled, [2; 32])?;

    // The descriptions travel as text, by whatever means two devices have.
    let (from_a, from_b) = (a.agent.local_description().to_blob(), b.agent.local_description().to_blob());
    print!("a says:\n{from_a}b says:\n{from_b}");
    let read = |blob: &str| Description::from_blob(blob.as_bytes()).map_err(io::Error::other);
    a.agent.set_remote(Instant::now(), read(&from_b)?.description);
    b.agent.set_remote(Instant::now(), read(&from_a)?.description);

    let deadline = Instant::now() + Duration::from_secs(5);
    let mut greeted = false;
    while Instant::now() < deadline {
        if let Some(SelectedPath::Udp { remote, .. }) = a.agent.selected()
            && !greeted
        {
            a.socket.send_to(b"hello", remote)?;
            greeted = true;
        }
        a.turn()?;
        if let Some(data) = b.turn()? {
            println!("b hears: {}", String::from_utf8_lossy(&data));
            return Ok(());
        }
    }
    Err(io::Error::other("no connection within five seconds"))
}
