//! Joins a DHT over a plain UDP socket, and puts, gets and listens there once.
//!
//! ```text
//! cargo run -p towline-dht --example probe -- 127.0.0.1:4222
//! ```
//!
//! Also the smallest complete driver of a [`Node`]: read a datagram or wait for the deadline, then drain.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use towline_dht::node::{Config, Event, GetOptions, Node, OpId, PutOptions, Status};
use towline_dht::{InfoHash, Query, Value};

/// A node with its socket.
struct Driver {
    node: Node,
    socket: UdpSocket,
    started: Instant,
}

impl Driver {
    fn new() -> io::Result<Self> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let config = Config { ipv6: false, ..Config::default() };
        let now = Instant::now();
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        Ok(Self { node: Node::new(config, now, unix, seed()), socket, started: now })
    }

    /// Drives the node until an event is `wanted`, or time is over.
    fn until(&mut self, time: Duration, mut wanted: impl FnMut(&Event) -> bool) -> io::Result<bool> {
        let end = Instant::now() + time;
        let mut buffer = vec![0; 65_536];
        loop {
            while let Some(transmit) = self.node.poll_transmit() {
                if let Err(error) = self.socket.send_to(&transmit.payload, transmit.to) {
                    self.node.handle_send_error(Instant::now(), transmit.to, error.kind());
                }
            }
            while let Some(event) = self.node.poll_event() {
                writeln!(io::stdout(), "{:>9.3?} {}", self.started.elapsed(), describe(&event))?;
                if wanted(&event) {
                    return Ok(true);
                }
            }
            let now = Instant::now();
            if now >= end {
                return Ok(false);
            }
            let deadline = self.node.poll_timeout().map_or(end, |at| at.min(end));
            let wait = deadline.saturating_duration_since(now).max(Duration::from_micros(100));
            self.socket.set_read_timeout(Some(wait))?;
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => self.node.handle_datagram(Instant::now(), from, &buffer[..length]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
            if self.node.poll_timeout().is_some_and(|at| at <= Instant::now()) {
                self.node.handle_timeout(Instant::now());
            }
        }
    }

    fn done(&mut self, op: OpId) -> io::Result<bool> {
        let time = Duration::from_secs(20);
        let mut ok = false;
        let over = self.until(time, |event| match event {
            Event::GetDone { op: it, ok: success, .. } | Event::PutDone { op: it, ok: success, .. } => {
                ok = *success;
                *it == op
            }
            _ => false,
        })?;
        Ok(over && ok)
    }
}

/// A seed from the one source of chance that the standard library has.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    for chunk in seed.chunks_mut(8) {
        chunk.copy_from_slice(&RandomState::new().build_hasher().finish().to_be_bytes());
    }
    seed
}

fn describe(event: &Event) -> String {
    let values = |values: &[std::sync::Arc<Value>]| {
        let each = values.iter().map(|it| format!("{:x} ({} bytes)", it.id, it.size()));
        each.collect::<Vec<_>>().join(", ")
    };
    match event {
        Event::Values { values: found, .. } => format!("found {}", values(found)),
        Event::Listened { new, .. } => format!("heard {}", values(new)),
        other => format!("{other:?}"),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().unwrap_or_else(|| "127.0.0.1:4222".to_owned()).parse()?;
    let key = InfoHash::digest(arguments.next().unwrap_or_else(|| "towline probe".to_owned()));
    let wait: u64 = arguments.next().map_or(Ok(5), |text| text.parse())?;

    let mut driver = Driver::new()?;
    driver.node.bootstrap(Instant::now(), &[address]);
    let connected = |event: &Event| matches!(event, Event::Status(status) if status.v4 == Status::Connected);
    if !driver.until(Duration::from_secs(10), connected)? {
        return Err("nobody answers there".into());
    }
    writeln!(io::stdout(), "key {key}, node {}", driver.node.id())?;
    let listen = driver.node.listen(Instant::now(), key, Query::all());

    let small = Value::new(0, 0, b"hello".to_vec()).with_user_type("text/plain");
    let options = PutOptions { read_back: true, ..PutOptions::default() };
    let put = driver.node.put(Instant::now(), key, small, options);
    let stored = driver.done(put)?;
    let large = Value::new(7, 0, (0..60 * 1024_u32).map(|n| n as u8).collect::<Vec<_>>());
    let put = driver.node.put(Instant::now(), key, large, options);
    let stored = stored && driver.done(put)?;

    let get = driver.node.get(Instant::now(), key, GetOptions::default());
    let found = driver.done(get)?;
    driver.until(Duration::from_secs(wait), |_| false)?;
    driver.node.cancel(Instant::now(), listen);
    writeln!(io::stdout(), "{:?}", driver.node.stats(Instant::now()))?;
    if stored && found { Ok(()) } else { Err("something did not work".into()) }
}
