//! Bounds of what is kept about others.

use std::collections::BTreeMap;

/// Longest card that travels with a request, in bytes. Jami drops longer ones.
pub const MAX_PAYLOAD: usize = 64_000;

/// Longest name of a contact, in bytes.
pub const MAX_NAME: usize = 256;

/// How long a request counts, in seconds: seven days. A refusal holds for so long, and a contact that does not answer is
/// asked from time to time for so long (and after that when it comes online).
pub const REQUEST_LIFE: i64 = 7 * 24 * 60 * 60;

/// Longest id of a conversation, in digits: room for ids made by SHA-256.
const MAX_CONVERSATION_ID: usize = 64;

/// Bounds of [`Contacts`](super::Contacts).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactLimits {
    /// Contacts, removed and banned ones included. Default: 4096.
    pub contacts: usize,
    /// Requests that wait for our user; one more is dropped, unless one is older than [`REQUEST_LIFE`], which makes
    /// room. Default: 256.
    pub requests: usize,
    /// Refusals remembered; the oldest is forgotten first. Default: 1024.
    pub refused: usize,
    /// Banned devices. Default: 1024.
    pub banned_devices: usize,
    /// Treated requests remembered, so that no value counts twice; the oldest is forgotten first. Default: 2048.
    pub seen: usize,
    /// Devices of the own account remembered; the one seen first is forgotten first. Default: 256.
    pub own_devices: usize,
}

impl Default for ContactLimits {
    fn default() -> Self {
        Self {
            contacts: 4096,
            requests: 256,
            refused: 1024,
            banned_devices: 1024,
            seen: 2048,
            own_devices: 256,
        }
    }
}

/// Whether a text may be the id of a conversation: none, or hexadecimal digits.
pub(super) fn is_conversation_id(text: &str) -> bool {
    text.len() <= MAX_CONVERSATION_ID && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Cuts a name to [`MAX_NAME`]; an empty one is none.
pub(super) fn shorten(name: &mut Option<String>) {
    if let Some(text) = name {
        let end = (0..=MAX_NAME.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    if name.as_ref().is_some_and(String::is_empty) {
        *name = None;
    }
}

/// Makes room for one more entry by forgetting the oldest.
pub(super) fn make_room<K: Ord + Copy, V>(map: &mut BTreeMap<K, V>, limit: usize, age: impl Fn(&V) -> i64) {
    while map.len() >= limit.max(1) {
        let oldest = map.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| *key);
        match oldest {
            Some(oldest) => map.remove(&oldest),
            None => return,
        };
    }
}
