//! Unmodified programs behind NATs on real packets: the emulator's and the kernel's. Everything is in network namespaces, and needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod flow;
mod matrix;
mod rig;
mod switches;
