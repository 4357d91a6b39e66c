//! Debian's Jami daemon, in a network of its own that nothing leaves.
//!
//! A test runs in a [`Lab`]: network namespaces around a hub, `dhtnode` on the hub, and on each of the other hosts a
//! [`Jamid`] with its own D-Bus session bus. Everything ends with the thread of the test, however that ends.

mod account;
mod bus;
mod daemon;
mod lab;
mod namespace;
mod signals;
mod steps;

pub use daemon::{Jamid, SOON};
pub use lab::{Body, Lab};
pub use namespace::Namespace;
pub use signals::{Mark, Signal, Signals};
pub use steps::Steps;
