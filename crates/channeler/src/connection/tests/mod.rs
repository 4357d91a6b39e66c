//! Two connections face to face, without a network: a peer that keeps no rule can be played here.

mod crowd;
mod hostile;
mod stories;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Connection;
use crate::{
    ChannelId, Config, ConnectionHandle, Endpoint, EndpointConfig, Event, Handled, KeyOnly, OpenOptions,
    Peer, Read, Route, StaticKey,
};

/// Packets with their route, as they come to the other side.
type Packets = Vec<(Route, Vec<u8>)>;

/// One side.
struct Host {
    endpoint: Endpoint,
    handle: Option<ConnectionHandle>,
    connection: Option<Connection>,
    events: Vec<Event>,
}

impl Host {
    fn new(number: u8, config: &Config) -> Self {
        let anyone = Arc::new(KeyOnly::anyone());
        let key = StaticKey::from_bytes([number + 1; 32]);
        let config = Arc::new(config.clone());
        let config = EndpointConfig { config, ..EndpointConfig::new(key, anyone.clone(), anyone) };
        let endpoint = Endpoint::new(config, [number; 32]);
        Self { endpoint, handle: None, connection: None, events: Vec::new() }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().unwrap()
    }

    /// All that it wants to send.
    fn drain(&mut self, now: Instant) -> Packets {
        let mut packets = Vec::new();
        let (Some(connection), Some(handle)) = (&mut self.connection, self.handle) else { return packets };
        for _ in 0..10_000 {
            while let Some(event) = connection.poll_event() {
                self.events.push(event);
            }
            while let Some(event) = connection.poll_endpoint_event() {
                self.endpoint.on_event(handle, event);
            }
            let mut buf = Vec::new();
            let Some(transmit) = connection.poll_transmit(now, 1, &mut buf) else { return packets };
            packets.push((transmit.route, buf));
        }
        panic!("it never ends");
    }

    fn take(&mut self, now: Instant, route: Route, packet: &mut [u8]) {
        let mut out = Vec::new();
        match self.endpoint.handle(now, 0, route, packet, &mut out) {
            Handled::New(handle, connection) => {
                self.handle = Some(handle);
                self.connection = Some(*connection);
            }
            Handled::To(_) => {}
            Handled::Respond(_) | Handled::Dropped => return,
        }
        self.connection().handle(now, route, None, packet);
    }
}

/// Both sides: the first dials the second.
struct Pair {
    now: Instant,
    hosts: [Host; 2],
}

impl Pair {
    fn new(config: &Config, peer: impl Fn(&StaticKey) -> Peer) -> Self {
        let mut pair = Self { now: Instant::now(), hosts: [Host::new(0, config), Host::new(1, config)] };
        let peer = peer(&StaticKey::from_bytes([2; 32]));
        let (handle, connection) = pair.hosts[0].endpoint.connect(pair.now, 0, peer, route(1)).unwrap();
        (pair.hosts[0].handle, pair.hosts[0].connection) = (Some(handle), Some(connection));
        pair.run(20);
        pair
    }

    fn connected() -> Self {
        Self::new(&Config::default(), |key| Peer::Key(key.public()))
    }

    /// What both sides have to say arrives after 1 ms, so many times.
    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            let [first, second] = &mut self.hosts;
            let (forth, back) = (first.drain(self.now), second.drain(self.now));
            self.now += Duration::from_millis(1);
            for (host, packets) in [(0, back), (1, forth)] {
                for (route, mut packet) in packets {
                    self.hosts[host].take(self.now, came_by(route), &mut packet);
                }
                let now = self.now;
                let Some(connection) = &mut self.hosts[host].connection else { continue };
                if connection.poll_timeout().is_some_and(|at| at <= now) {
                    connection.handle_timeout(now);
                }
            }
        }
    }

    /// Sends a packet with this plaintext to the other, of which the connection knows nothing more.
    fn inject(&mut self, host: usize, channel: ChannelId, plain: &[u8]) {
        let now = self.now;
        let connection = self.hosts[host].connection();
        let mut packet = connection.forge(now, channel, plain).unwrap();
        let route = connection.links.at(0).route();
        self.hosts[1 - host].take(now, came_by(route), &mut packet);
    }

    /// Opens a channel at the first with these bytes, which the second reads.
    fn open(&mut self, options: OpenOptions, bytes: &[u8]) -> ChannelId {
        let now = self.now;
        let connection = self.hosts[0].connection();
        let id = connection.open(now, options).unwrap();
        connection.write(now, id, bytes).unwrap();
        self.run(6);
        let mut buf = vec![0; bytes.len()];
        let now = self.now;
        assert_eq!(self.hosts[1].connection().read(now, id, &mut buf), Ok(Read::Data(bytes.len())));
        id
    }
}

/// An address of the first for an even, of the second for an odd number.
fn route(number: u16) -> Route {
    Route::datagram(([192, 0, 2, (number % 2) as u8], 1000 + number / 2).into())
}

/// What a packet to this address comes by: the other one's of the same number.
fn came_by(route: Route) -> Route {
    let remote = route.remote().unwrap();
    let std::net::IpAddr::V4(ip) = remote.ip() else { panic!("{remote}") };
    let mut octets = ip.octets();
    octets[3] ^= 1;
    Route::datagram((octets, remote.port()).into())
}
