//! Wires between two hosts, and the packets on them.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};
use towline_channeler::{Ecn, Route, Transmit};

use super::way::{HEADERS, Path, Way};

/// The number of a host: 0 dials, 1 is dialled.
pub type Host = usize;

/// Something that came out of the network.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A datagram, or one packet of a stream.
    Packet { to: Host, route: Route, ecn: Option<Ecn>, bytes: Vec<u8> },
    /// A stream of this host has room again.
    Ready { to: Host, route: Route },
    /// A stream is gone.
    Broken { to: Host, route: Route },
}

/// Datagrams between socket `n` of one host and socket `n` of the other, where `n` is the number of the wire.
#[derive(Debug)]
pub struct Datagrams {
    /// From host 0, and from host 1.
    pub ways: [Way; 2],
    /// The address that host 1 sees host 0 at: a NAT stands before host 0.
    outside: SocketAddr,
    /// How long the NAT remembers, when the mapping was used last (from inside: nothing else counts), and how often it forgot.
    memory: Option<Duration>,
    used: Option<Instant>,
    forgot: u32,
    inside: [SocketAddr; 2],
}

/// A byte stream: in order, complete, until it dies.
#[derive(Debug)]
pub struct Stream {
    /// From host 0, and from host 1. Loss does not lose, it delays by a round trip, and all that is behind with it.
    pub ways: [Way; 2],
    /// Bytes that the sender's buffer takes.
    pub buffer: usize,
    /// The host was told that there is no room.
    full: [bool; 2],
    last: [Option<Instant>; 2],
    /// Bytes given to a stream that died in silence.
    stuck: [usize; 2],
    broken: bool,
}

#[derive(Debug)]
pub enum Wire {
    Datagrams(Box<Datagrams>),
    Stream(Box<Stream>),
}

/// All wires between two hosts. The same seed gives the same fate to the same packets.
#[derive(Debug)]
pub struct Network {
    wires: Vec<Wire>,
    flight: BinaryHeap<Reverse<Flying>>,
    order: u64,
    rng: StdRng,
    spare: Vec<Vec<u8>>,
    /// A copy of every datagram that was sent, and by whom, if somebody listens.
    pub tap: Option<Vec<(Host, Vec<u8>)>>,
}

/// Ordered by time, then by the order of sending.
#[derive(Debug)]
struct Flying {
    at: Instant,
    order: u64,
    what: Arrival,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Flying {}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flying {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Self {
            wires: Vec::new(),
            flight: BinaryHeap::new(),
            order: 0,
            rng: StdRng::seed_from_u64(seed),
            spare: Vec::new(),
            tap: None,
        }
    }

    /// A wire for datagrams; the number is that of the socket on both sides.
    pub fn add_datagrams(&mut self, forth: Path, back: Path) -> usize {
        let wire = self.wires.len();
        let third = u8::try_from(wire).unwrap();
        let address = |last: u8| SocketAddr::from((Ipv4Addr::new(10, 0, third, last), 4000));
        self.wires.push(Wire::Datagrams(Box::new(Datagrams {
            ways: [Way::new(forth), Way::new(back)],
            outside: SocketAddr::from((Ipv4Addr::new(198, 51, 100, third), 1024)),
            memory: None,
            used: None,
            forgot: 0,
            inside: [address(1), address(2)],
        })));
        wire
    }

    /// A stream that exists already (as a program would have dialled it), with this much room in its buffers.
    pub fn add_stream(&mut self, forth: Path, back: Path, buffer: usize) -> usize {
        self.wires.push(Wire::Stream(Box::new(Stream {
            ways: [Way::new(forth), Way::new(back)],
            buffer,
            full: [false; 2],
            last: [None; 2],
            stuck: [0; 2],
            broken: false,
        })));
        self.wires.len() - 1
    }

    /// The way over this wire, as this host knows it.
    pub fn route(&self, wire: usize, host: Host) -> Route {
        match &self.wires[wire] {
            Wire::Datagrams(datagrams) => {
                let remote = if host == 0 { datagrams.inside[1] } else { datagrams.outside };
                Route::Datagram { socket: u16::try_from(wire).unwrap(), local: None, remote }
            }
            Wire::Stream(_) => Route::Stream(u32::try_from(wire).unwrap()),
        }
    }

    /// From this host to the other.
    pub fn way(&mut self, wire: usize, from: Host) -> &mut Way {
        match &mut self.wires[wire] {
            Wire::Datagrams(datagrams) => &mut datagrams.ways[from],
            Wire::Stream(stream) => &mut stream.ways[from],
        }
    }

    /// Both directions of a wire.
    pub fn each_way(&mut self, wire: usize, mut change: impl FnMut(&mut Path)) {
        for from in 0..2 {
            change(&mut self.way(wire, from).path);
        }
    }

    /// Up or down, without a word to anybody. A stream that went down stays dead.
    pub fn set_up(&mut self, wire: usize, up: bool) {
        self.each_way(wire, |path| path.up = up);
    }

    /// The NAT before host 0 forgets its mapping: from now on there is another, and what comes to the old one is dropped.
    pub fn rebind(&mut self, wire: usize) {
        let Wire::Datagrams(datagrams) = &mut self.wires[wire] else { panic!("a stream has no mapping") };
        datagrams.outside.set_port(datagrams.outside.port() + 1);
    }

    /// The NAT before host 0 forgets a mapping by which nothing was sent for so long: nothing comes in by it any more, and what goes out
    /// gets another.
    pub fn set_memory(&mut self, wire: usize, memory: Duration) {
        let Wire::Datagrams(datagrams) = &mut self.wires[wire] else { panic!("a stream has no mapping") };
        datagrams.memory = Some(memory);
    }

    /// How often it did.
    pub fn forgot(&self, wire: usize) -> u32 {
        let Wire::Datagrams(datagrams) = &self.wires[wire] else { panic!("a stream has no mapping") };
        datagrams.forgot
    }

    /// A stream breaks, and both hosts hear of it.
    pub fn break_stream(&mut self, now: Instant, wire: usize) {
        let Wire::Stream(stream) = &mut self.wires[wire] else {
            panic!("nothing tells of the end of a datagram wire")
        };
        stream.broken = true;
        let route = Route::Stream(u32::try_from(wire).unwrap());
        for to in 0..2 {
            self.launch(now, Arrival::Broken { to, route });
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.flight.peek().map(|Reverse(flying)| flying.at)
    }

    /// A datagram of somebody else.
    pub fn inject(&mut self, at: Instant, to: Host, route: Route, bytes: Vec<u8>) {
        self.launch(at, Arrival::Packet { to, route, ecn: None, bytes });
    }

    /// What arrives at `now` or arrived before.
    pub fn pop(&mut self, now: Instant) -> Option<Arrival> {
        loop {
            self.flight.peek().filter(|Reverse(flying)| flying.at <= now)?;
            let Reverse(Flying { what, .. }) = self.flight.pop()?;
            if self.still_comes(&what) {
                return Some(what);
            }
        }
    }

    /// A buffer whose packet was read.
    pub fn recycle(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.spare.push(bytes);
    }

    /// Sends what a connection wrote to its buffer. Whether the route takes more.
    pub fn send(&mut self, now: Instant, from: Host, transmit: Transmit, bytes: &[u8]) -> bool {
        match transmit.route {
            Route::Datagram { socket, remote, .. } => {
                let size = transmit.segment.unwrap_or(bytes.len()).max(1);
                for datagram in bytes.chunks(size) {
                    self.send_datagram(now, from, socket, remote, transmit.ecn, datagram);
                }
                true
            }
            Route::Stream(number) => {
                assert_eq!(transmit.segment, None, "packets on a stream stand behind their lengths");
                self.send_stream(now, from, number, bytes)
            }
        }
    }

    fn send_datagram(
        &mut self,
        now: Instant,
        from: Host,
        socket: u16,
        remote: SocketAddr,
        ecn: Option<Ecn>,
        bytes: &[u8],
    ) {
        let Some(Wire::Datagrams(wire)) = self.wires.get_mut(usize::from(socket)) else { return };
        let open = wire.is_open(now);
        if from == 0 {
            wire.go_out(now, open);
        }
        let expected = if from == 0 { wire.inside[1] } else { wire.outside };
        if remote != expected || (from == 1 && !open) {
            return;
        }
        if let Some(tap) = &mut self.tap {
            tap.push((from, bytes.to_vec()));
        }
        let fates = wire.ways[from].carry(now, bytes.len(), ecn, &mut self.rng);
        let to = 1 - from;
        for fate in fates.into_iter().flatten() {
            let route = self.route(usize::from(socket), to);
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.extend_from_slice(bytes);
            if let Some(bit) = fate.turned {
                copy[bit / 8] ^= 1 << (bit % 8);
            }
            self.launch(fate.at, Arrival::Packet { to, route, ecn: fate.ecn, bytes: copy });
        }
    }

    fn send_stream(&mut self, now: Instant, from: Host, number: u32, mut bytes: &[u8]) -> bool {
        let Some(Wire::Stream(stream)) = self.wires.get_mut(number as usize) else { return true };
        if stream.broken {
            return true;
        }
        let to = 1 - from;
        let route = Route::Stream(number);
        let mut come = Vec::new();
        let given = bytes.len();
        while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            let (packet, rest) = rest.split_at_checked(len).expect("whole packets behind their lengths");
            bytes = rest;
            let way = &mut stream.ways[from];
            let fate = way.carry_in_order(now, len + 2, &mut stream.last[from], &mut self.rng);
            if let Some(at) = fate {
                let mut copy = self.spare.pop().unwrap_or_default();
                copy.extend_from_slice(packet);
                come.push((at, copy));
            }
        }
        assert!(bytes.is_empty(), "nothing behind the last packet");
        let up = stream.ways[from].path.up;
        if !up {
            stream.stuck[from] += given;
        }
        let queued = stream.ways[from].queued(now);
        let room = queued + stream.stuck[from] < stream.buffer;
        let drained = (!room && !stream.full[from] && up).then(|| {
            stream.full[from] = true;
            let rate = stream.ways[from].path.rate.expect("a queue has a rate");
            now + Duration::from_nanos((queued - stream.buffer / 2) as u64 * 1_000_000_000 / rate)
        });
        for (at, bytes) in come {
            self.launch(at, Arrival::Packet { to, route, ecn: None, bytes });
        }
        if let Some(at) = drained {
            self.launch(at, Arrival::Ready { to: from, route });
        }
        room
    }

    fn still_comes(&mut self, what: &Arrival) -> bool {
        let (Arrival::Packet { route: Route::Stream(number), .. }
        | Arrival::Ready { route: Route::Stream(number), .. }) = what
        else {
            return true;
        };
        let Some(Wire::Stream(stream)) = self.wires.get_mut(*number as usize) else { return false };
        if let Arrival::Ready { to, .. } = *what {
            stream.full[to] = false;
        }
        !stream.broken
    }

    fn launch(&mut self, at: Instant, what: Arrival) {
        self.order += 1;
        self.flight.push(Reverse(Flying { at, order: self.order, what }));
    }
}

impl Datagrams {
    /// Whether the NAT still knows the mapping.
    fn is_open(&self, now: Instant) -> bool {
        let expired = |memory| self.used.is_some_and(|used| now - used > memory);
        !self.memory.is_some_and(expired)
    }

    /// A datagram leaves by it.
    fn go_out(&mut self, now: Instant, open: bool) {
        if !open {
            self.outside.set_port(self.outside.port() + 1);
            self.forgot += 1;
        }
        self.used = Some(now);
    }
}

impl Way {
    /// When this piece of a stream arrives, if the wire is up: after all before it. What is lost comes a round trip later.
    fn carry_in_order(
        &mut self,
        now: Instant,
        len: usize,
        last: &mut Option<Instant>,
        rng: &mut StdRng,
    ) -> Option<Instant> {
        let (mtu, queue, delay) = (self.path.mtu, self.path.queue, self.path.delay);
        (self.path.mtu, self.path.queue) = (usize::MAX, usize::MAX);
        let lost = self.tally.lost;
        let [fate, _] = self.carry(now, len - HEADERS.min(len), None, rng);
        (self.path.mtu, self.path.queue) = (mtu, queue);
        let mut at = match fate {
            Some(fate) => fate.at,
            None if self.path.up && self.tally.lost > lost => now + delay * 3,
            None => return None,
        };
        at = at.max(last.unwrap_or(at));
        *last = Some(at);
        Some(at)
    }
}
