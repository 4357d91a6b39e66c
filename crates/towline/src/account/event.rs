//! What happens with an account, for programs that show it.

use std::io;

use towline_account::contacts::ContactEvent;
use towline_account::presence::PresenceEvent;
use towline_identity::{AccountId, ShortId};

/// Something happened. Events are a view: what they tell of can also be asked for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AccountEvent {
    /// This device is announced: others find it by its account.
    Announced,
    /// Of contacts and requests. A request is told once, over restarts too; [`Account::requests`](super::Account::requests)
    /// has its card.
    Contact(ContactEvent),
    /// Our request, or our answer to one, was put into the inboxes of so many devices. None: the account announces
    /// no device now; it is asked again when it does.
    Sent {
        /// To whom.
        account: AccountId,
        /// An answer that says yes; otherwise a request.
        confirmation: bool,
        /// Devices.
        devices: usize,
    },
    /// Of the presence of accounts that are watched: contacts that have not answered, contacts that are connected, the own
    /// account, and those of [`Account::presence`](super::Account::presence).
    Presence(PresenceEvent),
    /// A device of the own account was seen that was never seen before, in earlier runs either.
    #[doc(alias = "knownDevicesChanged")]
    NewOwnDevice(ShortId),
    /// An account revoked these devices of those known here.
    Revoked {
        /// The account.
        account: AccountId,
        /// Its devices.
        devices: Vec<ShortId>,
    },
    /// This device is revoked by its own account: contacts that know refuse it.
    ThisDeviceRevoked,
    /// What changed could not be saved. What was to be sent because of it was not.
    NotSaved(io::ErrorKind),
}
