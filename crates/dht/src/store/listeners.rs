//! Who is told about changes at a key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Source;
use crate::{InfoHash, Query, Value};

/// A remote node that listens, by the socket id it chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The node.
    pub node: InfoHash,
    /// Its socket id (`sid`): one node may listen several times to one key.
    pub socket: u32,
    /// Where to send updates.
    pub address: SocketAddr,
    /// Listen protocol version: 0 is told by replies and notices, 1 by updates.
    pub version: u32,
}

/// What a listener is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Whom to tell.
    pub listener: Listener,
    /// Which key.
    pub key: InfoHash,
    /// What happened.
    pub change: Change,
}

/// What happened to values at a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// They are new, or replaced one with the same id.
    Stored(Vec<Arc<Value>>),
    /// Their life was extended.
    Refreshed(Vec<u64>),
    /// They are gone.
    Expired(Vec<u64>),
}

/// What a listen request led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Subscribed {
    /// First time for this node and socket: push these values before confirming.
    New(Vec<Arc<Value>>),
    /// Time, address and query were renewed; nothing is pushed.
    Renewed,
}

/// A subscription by its key, its node and its socket.
pub(super) type SubscriptionId = (InfoHash, InfoHash, u32);

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) listener: Listener,
    query: Query,
    expires: Instant,
}

/// All subscriptions, by key, by node and by time.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    by_node: BTreeSet<SubscriptionId>,
    by_time: BTreeSet<(Instant, SubscriptionId)>,
    per_key: BTreeMap<InfoHash, usize>,
}

impl Listeners {
    pub(super) fn len(&self) -> usize {
        self.subscriptions.len()
    }

    pub(super) fn count_at(&self, key: &InfoHash) -> usize {
        self.per_key.get(key).copied().unwrap_or(0)
    }

    /// The source that an existing subscription is charged to.
    pub(super) fn source_of(&self, key: InfoHash, listener: &Listener) -> Option<Source> {
        let subscription = self.subscriptions.get(&(key, listener.node, listener.socket))?;
        Some(Source::of(subscription.listener.address.ip()))
    }

    /// Adds a subscription or renews it.
    pub(super) fn insert(&mut self, key: InfoHash, listener: Listener, query: Query, expires: Instant) {
        let id = (key, listener.node, listener.socket);
        let previous = self.subscriptions.insert(id, Subscription { listener, query, expires });
        match previous {
            Some(previous) => {
                self.by_time.remove(&(previous.expires, id));
            }
            None => {
                self.by_node.insert((listener.node, key, listener.socket));
                *self.per_key.entry(key).or_default() += 1;
            }
        }
        self.by_time.insert((expires, id));
    }

    fn remove(&mut self, id: SubscriptionId) -> Option<Listener> {
        let (key, node, socket) = id;
        let subscription = self.subscriptions.remove(&id)?;
        self.by_node.remove(&(node, key, socket));
        self.by_time.remove(&(subscription.expires, id));
        if let Some(count) = self.per_key.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.per_key.remove(&key);
            }
        }
        Some(subscription.listener)
    }

    /// Removes all subscriptions of a node at an address and returns them.
    pub(super) fn remove_node(&mut self, node: &InfoHash, address: SocketAddr) -> Vec<Listener> {
        let own = (*node, InfoHash::ZERO, 0)..=(*node, InfoHash([0xff; 20]), u32::MAX);
        let ids = self.by_node.range(own).map(|&(node, key, socket)| (key, node, socket));
        let there =
            |id: &SubscriptionId| self.subscriptions.get(id).is_some_and(|it| it.listener.address == address);
        let gone: Vec<_> = ids.filter(there).collect();
        gone.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Removes one subscription whose time is over.
    pub(super) fn remove_expired(&mut self, now: Instant) -> Option<Listener> {
        let (expires, id) = *self.by_time.first()?;
        if expires > now {
            return None;
        }
        self.remove(id)
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.by_time.first().map(|(expires, _)| *expires)
    }

    /// The notices to send when something happened at `key` to values; each listener hears of those it asked for.
    pub(super) fn notices<T: Clone>(
        &self,
        key: InfoHash,
        happened: &[(Arc<Value>, T)],
        change: impl Fn(Vec<T>) -> Change,
    ) -> impl Iterator<Item = Notice> {
        let here = (key, InfoHash::ZERO, 0)..=(key, InfoHash([0xff; 20]), u32::MAX);
        self.subscriptions.range(here).filter_map(move |(_, subscription)| {
            let matching = happened.iter().filter(|(value, _)| subscription.query.matches(value));
            let matching: Vec<_> = matching.map(|(_, item)| item.clone()).collect();
            let listener = subscription.listener;
            (!matching.is_empty()).then(|| Notice { listener, key, change: change(matching) })
        })
    }
}
