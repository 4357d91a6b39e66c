//! Listens: values at a key as they come, change and go.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;
use towline_dht::Value;

use super::get::Found as _;
use super::request::Taker;
use super::secure::{Opener, SecureValue};
use super::subscription::{Batch, Outbox, Refused, Subscription};

/// News of a listen: first what has gone, then what has come.
///
/// What was merged while nobody took it: a value that came and went is not mentioned, one that was replaced is
/// mentioned in its last version.
#[derive(Debug, Default)]
pub(super) struct ListenBatch {
    expired: BTreeSet<u64>,
    new: VecDeque<Arc<Value>>,
    missed: u64,
}

impl Batch for ListenBatch {
    fn is_empty(&self) -> bool {
        self.expired.is_empty() && self.new.is_empty() && self.missed == 0
    }

    fn taker(into: oneshot::Sender<Self>) -> Taker {
        Taker::Listen(into)
    }
}

/// Ids remembered as shown to the program. The engine tells of the end of so many and forgets older ones.
const REMEMBERED: usize = 8192;

/// What the driver keeps of a listen.
#[derive(Debug)]
pub(super) struct ListenOutbox {
    outbox: Outbox<ListenBatch>,
    /// Bytes of values not yet taken.
    held: usize,
    limit: usize,
    /// Ids given to the program and not expired since.
    given: BTreeSet<u64>,
}

impl ListenOutbox {
    /// `limit` is in bytes.
    pub(super) fn new(first: oneshot::Sender<ListenBatch>, limit: usize) -> Self {
        Self { outbox: Outbox::new(first), held: 0, limit, given: BTreeSet::new() }
    }

    pub(super) fn asked(&mut self, taker: oneshot::Sender<ListenBatch>) {
        self.outbox.awaited_by(taker);
        self.hand_out();
    }

    pub(super) fn listened(&mut self, new: Vec<Arc<Value>>) {
        let ready = &mut self.outbox.ready;
        for value in new {
            self.held += value.footprint();
            match ready.new.iter_mut().find(|old| replaces(&value, old)) {
                Some(old) => {
                    self.held -= old.footprint();
                    *old = value;
                }
                None => ready.new.push_back(value),
            }
        }
        while self.held > self.limit
            && let Some(oldest) = ready.new.pop_front()
        {
            self.held -= oldest.footprint();
            ready.missed += 1;
        }
        self.hand_out();
    }

    pub(super) fn expired(&mut self, ids: &[u64]) {
        let ready = &mut self.outbox.ready;
        ready.new.retain(|value| {
            let stays = !ids.contains(&value.id);
            self.held -= if stays { 0 } else { value.footprint() };
            stays
        });
        ready.expired.extend(ids.iter().filter(|id| self.given.remove(id)));
        self.hand_out();
    }

    fn hand_out(&mut self) {
        if !self.outbox.is_awaited() || self.outbox.ready.is_empty() {
            return;
        }
        remember(&mut self.given, self.outbox.ready.new.iter().map(|value| value.id));
        self.held = 0;
        self.outbox.hand_out();
    }
}

fn remember(ids: &mut BTreeSet<u64>, more: impl IntoIterator<Item = u64>) {
    ids.extend(more);
    while ids.len() > REMEMBERED {
        ids.pop_first();
    }
}

/// Whether `old` need not be shown besides `new`: that is the same again, or a later version. Another content under its
/// id may be a lie, which must not hide it.
fn replaces(new: &Value, old: &Value) -> bool {
    new.supersedes(old) || (new.id == old.id && new.same_content(old))
}

/// What happened at a key.
#[derive(Debug, Clone, PartialEq)]
pub enum ListenEvent<V = SecureValue> {
    /// Values came, or later versions of known ones. Never empty.
    ///
    /// Nodes that disagree about an id, for instance because one of them lies, have their values shown side by side.
    New(Vec<V>),
    /// All values with these ids are gone: no node near the key has anything under them any more. Never empty.
    Expired(Vec<u64>),
    /// So many new values were dropped, because those waiting to be taken had reached
    /// [`DhtLimits::listen_backlog`](crate::dht::DhtLimits::listen_backlog). Told after those that were kept. A get brings
    /// what is still there.
    Missed(u64),
}

/// A listen that shows values as they are stored: nothing decrypted, nothing hidden.
///
/// For tools; programs want [`Listening`]. Dropping it ends the listen.
#[derive(Debug)]
pub struct RawListening {
    subscription: Result<Subscription<ListenBatch>, ListenEnd>,
    new: Vec<Arc<Value>>,
    missed: u64,
}

/// Why a listen brings nothing (more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenEnd {
    /// More operations than [`DhtLimits::operations`](crate::dht::DhtLimits::operations) are under way.
    #[error("too many DHT operations at once")]
    Busy,
    /// The DHT was shut down.
    #[error("the DHT was shut down")]
    Closed,
}

impl RawListening {
    pub(super) fn new(started: Result<Subscription<ListenBatch>, Refused>) -> Self {
        let subscription = started.map_err(|refused| match refused {
            Refused::Busy => ListenEnd::Busy,
            Refused::Closed => ListenEnd::Closed,
        });
        Self { subscription, new: Vec::new(), missed: 0 }
    }

    /// The next event; `None` at the [`end`](Self::end). Cancel safe.
    ///
    /// Nothing is lost if this is called late. What happened meanwhile is merged: a value that came and went is
    /// not mentioned, and one that was replaced is mentioned in its last version. Only what exceeds
    /// [`DhtLimits::listen_backlog`](crate::dht::DhtLimits::listen_backlog) is dropped, oldest first, and counted
    /// in [`ListenEvent::Missed`].
    pub async fn next(&mut self) -> Option<ListenEvent<Arc<Value>>> {
        loop {
            // Last of all: who begins anew because of it has then dealt with what did come.
            if !self.new.is_empty() {
                return Some(ListenEvent::New(std::mem::take(&mut self.new)));
            }
            if self.missed > 0 {
                return Some(ListenEvent::Missed(std::mem::take(&mut self.missed)));
            }
            let Ok(subscription) = &mut self.subscription else { return None };
            let Some(batch) = subscription.take().await else {
                self.subscription = Err(ListenEnd::Closed);
                return None;
            };
            self.new = batch.new.into();
            self.missed = batch.missed;
            if !batch.expired.is_empty() {
                return Some(ListenEvent::Expired(batch.expired.into_iter().collect()));
            }
        }
    }

    /// Why [`next`](Self::next) returns nothing more; `None` while it may.
    pub fn end(&self) -> Option<ListenEnd> {
        self.subscription.as_ref().err().copied()
    }
}

/// A listen. Values encrypted to this device come decrypted; values encrypted to others, and those whose signature
/// is false, do not come at all (`dht.md` 3.7).
///
/// Dropping it ends the listen.
#[derive(Debug)]
pub struct Listening {
    raw: RawListening,
    opener: Opener,
    /// Ids the program was shown and not told to have expired since.
    shown: BTreeSet<u64>,
}

impl Listening {
    pub(super) fn new(raw: RawListening, opener: Opener) -> Self {
        Self { raw, opener, shown: BTreeSet::new() }
    }

    /// The next event; `None` at the [`end`](Self::end). Cancel safe.
    ///
    /// Nothing is lost if this is called late. What happened meanwhile is merged: a value that came and went is
    /// not mentioned, and one that was replaced is mentioned in its last version. Only what exceeds
    /// [`DhtLimits::listen_backlog`](crate::dht::DhtLimits::listen_backlog) is dropped, oldest first, and counted
    /// in [`ListenEvent::Missed`].
    pub async fn next(&mut self) -> Option<ListenEvent> {
        loop {
            let new = self.opener.opened().await;
            if !new.is_empty() {
                remember(&mut self.shown, new.iter().map(|secure| secure.value.id));
                return Some(ListenEvent::New(new));
            }
            match self.raw.next().await? {
                ListenEvent::New(values) => self.opener.push(values),
                ListenEvent::Missed(count) => return Some(ListenEvent::Missed(count)),
                ListenEvent::Expired(mut ids) => {
                    ids.retain(|id| self.shown.remove(id));
                    if !ids.is_empty() {
                        return Some(ListenEvent::Expired(ids));
                    }
                }
            }
        }
    }

    /// Why [`next`](Self::next) returns nothing more; `None` while it may.
    pub fn end(&self) -> Option<ListenEnd> {
        self.raw.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(id: u64, size: usize) -> Arc<Value> {
        Arc::new(Value::new(id, 0, vec![0; size]))
    }

    /// What the program gets when it asks now.
    fn taken(outbox: &mut ListenOutbox) -> Option<(Vec<u64>, Vec<u64>, u64)> {
        let (into, mut batch) = oneshot::channel();
        outbox.asked(into);
        let batch = batch.try_recv().ok()?;
        let new = batch.new.iter().map(|value| value.id).collect();
        Some((batch.expired.into_iter().collect(), new, batch.missed))
    }

    #[test]
    fn what_waits_is_merged() {
        let (into, _) = oneshot::channel();
        let mut outbox = ListenOutbox::new(into, usize::MAX);
        outbox.listened(vec![value(1, 0)]);
        // The first question was given up, and the handle with it: nothing is kept for it.
        assert_eq!(taken(&mut outbox), None);

        let (into, first) = oneshot::channel();
        let mut outbox = ListenOutbox::new(into, usize::MAX);
        outbox.listened(vec![value(1, 0), value(2, 0)]);
        assert_eq!(first.blocking_recv().unwrap().new.len(), 2);
        outbox.listened(vec![value(3, 0), value(4, 0)]);
        outbox.expired(&[1, 3]);
        outbox.expired(&[4]);
        outbox.listened(vec![value(4, 1)]);
        assert_eq!(taken(&mut outbox), Some((vec![1], vec![4], 0)), "3 came and went");
        outbox.expired(&[2, 4, 5]);
        assert_eq!(taken(&mut outbox), Some((vec![2, 4], vec![], 0)), "5 was never shown");
        outbox.listened(vec![value(6, 0), value(6, 1), value(6, 0)]);
        assert_eq!(taken(&mut outbox), Some((vec![], vec![6, 6], 0)), "each content once");
        outbox.expired(&[6]);
        assert_eq!(taken(&mut outbox), Some((vec![6], vec![], 0)));
        assert_eq!(outbox.held, 0);
    }

    #[tokio::test]
    async fn what_was_missed_is_told_after_what_came() {
        let subscription = Err(ListenEnd::Closed);
        let raw = RawListening { subscription, new: vec![value(1, 0)], missed: 3 };
        let mut listening = Listening::new(raw, Opener::new(Arc::new(towline_net::Os), None));
        let Some(ListenEvent::New(new)) = listening.next().await else { panic!("nothing came") };
        assert_eq!(new[0].value.id, 1);
        assert_eq!(listening.next().await, Some(ListenEvent::Missed(3)));
        assert_eq!(listening.next().await, None);
    }

    #[test]
    fn what_is_not_taken_is_bounded_and_counted() {
        let (into, first) = oneshot::channel();
        let one = value(1, 1000).footprint();
        let mut outbox = ListenOutbox::new(into, 3 * one);
        outbox.listened(vec![value(1, 1000)]);
        drop(first);
        for id in 2..12 {
            outbox.listened(vec![value(id, 1000)]);
        }
        assert_eq!(outbox.held, 3 * one);
        assert_eq!(taken(&mut outbox), Some((vec![], vec![9, 10, 11], 7)));
        outbox.listened(vec![value(12, 1000)]);
        assert_eq!(outbox.held, one);
    }
}
