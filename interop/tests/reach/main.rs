//! Unmodified programs behind NATs on real packets: the emulator's and the kernel's. Everything is in network namespaces, and needs root.
#![allow(clippy::print_stdout, reason = "what is measured is said")]

mod flow;
mod mapped;
mod matrix;
mod moves;
mod rig;
mod site;
mod switches;
