//! Whether a path carries congestion marks (RFC 9000, section 13.4.2 and appendix A.4).

use crate::wire::message::EcnCounts;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Packets are marked; none was acknowledged yet.
    Testing,
    /// A probe timeout came first: packets leave unmarked, until it is known which ones arrive.
    Waiting,
    /// The path carries marks.
    Capable,
    /// It drops, clears or miscounts them, or they are not wanted.
    Failed,
}

#[derive(Debug)]
pub(super) struct EcnCheck {
    state: State,
    /// Packets that left with a mark.
    marked: u64,
    counts: EcnCounts,
}

impl EcnCheck {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            state: if enabled { State::Testing } else { State::Failed },
            marked: 0,
            counts: EcnCounts::default(),
        }
    }

    /// The path is another one: marks are tried again. Counters go on.
    pub(super) fn restart(&mut self, enabled: bool) {
        self.state = if enabled { State::Testing } else { State::Failed };
    }

    /// Whether the next packet is to carry ECT(0).
    #[inline]
    pub(super) fn marks(&self) -> bool {
        matches!(self.state, State::Testing | State::Capable)
    }

    #[inline]
    pub(super) fn on_sent(&mut self) {
        self.marked += 1;
    }

    /// Nothing was heard for a probe timeout.
    pub(super) fn on_probe_timeout(&mut self) {
        if self.state == State::Testing {
            self.state = State::Waiting;
        }
    }

    /// An acknowledgement of a larger number than before: how many of the newly acknowledged packets were marked, how
    /// many not, and what the peer counts. Gives the packets newly marked as congested.
    #[inline]
    pub(super) fn on_ack(&mut self, marked: u64, unmarked: u64, counts: Option<EcnCounts>) -> u64 {
        if self.state == State::Failed {
            return 0;
        }
        let Some(counts) = counts else {
            if marked > 0 || self.state == State::Waiting {
                // Cleared on the way, or nobody counts there; or only the unmarked ones arrive.
                self.state = State::Failed;
            }
            return 0;
        };
        let grown = |new: u64, old: u64| new.checked_sub(old);
        let (Some(ce), Some(ect0)) = (grown(counts.ce, self.counts.ce), grown(counts.ect0, self.counts.ect0))
        else {
            self.state = State::Failed;
            return 0;
        };
        if ce + ect0 < marked || counts.ce.saturating_add(counts.ect0) > self.marked {
            self.state = State::Failed;
            return 0;
        }
        self.counts = counts;
        if marked > 0 {
            self.state = State::Capable;
        } else if self.state == State::Waiting && unmarked > 0 {
            self.state = State::Failed;
        }
        ce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ce: u64, ect0: u64) -> EcnCounts {
        EcnCounts { ce, ect0 }
    }

    fn sent(packets: u64) -> EcnCheck {
        let mut check = EcnCheck::new(true);
        (0..packets).for_each(|_| check.on_sent());
        check
    }

    #[test]
    fn path_that_carries_marks() {
        let mut check = sent(10);
        assert_eq!(check.on_ack(4, 0, Some(counts(0, 4))), 0);
        assert_eq!(check.on_ack(4, 0, Some(counts(3, 5))), 3);
        assert!(check.marks());
        check.on_probe_timeout();
        assert!(check.marks(), "a path that carried marks goes on to");
    }

    #[test]
    fn cleared_lost_miscounted() {
        let mut check = sent(2);
        check.on_ack(2, 0, None);
        assert!(!check.marks(), "cleared");
        let mut check = sent(4);
        check.on_ack(2, 0, Some(counts(0, 1)));
        assert!(!check.marks(), "one of two cleared");
        let mut check = sent(2);
        check.on_ack(1, 0, Some(counts(2, 1)));
        assert!(!check.marks(), "more than were sent");
        let mut check = sent(4);
        check.on_ack(2, 0, Some(counts(0, 2)));
        check.on_ack(1, 0, Some(counts(0, 1)));
        assert!(!check.marks(), "going backwards");
    }

    #[test]
    fn path_that_drops_what_is_marked() {
        let mut check = sent(10);
        check.on_probe_timeout();
        assert!(!check.marks(), "probes leave unmarked");
        check.on_ack(0, 1, None);
        assert!(!check.marks());
        assert_eq!(check.state, State::Failed);
        let mut check = sent(10);
        check.on_probe_timeout();
        check.on_ack(3, 0, Some(counts(0, 3)));
        assert!(check.marks(), "it was only slow");
    }
}
