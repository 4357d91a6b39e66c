//! The storage proper.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ledger::{Due, Ledger};
use super::listeners::Listeners;
use super::{Change, Listener, Notice, Origin, Source, StoreLimits, Subscribed};
use crate::types::{self, PolicyError};
use crate::{InfoHash, Query, Value};

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The value is new at its key.
    Added,
    /// It replaced another with the same id.
    Replaced,
    /// It was there: its life was extended.
    Refreshed,
}

/// Why a put or listen was refused. A put is acknowledged on the wire all the same (`dht.md` 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rules of the value type refuse it.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// By its creation time it has expired already.
    #[error("the value has expired already")]
    Expired,
    /// There is no room.
    #[error("full: {0}")]
    Full(Full),
}

/// Which of the [`StoreLimits`] is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// [`StoreLimits::bytes`], and nobody has more than the sender.
    #[error("bytes of all remote values")]
    Bytes,
    /// [`StoreLimits::bytes_per_source`]
    #[error("bytes of one source")]
    SourceBytes,
    /// [`StoreLimits::values_per_source`]
    #[error("values of one source")]
    SourceValues,
    /// [`StoreLimits::keys`]
    #[error("keys")]
    Keys,
    /// [`StoreLimits::values_per_key`]
    #[error("values at one key")]
    KeyValues,
    /// [`StoreLimits::values_per_source_and_key`]
    #[error("values of one source at one key")]
    SourceKeyValues,
    /// [`StoreLimits::listeners`]
    #[error("listeners")]
    Listeners,
    /// [`StoreLimits::listeners_per_source`]
    #[error("listeners of one source")]
    SourceListeners,
    /// [`StoreLimits::listeners_per_key`]
    #[error("listeners at one key")]
    KeyListeners,
}

/// The key is not known at all: answer 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing is stored at this key")]
pub struct UnknownKey;

/// A value with what the store knows of it.
#[derive(Debug)]
pub struct Held {
    /// The value.
    pub value: Arc<Value>,
    /// When it goes.
    pub expires: Instant,
    /// Where it came from.
    pub origin: Origin,
    /// Packed size, as it was charged.
    size: usize,
}

/// Values and listeners by key.
#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
    keys: BTreeMap<InfoHash, Entry>,
    dues: BTreeSet<Due>,
    ledger: Ledger,
    listeners: Listeners,
    notices: VecDeque<Notice>,
}

/// The values at one key.
#[derive(Debug, Default)]
struct Entry {
    values: BTreeMap<u64, Held>,
    per_source: BTreeMap<Source, usize>,
}

impl Store {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            keys: BTreeMap::new(),
            dues: BTreeSet::new(),
            ledger: Ledger::default(),
            listeners: Listeners::default(),
            notices: VecDeque::new(),
        }
    }

    /// Stores `value` at `key`, or refreshes it if it is there, or replaces one with its id if the rules allow it. A
    /// value of our own always replaces.
    ///
    /// `created` counts in Unix seconds like `unix`, the time of day at `now`; one in the future, or none, counts as now.
    pub fn put(
        &mut self,
        now: Instant,
        unix: i64,
        key: InfoHash,
        value: Arc<Value>,
        created: Option<i64>,
        origin: Origin,
    ) -> Result<Stored, Refusal> {
        let value = match origin {
            Origin::Remote(from) => types::localize(&value, from).map_or(value, Arc::new),
            Origin::Local => value,
        };
        let old = self.keys.get(&key).and_then(|entry| entry.values.get(&value.id));
        if let Some(old) = old
            && old.value.same_content(&value)
        {
            let origin = if origin == Origin::Local { origin } else { old.origin };
            self.extend(now, key, value.id, origin);
            return Ok(Stored::Refreshed);
        }
        // What this node puts itself replaces whatever is there: the rules bind others.
        let rival = old.filter(|_| origin != Origin::Local).map(|old| old.value.as_ref());
        types::admit(&key, rival, &value)?;
        let life = types::expiry(value.value_type());
        let age = Duration::from_secs(unix.saturating_sub(created.unwrap_or(unix)).max(0).unsigned_abs());
        let left = life.checked_sub(age).filter(|left| !left.is_zero()).ok_or(Refusal::Expired)?;
        let expires = now + left;
        let size = value.packed_size();
        let stored = Held { value: Arc::clone(&value), size, expires, origin };
        self.check_room(&key, &stored).map_err(Refusal::Full)?;
        let outcome = if self.take(key, value.id).is_some() { Stored::Replaced } else { Stored::Added };
        self.insert(key, stored);
        if !self.evict(key, value.id) {
            return Err(Refusal::Full(Full::Bytes));
        }
        self.notices.extend(self.listeners.notices(key, &[(value.clone(), value)], Change::Stored));
        Ok(outcome)
    }

    /// Restarts the life of a value. `Ok(false)` if the key is known but not this value: the reference answers
    /// success then, but 404 makes the sender put the value again.
    pub fn refresh(&mut self, now: Instant, key: &InfoHash, id: u64) -> Result<bool, UnknownKey> {
        let Some(entry) = self.keys.get(key) else {
            return if self.listeners.count_at(key) > 0 { Ok(false) } else { Err(UnknownKey) };
        };
        let Some(stored) = entry.values.get(&id) else { return Ok(false) };
        let origin = stored.origin;
        self.extend(now, *key, id, origin);
        Ok(true)
    }

    /// The values at `key` that match, in order of their ids.
    pub fn get(&self, key: &InfoHash, query: &Query) -> Vec<Arc<Value>> {
        let Some(entry) = self.keys.get(key) else { return Vec::new() };
        let values = entry.values.values().map(|stored| &stored.value);
        values.filter(|value| query.matches(value)).cloned().collect()
    }

    /// The value at `key` with this id.
    pub fn value(&self, key: &InfoHash, id: u64) -> Option<Arc<Value>> {
        self.held(key, id).map(|held| Arc::clone(&held.value))
    }

    /// Adds a listener, or renews the one with the same key, node and socket.
    pub fn listen(
        &mut self,
        now: Instant,
        key: InfoHash,
        listener: Listener,
        query: Query,
    ) -> Result<Subscribed, Refusal> {
        let source = Source::of(listener.address.ip());
        let charged = self.listeners.source_of(key, &listener);
        if charged != Some(source) && self.ledger.listeners_of(source) >= self.limits.listeners_per_source {
            return Err(Refusal::Full(Full::SourceListeners));
        }
        if charged.is_none() {
            if self.listeners.len() >= self.limits.listeners {
                return Err(Refusal::Full(Full::Listeners));
            }
            if self.listeners.count_at(&key) >= self.limits.listeners_per_key {
                return Err(Refusal::Full(Full::KeyListeners));
            }
        }
        self.ledger.add_listener(source);
        let outcome = match charged {
            Some(charged) => {
                self.ledger.remove_listener(charged);
                Subscribed::Renewed
            }
            None => Subscribed::New(self.get(&key, &query)),
        };
        self.listeners.insert(key, listener, query, now + self.limits.listener_life);
        Ok(outcome)
    }

    /// Removes a value this node put itself: the end of a permanent put. Whether there was one.
    pub fn remove_local(&mut self, key: &InfoHash, id: u64) -> bool {
        let local = self.held(key, id).is_some_and(|held| held.origin == Origin::Local);
        local && self.drop_values(*key, &[id])
    }

    /// Removes a value whoever put it: other nodes have it now. Whether there was one.
    pub fn discard(&mut self, key: &InfoHash, id: u64) -> bool {
        self.drop_values(*key, &[id])
    }

    /// Drops every listener of a node at an address: it does not answer updates there. What it asked for from another
    /// address stays.
    pub fn drop_listeners_of(&mut self, node: &InfoHash, address: SocketAddr) {
        for listener in self.listeners.remove_node(node, address) {
            self.ledger.remove_listener(Source::of(listener.address.ip()));
        }
    }

    /// The next thing to tell a listener. Empty the queue after every call that can change the store.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// When the next value or listener expires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let value = self.dues.first().map(|(expires, ..)| *expires);
        [value, self.listeners.next_expiry()].into_iter().flatten().min()
    }

    /// Drops what has expired at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(listener) = self.listeners.remove_expired(now) {
            self.ledger.remove_listener(Source::of(listener.address.ip()));
        }
        let mut expired = BTreeMap::<InfoHash, Vec<u64>>::new();
        for (_, key, id) in self.dues.iter().take_while(|(expires, ..)| *expires <= now) {
            expired.entry(*key).or_default().push(*id);
        }
        for (key, ids) in expired {
            self.drop_values(key, &ids);
        }
    }

    /// Every stored value with its key, in order of keys and ids.
    pub fn iter(&self) -> impl Iterator<Item = (InfoHash, &Held)> {
        self.keys.iter().flat_map(|(key, entry)| entry.values.values().map(|held| (*key, held)))
    }

    /// Values stored.
    pub fn len(&self) -> usize {
        self.dues.len()
    }

    /// Whether no value is stored.
    pub fn is_empty(&self) -> bool {
        self.dues.is_empty()
    }

    /// Bytes of remote values, packed.
    pub const fn remote_bytes(&self) -> usize {
        self.ledger.bytes()
    }

    /// Listeners at all keys.
    pub fn listener_count(&self) -> usize {
        self.listeners.len()
    }

    fn check_room(&self, key: &InfoHash, new: &Held) -> Result<(), Full> {
        let Some(source) = new.origin.source() else { return Ok(()) };
        let entry = self.keys.get(key);
        let old = entry.and_then(|entry| entry.values.get(&new.value.id));
        // What this value replaces makes room, wherever it is counted.
        let replaced = usize::from(old.is_some());
        let own = old.filter(|old| old.origin.source() == Some(source));
        let (own_values, own_bytes) = own.map_or((0, 0), |old| (1, old.size));
        let at_key = entry.map_or(0, |entry| entry.values.len()) - replaced;
        let own_at_key =
            entry.and_then(|entry| entry.per_source.get(&source)).map_or(0, |count| count - own_values);
        if entry.is_none() && self.keys.len() >= self.limits.keys {
            return Err(Full::Keys);
        }
        if at_key >= self.limits.values_per_key {
            return Err(Full::KeyValues);
        }
        if own_at_key >= self.limits.values_per_source_and_key {
            return Err(Full::SourceKeyValues);
        }
        if self.ledger.values_of(source) - own_values >= self.limits.values_per_source {
            return Err(Full::SourceValues);
        }
        if self.ledger.bytes_of(source) - own_bytes + new.size > self.limits.bytes_per_source {
            return Err(Full::SourceBytes);
        }
        Ok(())
    }

    fn insert(&mut self, key: InfoHash, stored: Held) {
        let due = (stored.expires, key, stored.value.id);
        let entry = self.keys.entry(key).or_default();
        if let Some(source) = stored.origin.source() {
            *entry.per_source.entry(source).or_default() += 1;
            self.ledger.add_value(source, stored.size, due);
        }
        self.dues.insert(due);
        entry.values.insert(stored.value.id, stored);
    }

    fn held(&self, key: &InfoHash, id: u64) -> Option<&Held> {
        self.keys.get(key)?.values.get(&id)
    }

    fn take(&mut self, key: InfoHash, id: u64) -> Option<Held> {
        let entry = self.keys.get_mut(&key)?;
        let stored = entry.values.remove(&id)?;
        let due = (stored.expires, key, id);
        self.dues.remove(&due);
        if let Some(source) = stored.origin.source() {
            self.ledger.remove_value(source, stored.size, due);
            if let Some(count) = entry.per_source.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    entry.per_source.remove(&source);
                }
            }
        }
        if entry.values.is_empty() {
            self.keys.remove(&key);
        }
        Some(stored)
    }

    /// Restarts the life of a value that is there and tells the listeners.
    fn extend(&mut self, now: Instant, key: InfoHash, id: u64, origin: Origin) {
        let Some(mut stored) = self.take(key, id) else { return };
        stored.origin = origin;
        stored.expires = now + types::expiry(stored.value.value_type());
        let happened = [(Arc::clone(&stored.value), id)];
        self.insert(key, stored);
        self.notices.extend(self.listeners.notices(key, &happened, Change::Refreshed));
    }

    /// Removes values and tells the listeners that they are gone. Whether there were any.
    fn drop_values(&mut self, key: InfoHash, ids: &[u64]) -> bool {
        let gone: Vec<_> = ids.iter().filter_map(|id| Some((self.take(key, *id)?.value, *id))).collect();
        self.notices.extend(self.listeners.notices(key, &gone, Change::Expired));
        !gone.is_empty()
    }

    /// Makes room in the whole. Whether the value just stored is still there.
    fn evict(&mut self, key: InfoHash, id: u64) -> bool {
        while self.ledger.bytes() > self.limits.bytes
            && let Some((_, victim_key, victim_id)) = self.ledger.victim()
        {
            if (victim_key, victim_id) == (key, id) {
                // Nobody has been told of it yet.
                self.take(key, id);
                return false;
            }
            self.drop_values(victim_key, &[victim_id]);
        }
        true
    }
}
