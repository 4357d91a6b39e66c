//! When all subscriptions may be made anew: what makes us do it comes from others.

use std::time::{Duration, Instant};

/// Shortest time between two rounds.
const PAUSE: Duration = Duration::from_secs(5);
/// So many rounds may follow upon each other so; in the long run there is one in this time. Those that listened before stay with
/// the nodes for minutes, each with its own pushes, and one node that lies about our address is enough to make us go on.
const BURST: u32 = 12;
const PERIOD: Duration = Duration::from_mins(1);

/// The rounds that there were.
#[derive(Debug, Default)]
pub(in crate::node) struct Rounds {
    last: Option<Instant>,
    /// Until when they would have lasted at the pace of the long run.
    until: Option<Instant>,
}

impl Rounds {
    /// The earliest time of the next.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let pause = self.last.map(|last| last + PAUSE);
        let share = self.until.and_then(|until| until.checked_sub(PERIOD * (BURST - 1)));
        [pause, share].into_iter().flatten().fold(now, Instant::max)
    }

    /// There was one that others made us do.
    pub(super) fn count(&mut self, now: Instant) {
        self.until = Some(self.until.map_or(now, |until| until.max(now)) + PERIOD);
        self.note(now);
    }

    /// There was one for reasons of our own.
    pub(in crate::node) fn note(&mut self, now: Instant) {
        self.last = Some(now);
    }
}
