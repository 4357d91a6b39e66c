//! Times at which channels want to be called.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// The times of those channels that have any. Most have none: only deadlines of messages and waits for overtaken ones.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Soonest on top. Entries that no longer hold stay in it until their time, and are told by the channel's own record.
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl Deadlines {
    /// Notes that `slot` wants to be called at `at`. `noted` is the caller's record of the soonest time noted for it.
    pub(super) fn note(&mut self, slot: u32, at: Instant, noted: &mut Option<Instant>) {
        if noted.is_none_or(|earlier| at < earlier) {
            *noted = Some(at);
            self.heap.push(Reverse((at, slot)));
        }
    }

    /// Drops entries that do not hold if they are many more than `slots`.
    pub(super) fn trim(&mut self, slots: usize, holds: impl Fn(Instant, u32) -> bool) {
        if self.heap.len() > 4 * slots + 64 {
            self.heap.retain(|entry| holds(entry.0.0, entry.0.1));
        }
    }

    /// The soonest time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.0.0)
    }

    /// Takes one entry whose time has come. It holds only if the channel's record says the same time.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, u32)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.0)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.heap.clear();
    }
}
