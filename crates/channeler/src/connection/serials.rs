//! Which serial numbers the peer has opened channels with, in whatever order its packets came.

use crate::ranges::Ranges;

/// A set of serial numbers that are used once each, mostly in order.
#[derive(Debug, Default)]
pub(super) struct Serials {
    used: Ranges,
    /// How many numbers are in it.
    count: u64,
}

impl Serials {
    /// Whether a number is used.
    pub(super) fn contains(&self, serial: u32) -> bool {
        self.used.around(serial.into()).is_some()
    }

    /// Numbers below the highest used one that are not used.
    pub(super) fn missing(&self) -> usize {
        let next = self.used.iter().next_back().map_or(0, |(_, end)| end);
        (next - self.count) as usize
    }

    /// Marks a number as used.
    pub(super) fn insert(&mut self, serial: u32) {
        let serial = u64::from(serial);
        self.count += self.used.insert(serial, serial + 1);
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
