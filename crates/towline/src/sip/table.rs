//! The channels that are open, by device.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use towline_identity::{AccountId, DeviceId};
use towline_sip::{RequestError, Status};

/// A text on its way to a session.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) content_type: Arc<str>,
    pub(super) body: Arc<[u8]>,
    pub(super) message_id: u64,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// What a session says about a text. A dropped reply means that the channel was lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Final(Status),
    TimedOut,
    Unfit(RequestError),
}

/// The way to a running session.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    number: u64,
    pub(super) texts: mpsc::Sender<Outgoing>,
}

/// The sessions with a device.
#[derive(Debug, Default)]
struct Device {
    account: Option<AccountId>,
    /// Newest last.
    sessions: Vec<Handle>,
    /// Held while a channel is opened, so that texts at the same time share it.
    opening: Arc<tokio::sync::Mutex<()>>,
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Table {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    devices: BTreeMap<DeviceId, Device>,
    sessions: usize,
    count: u64,
}

impl State {
    fn has_room(&self, device: DeviceId, (all, with_one): (usize, usize)) -> bool {
        let known = self.devices.get(&device).map_or(0, |known| known.sessions.len());
        self.sessions < all && known < with_one
    }
}

impl Table {
    /// Takes in a session whose texts go to `texts`; `None` if there are too many.
    pub(super) fn insert(
        self: &Arc<Self>,
        device: DeviceId,
        account: AccountId,
        texts: mpsc::Sender<Outgoing>,
        max: (usize, usize),
    ) -> Option<Seat> {
        let mut state = self.state();
        if !state.has_room(device, max) {
            return None;
        }
        state.count += 1;
        state.sessions += 1;
        let number = state.count;
        let entry = state.devices.entry(device).or_default();
        entry.account = Some(account);
        entry.sessions.push(Handle { number, texts });
        Some(Seat { table: Arc::clone(self), device, number })
    }

    /// Whether a session with `device` would be taken in: `max` are those with all devices and with one.
    pub(super) fn has_room(&self, device: DeviceId, max: (usize, usize)) -> bool {
        self.state().has_room(device, max)
    }

    /// The newest session with `device`.
    pub(super) fn newest(&self, device: DeviceId) -> Option<Handle> {
        self.state().devices.get(&device)?.sessions.last().cloned()
    }

    /// What is to be locked while a channel to `device` is opened.
    pub(super) fn opening(&self, device: DeviceId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.state().devices.entry(device).or_default().opening)
    }

    /// To be called when a channel was not opened after all: forgets a device without sessions.
    pub(super) fn tidy(&self, device: DeviceId) {
        let mut state = self.state();
        let idle = |known: &Device| known.sessions.is_empty() && Arc::strong_count(&known.opening) == 1;
        if state.devices.get(&device).is_some_and(idle) {
            state.devices.remove(&device);
        }
    }

    /// Devices of `account` with a session.
    pub(super) fn devices(&self, account: AccountId) -> Vec<DeviceId> {
        let state = self.state();
        let of_account = state
            .devices
            .iter()
            .filter(|(_, known)| known.account == Some(account) && !known.sessions.is_empty());
        of_account.map(|(device, _)| *device).collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a session in the table; given up when it is dropped, or before.
#[derive(Debug)]
pub(super) struct Seat {
    table: Arc<Table>,
    device: DeviceId,
    number: u64,
}

impl Seat {
    /// New texts go elsewhere from now on.
    pub(super) fn leave(&self) {
        let mut state = self.table.state();
        let Some(known) = state.devices.get_mut(&self.device) else { return };
        let before = known.sessions.len();
        known.sessions.retain(|session| session.number != self.number);
        let left = before - known.sessions.len();
        state.sessions -= left;
        drop(state);
        self.table.tidy(self.device);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}
