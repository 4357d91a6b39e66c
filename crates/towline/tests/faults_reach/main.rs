//! One fault at a time, on one side of two whole devices: within three seconds of the dial, or of the fault, each side's report
//! names it, and nobody who is well is blamed. `../faults.md` lists the faults, their tests and their causes.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

#[path = "../common/mod.rs"]
mod common;

mod devices;
mod nats;
mod rig;
mod servers;
mod standing;
mod tamper;
mod ways;
