//! Numbers found by numbers: channels by their ids, connections by theirs.

/// A table with one look per number in the usual case, whose order depends on nothing but what was done to it.
///
/// Open addressing with linear probing, at most three quarters full. The multiplier is chance, so that nobody outside can choose
/// numbers that lie in each other's way.
#[derive(Debug)]
pub(crate) struct Table<K> {
    /// A power of two of them, or none. A value of `NONE` marks an empty place.
    places: Vec<(K, u32)>,
    len: usize,
    multiplier: u64,
}

impl<K: Copy + Default + Eq + Into<u64>> Table<K> {
    /// The value that stands for nothing, and cannot be put in.
    const NONE: u32 = u32::MAX;
    const LEAST: usize = 8;

    pub(crate) fn new(chance: u64) -> Self {
        // Odd, so that no two numbers become one.
        Self { places: Vec::new(), len: 0, multiplier: chance | 1 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where a number belongs: the high bits of the product are the well-mixed ones.
    #[inline]
    fn home(&self, key: K) -> usize {
        let product = key.into().wrapping_mul(self.multiplier);
        (product ^ product >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize
            >> (64 - self.places.len().trailing_zeros())
    }

    /// The place of a number, or the empty one where it would be. There must be places.
    #[inline]
    fn place(&self, key: K) -> usize {
        let mask = self.places.len() - 1;
        let mut at = self.home(key);
        while self.places[at].1 != Self::NONE && self.places[at].0 != key {
            at = (at + 1) & mask;
        }
        at
    }

    /// What belongs to a number.
    #[inline]
    pub(crate) fn get(&self, key: K) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let value = self.places[self.place(key)].1;
        (value != Self::NONE).then_some(value)
    }

    /// Puts a number in, or gives it another value.
    pub(crate) fn insert(&mut self, key: K, value: u32) {
        debug_assert!(value != Self::NONE, "a slot number is smaller");
        if 4 * (self.len + 1) > 3 * self.places.len() {
            self.resize((2 * self.places.len()).max(Self::LEAST));
        }
        let at = self.place(key);
        self.len += usize::from(self.places[at].1 == Self::NONE);
        self.places[at] = (key, value);
    }

    fn resize(&mut self, len: usize) {
        let old = std::mem::replace(&mut self.places, vec![(K::default(), Self::NONE); len]);
        for (key, value) in old {
            if value != Self::NONE {
                let at = self.place(key);
                self.places[at] = (key, value);
            }
        }
    }

    /// Takes a number out.
    pub(crate) fn remove(&mut self, key: K) {
        if self.places.is_empty() {
            return;
        }
        let mask = self.places.len() - 1;
        let mut hole = self.place(key);
        if self.places[hole].1 == Self::NONE {
            return;
        }
        self.len -= 1;
        // Those behind it move up, unless they would come to lie before their home.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            if self.places[at].1 == Self::NONE {
                break;
            }
            let from_home = at.wrapping_sub(self.home(self.places[at].0)) & mask;
            if from_home >= at.wrapping_sub(hole) & mask {
                self.places[hole] = self.places[at];
                hole = at;
            }
        }
        self.places[hole] = (K::default(), Self::NONE);
        if self.places.len() > Self::LEAST && 8 * self.len < self.places.len() {
            self.resize(self.places.len() / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::Table;

    proptest! {
        #[test]
        fn it_is_a_map(chance: u64, steps in proptest::collection::vec((0..40_u64, 0..100_u32, any::<bool>()), 0..400)) {
            let mut ours = Table::<u64>::new(chance);
            let mut model = BTreeMap::new();
            for (key, value, put) in steps {
                if put {
                    ours.insert(key, value);
                    model.insert(key, value);
                } else {
                    ours.remove(key);
                    model.remove(&key);
                }
                prop_assert_eq!(ours.len(), model.len());
                for key in 0..40 {
                    prop_assert_eq!(ours.get(key), model.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn memory_is_given_back() {
        let mut table = Table::<u64>::new(7);
        (0..10_000).for_each(|key| table.insert(key << 20, 1));
        (0..10_000).for_each(|key| table.remove(key << 20));
        assert!(table.len() == 0 && table.places.len() <= Table::<u64>::LEAST);
    }
}
