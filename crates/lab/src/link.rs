//! Links: latency, jitter, loss, rate, queue.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use towline_nat::Reason;

use crate::packet::Packet;

/// One direction of a link, and what it does to packets.
///
/// Start from a preset and change what matters: `Link { loss: 0.01, ..Link::dsl() }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Time from the end of sending to arrival.
    pub latency: Duration,
    /// Up to this much is added, evenly distributed.
    pub jitter: Duration,
    /// Whether packets overtake each other within the jitter. Otherwise a delayed packet delays those behind it.
    pub reorder: bool,
    /// Share of packets that are lost, 0 to 1.
    pub loss: f64,
    /// Packets lost many at a time, beside those lost one by one.
    pub burst: Option<Burst>,
    /// Share of packets that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Bytes per second, headers included. `None`: no limit.
    pub rate: Option<u64>,
    /// Bytes that may wait for their turn; more are dropped. Only meant where there is a `rate`.
    pub queue: usize,
    /// Longest IP packet in bytes, at least 576. Hosts cut longer datagrams into fragments to fit their own link, unless
    /// the socket forbids it; a later link drops what is too long for it.
    pub mtu: usize,
}

/// Loss in bursts: a good state that loses nothing and a bad one that loses everything (the Gilbert model).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// Chance of each packet of a good time to begin a bad one, 0 to 1.
    pub begins: f64,
    /// Packets that are lost in a bad time, on average; at least 1.
    pub length: f64,
}

impl Link {
    /// Nothing but this latency.
    pub fn delay(latency: Duration) -> Self {
        Self {
            latency,
            jitter: Duration::ZERO,
            reorder: false,
            loss: 0.0,
            burst: None,
            duplicate: 0.0,
            rate: None,
            queue: 256 << 10,
            mtu: 1500,
        }
    }

    /// A port of a home or office switch: 0.1 ms, 1 Gbit/s.
    pub fn ethernet() -> Self {
        Self { rate: Some(125_000_000), queue: 512 << 10, ..Self::delay(Duration::from_micros(100)) }
    }

    /// A server or fibre line: 5 ms, 1 Gbit/s.
    pub fn fibre() -> Self {
        Self { rate: Some(125_000_000), queue: 2 << 20, ..Self::delay(Duration::from_millis(5)) }
    }

    /// A home line: 12 ms with 2 ms jitter, 50 Mbit/s.
    pub fn dsl() -> Self {
        let jitter = Duration::from_millis(2);
        Self { jitter, rate: Some(6_250_000), ..Self::delay(Duration::from_millis(12)) }
    }

    /// A telephone: 35 ms with 15 ms jitter, 20 Mbit/s, 0.5 % loss.
    pub fn mobile() -> Self {
        let jitter = Duration::from_millis(15);
        Self { jitter, loss: 0.005, rate: Some(2_500_000), ..Self::delay(Duration::from_millis(35)) }
    }
}

/// Why a packet did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// The loss of a link.
    Loss,
    /// The queue of a link was full.
    Queue,
    /// The link is out, or an interface is down.
    Outage,
    /// Sender and receiver are on different sides of a partition.
    Partition,
    /// Longer than a link on the way can carry.
    TooLong,
    /// No host has the address, and no route leads there.
    NoRoute,
    /// It passed too many routers.
    HopLimit,
    /// A middlebox did not let it pass.
    Refused,
    /// A middlebox did not let it pass, for this reason.
    Box(Reason),
    /// The host has crashed.
    HostDown,
    /// No socket wanted it.
    NoSocket,
    /// The buffer of the socket was full.
    SocketFull,
}

impl Drop {
    /// A number for the hash of the trace.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Loss => 0,
            Self::Queue => 1,
            Self::Outage => 2,
            Self::Partition => 3,
            Self::TooLong => 4,
            Self::NoRoute => 5,
            Self::HopLimit => 6,
            Self::Refused => 7,
            Self::HostDown => 8,
            Self::NoSocket => 9,
            Self::SocketFull => 10,
            Self::Box(reason) => 11 + reason as u8,
        }
    }
}

/// A direction of a link at work.
#[derive(Debug)]
pub(crate) struct Direction {
    pub(crate) link: Link,
    /// Eats everything.
    pub(crate) out: bool,
    /// When the last byte accepted so far will have been sent.
    idle_at: Duration,
    /// When the last packet accepted so far arrives.
    last_arrival: Duration,
    /// In the bad time of `Link::burst`.
    bad: bool,
}

impl Direction {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, out: false, idle_at: Duration::ZERO, last_arrival: Duration::ZERO, bad: false }
    }

    /// Takes a packet and says when it arrives.
    pub(crate) fn send(
        &mut self,
        now: Duration,
        packet: &mut Packet,
        chance: &mut StdRng,
    ) -> Result<Duration, Drop> {
        if self.out {
            return Err(Drop::Outage);
        }
        if packet.longest == 0 {
            packet.longest = self.link.mtu;
        }
        let (packets, bytes) = packet.on_wire(packet.longest);
        // Only the first link cuts datagrams. Segments are taken as clamped to the smallest MTU of the path.
        if !packet.kind().is_tcp() && bytes.min(packet.longest) > self.link.mtu {
            return Err(Drop::TooLong);
        }
        if self.link.loss > 0.0 && (0..packets).any(|_| chance.random_bool(self.link.loss.min(1.0))) {
            return Err(Drop::Loss);
        }
        if let Some(burst) = self.link.burst
            && (0..packets).fold(false, |lost, _| self.falls_into(burst, chance) || lost)
        {
            return Err(Drop::Loss);
        }
        if let Some(rate) = self.link.rate.filter(|rate| *rate > 0) {
            let waiting = self.idle_at.saturating_sub(now);
            let queued = waiting.as_nanos() * u128::from(rate) / 1_000_000_000;
            if queued > 0 && queued + bytes as u128 > self.link.queue as u128 {
                return Err(Drop::Queue);
            }
            let sending = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate));
            self.idle_at = self.idle_at.max(now) + Duration::from_nanos(sending as u64);
        } else {
            self.idle_at = now;
        }
        let mut arrival = self.idle_at + self.link.latency;
        if !self.link.jitter.is_zero() {
            arrival += Duration::from_nanos(chance.random_range(0..=self.link.jitter.as_nanos() as u64));
        }
        if !self.link.reorder {
            arrival = arrival.max(self.last_arrival);
        }
        self.last_arrival = self.last_arrival.max(arrival);
        Ok(arrival)
    }
    /// Whether the bursts take the next packet.
    fn falls_into(&mut self, burst: Burst, chance: &mut StdRng) -> bool {
        let turns = if self.bad { 1.0 / burst.length.max(1.0) } else { burst.begins.clamp(0.0, 1.0) };
        self.bad ^= chance.random_bool(turns);
        self.bad
    }

    /// Whether a packet that was accepted arrives once more.
    pub(crate) fn repeats(&self, chance: &mut StdRng) -> bool {
        self.link.duplicate > 0.0 && chance.random_bool(self.link.duplicate.min(1.0))
    }
}
