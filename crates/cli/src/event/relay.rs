//! What `towline relay` says.

use serde::{Deserialize, Serialize};

use super::Weight;
use crate::text::printable;

/// Something at a relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum RelayEvent {
    /// It listens, for UDP and TCP.
    RelayReady { addresses: Vec<String> },
    /// A user has an allocation.
    RelayAllocated { user: String, client: String, relayed: Vec<String> },
    /// An allocation has ended.
    RelayReleased { user: String, client: String },
}

impl RelayEvent {
    /// The line for people.
    pub(super) fn text(&self) -> (Weight, String) {
        match self {
            Self::RelayReady { addresses } => {
                (Weight::Result, format!("Relay on {}", addresses.join(" and ")))
            }
            Self::RelayAllocated { user, client, relayed } => (
                Weight::Notice,
                format!("{} at {client} is relayed at {}", printable(user), relayed.join(" and ")),
            ),
            Self::RelayReleased { user, client } => {
                (Weight::Notice, format!("{} at {client} is no longer relayed", printable(user)))
            }
        }
    }
}
