use std::ops::Range;

/// Sorted ranges of offsets that do not touch. Few, so a vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range<u32>>);

impl Ranges {
    pub(super) fn of(range: Range<u32>) -> Self {
        let mut ranges = Self::default();
        ranges.insert(range);
        ranges
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Range<u32>> {
        self.0.iter()
    }

    /// Whether all of it is there.
    pub(super) fn contains(&self, range: &Range<u32>) -> bool {
        self.0.iter().any(|held| held.start <= range.start && range.end <= held.end)
    }

    pub(super) fn insert(&mut self, range: Range<u32>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|held| held.end < range.start);
        let last = self.0.partition_point(|held| held.start <= range.end);
        let joined = match self.0.get(first..last) {
            Some([a, .., b]) => a.start.min(range.start)..b.end.max(range.end),
            Some([a]) => a.start.min(range.start)..a.end.max(range.end),
            _ => range,
        };
        self.0.splice(first..last, [joined]);
    }

    pub(super) fn remove(&mut self, range: &Range<u32>) {
        if range.is_empty() {
            return;
        }
        let cut = |held: &Range<u32>| {
            [held.start..held.end.min(range.start), held.start.max(range.end)..held.end]
                .into_iter()
                .filter(|part| !part.is_empty())
        };
        self.0 = self.0.iter().flat_map(cut).collect();
    }

    /// Takes up to `most` offsets off the front.
    pub(super) fn take_front(&mut self, most: u32) -> Option<Range<u32>> {
        let front = self.0.first_mut()?;
        let taken = front.start..front.end.min(front.start + most);
        front.start = taken.end;
        if front.start >= front.end {
            self.0.remove(0);
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Ranges;

    proptest! {
        #[test]
        fn they_are_a_set(steps in prop::collection::vec((0_u8..3, 0_u32..60, 0_u32..20), 0..60)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (what, start, length) in steps {
                match what {
                    0 => {
                        ranges.insert(start..start + length);
                        model.extend(start..start + length);
                    }
                    1 => {
                        ranges.remove(&(start..start + length));
                        model.retain(|at| !(start..start + length).contains(at));
                    }
                    _ => {
                        for taken in ranges.take_front(length).into_iter().flatten() {
                            prop_assert_eq!(model.pop_first(), Some(taken));
                        }
                    }
                }
                prop_assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                prop_assert!(ranges.0.windows(2).all(|pair| pair[0].end < pair[1].start));
                let range = start..start + length.max(1);
                prop_assert_eq!(ranges.contains(&range), range.clone().all(|at| model.contains(&at)));
            }
        }
    }
}
