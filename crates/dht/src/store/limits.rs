//! Bounds of the storage.

use std::time::Duration;

/// What a [`Store`](super::Store) accepts at most. A value counts with its whole packed size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Bytes of remote values. Above it, values of the source with the most bytes go, soonest to expire first.
    pub bytes: usize,
    /// Bytes of remote values of one source; above it, puts of that source are refused.
    pub bytes_per_source: usize,
    /// Keys with values.
    pub keys: usize,
    /// Remote values of one source.
    pub values_per_source: usize,
    /// Values at one key.
    pub values_per_key: usize,
    /// Values of one source at one key.
    pub values_per_source_and_key: usize,
    /// Listeners at all keys.
    pub listeners: usize,
    /// Listeners of one source at all keys.
    pub listeners_per_source: usize,
    /// Listeners at one key.
    pub listeners_per_key: usize,
    /// A listener that has not renewed for this long is dropped.
    pub listener_life: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            bytes: 64 * 1024 * 1024,
            bytes_per_source: 16 * 1024 * 1024,
            keys: 1 << 18,
            values_per_source: 1 << 14,
            values_per_key: 1 << 16,
            values_per_source_and_key: 1 << 11,
            listeners: 1 << 16,
            listeners_per_source: 1 << 12,
            listeners_per_key: 1 << 12,
            listener_life: Duration::from_mins(10),
        }
    }
}
