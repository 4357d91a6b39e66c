//! How far an attempt has come, for whoever lists attempts and for whoever decides about others.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use towline_identity::AccountId;

use crate::info::ConnectionState;
use crate::policy::Peer;
use crate::report::Journal;

#[derive(Debug)]
pub(super) struct Progress {
    /// What it has met with.
    pub(super) journal: Arc<Journal>,
    state: AtomicU8,
    account: OnceLock<AccountId>,
    /// The request is out: the device may know of the attempt.
    asked: AtomicBool,
    /// The device has asked, too.
    crossed: AtomicBool,
}

impl Progress {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            journal: Arc::new(journal),
            state: AtomicU8::new(0),
            account: OnceLock::new(),
            asked: AtomicBool::new(false),
            crossed: AtomicBool::new(false),
        }
    }

    pub(super) fn state(&self) -> ConnectionState {
        match self.state.load(Ordering::Relaxed) {
            0 => ConnectionState::Signalling,
            1 => ConnectionState::Path,
            _ => ConnectionState::Securing,
        }
    }

    pub(super) fn reach(&self, state: ConnectionState) {
        let number = match state {
            ConnectionState::Signalling => 0,
            ConnectionState::Path => 1,
            ConnectionState::Securing | ConnectionState::Established => 2,
        };
        self.state.store(number, Ordering::Relaxed);
    }

    /// The account of the device, once its certificate was seen.
    pub(super) fn account(&self) -> Option<AccountId> {
        self.account.get().copied()
    }

    pub(super) fn met(&self, peer: &Peer) {
        let _ = self.account.set(peer.account);
    }

    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    pub(super) fn asks(&self) {
        self.asked.store(true, Ordering::Release);
    }

    pub(super) fn is_crossed(&self) -> bool {
        self.crossed.load(Ordering::Relaxed)
    }

    pub(super) fn cross(&self) {
        self.crossed.store(true, Ordering::Relaxed);
    }
}
