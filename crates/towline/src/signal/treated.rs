//! Which connection requests were already treated.
//!
//! A request is stored on the DHT for ten minutes and may arrive at two keys and from several nodes. Keyed by sender
//! and id: the original keys by id alone, so that one peer can shadow another's request (`connection.md` 9.1 no. 7).
//!
//! # Requests from before our start
//!
//! A node that starts is shown the requests of the last ten minutes. Those that an earlier run of it has treated are in its
//! file, if it has one, and are not treated again. Of the others nothing tells their age: a value of the DHT carries no
//! time that its sender has signed, and the nodes that hold it say nothing of when they got it. So all of them are answered,
//! as Jami answers them: the youngest may be of a device that is waiting this very moment. An old one costs a certificate
//! that is looked up, an answer that nobody reads and a few TCP connections that are refused, bounded by
//! [`Limits::answers_per_device`](crate::Limits::answers_per_device); the sender, which has long forgotten the id, ignores
//! the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use towline_identity::DeviceId;

/// How long an id is remembered: twice the life of the value that carries it.
pub(super) const REMEMBERED: Duration = Duration::from_mins(20);

/// A message, except for who sent it. Requests and answers are told apart, as both carry the same id.
type Message = (u64, bool);

/// A bounded memory of (sender, id).
#[derive(Debug)]
pub(crate) struct Treated {
    capacity: usize,
    per_sender: usize,
    known: BTreeMap<DeviceId, Sender>,
    by_age: BTreeSet<(Instant, DeviceId, Message)>,
}

#[derive(Debug, Default)]
struct Sender {
    messages: BTreeMap<Message, Instant>,
    by_age: BTreeSet<(Instant, Message)>,
}

impl Treated {
    pub(crate) fn new(capacity: usize, per_sender: usize) -> Self {
        let (capacity, per_sender) = (capacity.max(1), per_sender.max(1));
        Self { capacity, per_sender, known: BTreeMap::new(), by_age: BTreeSet::new() }
    }

    /// Whether this message was seen.
    pub(crate) fn contains(&self, sender: DeviceId, id: u64, is_answer: bool) -> bool {
        self.known.get(&sender).is_some_and(|known| known.messages.contains_key(&(id, is_answer)))
    }

    /// Remembers a message. The oldest are forgotten, of its sender if that has too many, or of all.
    pub(crate) fn insert(&mut self, now: Instant, sender: DeviceId, id: u64, is_answer: bool) {
        let message = (id, is_answer);
        self.remove(sender, message);
        while let Some(&(seen, other, old)) = self.by_age.first() {
            if self.by_age.len() < self.capacity && now.saturating_duration_since(seen) < REMEMBERED {
                break;
            }
            self.remove(other, old);
        }
        let oldest = self.known.get(&sender).filter(|known| known.messages.len() >= self.per_sender);
        if let Some(&(_, old)) = oldest.and_then(|known| known.by_age.first()) {
            self.remove(sender, old);
        }
        let known = self.known.entry(sender).or_default();
        known.messages.insert(message, now);
        known.by_age.insert((now, message));
        self.by_age.insert((now, sender, message));
    }

    fn remove(&mut self, sender: DeviceId, message: Message) {
        let Some(known) = self.known.get_mut(&sender) else { return };
        let Some(seen) = known.messages.remove(&message) else { return };
        known.by_age.remove(&(seen, message));
        self.by_age.remove(&(seen, sender, message));
        if known.messages.is_empty() {
            self.known.remove(&sender);
        }
    }

    /// The requests treated, and when, the oldest first. Answers are left out: after a restart nobody waits for any.
    pub(super) fn requests(&self) -> impl Iterator<Item = (Instant, DeviceId, u64)> {
        let requests = self.by_age.iter().filter(|(_, _, (_, is_answer))| !is_answer);
        requests.map(|&(seen, sender, (id, _))| (seen, sender, id))
    }

    /// How many messages it remembers.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: DeviceId = DeviceId([1; 32]);
    const BOB: DeviceId = DeviceId([2; 32]);

    #[test]
    fn duplicates_are_per_sender_and_bounded() {
        let now = Instant::now();
        let mut treated = Treated::new(3, 3);
        treated.insert(now, ALICE, 7, false);
        assert!(treated.contains(ALICE, 7, false));
        assert!(!treated.contains(ALICE, 7, true), "an answer is not its request");
        assert!(!treated.contains(BOB, 7, false), "another sender may use the same id");
        for id in 100..200 {
            treated.insert(now + Duration::from_secs(id), BOB, id, false);
        }
        assert_eq!((treated.known.len(), treated.by_age.len()), (1, 3));
        assert!(!treated.contains(ALICE, 7, false), "the oldest go first");
    }

    #[test]
    fn a_sender_of_many_pushes_out_its_own() {
        let now = Instant::now();
        let mut treated = Treated::new(1000, 10);
        treated.insert(now, ALICE, 7, false);
        for id in 0..5000 {
            treated.insert(now + Duration::from_millis(id), BOB, id, false);
        }
        assert!(treated.contains(ALICE, 7, false));
        assert!(!treated.contains(BOB, 4989, false) && treated.contains(BOB, 4990, false));
        assert_eq!(treated.by_age.len(), 11);
    }

    #[test]
    fn forgotten_after_the_value_is_gone() {
        let now = Instant::now();
        let mut treated = Treated::new(100, 100);
        treated.insert(now, ALICE, 7, false);
        treated.insert(now + REMEMBERED / 2, ALICE, 8, false);
        assert!(treated.contains(ALICE, 7, false));
        treated.insert(now + REMEMBERED, ALICE, 9, false);
        assert!(!treated.contains(ALICE, 7, false));
        assert!(treated.contains(ALICE, 8, false));
    }
}
