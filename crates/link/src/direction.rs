//! A link at work.

use std::time::Duration;

use rand::{Rng, RngExt as _};
use thiserror::Error;

use crate::link::{Burst, Link};

/// Why a packet did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum Lost {
    /// By chance, alone or in a burst.
    #[error("lost on the link")]
    Chance,
    /// The queue was full.
    #[error("the queue of the link was full")]
    Queue,
    /// The link is out.
    #[error("the link is out")]
    Outage,
    /// Longer than the link can carry.
    #[error("longer than the link can carry")]
    TooLong,
}

/// What is given to a link at once: a packet, or several that arrive together or not at all, as fragments do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Packets, each of which may be lost.
    pub packets: usize,
    /// Bytes of all of them, headers included.
    pub bytes: usize,
    /// Bytes of the longest, which the link may refuse to carry.
    pub longest: usize,
}

impl Load {
    /// One packet of so many bytes.
    pub const fn packet(bytes: usize) -> Self {
        Self { packets: 1, bytes, longest: bytes }
    }
}

/// One direction of a link at work.
#[derive(Debug)]
pub struct Direction {
    link: Link,
    out: bool,
    /// When the last byte accepted so far will have been sent.
    idle_at: Duration,
    /// When the last packet accepted so far arrives.
    last_arrival: Duration,
    /// In the bad time of `Link::burst`.
    bad: bool,
}

impl Direction {
    /// A direction on which nothing has been sent.
    pub fn new(link: Link) -> Self {
        Self { link, out: false, idle_at: Duration::ZERO, last_arrival: Duration::ZERO, bad: false }
    }

    /// What it is like.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Makes it another. What is on its way arrives as it would have.
    pub fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    /// Loses everything that is sent from now on, or ends that. What is on its way arrives.
    pub fn set_outage(&mut self, out: bool) {
        self.out = out;
    }

    /// Takes a packet and says when it arrives. Time must not go back from one call to the next.
    ///
    /// # Errors
    /// Why it does not arrive.
    pub fn send(&mut self, now: Duration, load: &Load, chance: &mut impl Rng) -> Result<Duration, Lost> {
        if self.out {
            return Err(Lost::Outage);
        }
        if load.longest > self.link.mtu {
            return Err(Lost::TooLong);
        }
        if self.link.loss > 0.0 && (0..load.packets).any(|_| chance.random_bool(self.link.loss.min(1.0))) {
            return Err(Lost::Chance);
        }
        if let Some(burst) = self.link.burst
            && (0..load.packets).fold(false, |lost, _| self.falls_into(burst, chance) || lost)
        {
            return Err(Lost::Chance);
        }
        if let Some(rate) = self.link.rate.filter(|rate| *rate > 0) {
            let waiting = self.idle_at.saturating_sub(now);
            let queued = waiting.as_nanos() * u128::from(rate) / 1_000_000_000;
            if queued > 0 && queued + load.bytes as u128 > self.link.queue as u128 {
                return Err(Lost::Queue);
            }
            let sending = (load.bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate));
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
    fn falls_into(&mut self, burst: Burst, chance: &mut impl Rng) -> bool {
        let turns = if self.bad { 1.0 / burst.length.max(1.0) } else { burst.begins.clamp(0.0, 1.0) };
        self.bad ^= chance.random_bool(turns);
        self.bad
    }

    /// Whether a packet that was accepted arrives once more.
    pub fn repeats(&self, chance: &mut impl Rng) -> bool {
        self.link.duplicate > 0.0 && chance.random_bool(self.link.duplicate.min(1.0))
    }
}
