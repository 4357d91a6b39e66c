//! An established connection: one task that owns the transport and the mux, and the handles to it.

pub(crate) mod channels;
pub(crate) mod command;
pub(crate) mod flow;
pub(crate) mod handle;
mod output;
pub(crate) mod secure;
pub(crate) mod task;
pub(crate) mod transport;

pub use handle::Connection;
