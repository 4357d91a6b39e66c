//! What the account's key signed for a device, kept by the device (`files-and-calls.md` 1.1).
