//! Which serial numbers the peer has opened channels with, in whatever order its packets came.

use std::collections::VecDeque;

/// A set of serial numbers that are used once each, mostly in order.
#[derive(Debug, Default)]
pub(super) struct Serials {
    /// All below it are used, but for the gaps.
    next: u32,
    /// Ranges below `next` that are not used yet: first and one past the last, ascending.
    gaps: VecDeque<(u32, u32)>,
    /// How many numbers are in them.
    missing: usize,
}

impl Serials {
    /// Whether a number is used.
    pub(super) fn contains(&self, serial: u32) -> bool {
        serial < self.next && self.gap(serial).is_none()
    }

    /// Numbers below the highest used one that are not used.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Marks a number as used.
    pub(super) fn insert(&mut self, serial: u32) {
        if serial >= self.next {
            if serial > self.next {
                self.gaps.push_back((self.next, serial));
                self.missing += (serial - self.next) as usize;
            }
            self.next = serial + 1;
        } else if let Some(at) = self.gap(serial) {
            self.missing -= 1;
            let (start, end) = self.gaps[at];
            match (start == serial, end == serial + 1) {
                (true, true) => drop(self.gaps.remove(at)),
                (true, false) => self.gaps[at].0 += 1,
                (false, true) => self.gaps[at].1 -= 1,
                (false, false) => {
                    self.gaps[at].1 = serial;
                    self.gaps.insert(at + 1, (serial + 1, end));
                }
            }
        }
    }

    /// Number of the gap that a serial number is in.
    fn gap(&self, serial: u32) -> Option<usize> {
        let at = self.gaps.partition_point(|gap| gap.1 <= serial);
        self.gaps.get(at).is_some_and(|gap| gap.0 <= serial).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(numbers in proptest::collection::vec(0..64u32, 0..100)) {
            let mut ours = Serials::default();
            let mut model = BTreeSet::new();
            for number in numbers {
                ours.insert(number);
                model.insert(number);
                for probe in 0..70 {
                    prop_assert_eq!(ours.contains(probe), model.contains(&probe));
                }
                let highest = model.last().copied().unwrap();
                prop_assert_eq!(ours.missing(), (highest as usize + 1) - model.len());
            }
        }
    }
}
