//! What is to be sent again, as ranges of offsets. Sets of offsets are [`Ranges`].

use std::collections::VecDeque;

pub(super) use crate::ranges::Ranges;

/// What waits to be sent again, as a range of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repair {
    pub(super) start: u64,
    pub(super) end: u64,
    /// How often it will have been repaired then.
    pub(super) tries: u8,
}

/// [`Repair`]s: sorted, not overlapping.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    queue: VecDeque<Repair>,
}

impl Repairs {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    #[inline]
    pub(super) fn first(&self) -> Option<Repair> {
        self.queue.front().copied()
    }

    /// Adds a range, not empty. Where it waits already it was tried as often as the larger number says.
    pub(super) fn insert(&mut self, start: u64, end: u64, mut tries: u8) {
        debug_assert!(start < end, "nothing in {start}..{end}");
        let first = self.queue.partition_point(|repair| repair.end <= start);
        for repair in self.queue.iter().skip(first).take_while(|repair| repair.start < end) {
            tries = tries.max(repair.tries);
        }
        self.remove(start, end);
        let at = self.queue.partition_point(|repair| repair.end <= start);
        if let Some(before) = at.checked_sub(1).and_then(|before| self.queue.get_mut(before))
            && before.end == start
            && before.tries == tries
        {
            before.end = end;
        } else {
            self.queue.insert(at, Repair { start, end, tries });
        }
    }

    /// Takes `start..end` out.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        let mut at = self.queue.partition_point(|repair| repair.end <= start);
        while let Some(&repair) = self.queue.get(at)
            && repair.start < end
        {
            match (repair.start < start, repair.end > end) {
                (true, true) => {
                    self.queue[at].end = start;
                    self.queue.insert(at + 1, Repair { start: end, ..repair });
                    return;
                }
                (true, false) => {
                    self.queue[at].end = start;
                    at += 1;
                }
                (false, true) => {
                    self.queue[at].start = end;
                    return;
                }
                (false, false) => {
                    self.queue.remove(at);
                }
            }
        }
    }

    /// Gives the memory back.
    pub(super) fn clear(&mut self) {
        self.queue = VecDeque::new();
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.queue.capacity() * size_of::<Repair>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Repairs;

    proptest! {
        #[test]
        fn repairs_remember_the_most_tries(steps in prop::collection::vec((any::<bool>(), 0_u64..60, 1_u64..12, 0_u8..4), 0..60)) {
            let (mut repairs, mut model) = (Repairs::default(), [None; 80]);
            for (add, start, len, tries) in steps {
                let range = start as usize..(start + len) as usize;
                if add {
                    repairs.insert(start, start + len, tries);
                    let most = model[range.clone()].iter().flatten().copied().max().unwrap_or(0).max(tries);
                    model[range].fill(Some(most));
                } else {
                    repairs.remove(start, start + len);
                    model[range].fill(None);
                }
                let mut all = [None; 80];
                for repair in &repairs.queue {
                    all[repair.start as usize..repair.end as usize].fill(Some(repair.tries));
                }
                prop_assert_eq!(all, model);
                prop_assert!(repairs.queue.iter().zip(repairs.queue.iter().skip(1)).all(|(a, b)| a.end <= b.start));
            }
        }
    }
}
