//! Which devices of an account are online (`files-and-calls.md` 1.3).
