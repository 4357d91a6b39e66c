//! A server played by hand: every message of it is written by the test.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part; a panic fails the test")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use towline_ice::stun::{Class, Encoder, Message, Seal, TransactionId, xor_address};
use towline_turn::{Allocation, Client, Config, Credentials, Event, Input, ServerTransport};

pub(crate) const ALLOCATE: u16 = 3;
pub(crate) const REFRESH: u16 = 4;
pub(crate) const DATA: u16 = 7;
pub(crate) const PERMISSION: u16 = 8;
pub(crate) const CHANNEL_BIND: u16 = 9;
pub(crate) const CONNECT: u16 = 10;
pub(crate) const CONNECTION_BIND: u16 = 11;
pub(crate) const CONNECTION_ATTEMPT: u16 = 12;

pub(crate) const CHANNEL_NUMBER: u16 = 0x0c;
pub(crate) const LIFETIME: u16 = 0x0d;
pub(crate) const PEER: u16 = 0x12;
pub(crate) const PAYLOAD: u16 = 0x13;
pub(crate) const REALM: u16 = 0x14;
pub(crate) const NONCE: u16 = 0x15;
pub(crate) const RELAYED: u16 = 0x16;
pub(crate) const CONNECTION_ID: u16 = 0x2a;
pub(crate) const ALTERNATE: u16 = 0x8023;

/// MD5 of "ann:example.org:secret".
pub(crate) const KEY: [u8; 16] = *include_bytes!("key.bin");

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn server() -> SocketAddr {
    addr("192.0.2.1:3478")
}

pub(crate) fn relayed() -> SocketAddr {
    addr("192.0.2.1:50000")
}

/// A request as the server reads it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: u16,
    pub(crate) id: TransactionId,
    pub(crate) attributes: Vec<(u16, Vec<u8>)>,
    /// Its integrity code is right.
    pub(crate) proven: bool,
    pub(crate) to: SocketAddr,
}

impl Request {
    pub(crate) fn read(packet: &[u8], to: SocketAddr) -> Self {
        let message = Message::decode(packet).expect("the client sends well-formed messages");
        Self {
            method: message.method,
            id: message.transaction,
            attributes: message.attributes().map(|(kind, value)| (kind, value.to_vec())).collect(),
            proven: message.verify_integrity(&KEY).is_ok(),
            to,
        }
    }

    pub(crate) fn get(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(k, _)| *k == kind).map(|(_, value)| &**value)
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        xor_address(self.get(PEER)?, &self.id)
    }

    pub(crate) fn success(&self) -> Encoder {
        Encoder::new(Class::Success, self.method, self.id)
    }

    pub(crate) fn error(&self, code: u16) -> Encoder {
        Encoder::new(Class::Error, self.method, self.id).error(code, "")
    }
}

/// Client and clock; the test is the server.
pub(crate) struct Stage {
    pub(crate) now: Instant,
    pub(crate) client: Client,
}

impl Stage {
    pub(crate) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let now = Instant::now();
        let mut config = Config::new(server(), ServerTransport::Udp);
        config.credentials = Some(Credentials::new("ann", "secret"));
        config.keep_alive = Duration::from_hours(10);
        change(&mut config);
        Self { now, client: Client::new(config, now, [7; 32]).unwrap() }
    }

    /// The next request, which must be there.
    pub(crate) fn request(&mut self) -> Request {
        self.try_request().expect("a request")
    }

    pub(crate) fn try_request(&mut self) -> Option<Request> {
        let transmit = self.client.poll_transmit()?;
        Some(Request::read(&transmit.bytes, transmit.to))
    }

    /// A datagram from the server.
    pub(crate) fn give<'p>(&mut self, packet: &'p [u8]) -> Input<'p> {
        let from = self.client.server();
        self.client.handle_datagram(self.now, from, packet)
    }

    /// A response with the right integrity code.
    pub(crate) fn answer(&mut self, response: Encoder) {
        assert_eq!(self.give(&response.finish_with(Seal::Sha1(&KEY))), Input::Taken);
    }

    /// A response without one.
    pub(crate) fn answer_bare(&mut self, response: Encoder) {
        assert_eq!(self.give(&response.finish(None)), Input::Taken);
    }

    pub(crate) fn challenge(&mut self, request: &Request, code: u16, nonce: &[u8]) {
        self.answer_bare(challenge(request, code, nonce));
    }

    /// Goes on to the next timeout.
    pub(crate) fn wait(&mut self) {
        self.now = self.client.poll_timeout().expect("something to wait for");
        self.client.handle_timeout(self.now);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.client.poll_timeout().is_some_and(|at| at <= until) {
            self.wait();
        }
        self.now = until;
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    pub(crate) fn event(&mut self) -> Event {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    /// Plays the usual beginning.
    pub(crate) fn allocated(change: impl FnOnce(&mut Config)) -> (Self, Allocation) {
        let mut stage = Self::new(change);
        let first = stage.request();
        assert!(!first.proven);
        stage.challenge(&first, 401, b"n1");
        let second = stage.request();
        assert!(second.proven);
        stage.answer(granted(&second, 600));
        let Event::Allocated(allocation) = stage.event() else { panic!("allocated") };
        (stage, allocation)
    }

    /// Permits the address of a peer.
    pub(crate) fn permitted(&mut self, peer: SocketAddr) {
        self.client.permit(self.now, peer.ip()).unwrap();
        let request = self.request();
        assert_eq!((request.method, request.peer().unwrap().ip()), (PERMISSION, peer.ip()));
        self.answer(request.success());
        assert!(matches!(self.event(), Event::Permitted(ip) if ip == peer.ip()));
    }

    /// Binds a channel, and returns its number.
    pub(crate) fn bound(&mut self, peer: SocketAddr) -> u16 {
        self.client.bind(self.now, peer).unwrap();
        let request = self.request();
        assert_eq!((request.method, request.peer()), (CHANNEL_BIND, Some(peer)));
        self.answer(request.success());
        number(&request)
    }
}

pub(crate) fn number(request: &Request) -> u16 {
    let value = request.get(CHANNEL_NUMBER).unwrap();
    u16::from_be_bytes([value[0], value[1]])
}

pub(crate) fn challenge(request: &Request, code: u16, nonce: &[u8]) -> Encoder {
    request.error(code).attribute(REALM, b"example.org").attribute(NONCE, nonce)
}

pub(crate) fn granted(request: &Request, lifetime: u32) -> Encoder {
    request
        .success()
        .xor_address(RELAYED, relayed())
        .mapped_address(addr("203.0.113.9:40000"))
        .attribute(LIFETIME, &lifetime.to_be_bytes())
}

pub(crate) fn data(peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
    Encoder::new(Class::Indication, DATA, TransactionId([5; 12]))
        .xor_address(PEER, peer)
        .attribute(PAYLOAD, payload)
        .finish(None)
        .to_vec()
}

pub(crate) fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = number.to_be_bytes().to_vec();
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}
