//! The storage proper.

use std::sync::Arc;
use std::time::Instant;

use super::{Listener, Notice, Origin, StoreLimits, Subscribed};
use crate::types::PolicyError;
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

/// Why a put was not stored. On the wire it is acknowledged all the same (`dht.md` 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rules of the value type refuse it.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// By its creation time it has expired already.
    #[error("the value has expired already")]
    Expired,
    /// The storage, the source or the key holds all it may.
    #[error("the storage is full: {0}")]
    Full(&'static str),
}

/// The key is not stored at all: answer 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing is stored at this key")]
pub struct UnknownKey;

/// Values and listeners by key.
#[derive(Debug)]
pub struct Store {
    _limits: StoreLimits,
}

impl Store {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        Self { _limits: limits }
    }

    /// Stores `value` at `key`, or refreshes it if it is there, or replaces one with its id if the rules
    /// allow it. `unix` is the time of day in seconds that `created` is compared with.
    pub fn put(
        &mut self,
        _now: Instant,
        _unix: i64,
        _key: InfoHash,
        _value: Arc<Value>,
        _created: Option<i64>,
        _origin: Origin,
    ) -> Result<Stored, Refusal> {
        todo!()
    }

    /// Restarts the life of a value. `Ok(false)` if the key is stored but not this value, which is answered
    /// like success.
    pub fn refresh(&mut self, _now: Instant, _key: &InfoHash, _id: u64) -> Result<bool, UnknownKey> {
        todo!()
    }

    /// The values at `key` that match, in order of their ids.
    pub fn get(&self, _key: &InfoHash, _query: &Query) -> Vec<Arc<Value>> {
        todo!()
    }

    /// The value at `key` with this id.
    pub fn value(&self, _key: &InfoHash, _id: u64) -> Option<Arc<Value>> {
        todo!()
    }

    /// Adds a listener, or renews the one with the same key, node and socket.
    pub fn listen(
        &mut self,
        _now: Instant,
        _key: InfoHash,
        _listener: Listener,
        _query: Query,
    ) -> Result<Subscribed, Refusal> {
        todo!()
    }

    /// Removes a value this node put itself: the end of a permanent put.
    pub fn remove_local(&mut self, _key: &InfoHash, _id: u64) -> bool {
        todo!()
    }

    /// Drops every listener of a node that does not answer updates.
    pub fn drop_listeners_of(&mut self, _node: &InfoHash) {
        todo!()
    }

    /// The next thing to tell a listener. Empty the queue after every call that can change the store.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        todo!()
    }

    /// When the next value or listener expires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Drops what has expired at `now`.
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }

    /// Every stored value: key, value, when it expires, where it came from.
    pub fn iter(&self) -> impl Iterator<Item = (InfoHash, &Arc<Value>, Instant, Origin)> {
        std::iter::empty()
    }
}
