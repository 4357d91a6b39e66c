//! The commands, one file each.

pub(crate) mod completion;
pub(crate) mod id;
pub(crate) mod init;
pub(crate) mod listen;
pub(crate) mod node;
pub(crate) mod pipe;
pub(crate) mod receive;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod streams;

mod questions;
