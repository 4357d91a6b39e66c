//! The transport on a simulated network: what the issue promises, measured in virtual time.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]

#[path = "../support/mod.rs"]
mod support;

mod network;
