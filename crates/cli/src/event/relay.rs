//! What `towline relay` says.

use serde::{Deserialize, Serialize};

use super::Weight;
use crate::text::printable;

/// Something at a relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub(crate) enum RelayEvent {
    /// It listens, for UDP and TCP.
    #[serde(rename = "relay_ready")]
    Ready { addresses: Vec<String> },
    /// A user has an allocation.
    #[serde(rename = "relay_allocated")]
    Allocated { user: String, client: String, relayed: Vec<String> },
    /// An allocation has ended.
    #[serde(rename = "relay_released")]
    Released { user: String, client: String },
}

impl RelayEvent {
    /// The line for people.
    pub(super) fn text(&self) -> (Weight, String) {
        match self {
            Self::Ready { addresses } => (Weight::Result, format!("Relay on {}", addresses.join(" and "))),
            Self::Allocated { user, client, relayed } => (
                Weight::Notice,
                format!("{} at {client} is relayed at {}", printable(user), relayed.join(" and ")),
            ),
            Self::Released { user, client } => {
                (Weight::Notice, format!("{} at {client} is no longer relayed", printable(user)))
            }
        }
    }
}
