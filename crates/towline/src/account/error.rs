//! What goes wrong with an account.

use std::io;

use thiserror::Error;
use towline_account::contacts::ContactError;
use towline_identity::RevocationError;

use crate::dht::GetError;
use crate::error::StartError;

/// Why an account could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccountStartError {
    /// The receipt is not this device's.
    #[error("the receipt is not that of this device: {0}")]
    Receipt(#[from] towline_account::receipt::ReceiptMismatch),
    /// The profile does not fit a request.
    #[error("the profile cannot be used: {0}")]
    Profile(#[from] towline_account::vcard::VCardError),
    /// The node could not be started.
    #[error(transparent)]
    Node(#[from] StartError),
}

/// Why something could not be done with an account.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The contact is not in the state for that.
    #[error(transparent)]
    Contact(#[from] ContactError),
    /// It was done, but could not be saved; messages that depend on it were not sent.
    #[error("it could not be saved: {0}")]
    NotSaved(io::ErrorKind),
    /// No more accounts can be watched.
    #[error(transparent)]
    TooManyAccounts(#[from] towline_account::presence::TooManyAccounts),
    /// The revocation list is not one of this account, or there is no room for it.
    #[error(transparent)]
    RevocationList(#[from] RevocationError),
    /// The devices could not be looked up.
    #[error(transparent)]
    Lookup(#[from] GetError),
    /// The profile does not fit a request.
    #[error("the profile cannot be used: {0}")]
    Profile(#[from] towline_account::vcard::VCardError),
    /// The account was shut down.
    #[error("the account is shut down")]
    Closed,
}
