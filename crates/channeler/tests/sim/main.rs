//! The transport on a simulated network: what the issue promises, measured in virtual time.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]
#![allow(clippy::print_stdout, reason = "each proof shows its figure")]
#![allow(clippy::unchecked_time_subtraction, reason = "time runs forward in a world")]

#[path = "../support/mod.rs"]
mod support;

mod aggregate;
mod axes;
mod background;
mod connect;
mod death;
mod goodput;
mod half_open;
mod hostile;
mod isolation;
mod latency;
mod links;
mod moves;
mod nat;
mod network;
mod paths;
mod pressure;
