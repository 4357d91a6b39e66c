//! Contacts as JSON.

use std::collections::BTreeMap;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use towline_identity::{AccountId, DeviceId, IdError, ShortId};

use super::{Contact, ContactLimits, Contacts, MAX_PAYLOAD, PendingRequest, limits};

/// Why a text is no list of contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContactsFormatError {
    /// It is not the JSON that was expected.
    #[error("not a list of contacts (line {line}, column {column})")]
    Json {
        /// Counted from 1; 0 if the text has ended.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
}

/// Why an entry is none. What is not ours to understand is refused as a whole: a list that was cut short would be
/// saved over the whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryError {
    #[error(transparent)]
    Id(#[from] IdError),
    #[error("a payload is too long or damaged")]
    Payload,
    #[error("an impossible conversation")]
    ConversationId,
    #[error("more entries than are kept")]
    TooMany,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Stored {
    contacts: BTreeMap<String, Contact>,
    requests: BTreeMap<String, StoredRequest>,
    refused: BTreeMap<String, i64>,
    banned_devices: Vec<String>,
    /// Device, value id in hexadecimal digits, time.
    seen: Vec<(String, String, i64)>,
    own_devices: BTreeMap<String, i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRequest {
    device: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    short_id: Option<String>,
    #[serde(default)]
    conversation_id: String,
    #[serde(default)]
    payload: StoredPayload,
    received: i64,
}

/// A card is text; what is not is kept all the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum StoredPayload {
    Text(String),
    Bytes { hex: String },
}

impl Default for StoredPayload {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<&[u8]> for StoredPayload {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes { hex: HEXLOWER.encode(bytes) },
        }
    }
}

impl StoredPayload {
    fn read(self) -> Result<Vec<u8>, EntryError> {
        let bytes = match self {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes { hex } => {
                HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| EntryError::Payload)?
            }
        };
        if bytes.len() > MAX_PAYLOAD { Err(EntryError::Payload) } else { Ok(bytes) }
    }
}

impl From<Contacts> for Stored {
    fn from(all: Contacts) -> Self {
        let request = |pending: PendingRequest| StoredRequest {
            device: pending.device.to_string(),
            short_id: pending.short_id.map(|id| id.to_string()),
            conversation_id: pending.conversation_id,
            payload: pending.payload.as_ref().into(),
            received: pending.received,
        };
        let seen = all.seen.into_iter();
        Self {
            contacts: all.known.into_iter().map(|(id, contact)| (id.to_string(), contact)).collect(),
            requests: all
                .requests
                .into_iter()
                .map(|(id, pending)| (id.to_string(), request(pending)))
                .collect(),
            refused: all.refused.into_iter().map(|(id, at)| (id.to_string(), at)).collect(),
            banned_devices: all.banned_devices.iter().map(DeviceId::to_string).collect(),
            seen: seen.map(|((device, id), at)| (device.to_string(), format!("{id:x}"), at)).collect(),
            own_devices: all.own_devices.into_iter().map(|(id, at)| (id.to_string(), at)).collect(),
        }
    }
}

impl TryFrom<Stored> for Contacts {
    type Error = EntryError;

    fn try_from(stored: Stored) -> Result<Self, EntryError> {
        let limits = ContactLimits::default();
        for (count, limit) in [
            (stored.contacts.len(), limits.contacts),
            (stored.requests.len(), limits.requests),
            (stored.refused.len(), limits.refused),
            (stored.banned_devices.len(), limits.banned_devices),
            (stored.seen.len(), limits.seen),
            (stored.own_devices.len(), limits.own_devices),
        ] {
            if count > limit {
                return Err(EntryError::TooMany);
            }
        }
        let mut all = Self::new(limits);
        for (id, mut contact) in stored.contacts {
            if !limits::is_conversation_id(&contact.conversation_id) {
                return Err(EntryError::ConversationId);
            }
            limits::shorten(&mut contact.name);
            all.known.insert(id.parse()?, contact);
        }
        for (id, request) in stored.requests {
            if !limits::is_conversation_id(&request.conversation_id) {
                return Err(EntryError::ConversationId);
            }
            let pending = PendingRequest {
                device: request.device.parse()?,
                short_id: request.short_id.map(|id| id.parse()).transpose()?,
                conversation_id: request.conversation_id,
                payload: request.payload.read()?.into(),
                received: request.received,
            };
            all.requests.insert(id.parse()?, pending);
        }
        for (id, at) in stored.refused {
            all.refused.insert(id.parse::<AccountId>()?, at);
        }
        for device in stored.banned_devices {
            all.banned_devices.insert(device.parse()?);
        }
        for (device, id, at) in stored.seen {
            let id = u64::from_str_radix(&id, 16).map_err(|_| EntryError::Payload)?;
            all.seen.insert((device.parse()?, id), at);
        }
        for (id, at) in stored.own_devices {
            all.own_devices.insert(id.parse::<ShortId>()?, at);
        }
        Ok(all)
    }
}

impl Contacts {
    /// Reads what [`to_json`](Self::to_json) wrote.
    pub fn from_json(text: &str) -> Result<Self, ContactsFormatError> {
        // A list would be read as the members in order.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(ContactsFormatError::Json { line: 1, column: 1 });
        }
        serde_json::from_str(text)
            .map_err(|error| ContactsFormatError::Json { line: error.line(), column: error.column() })
    }

    /// Everything that is to outlive the program.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts, numbers and maps with text keys have a JSON form")
    }
}
