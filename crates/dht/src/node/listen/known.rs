//! What a listen knows: contents under their ids, and who has them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::search::{LISTEN_NODES, OPEN_NODES};
use super::Holder;
use crate::{Value, types};

/// Contents remembered under an id: one for each node listened at, over both families, and one for our own storage.
const CONTENTS: usize = 2 * (LISTEN_NODES + OPEN_NODES) + 1;

/// The values a listen knows.
///
/// Ids are public, so that whoever stores values can give any content under an id that others use. Therefore each holder
/// speaks for itself: it has one content under an id, and what it says changes nothing of what others have.
#[derive(Debug, Default)]
pub(in super::super) struct Known {
    contents: BTreeMap<u64, Vec<Content>>,
    /// Ids of the contents in the order of arrival: the oldest is forgotten first.
    arrivals: BTreeMap<u64, u64>,
    next_arrival: u64,
}

/// A content that somebody has under an id.
#[derive(Debug)]
struct Content {
    value: Arc<Value>,
    arrival: u64,
    /// Who has it, or an earlier version, and until when; the local storage tells when it expires there.
    holders: BTreeMap<Holder, Option<Instant>>,
}

impl Content {
    /// Whether `value` is nothing new beside this.
    fn covers(&self, value: &Value) -> bool {
        self.value.same_content(value) || self.value.supersedes(value)
    }
}

impl Known {
    /// Notes that `holder` has this value. False if nothing is known that covers it: then nothing is noted.
    pub(super) fn note(&mut self, now: Instant, value: &Value, holder: Holder) -> bool {
        let Some(contents) = self.contents.get_mut(&value.id) else { return false };
        let Some(place) = contents.iter().position(|content| content.covers(value)) else { return false };
        for content in contents.iter_mut() {
            content.holders.remove(&holder);
        }
        contents[place].holders.insert(holder, until(now, value, holder));
        sweep(contents, &mut self.arrivals);
        true
    }

    /// Adds a content that [`Known::note`] does not know. `limit` is the most contents that are kept.
    pub(super) fn enter(&mut self, now: Instant, value: &Arc<Value>, holder: Holder, limit: usize) {
        while self.arrivals.len() >= limit
            && let Some((&oldest, &id)) = self.arrivals.first_key_value()
        {
            self.forget(id, oldest);
        }
        let mut holders = BTreeMap::new();
        let contents = self.contents.entry(value.id).or_default();
        for earlier in contents.iter_mut().filter(|content| value.supersedes(&content.value)) {
            holders.append(&mut earlier.holders);
        }
        for content in contents.iter_mut() {
            content.holders.remove(&holder);
        }
        holders.insert(holder, until(now, value, holder));
        sweep(contents, &mut self.arrivals);
        if contents.len() >= CONTENTS {
            // Only nodes that are listened at no more can have made it so many.
            let least = contents.iter().min_by_key(|content| (content.holders.len(), content.arrival));
            let least = least.expect("it is full").arrival;
            self.forget(value.id, least);
        }
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        self.arrivals.insert(arrival, value.id);
        let content = Content { value: Arc::clone(value), arrival, holders };
        self.contents.entry(value.id).or_default().push(content);
    }

    /// `holder` keeps what it has under this id for longer.
    pub(super) fn refresh(&mut self, now: Instant, id: u64, holder: Holder) {
        for content in self.contents.get_mut(&id).into_iter().flatten() {
            if let Some(end) = content.holders.get_mut(&holder) {
                *end = until(now, &content.value, holder);
            }
        }
    }

    /// `holder` has nothing under this id any more.
    pub(super) fn release(&mut self, id: u64, holder: Holder) {
        for content in self.contents.get_mut(&id).into_iter().flatten() {
            content.holders.remove(&holder);
        }
    }

    /// Releases what has not been refreshed in time.
    pub(super) fn release_overdue(&mut self, now: Instant) {
        for content in self.contents.values_mut().flatten() {
            content.holders.retain(|_, until| until.is_none_or(|until| until > now));
        }
    }

    /// When the next holder is overdue.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        self.contents.values().flatten().flat_map(|content| content.holders.values().flatten()).min().copied()
    }

    /// Forgets what nobody has any more, and returns the ids of which nothing is left.
    pub(super) fn take_lost(&mut self) -> Vec<u64> {
        let mut lost = Vec::new();
        self.contents.retain(|id, contents| {
            sweep(contents, &mut self.arrivals);
            if contents.is_empty() {
                lost.push(*id);
            }
            !contents.is_empty()
        });
        lost
    }

    /// What other nodes have.
    pub(super) fn at_nodes(&self) -> BTreeMap<Holder, Vec<Arc<Value>>> {
        let mut by_holder: BTreeMap<Holder, Vec<Arc<Value>>> = BTreeMap::new();
        for content in self.contents.values().flatten() {
            for holder in content.holders.keys().filter(|holder| **holder != Holder::Here) {
                by_holder.entry(*holder).or_default().push(Arc::clone(&content.value));
            }
        }
        by_holder
    }

    fn forget(&mut self, id: u64, arrival: u64) {
        self.arrivals.remove(&arrival);
        if let Some(contents) = self.contents.get_mut(&id) {
            contents.retain(|content| content.arrival != arrival);
            if contents.is_empty() {
                self.contents.remove(&id);
            }
        }
    }
}

/// Until when a node has what it says it has now.
fn until(now: Instant, value: &Value, holder: Holder) -> Option<Instant> {
    let life: Duration = types::expiry(value.value_type());
    (holder != Holder::Here).then(|| now + life)
}

/// Removes contents that nobody has.
fn sweep(contents: &mut Vec<Content>, arrivals: &mut BTreeMap<u64, u64>) {
    contents.retain(|content| {
        let stays = !content.holders.is_empty();
        if !stays {
            arrivals.remove(&content.arrival);
        }
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InfoHash;
    use crate::node::family::Family;

    fn at(node: u8) -> Holder {
        Holder::At(Family::V4, InfoHash([node; 20]))
    }

    fn value(id: u64, text: &str) -> Arc<Value> {
        Arc::new(Value::new(id, 0, text.as_bytes()))
    }

    #[test]
    fn a_holder_has_one_content_under_an_id() {
        let (now, mut known) = (Instant::now(), Known::default());
        for round in 0..100 {
            let value = value(1, &round.to_string());
            assert!(!known.note(now, &value, at(1)));
            known.enter(now, &value, at(1), 4096);
        }
        assert_eq!((known.contents[&1].len(), known.arrivals.len()), (1, 1));
        known.release(1, at(1));
        assert_eq!(known.take_lost(), [1]);
        assert!(known.contents.is_empty() && known.arrivals.is_empty());
    }

    #[test]
    fn what_most_have_is_not_crowded_out() {
        let (now, mut known) = (Instant::now(), Known::default());
        let truth = value(1, "truth");
        known.enter(now, &truth, at(0), 4096);
        assert!(known.note(now, &truth, at(1)));
        for liar in 2..100 {
            known.enter(now, &value(1, &liar.to_string()), at(liar), 4096);
        }
        assert_eq!((known.contents[&1].len(), known.arrivals.len()), (CONTENTS, CONTENTS));
        assert!(known.note(now, &truth, at(2)));
    }

    #[test]
    fn all_contents_count_against_the_limit() {
        let (now, mut known) = (Instant::now(), Known::default());
        for id in 1..10 {
            known.enter(now, &value(id, "a"), at(1), 4);
            known.enter(now, &value(id, "b"), at(2), 4);
        }
        assert_eq!(known.contents.keys().copied().collect::<Vec<_>>(), [8, 9]);
        assert_eq!(known.arrivals.len(), 4);
    }
}
