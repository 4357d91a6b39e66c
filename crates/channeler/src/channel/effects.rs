//! What a channel needs to know from outside, and what it has to say.

use std::time::{Duration, Instant};

use super::ring::Pool;
use crate::{Config, Reason};

/// What every operation may ask for.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The present.
    pub(crate) now: Instant,
    /// Smoothed round trip of the slowest link that data takes.
    pub(crate) rtt: Duration,
    /// Own limits.
    pub(crate) config: &'a Config,
    /// Where the connection's channels have their memory from.
    pub(crate) pool: &'a mut Pool,
}

impl Context<'_> {
    /// How long an ordered channel without repair waits for what was overtaken.
    pub(super) fn reorder_wait(&self) -> Duration {
        const LEAST: Duration = Duration::from_millis(5);
        const MOST: Duration = Duration::from_millis(100);
        self.config.reorder_wait.unwrap_or_else(|| (self.rtt / 2).clamp(LEAST, MOST))
    }
}

/// What the data of a packet may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes at the end of the packet.
    pub(crate) bytes: usize,
    /// What the connection's window leaves.
    pub(crate) credit: u64,
    /// Whether what lies in a buffer of its own may be left out, to be encrypted from there.
    pub(crate) may_leave: bool,
}

/// What operations did beyond their result. The caller gives the same one to many of them and takes what gathered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// There is something to read where there was nothing.
    pub(crate) readable: bool,
    /// There is room for what a write did not find room for, or a blocked writer has to hear that it is over.
    pub(crate) writable: bool,
    /// The peer's window grew.
    pub(crate) window_changed: bool,
    /// The peer's direction was finished and read to its end. Once.
    pub(crate) finished: bool,
    /// The channel ended for the program. Once; nothing but control messages follows.
    pub(crate) ended: Option<Reason>,
    /// Messages of this side that were given up.
    pub(crate) lost_sent: u64,
    /// Messages of the peer that will not come.
    pub(crate) lost_received: u64,
    /// New offsets that were used up: they count against the peer's connection window.
    pub(crate) sent: u64,
    /// New offsets of the peer: they count against the own connection window, which the caller checks.
    pub(crate) received: u64,
    /// Bytes of the last packet that were left out at its end, as they lie in a buffer of their own.
    pub(crate) left_out: usize,
    /// Offsets of the peer that hold no memory any more: so much may the connection window move on.
    pub(crate) consumed: u64,
}
