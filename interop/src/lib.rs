//! The programs that Towline must get along with, unmodified, as objects a test can drive.
//!
//! * [`Dhtnode`]: Debian's `dhtnode`, by what a person would type and read.
//! * [`PyOpendht`]: a node of the newest OpenDHT, by the Python package's bindings (`peers/opendht_peer.py`).
//! * [`jami::Jamid`]: Debian's Jami daemon, over D-Bus.
//! * [`Coturn`]: Debian's `turnserver`, by its command line.
//! * [`HomeRouter`]: Debian's `miniupnpd` on a host that translates addresses.
//!
//! Every wait has a deadline and fails with the last lines the program printed. A program ends with the object
//! that holds it, and also when the test process dies: each of them stops at the end of its standard input.
//!
//! A test begins with [`require`]: in CI a missing program is a failure that says what to install, elsewhere the
//! test is skipped by name.

mod coturn;
mod dhtnode;
mod eventually;
pub mod jami;
mod miniupnpd;
mod opendht;
mod ports;
mod process;
mod program;
mod require;

pub use coturn::{Coturn, CoturnOptions, Place};
pub use dhtnode::{Dhtnode, PrintedValue};
pub use eventually::eventually;
pub use miniupnpd::{HomeRouter, Miniupnpd};
pub use opendht::{KeyIds, Put, PyOpendht, PyValue};
pub use ports::free_udp_port;
pub use process::Process;
pub use program::program;
pub use require::{Peer, require};
