//! How an account is set up, and where it keeps what must outlive the program.

use std::fmt;
use std::io;
use std::sync::Arc;

use towline_account::contacts::Contacts;
use towline_account::presence;
use towline_account::receipt::Receipt;
use towline_account::vcard::VCard;
use towline_identity::{Certificate, RevocationList};

use crate::revocations::SharedRevocations;

/// Keeps what an account learns. Called one at a time, away from the tasks of the node: it may block.
///
/// Nothing is answered before what was learnt is saved: a request that is treated is not told again by a later run,
/// and a contact that was confirmed is known to it.
pub trait AccountStore: Send + Sync + fmt::Debug + 'static {
    /// Keeps the contacts in the place of those kept before. [`Contacts::to_json`] is a form for them.
    fn save_contacts(&self, contacts: &Contacts) -> io::Result<()>;

    /// Keeps a revocation list of an account beside those kept before, with the certificate of the account, against which
    /// its signature has been checked and will be checked again when it is read.
    fn save_revocation_list(&self, issuer: &Certificate, list: &RevocationList) -> io::Result<()>;
}

/// Keeps nothing: an account that runs so begins anew each time. For tests and trials.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forgetful;

impl AccountStore for Forgetful {
    fn save_contacts(&self, _: &Contacts) -> io::Result<()> {
        Ok(())
    }

    fn save_revocation_list(&self, _: &Certificate, _: &RevocationList) -> io::Result<()> {
        Ok(())
    }
}

/// Everything about an account that is not its identity.
#[derive(Debug, Clone)]
pub struct AccountConfig {
    /// What the account's key signed for this device when it was made: the announcement, by which others find the device.
    /// Without one the device can be dialled by who knows its id, and is otherwise not seen.
    pub receipt: Option<Receipt>,
    /// The contacts, as the store kept them.
    pub contacts: Contacts,
    /// The revocation lists, as the store kept them. Takes the place of [`Config::revocations`](crate::Config::revocations).
    pub revocations: SharedRevocations,
    /// The card that travels with our requests.
    pub profile: Option<VCard>,
    /// Where contacts and revocation lists are kept.
    pub store: Arc<dyn AccountStore>,
    /// Admit connections of devices that are neither our own nor a contact's. Which channels they get is up to the
    /// router, which gives them none by default. Default: no.
    pub strangers_may_connect: bool,
    /// Bounds.
    pub limits: AccountLimits,
}

impl Default for AccountConfig {
    /// Knows nobody, keeps nothing, announces nothing.
    fn default() -> Self {
        Self {
            receipt: None,
            contacts: Contacts::default(),
            revocations: SharedRevocations::default(),
            profile: None,
            store: Arc::new(Forgetful),
            strangers_may_connect: false,
            limits: AccountLimits::default(),
        }
    }
}

/// Bounds of what an account does at once and keeps in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountLimits {
    /// Accounts and devices whose presence is watched.
    pub presence: presence::Limits,
    /// Values looked at in one lookup of an account's devices; anybody can put values there. Default: 256.
    pub values: usize,
    /// Devices of one account that are dealt with. Default: 64.
    pub devices: usize,
    /// Revocation lists waiting until the certificate of their account is known, for each account. Default: 16.
    pub lists: usize,
    /// The same for all accounts together. Default: 256.
    pub all_lists: usize,
    /// Certificates looked up and requests sent at once. Default: 32.
    pub at_once: usize,
    /// Certificates of devices kept. Default: 4096.
    pub certificates: usize,
    /// Requests whose sender is being looked for, or waited for; while there are so many, further ones wait in the DHT. Those
    /// of devices whose certificate the node remembers wait for nobody.
    /// Default: 256.
    pub senders: usize,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            presence: presence::Limits::default(),
            values: 256,
            devices: 64,
            lists: 16,
            all_lists: 256,
            at_once: 32,
            certificates: 4096,
            senders: 256,
        }
    }
}
