//! What a link is like.

use std::time::Duration;

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
