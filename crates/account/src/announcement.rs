//! `DeviceAnnouncement`: a device says that it belongs to an account (`files-and-calls.md` 1.1).
