//! How long a NAT on the way remembers, learned from silences that it survived or not.

use std::time::{Duration, Instant};

use crate::Side;

/// The first guess: half of what RFC 4787, section 4.3 forbids routers to fall below is still kept by the worst of them.
const FIRST: Duration = Duration::from_secs(15);
const LEAST: Duration = Duration::from_secs(5);
/// RFC 4787 recommends routers to remember for five minutes; more than two save nothing worth the risk.
const MOST: Duration = Duration::from_mins(2);
/// Silences shorter than this say nothing.
const NOTABLE: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct KeepAlive {
    /// None: not wanted.
    interval: Option<Duration>,
    most: Duration,
    /// The longest silence that was survived, and the shortest that was not.
    survived: Duration,
    forgotten: Option<Duration>,
    /// The latest silence, until the next one shows that it was survived.
    latest: Option<Duration>,
    last_sent: Instant,
    /// When a ping was asked for, whether or not it left.
    asked: Instant,
    responder: bool,
}

impl KeepAlive {
    pub(super) fn new(enabled: bool, idle_timeout: Duration, side: Side, now: Instant) -> Self {
        let most = MOST.min(idle_timeout / 2);
        Self {
            interval: enabled.then_some(FIRST.min(most)),
            most,
            survived: Duration::ZERO,
            forgotten: None,
            latest: None,
            last_sent: now,
            asked: now,
            responder: side == Side::Responder,
        }
    }

    /// The connection does not live longer than this in silence, for the peer has a timeout, too.
    pub(super) fn limit(&mut self, idle_timeout: Duration) {
        self.most = self.most.min((idle_timeout / 2).max(Duration::from_secs(1)));
        self.interval = self.interval.map(|interval| interval.min(self.most));
    }

    /// A ping was asked for: the next one is an interval away, even if this one cannot leave.
    pub(super) fn on_ping(&mut self, now: Instant) {
        self.asked = now;
    }

    #[inline]
    pub(super) fn on_sent(&mut self, now: Instant) {
        let silence = now.saturating_duration_since(self.last_sent);
        self.last_sent = now;
        if silence >= NOTABLE {
            self.on_silence(silence);
        }
    }

    #[cold]
    fn on_silence(&mut self, silence: Duration) {
        if let Some(latest) = self.latest.replace(silence) {
            self.survived = self.survived.max(latest);
            self.adapt();
        }
    }

    /// The peer challenges this side's address, or saw it change: after a silence, the NAT forgot.
    pub(super) fn on_challenged(&mut self) {
        if let Some(latest) = self.latest.take() {
            self.forgotten = Some(self.forgotten.map_or(latest, |known| known.min(latest)));
            if self.survived >= latest {
                self.survived = latest / 2;
            }
            self.adapt();
        }
    }

    fn adapt(&mut self) {
        let Some(interval) = &mut self.interval else { return };
        let next = match self.forgotten {
            None if self.survived >= *interval => *interval * 5 / 4,
            None => *interval,
            // Halfway between what works and what does not, with an eighth to spare.
            Some(forgotten) => self.survived.max((self.survived + forgotten) / 2).min(forgotten * 7 / 8),
        };
        *interval = next.clamp(LEAST.min(self.most), self.most);
    }

    /// When the next ping is due. The responder waits a quarter longer, so that usually one side speaks.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let interval = self.interval?;
        Some(self.last_sent.max(self.asked) + if self.responder { interval * 5 / 4 } else { interval })
    }

    #[cfg(test)]
    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Idles behind a NAT that forgets after `memory`.
    fn idle(memory: Duration, rounds: u32) -> (KeepAlive, Duration) {
        let mut now = Instant::now();
        let mut keep = KeepAlive::new(true, Duration::from_mins(10), Side::Initiator, now);
        let mut moved = Duration::ZERO;
        for _ in 0..rounds {
            let due = keep.deadline().unwrap();
            let silence = due - now;
            now = due;
            keep.on_sent(now);
            if silence >= memory {
                keep.on_challenged();
                moved = silence;
            }
        }
        (keep, moved)
    }

    #[test]
    fn grows_to_the_most_where_nothing_forgets() {
        let (keep, _) = idle(Duration::MAX, 40);
        assert_eq!(keep.interval(), Some(MOST));
    }

    #[test]
    fn settles_below_what_is_forgotten() {
        for memory in [8, 20, 30, 47, 60, 100].map(Duration::from_secs) {
            let (keep, moved) = idle(memory, 60);
            let interval = keep.interval().unwrap();
            assert!(interval < memory && interval > memory / 2, "{memory:?}: {interval:?}");
            assert!(moved >= memory);
        }
    }

    #[test]
    fn idle_timeout_bounds_it_and_responder_waits_longer() {
        let now = Instant::now();
        let keep = KeepAlive::new(true, Duration::from_secs(20), Side::Responder, now);
        assert_eq!(keep.deadline(), Some(now + Duration::from_millis(12_500)));
        let keep = KeepAlive::new(false, Duration::from_secs(20), Side::Initiator, now);
        assert_eq!(keep.deadline(), None);
    }
}
