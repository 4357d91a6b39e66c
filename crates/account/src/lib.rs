//! What makes devices an account, and accounts contacts, in the formats of Jami.
//!
//! An **account** is an authority that signs devices ([`towline_identity`]). Each of its devices says so on the DHT with an
//! announcement that the account's key signed once, when the device was made; the device keeps it in its receipt. Whoever
//! knows an account's id finds its devices by that, asks them to become a contact at their inboxes, and hears at the same
//! place which of them are revoked. The account's own key rests in an archive, under a password if its owner wants.
//!
//! Nothing here reads a clock or opens a socket: values and files go in and out as bytes, times are arguments.

pub mod announcement;
pub mod archive;
pub mod contacts;
pub mod inbox;
mod peer_kind;
pub mod presence;
pub mod receipt;
pub mod revocation;
pub mod vcard;

pub use announcement::DeviceAnnouncement;
pub use archive::Archive;
pub use peer_kind::PeerKind;
pub use receipt::Receipt;
pub use vcard::VCard;
