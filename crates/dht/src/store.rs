//! What a node keeps for others and for itself: values with their life times, and who listens (`dht.md` 2.11).
//!
//! Whether this node should keep a value at all, being near enough to its key, is not decided here.

mod ledger;
mod limits;
mod listeners;
mod source;
mod values;

pub use limits::StoreLimits;
pub use listeners::{Change, Listener, Notice, Subscribed};
pub use source::{Origin, Source};
pub use values::{Full, Held, Refusal, Store, Stored, UnknownKey};
