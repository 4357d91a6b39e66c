//! The commands, one file each.

pub(crate) mod account;
pub(crate) mod completion;
pub(crate) mod contact;
pub(crate) mod id;
pub(crate) mod listen;
pub(crate) mod node;
pub(crate) mod online;
pub(crate) mod pipe;
pub(crate) mod presence;
pub(crate) mod receive;
pub(crate) mod relay;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod streams;
pub(crate) mod text;
pub(crate) mod why;

mod questions;
