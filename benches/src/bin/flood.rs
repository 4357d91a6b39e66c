//! What garbage costs an endpoint: packets per CPU-second that are dropped, of each kind that an attacker may send.
//!
//! All of it goes through `Endpoint::handle`, and on to the connection where the endpoint says so. No packet may leave any
//! state behind. One connection is there all the while.
#![allow(clippy::print_stdout, reason = "the figures are the product")]

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use towline_benches::{Stopwatch, median};
use towline_channeler::{
    Connection, ConnectionHandle, Endpoint, EndpointConfig, Event, Handled, KeyOnly, OpenOptions, Peer,
    PeerId, Route, StaticKey,
    v0::{DEFAULT_CHANNEL, Packet},
};

#[derive(Parser)]
struct Arguments {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Packets of each round.
    #[arg(long, default_value_t = 3_000_000)]
    packets: usize,
    /// Bytes of a packet.
    #[arg(long, default_value_t = 1200)]
    size: usize,
    /// Fail below this many million packets per second, whatever their kind.
    #[arg(long, default_value_t = 0.0)]
    least: f64,
}

/// What lies ready: the packets of a round are taken from these in turn.
const READY: usize = 256;

/// Seconds since 1970.
const UNIX_TIME: i64 = 1_800_000_000;

type End = (ConnectionHandle, Box<Connection>);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut target = Target::connected()?;
    let noise = noise(arguments.size);
    let known = target.id;
    let edited = |edit: &dyn Fn(usize, &mut Vec<u8>)| -> Vec<Vec<u8>> {
        let mut packets = noise.clone();
        packets.iter_mut().enumerate().for_each(|(number, packet)| edit(number, packet));
        packets
    };
    let kinds = [
        ("random bytes", edited(&|_, _| {})),
        ("data, unknown connection", edited(&|_, packet| packet[0] = 0b1000)),
        (
            "data of a connection, unknown channel or stale",
            edited(&|_, packet| {
                packet[0] = 0b1000;
                packet[8..16].copy_from_slice(&known);
            }),
        ),
        ("data of a channel, forged", target.forged(arguments.size)?),
        (
            "handshake, wrong checksum",
            edited(&|_, packet| {
                let mut whole = handshake(packet, arguments.size);
                whole[60] ^= 1;
                *packet = whole;
            }),
        ),
        ("handshake, good checksum", edited(&|_, packet| *packet = handshake(packet, arguments.size))),
    ];
    println!("{:<48} {:>10} {:>10}", "subject", "M/s", "ns each");
    for (name, packets) in kinds {
        let rate = target.measure(&arguments, &packets)?;
        println!("{name:<48} {:>10.2} {:>10.1}", rate / 1e6, 1e9 / rate);
        ensure!(rate / 1e6 >= arguments.least, "{name}: {:.2} M packets/s", rate / 1e6);
    }
    Ok(())
}

/// Packets of any bytes.
fn noise(size: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..READY).map(|_| (0..size).map(|_| byte()).collect()).collect()
}

/// The protocol id of the handshake's envelope.
const HANDSHAKE: [u8; 4] = [0x0E, 0xD8, 0x67, 0x16];

/// A packet of the handshake as a stranger can make it: noise in a sound envelope, for nobody in particular.
fn handshake(noise: &[u8], size: usize) -> Vec<u8> {
    let (sender, rest) = noise.split_first_chunk::<16>().expect("there are more than 16 bytes of noise");
    let packet = Packet {
        sender: PeerId(*sender),
        recipient: PeerId([0x55; 16]),
        channel: DEFAULT_CHANNEL,
        flags: 0,
        sequence: 0,
        payload: &rest[..size / 2],
    };
    let mut out = Vec::new();
    assert!(packet.put(HANDSHAKE, size, &mut out), "the packet is not too long");
    out
}

/// An endpoint with one connection and one open channel.
struct Target {
    now: Instant,
    route: Route,
    endpoint: Endpoint,
    end: End,
    /// The connection id of a packet that arrived.
    id: [u8; 8],
    /// That packet.
    heard: Vec<u8>,
    answer: Vec<u8>,
}

fn endpoint(seed: u8) -> Endpoint {
    let anyone = Arc::new(KeyOnly::anyone());
    let config = EndpointConfig::new(StaticKey::from_bytes([seed; 32]), anyone.clone(), anyone);
    Endpoint::new(config, [seed; 32])
}

impl Target {
    fn connected() -> Result<Self> {
        let now = Instant::now();
        let route = Route::datagram((Ipv4Addr::LOCALHOST, 9).into());
        let (mut dialler, mut listener) = (endpoint(1), endpoint(2));
        let peer = Peer::Key(StaticKey::from_bytes([2; 32]).public());
        let (handle, connection) = dialler.connect(now, UNIX_TIME, peer, route)?;
        let mut ours: End = (handle, Box::new(connection));
        let mut theirs: Option<End> = None;
        let channel = ours.1.open(now, OpenOptions::default())?;
        let (mut buf, mut answer, mut heard) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..20 {
            ours.1.write(now, channel, &[round; 1000])?;
            buf.clear();
            while ours.1.poll_transmit(now, 1, &mut buf).is_some() {
                heard.clone_from(&buf);
                match listener.handle(now, UNIX_TIME, route, &mut buf, &mut answer) {
                    Handled::New(handle, connection) => theirs = Some((handle, connection)),
                    Handled::To(_) => {}
                    _ => continue,
                }
                let (_, connection) = theirs.as_mut().context("packets for nobody")?;
                connection.handle(now, route, None, &mut buf);
                buf.clear();
            }
            let Some((handle, connection)) = theirs.as_mut() else { continue };
            while let Some(event) = connection.poll_endpoint_event() {
                listener.on_event(*handle, event);
            }
            while connection.poll_event().is_some() {}
            buf.clear();
            while connection.poll_transmit(now, 1, &mut buf).is_some() {
                if let Handled::To(_) = dialler.handle(now, UNIX_TIME, route, &mut buf, &mut answer) {
                    ours.1.handle(now, route, None, &mut buf);
                }
                buf.clear();
            }
            while let Some(event) = ours.1.poll_endpoint_event() {
                dialler.on_event(ours.0, event);
            }
            while let Some(event) = ours.1.poll_event() {
                ensure!(!matches!(event, Event::Closed(_)), "{event:?}");
            }
        }
        let end = theirs.context("no connection")?;
        ensure!(heard[0] & !0b11 == 0b1000, "the last packet heard is no data");
        let id = heard[8..16].try_into()?;
        Ok(Self { now, route, endpoint: listener, end, id, heard, answer })
    }

    /// Packets with the header and the sample of one that was overheard, but numbers of later ones: each goes to the cipher.
    fn forged(&self, size: usize) -> Result<Vec<Vec<u8>>> {
        ensure!(self.heard.len() > 48 && size > 48, "too short to forge");
        Ok((0..READY)
            .map(|number| {
                let mut packet = self.heard.clone();
                packet.resize(size, number as u8);
                packet[3] ^= number as u8;
                let last = packet.len() - 1;
                packet[last] ^= 1;
                packet
            })
            .collect())
    }

    /// Packets per CPU-second.
    fn measure(&mut self, arguments: &Arguments, packets: &[Vec<u8>]) -> Result<f64> {
        let before = self.endpoint.connections();
        let mut rates = Vec::new();
        let mut packet = vec![0; arguments.size];
        for _ in 0..arguments.rounds {
            let stopwatch = Stopwatch::start()?;
            for number in 0..arguments.packets {
                // As the system would have put it there.
                packet.copy_from_slice(&packets[number % READY]);
                let handled =
                    self.endpoint.handle(self.now, UNIX_TIME, self.route, &mut packet, &mut self.answer);
                if matches!(handled, Handled::To(handle) if handle == self.end.0) {
                    self.end.1.handle(self.now, self.route, None, &mut packet);
                }
            }
            let (_, cpu) = stopwatch.read()?;
            rates.push(arguments.packets as f64 / cpu.max(1e-9));
        }
        ensure!(self.endpoint.connections() == before, "garbage left a connection behind");
        ensure!(self.end.1.closed().is_none(), "garbage closed the connection: {:?}", self.end.1.closed());
        self.now += Duration::from_millis(1);
        Ok(median(&mut rates))
    }
}
