//! What a peer is to an account.

/// What a remote device is to the account of this one, least trusted first. What each may do is decided by name of
/// channel; see `towline::Router`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKind {
    /// The device, or its account, is banned: nothing is done with it, nor is it told so.
    Banned,
    /// Nobody we know. It may ask to become a contact.
    Stranger,
    /// A device of an account that is a contact.
    Contact,
    /// Another device of the own account.
    OwnDevice,
}
