//! Sets of offsets.

use std::collections::VecDeque;

/// Offsets as ranges: sorted, neither overlapping nor touching.
///
/// What comes at the end or leaves at the beginning costs nothing worth a word; anything else a search, and at worst a
/// move of the shorter part.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    ranges: VecDeque<(u64, u64)>,
}

impl Ranges {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The lowest range, as start and end.
    #[inline]
    pub(super) fn first(&self) -> Option<(u64, u64)> {
        self.ranges.front().copied()
    }

    #[inline]
    pub(super) fn pop_first(&mut self) -> Option<(u64, u64)> {
        self.ranges.pop_front()
    }

    /// Adds `start..end`, not empty. Gives how many offsets were new.
    pub(super) fn insert(&mut self, start: u64, end: u64) -> u64 {
        debug_assert!(start < end, "nothing in {start}..{end}");
        match self.ranges.back_mut() {
            None => self.ranges.push_back((start, end)),
            Some(last) if last.1 < start => self.ranges.push_back((start, end)),
            Some(last) if last.1 == start => last.1 = end,
            Some(_) => return self.insert_inside(start, end),
        }
        end - start
    }

    fn insert_inside(&mut self, start: u64, end: u64) -> u64 {
        let from = self.ranges.partition_point(|range| range.1 < start);
        let to = self.ranges.partition_point(|range| range.0 <= end);
        if from == to {
            self.ranges.insert(from, (start, end));
            return end - start;
        }
        let merged = (start.min(self.ranges[from].0), end.max(self.ranges[to - 1].1));
        let old: u64 = self.ranges.range(from..to).map(|range| range.1 - range.0).sum();
        self.ranges[from] = merged;
        if to - from > 1 {
            self.ranges.drain(from + 1..to);
        }
        merged.1 - merged.0 - old
    }

    /// Takes `start..end` out.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        let mut at = self.ranges.partition_point(|range| range.1 <= start);
        while let Some(&(low, high)) = self.ranges.get(at)
            && low < end
        {
            match (low < start, high > end) {
                (true, true) => {
                    self.ranges[at].1 = start;
                    self.ranges.insert(at + 1, (end, high));
                    return;
                }
                (true, false) => {
                    self.ranges[at].1 = start;
                    at += 1;
                }
                (false, true) => {
                    self.ranges[at].0 = end;
                    return;
                }
                (false, false) => {
                    self.ranges.remove(at);
                }
            }
        }
    }

    /// The range that has this offset.
    pub(super) fn around(&self, offset: u64) -> Option<(u64, u64)> {
        let at = self.ranges.partition_point(|range| range.1 <= offset);
        self.ranges.get(at).copied().filter(|range| range.0 <= offset)
    }

    /// Whether all of `start..end`, not empty, is in it.
    pub(super) fn contains(&self, start: u64, end: u64) -> bool {
        self.around(start).is_some_and(|range| end <= range.1)
    }

    /// The first stretch of `start..end` that is not in it.
    pub(super) fn gap(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let at = self.ranges.partition_point(|range| range.1 <= start);
        let (start, next) = match self.ranges.get(at) {
            Some(&(low, high)) if low <= start => (high, self.ranges.get(at + 1)),
            next => (start, next),
        };
        let end = next.map_or(end, |next| next.0.min(end));
        (start < end).then_some((start, end))
    }

    /// Gives the memory back.
    pub(super) fn clear(&mut self) {
        self.ranges = VecDeque::new();
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.ranges.capacity() * size_of::<(u64, u64)>()
    }
}

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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Ranges, Repairs};

    proptest! {
        #[test]
        fn ranges_are_a_set(steps in prop::collection::vec((any::<bool>(), 0_u64..60, 1_u64..12), 0..60)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (add, start, len) in steps {
                if add {
                    let before = set.len() as u64;
                    let new = ranges.insert(start, start + len);
                    set.extend(start..start + len);
                    prop_assert_eq!(new, set.len() as u64 - before);
                } else {
                    ranges.remove(start, start + len);
                    set.retain(|offset| !(start..start + len).contains(offset));
                }
                let all: Vec<_> = ranges.ranges.iter().flat_map(|range| range.0..range.1).collect();
                prop_assert_eq!(all, set.iter().copied().collect::<Vec<_>>());
                prop_assert!(ranges.ranges.iter().zip(ranges.ranges.iter().skip(1)).all(|(a, b)| a.1 < b.0));
                prop_assert_eq!(ranges.contains(start, start + len), (start..start + len).all(|o| set.contains(&o)));
                prop_assert_eq!(ranges.around(start).is_some(), set.contains(&start));
                let gap = (start..start + len).find(|offset| !set.contains(offset));
                prop_assert_eq!(ranges.gap(start, start + len).map(|gap| gap.0), gap);
            }
        }

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
