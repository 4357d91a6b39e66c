//! Texts that came already.

use std::collections::{BTreeMap, VecDeque};

use towline_identity::stretched_hash;

/// Remembers the latest ids by sender, so that a text whose answer was lost is told once though it comes twice.
///
/// A peer chooses its ids, so their digests are kept, and whoever has sent most loses its oldest one first.
#[derive(Debug)]
pub(super) struct Treated<K> {
    /// Of each sender, oldest first.
    known: BTreeMap<K, VecDeque<Known>>,
    len: usize,
    count: u64,
    max: usize,
}

#[derive(Debug)]
struct Known {
    number: u64,
    id: Digest,
}

#[derive(Debug, PartialEq, Eq)]
struct Digest([u8; 32]);

impl Digest {
    fn of(id: &str) -> Self {
        Self(stretched_hash(id.as_bytes(), 32).try_into().expect("as long as it was asked for"))
    }
}

impl<K: Ord + Copy> Treated<K> {
    pub(super) fn new(max: usize) -> Self {
        Self { known: BTreeMap::new(), len: 0, count: 0, max }
    }

    /// Whether a text of this id came from this sender.
    pub(super) fn contains(&self, sender: K, id: &str) -> bool {
        self.has(sender, &Digest::of(id))
    }

    pub(super) fn insert(&mut self, sender: K, id: &str) {
        let id = Digest::of(id);
        if self.max == 0 || self.has(sender, &id) {
            return;
        }
        if self.len == self.max {
            self.forget_one(sender);
        }
        self.count += 1;
        self.len += 1;
        self.known.entry(sender).or_default().push_back(Known { number: self.count, id });
    }

    fn has(&self, sender: K, id: &Digest) -> bool {
        self.known.get(&sender).is_some_and(|known| known.iter().any(|known| known.id == *id))
    }

    /// Makes room for one of `sender`, at its own cost if nobody has more.
    fn forget_one(&mut self, sender: K) {
        let greed = |known: &VecDeque<Known>, of: K| {
            let oldest = known.front().map_or(u64::MAX, |known| known.number);
            (known.len() + usize::from(of == sender), std::cmp::Reverse(oldest))
        };
        let greediest = self.known.iter().max_by_key(|(of, known)| greed(known, **of)).map(|(of, _)| *of);
        let Some(greediest) = greediest else { return };
        if let Some(known) = self.known.get_mut(&greediest) {
            known.pop_front();
            self.len -= 1;
            if known.is_empty() {
                self.known.remove(&greediest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_known_by_sender_and_id() {
        let mut treated = Treated::new(2);
        treated.insert(1, "a");
        treated.insert(1, "a");
        treated.insert(2, "b");
        assert!(treated.contains(1, "a") && treated.contains(2, "b"));
        assert!(!treated.contains(2, "a"));
        treated.insert(3, "c");
        assert!(!treated.contains(1, "a"));
        assert!(treated.contains(2, "b") && treated.contains(3, "c"));
        let mut nothing = Treated::new(0);
        nothing.insert(1, "a");
        assert!(!nothing.contains(1, "a"));
    }

    #[test]
    fn who_sends_most_pushes_nobody_out() {
        let mut treated = Treated::new(4);
        treated.insert(1, "a");
        treated.insert(2, "b");
        for n in 0..100 {
            treated.insert(3, &n.to_string().repeat(10_000));
        }
        assert!(treated.contains(1, "a") && treated.contains(2, "b"));
        let kept = (0..100).filter(|n| treated.contains(3, &n.to_string().repeat(10_000)));
        assert_eq!(kept.collect::<Vec<_>>(), [98, 99]);
        assert_eq!((treated.len, treated.known.values().map(VecDeque::len).sum::<usize>()), (4, 4));
    }
}
