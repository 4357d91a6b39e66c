//! Contacts, and the requests to become one (`spec/files-and-calls.md` 2).
//!
//! [`Contacts`] is what an account knows of others, and the machine that decides what a request or an answer to one
//! changes. It sends nothing: it returns [`ContactEffect`]s, which the program carries out after it has saved what
//! changed ([`Contacts::take_changed`]).
//!
//! # Answers that got lost
//!
//! A contact that has not answered is asked again, but it may have answered long ago. Two cases:
//!
//! * **Our answer to it was lost.** It asks again, and although we have answered, we answer again: always.
//! * **Its answer to us was lost.** We ask again whenever it is seen online, and from time to time while it is. A Jami of 2023
//!   that has accepted a request says nothing to one that names *the same conversation*, as if nothing were amiss, and would so
//!   never confirm. It does confirm one that names another conversation, and always with its own. So of the repetitions
//!   every other one names none. The first does name it: the request itself may be what was lost, and without the
//!   conversation a contact would be accepted without it. To all other peers the two kinds are the same.

mod change;
mod limits;
mod repeat;
mod request;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use towline_identity::{AccountId, Chain, DeviceId, ShortId};

use crate::PeerKind;

pub use change::ContactError;
pub use limits::{ContactLimits, MAX_NAME, MAX_PAYLOAD, REQUEST_LIFE};
pub use request::Ignored;
pub use stored::ContactsFormatError;

/// An account we have, or had, dealings with. The members, in JSON too, are those of Jami's archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// When it became a contact, Unix seconds.
    #[serde(default)]
    pub added: i64,
    /// When it was removed last, Unix seconds; 0 for never. Later than [`added`](Self::added) if it is no contact now.
    #[serde(default, skip_serializing_if = "is_default")]
    pub removed: i64,
    /// It has said that we are its contact too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub confirmed: bool,
    /// Nothing is to be had with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub banned: bool,
    /// The conversation of the two, 40 hexadecimal digits; empty if there is none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub conversation_id: String,
    /// What we call it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: Option<String>,
    /// How often we have asked it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub asked: u32,
    /// When we asked last, Unix seconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub asked_at: i64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Contact {
    /// Whether it is a contact now: added, not removed since, and not banned.
    pub fn is_active(&self) -> bool {
        !self.banned && self.added > self.removed
    }
}

/// A request that waits for our user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRequest {
    /// The device that asked last.
    pub device: DeviceId,
    /// Its short id, under which devices of 2023 publish their certificates. `None` in what was kept before it was noted.
    pub short_id: Option<ShortId>,
    /// The conversation it proposes; may be empty.
    pub conversation_id: String,
    /// Its card (vCard text, if it keeps to the rules), at most [`MAX_PAYLOAD`] bytes.
    pub payload: Arc<[u8]>,
    /// When it came first, Unix seconds.
    pub received: i64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContactEvent {
    /// An account asks to become a contact. Told once, however often it asks.
    Requested(AccountId),
    /// An account became a contact.
    Added(AccountId),
    /// A contact has taken us as its contact.
    Confirmed(AccountId),
    /// A request was refused here.
    Refused(AccountId),
    /// A contact was removed here.
    Removed(AccountId),
    /// An account was banned here.
    Banned(AccountId),
    /// An account is banned no longer.
    Unbanned(AccountId),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContactEffect {
    /// Ask each device of the account to become a contact.
    SendRequest {
        /// Whom.
        account: AccountId,
        /// The conversation to name.
        conversation_id: String,
        /// When it was asked first, Unix milliseconds.
        invited_ms: i64,
    },
    /// Tell each device of the account that it is our contact.
    SendConfirmation {
        /// Whom.
        account: AccountId,
        /// The device that asked. It gets the answer whether it is announced or not: who asks need not stay.
        device: DeviceId,
        /// Its short id, if it is known.
        short_id: Option<ShortId>,
        /// The conversation of the two.
        conversation_id: String,
    },
    /// Connections that stand may be no longer admitted.
    Enforce,
    /// Tell the program.
    Event(ContactEvent),
}

/// What an account knows of others. Bounded, and cheap enough to clone: payloads are shared.
///
/// `Default` knows nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "stored::Stored", into = "stored::Stored")]
pub struct Contacts {
    limits: ContactLimits,
    known: BTreeMap<AccountId, Contact>,
    requests: BTreeMap<AccountId, PendingRequest>,
    /// Accounts whose request was refused, and when.
    refused: BTreeMap<AccountId, i64>,
    banned_devices: BTreeSet<DeviceId>,
    /// Requests that were treated, by sender and id of the value, and when.
    seen: BTreeMap<(DeviceId, u64), i64>,
    /// Devices of the own account that were seen, and when first.
    own_devices: BTreeMap<ShortId, i64>,
    /// Contacts that are online; for this run only.
    online: BTreeSet<AccountId>,
    changed: bool,
}

impl Contacts {
    /// Nobody yet, with these bounds.
    pub fn new(limits: ContactLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The same with other bounds. What exceeds them already stays.
    #[must_use]
    pub fn with_limits(mut self, limits: ContactLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The bounds.
    pub fn limits(&self) -> &ContactLimits {
        &self.limits
    }

    /// What is known of an account.
    pub fn get(&self, account: AccountId) -> Option<&Contact> {
        self.known.get(&account)
    }

    /// All accounts we have, or had, dealings with: contacts, removed ones and banned ones.
    pub fn iter(&self) -> impl Iterator<Item = (AccountId, &Contact)> {
        self.known.iter().map(|(id, contact)| (*id, contact))
    }

    /// The contacts.
    pub fn active(&self) -> impl Iterator<Item = (AccountId, &Contact)> {
        self.iter().filter(|(_, contact)| contact.is_active())
    }

    /// Requests that wait for our user.
    pub fn requests(&self) -> impl Iterator<Item = (AccountId, &PendingRequest)> {
        self.requests.iter().map(|(id, request)| (*id, request))
    }

    /// The request of an account.
    pub fn request(&self, account: AccountId) -> Option<&PendingRequest> {
        self.requests.get(&account)
    }

    /// Devices that are banned, whatever account they belong to.
    pub fn banned_devices(&self) -> impl Iterator<Item = DeviceId> {
        self.banned_devices.iter().copied()
    }

    /// Whether a device is banned by itself. Its account may be banned all the same.
    pub fn is_device_banned(&self, device: DeviceId) -> bool {
        self.banned_devices.contains(&device)
    }

    /// Devices of the own account that were seen so far.
    pub fn own_devices(&self) -> impl Iterator<Item = ShortId> {
        self.own_devices.keys().copied()
    }

    /// Takes a contact as it is, in the place of what is known of the account: for archives and the like. `false` if there
    /// is no room.
    pub fn restore(&mut self, account: AccountId, mut contact: Contact) -> bool {
        limits::shorten(&mut contact.name);
        if !limits::is_conversation_id(&contact.conversation_id) {
            contact.conversation_id.clear();
        }
        if !self.make_room(account) {
            return false;
        }
        if contact.is_active() || contact.banned {
            self.requests.remove(&account);
        }
        self.known.insert(account, contact);
        self.changed = true;
        true
    }

    /// What a device is to the account `own`, by its verified chain. A device without an account is a stranger.
    pub fn kind_of(&self, chain: &Chain, own: AccountId) -> PeerKind {
        let account = chain.account_id();
        let contact = account.and_then(|account| self.known.get(&account));
        if self.banned_devices.contains(&chain.device_id()) || contact.is_some_and(|contact| contact.banned) {
            PeerKind::Banned
        } else if account == Some(own) {
            PeerKind::OwnDevice
        } else if contact.is_some_and(Contact::is_active) {
            PeerKind::Contact
        } else {
            PeerKind::Stranger
        }
    }

    /// Remembers a device of the own account. `true` if it was never seen before.
    pub fn note_own_device(&mut self, now: i64, device: ShortId) -> bool {
        if self.own_devices.contains_key(&device) {
            return false;
        }
        limits::make_room(&mut self.own_devices, self.limits.own_devices, |since| *since);
        self.own_devices.insert(device, now);
        self.changed = true;
        true
    }

    /// Whether anything that is saved changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether `account` is known or can be: of removed contacts the one removed first makes room.
    fn make_room(&mut self, account: AccountId) -> bool {
        if self.known.contains_key(&account) || self.known.len() < self.limits.contacts {
            return true;
        }
        let removed = self.known.iter().filter(|(_, contact)| !contact.is_active() && !contact.banned);
        match removed.min_by_key(|(_, contact)| contact.removed).map(|(id, _)| *id) {
            Some(oldest) => self.known.remove(&oldest).is_some(),
            None => false,
        }
    }
}
