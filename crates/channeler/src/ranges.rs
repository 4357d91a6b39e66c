//! Sets of numbers that come in runs.

use std::collections::VecDeque;

/// Numbers as ranges: sorted, neither overlapping nor touching. Of offsets in a channel, of bytes of a handshake message, of serial
/// numbers that are used.
///
/// What comes at the end or leaves at the beginning costs nothing worth a word; anything else a search, and at worst a
/// move of the shorter part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    ranges: VecDeque<(u64, u64)>,
}

impl Ranges {
    /// One range, which may be empty.
    pub(crate) fn of(start: u64, end: u64) -> Self {
        let mut ranges = Self::default();
        if start < end {
            ranges.insert(start, end);
        }
        ranges
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The lowest range, as start and end.
    #[inline]
    pub(crate) fn first(&self) -> Option<(u64, u64)> {
        self.ranges.front().copied()
    }

    #[inline]
    pub(crate) fn pop_first(&mut self) -> Option<(u64, u64)> {
        self.ranges.pop_front()
    }

    /// Adds `start..end`, not empty. Gives how many offsets were new.
    pub(crate) fn insert(&mut self, start: u64, end: u64) -> u64 {
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
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
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
    pub(crate) fn around(&self, offset: u64) -> Option<(u64, u64)> {
        let at = self.ranges.partition_point(|range| range.1 <= offset);
        self.ranges.get(at).copied().filter(|range| range.0 <= offset)
    }

    /// Whether all of `start..end`, not empty, is in it.
    pub(crate) fn contains(&self, start: u64, end: u64) -> bool {
        self.around(start).is_some_and(|range| end <= range.1)
    }

    /// The first stretch of `start..end` that is not in it.
    pub(crate) fn gap(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let at = self.ranges.partition_point(|range| range.1 <= start);
        let (start, next) = match self.ranges.get(at) {
            Some(&(low, high)) if low <= start => (high, self.ranges.get(at + 1)),
            next => (start, next),
        };
        let end = next.map_or(end, |next| next.0.min(end));
        (start < end).then_some((start, end))
    }

    /// All of them, the lowest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        self.ranges.iter().copied()
    }

    /// Takes up to `most` numbers off the lowest range.
    pub(crate) fn take_first(&mut self, most: u64) -> Option<(u64, u64)> {
        let first = self.ranges.front_mut()?;
        let taken = (first.0, first.1.min(first.0 + most));
        first.0 = taken.1;
        if first.0 >= first.1 {
            self.ranges.pop_front();
        }
        Some(taken)
    }

    /// Gives the memory back.
    pub(crate) fn clear(&mut self) {
        self.ranges = VecDeque::new();
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.ranges.capacity() * size_of::<(u64, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Ranges;

    proptest! {
        #[test]
        fn ranges_are_a_set(steps in prop::collection::vec((0_u8..3, 0_u64..60, 1_u64..12), 0..60)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (what, start, len) in steps {
                if what == 0 {
                    let before = set.len() as u64;
                    let new = ranges.insert(start, start + len);
                    set.extend(start..start + len);
                    prop_assert_eq!(new, set.len() as u64 - before);
                } else if what == 1 {
                    for taken in ranges.take_first(len).into_iter().flat_map(|range| range.0..range.1) {
                        prop_assert_eq!(set.pop_first(), Some(taken));
                    }
                } else {
                    ranges.remove(start, start + len);
                    set.retain(|offset| !(start..start + len).contains(offset));
                }
                let all: Vec<_> = ranges.iter().flat_map(|range| range.0..range.1).collect();
                prop_assert_eq!(all, set.iter().copied().collect::<Vec<_>>());
                prop_assert!(ranges.ranges.iter().zip(ranges.ranges.iter().skip(1)).all(|(a, b)| a.1 < b.0));
                prop_assert_eq!(ranges.contains(start, start + len), (start..start + len).all(|o| set.contains(&o)));
                prop_assert_eq!(ranges.around(start).is_some(), set.contains(&start));
                let gap = (start..start + len).find(|offset| !set.contains(offset));
                prop_assert_eq!(ranges.gap(start, start + len).map(|gap| gap.0), gap);
            }
        }
    }
}
