//! What `towline relay` says.

use serde::{Deserialize, Serialize};

use super::Weight;
use crate::text::printable;

/// Something at a relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub(crate) enum RelayEvent {
    /// It listens, for UDP and TCP, and for TLS.
    #[serde(rename = "relay_ready")]
    Ready { addresses: Vec<String>, tls_addresses: Vec<String> },
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
            Self::Ready { addresses, tls_addresses } => {
                let tls = tls_addresses.iter().map(|address| format!("{address} on TLS"));
                let all: Vec<String> = addresses.iter().cloned().chain(tls).collect();
                (Weight::Result, format!("Relay on {}", all.join(" and ")))
            }
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
