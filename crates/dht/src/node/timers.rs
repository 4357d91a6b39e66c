//! Everything the node ever waits for, in one ordered queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::event::OpId;
use super::family::Family;
use super::search::SearchKey;

/// What a deadline is for. Each timer is armed at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next send, or the end, of the request with this transaction id.
    Request(u32),
    /// A search does not wait any longer for the request with this transaction id.
    Slow(u32),
    /// The next thing a search has to do.
    Search(SearchKey),
    /// Values of a listen reach the end of their life.
    Listen(OpId),
    /// Subscribe anew everywhere, as others may see us elsewhere.
    ListenAnew,
    /// Look after the routing table of a family.
    Confirm(Family),
    /// Ping the bootstrap addresses again.
    Bootstrap(Family),
    /// Sweep out what is old: buckets, listeners, searches, unproved addresses.
    Sweep,
    /// A stored value reaches the end of its life.
    Store,
    /// Draw a new token secret.
    RotateToken,
    /// Half-received values are given up.
    Assembly,
    /// Hand values on that are no longer ours to keep.
    Maintain,
}

/// The armed timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Instant, Timer)>,
    armed: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Arms `timer` for `at`, wherever it stood before.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(old) = self.armed.insert(timer, at) {
            self.queue.remove(&(old, timer));
        }
        self.queue.insert((at, timer));
    }

    /// Arms `timer` for `at` unless it rings sooner already.
    pub(super) fn set_sooner(&mut self, timer: Timer, at: Instant) {
        if self.armed.get(&timer).is_none_or(|&old| at < old) {
            self.set(timer, at);
        }
    }

    /// Arms or disarms.
    pub(super) fn set_option(&mut self, timer: Timer, at: Option<Instant>) {
        match at {
            Some(at) => self.set(timer, at),
            None => self.cancel(timer),
        }
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.armed.remove(&timer) {
            self.queue.remove(&(at, timer));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Disarms and returns a timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        self.armed.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timer_rings_once_at_its_last_setting() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.set(Timer::Sweep, start + Duration::from_secs(1));
        timers.set(Timer::Sweep, start + Duration::from_secs(3));
        timers.set_sooner(Timer::Store, start + Duration::from_secs(2));
        timers.set_sooner(Timer::Store, start + Duration::from_secs(9));
        assert_eq!(timers.next(), Some(start + Duration::from_secs(2)));
        let end = start + Duration::from_secs(10);
        assert_eq!(timers.pop_due(start), None);
        assert_eq!(timers.pop_due(end), Some(Timer::Store));
        assert_eq!(timers.pop_due(end), Some(Timer::Sweep));
        assert_eq!(timers.pop_due(end), None);
    }
}
