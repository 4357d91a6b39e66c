//! Where a device is asked to become a contact (`files-and-calls.md` 2.1).
