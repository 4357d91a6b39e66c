//! Which connection requests were already treated.
//!
//! A request is stored on the DHT for ten minutes and may arrive at two keys and from several nodes. Keyed by sender
//! and id: the original keys by id alone, so that one peer can shadow another's request (`connection.md` 9.1 no. 7).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use towline_identity::DeviceId;

/// How long an id is remembered: twice the life of the value that carries it.
const REMEMBERED: Duration = Duration::from_mins(20);

/// A bounded memory of (sender, id).
#[derive(Debug)]
pub(crate) struct Treated {
    capacity: usize,
    known: BTreeMap<(DeviceId, u64, bool), Instant>,
    by_age: BTreeSet<(Instant, DeviceId, u64, bool)>,
}

impl Treated {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), known: BTreeMap::new(), by_age: BTreeSet::new() }
    }

    /// Whether this message was seen. Requests and answers are told apart, as both carry the same id.
    pub(crate) fn contains(&self, sender: DeviceId, id: u64, is_answer: bool) -> bool {
        self.known.contains_key(&(sender, id, is_answer))
    }

    /// Remembers a message.
    pub(crate) fn insert(&mut self, now: Instant, sender: DeviceId, id: u64, is_answer: bool) {
        while let Some(&(seen, device, old, answer)) = self.by_age.first() {
            if self.by_age.len() < self.capacity && now.saturating_duration_since(seen) < REMEMBERED {
                break;
            }
            self.by_age.pop_first();
            self.known.remove(&(device, old, answer));
        }
        let key = (sender, id, is_answer);
        if let Some(before) = self.known.insert(key, now) {
            self.by_age.remove(&(before, sender, id, is_answer));
        }
        self.by_age.insert((now, sender, id, is_answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_per_sender_and_bounded() {
        let now = Instant::now();
        let (alice, bob) = (DeviceId([1; 32]), DeviceId([2; 32]));
        let mut treated = Treated::new(3);
        treated.insert(now, alice, 7, false);
        assert!(treated.contains(alice, 7, false));
        assert!(!treated.contains(alice, 7, true), "an answer is not its request");
        assert!(!treated.contains(bob, 7, false), "another sender may use the same id");
        for id in 100..200 {
            treated.insert(now + Duration::from_secs(id), bob, id, false);
        }
        assert_eq!((treated.known.len(), treated.by_age.len()), (3, 3));
        assert!(!treated.contains(alice, 7, false), "the oldest go first");
    }

    #[test]
    fn forgotten_after_the_value_is_gone() {
        let now = Instant::now();
        let mut treated = Treated::new(100);
        let alice = DeviceId([1; 32]);
        treated.insert(now, alice, 7, false);
        treated.insert(now + REMEMBERED / 2, alice, 8, false);
        assert!(treated.contains(alice, 7, false));
        treated.insert(now + REMEMBERED, alice, 9, false);
        assert!(!treated.contains(alice, 7, false));
        assert!(treated.contains(alice, 8, false));
    }
}
