//! An established connection: one task that owns what carries its channels, and the handles to it.

mod buffers;
pub(crate) mod bundle;
pub(crate) mod carrier;
pub(crate) mod channels;
pub(crate) mod command;
pub(crate) mod flow;
pub(crate) mod handle;
mod output;
pub(crate) mod secure;
pub(crate) mod session;
pub(crate) mod task;
pub(crate) mod transport;

pub use handle::Connection;
