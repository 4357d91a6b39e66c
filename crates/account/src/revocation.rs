//! Revocation lists as values on the DHT (`files-and-calls.md` 1.5).
