//! Accounts in the lab: contacts, presence, devices, revocation.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

#[path = "../common/mod.rs"]
mod common;
mod contacts;
mod devices;
mod people;
mod presence;
mod revocation;
mod texts;
