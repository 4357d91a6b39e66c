//! A sans-IO OpenDHT node: the distributed hash table that Jami uses, as a client and as a server.
//!
//! Nothing here opens a socket, reads a clock or draws from a global random source. Time and chance come
//! in as arguments and datagrams go in and out as bytes, so a run replays identically from a seed.
//!
//! The crate has two floors. Below are the pieces that can be used alone: [`Message`] and its codec,
//! [`Value`] with signing and encryption, [`Query`], fragments ([`fragment`]), server storage ([`store`]), write tokens
//! ([`token`]), rate limits ([`rate`]), the state file ([`persist`]) and LAN discovery ([`discovery`]). Above
//! them stands the [`node`], which drives them.

pub mod discovery;
pub mod fragment;
pub mod id;
pub mod message;
pub mod node;
pub mod persist;
pub mod query;
pub mod rate;
pub mod reported;
mod sockaddr;
pub mod store;
pub mod token;
pub mod types;
pub mod value;
pub mod wire;

pub use id::InfoHash;
pub use message::{Body, Message, NodeEntry, Part, Reply, Request, Token, ValueItem, Want};
pub use query::{Field, FieldValue, Query, Restriction};
pub use value::Value;
pub use wire::WireError;

/// The example of the README is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
