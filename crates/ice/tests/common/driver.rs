//! What a program around an agent does, and what it has seen.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use towline_ice::framing::Decoder;
use towline_ice::{
    Action, Agent, Config, ConnectError, Description, Disposition, DropReason, Event, FailureReport,
    LossReason, Role, SelectedPath, StreamId, host_candidates,
};

use super::{Conn, Host, Net, Out};

pub const A: &str = "10.0.0.1";
pub const B: &str = "10.0.0.2";

/// Two hosts, each with one interface.
pub struct Setup {
    pub net: Net,
    pub a: Driver,
    pub b: Driver,
}

impl Setup {
    /// Both listen on TCP or UDP, or both.
    pub fn with(tcp: bool, udp: bool, config: &Config, roles: [Role; 2]) -> Self {
        let mut net = Net::new(1);
        let mut host = |n, ip: &str, role| {
            let (tcp, udp) = (tcp.then_some(5000), udp.then_some(6000));
            Driver::with_hosts(&mut net, n, role, &[ip], tcp, udp, config.clone())
        };
        let a = host(0, A, roles[0]);
        let b = host(1, B, roles[1]);
        Self { net, a, b }
    }

    /// Each learns the other's description at once.
    pub fn exchange(&mut self) {
        let (a, b) = (self.a.blob(), self.b.blob());
        self.a.set_remote(self.net.now, &b);
        self.b.set_remote(self.net.now, &a);
    }

    pub fn run(&mut self, limit: Duration) {
        self.net.run(&mut [&mut self.a, &mut self.b], limit, |_| false);
    }
}

pub struct Driver {
    pub agent: Agent,
    pub events: Vec<(Instant, Event)>,
    /// Application bytes of the selected path, early ones included.
    pub data: Vec<u8>,
    /// Application bytes given to [`Driver::send`].
    pub sent: usize,
    pub drops: Vec<DropReason>,
    pub closed: Vec<(StreamId, towline_ice::CloseReason)>,
    pub keepalives: Vec<Instant>,
    early: Vec<(Option<StreamId>, SocketAddr, Vec<u8>)>,
    streams: BTreeMap<StreamId, Conn>,
    conns: BTreeMap<Conn, (StreamId, Decoder)>,
    // The streams of our connects; the network knows them by index.
    keys: Vec<StreamId>,
    strangers: u32,
    out: Vec<Out>,
}

impl Driver {
    pub fn new(net: &Net, role: Role, seed: u8, config: Config) -> Self {
        Self {
            agent: Agent::new(config, role, net.now, [seed; 32]),
            events: Vec::new(),
            data: Vec::new(),
            sent: 0,
            drops: Vec::new(),
            closed: Vec::new(),
            keepalives: Vec::new(),
            early: Vec::new(),
            streams: BTreeMap::new(),
            conns: BTreeMap::new(),
            keys: Vec::new(),
            strangers: 0,
            out: Vec::new(),
        }
    }

    /// A host with these interfaces; the listeners and sockets are opened in the network.
    pub fn with_hosts(
        net: &mut Net,
        n: usize,
        role: Role,
        ips: &[&str],
        tcp: Option<u16>,
        udp: Option<u16>,
        config: Config,
    ) -> Self {
        let mut driver = Self::new(net, role, u8::try_from(n).unwrap() + 1, config);
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        for &ip in &ips {
            if let Some(port) = tcp {
                net.listen(n, SocketAddr::new(ip, port));
            }
            if let Some(port) = udp {
                net.bind(n, SocketAddr::new(ip, port));
            }
        }
        for candidate in host_candidates(&ips, tcp, udp) {
            assert!(driver.agent.add_local(net.now, candidate));
        }
        driver
    }

    /// Our description as it crosses the wire.
    pub fn blob(&self) -> String {
        self.agent.local_description().to_blob()
    }

    pub fn set_remote(&mut self, now: Instant, blob: &str) {
        let parsed = Description::from_blob(blob.as_bytes()).unwrap();
        self.agent.set_remote(now, parsed.description);
    }

    pub fn selected(&self) -> Option<SelectedPath> {
        self.agent.selected()
    }

    pub fn selected_at(&self) -> Option<Instant> {
        self.events.iter().find(|(_, e)| matches!(e, Event::Selected { .. })).map(|(at, _)| *at)
    }

    pub fn failure(&self) -> Option<&FailureReport> {
        self.events.iter().find_map(|(_, e)| if let Event::Failed(report) = e { Some(report) } else { None })
    }

    pub fn lost(&self) -> Option<LossReason> {
        self.events.iter().find_map(|(_, e)| if let Event::Lost(reason) = e { Some(*reason) } else { None })
    }

    pub fn conn(&self) -> Option<Conn> {
        match self.selected()? {
            SelectedPath::Tcp { stream, .. } => self.streams.get(&stream).copied(),
            SelectedPath::Udp { .. } => None,
        }
    }

    /// Application bytes to the peer on the selected path.
    pub fn send(&mut self, bytes: &[u8]) {
        self.sent += bytes.len();
        match self.selected().expect("a path is selected") {
            SelectedPath::Udp { local, remote } => {
                self.out.push(Out::Udp { local, remote, payload: bytes.to_vec() });
            }
            SelectedPath::Tcp { stream, .. } => {
                let bytes = towline_ice::framing::frame(bytes).unwrap().to_vec();
                self.out.push(Out::Write { conn: self.streams[&stream], bytes });
            }
        }
    }

    /// For stories that connect on behalf of this host: the network's key belongs to no stream of the agent.
    pub fn expect_connect(&mut self) {
        self.strangers += 1;
    }

    pub fn open_streams(&self) -> usize {
        self.conns.len()
    }

    fn note(&mut self, disposition: Disposition, stream: Option<StreamId>, remote: SocketAddr, bytes: &[u8]) {
        match disposition {
            Disposition::Consumed => {}
            Disposition::Data => {
                self.settle();
                self.data.extend_from_slice(bytes);
            }
            Disposition::Early => self.early.push((stream, remote, bytes.to_vec())),
            Disposition::Dropped(reason) => self.drops.push(reason),
        }
    }

    fn watch(&mut self, now: Instant, packet: &[u8]) {
        if packet[..2] == [0x00, 0x11] {
            self.keepalives.push(now);
        }
    }

    // Early data of the selected path comes first.
    fn settle(&mut self) {
        let Some(path) = self.selected() else { return };
        for (stream, from, bytes) in std::mem::take(&mut self.early) {
            let ours = match path {
                SelectedPath::Tcp { stream: s, .. } => stream == Some(s),
                SelectedPath::Udp { remote, .. } => stream.is_none() && from == remote,
            };
            if ours {
                self.data.extend(bytes);
            }
        }
    }
}

impl Host for Driver {
    fn udp(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: &[u8]) {
        let disposition = self.agent.handle_udp(now, local, remote, payload);
        self.note(disposition, None, remote, payload);
    }

    fn accepted(&mut self, now: Instant, conn: Conn, local: SocketAddr, remote: SocketAddr) -> bool {
        let Ok(stream) = self.agent.handle_tcp_accepted(now, local, remote) else { return false };
        self.streams.insert(stream, conn);
        self.conns.insert(conn, (stream, Decoder::with_limit(self.agent.frame_limit(stream))));
        true
    }

    fn connected(&mut self, now: Instant, key: u32, conn: Conn, local: SocketAddr) {
        let Some(&stream) = self.keys.get(key as usize) else { return assert!(key < self.strangers) };
        self.streams.insert(stream, conn);
        self.conns.insert(conn, (stream, Decoder::with_limit(self.agent.frame_limit(stream))));
        self.agent.handle_tcp_connected(now, stream, local);
    }

    fn connect_failed(&mut self, now: Instant, key: u32, error: ConnectError) {
        let Some(&stream) = self.keys.get(key as usize) else { return assert!(key < self.strangers) };
        self.agent.handle_tcp_failed(now, stream, error);
    }

    fn closed(&mut self, now: Instant, conn: Conn) {
        if let Some((stream, _)) = self.conns.remove(&conn) {
            self.streams.remove(&stream);
            self.agent.handle_tcp_closed(now, stream);
        }
    }

    fn bytes(&mut self, now: Instant, conn: Conn, mut bytes: &[u8]) {
        let Some((stream, mut decoder)) = self.conns.remove(&conn) else { return };
        let remote = "0.0.0.0:0".parse().unwrap();
        loop {
            match decoder.decode(&mut bytes) {
                Ok(Some(frame)) => {
                    let disposition = self.agent.handle_tcp_frame(now, stream, frame);
                    self.note(disposition, Some(stream), remote, frame);
                    decoder.set_limit(self.agent.frame_limit(stream));
                }
                Ok(None) => {
                    self.conns.insert(conn, (stream, decoder));
                    return;
                }
                Err(_) => {
                    self.streams.remove(&stream);
                    self.agent.handle_tcp_closed(now, stream);
                    self.out.push(Out::Close { conn });
                    return;
                }
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    fn timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
        assert!(
            self.agent.poll_timeout().is_none_or(|at| at > now),
            "a timer that stays due: {:?}",
            self.agent.report()
        );
    }

    fn drain(&mut self, now: Instant, out: &mut Vec<Out>) {
        out.append(&mut self.out);
        while let Some(action) = self.agent.poll_action() {
            match action {
                Action::SendUdp { local, remote, payload } => {
                    self.watch(now, &payload);
                    out.push(Out::Udp { local, remote, payload: payload.to_vec() });
                }
                Action::Connect { stream, local, remote } => {
                    out.push(Out::Connect { key: self.keys.len() as u32, local, remote });
                    self.keys.push(stream);
                }
                Action::SendFrame { stream, payload } => {
                    self.watch(now, &payload[2..]);
                    if let Some(&conn) = self.streams.get(&stream) {
                        out.push(Out::Write { conn, bytes: payload.to_vec() });
                    }
                }
                Action::CloseStream { stream, reason } => {
                    self.closed.push((stream, reason));
                    match self.streams.remove(&stream) {
                        Some(conn) => {
                            self.conns.remove(&conn);
                            out.push(Out::Close { conn });
                        }
                        None => {
                            let key = self.keys.iter().position(|&s| s == stream).unwrap();
                            out.push(Out::Abort { key: key as u32 });
                        }
                    }
                }
            }
        }
        while let Some(event) = self.agent.poll_event() {
            self.events.push((now, event));
        }
        self.settle();
    }
}
