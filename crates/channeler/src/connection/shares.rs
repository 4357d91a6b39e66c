//! How much of what was written each channel may hold.
//!
//! One channel may hold what the fastest links need. All that hold something share that out among them, so that a thousand take
//! little more memory, and fill the caches no more, than one alone. A channel counts only those of its own priority and above, for
//! it goes before all others.

use crate::Priority;

/// What every channel may hold, however many there are.
const LEAST: u64 = 16 << 10;

/// How many channels hold something that was written, by their priority.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Sorted, none of them 0.
    holders: Vec<(Priority, u32)>,
}

impl Shares {
    /// A channel holds something.
    pub(super) fn enter(&mut self, priority: Priority) {
        match self.holders.binary_search_by_key(&priority, |(known, _)| *known) {
            Ok(at) => self.holders[at].1 += 1,
            Err(at) => self.holders.insert(at, (priority, 1)),
        }
    }

    /// It no longer does.
    pub(super) fn leave(&mut self, priority: Priority) {
        if let Ok(at) = self.holders.binary_search_by_key(&priority, |(known, _)| *known) {
            self.holders[at].1 -= 1;
            if self.holders[at].1 == 0 {
                self.holders.remove(at);
            }
        }
    }

    /// The share of a channel that counts already, of what those of its priority may hold together.
    #[inline]
    pub(super) fn of(&self, priority: Priority, all: u64) -> u64 {
        let holders: u64 = self
            .holders
            .iter()
            .filter(|(other, _)| *other >= priority)
            .map(|(_, count)| u64::from(*count))
            .sum();
        (all / holders.max(1)).max(LEAST.min(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_a_priority_share_and_lower_ones_do_not_matter() {
        let mut shares = Shares::default();
        shares.enter(Priority::NORMAL);
        assert_eq!(shares.of(Priority::NORMAL, 16 << 20), 16 << 20);
        for _ in 0..3 {
            shares.enter(Priority::NORMAL);
        }
        shares.enter(Priority::BACKGROUND);
        assert_eq!(shares.of(Priority::NORMAL, 16 << 20), 4 << 20);
        assert_eq!(shares.of(Priority::BACKGROUND, 20 << 20), 4 << 20);
        shares.enter(Priority::URGENT);
        assert_eq!(shares.of(Priority::URGENT, 32 << 20), 32 << 20);
        shares.leave(Priority::URGENT);
        shares.leave(Priority::BACKGROUND);
        for _ in 0..4 {
            shares.leave(Priority::NORMAL);
        }
        assert!(shares.holders.is_empty());
    }

    #[test]
    fn no_share_is_too_small_for_a_turn() {
        let mut shares = Shares::default();
        for _ in 0..4096 {
            shares.enter(Priority::NORMAL);
        }
        assert_eq!(shares.of(Priority::NORMAL, 32 << 20), LEAST);
    }
}
