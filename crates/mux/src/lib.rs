//! Named channels over one ordered, reliable byte stream, without I/O.
//!
//! A [`Mux`] is one side of a connection: it turns received plaintext into [`Event`]s and channel data, and
//! channel data into plaintext to send. It speaks two [`Dialect`]s behind one type: the native one between
//! Towline devices (windows, priorities, half-close, reasons; see the README for its bytes), and that of
//! Jami's MultiplexedSocket (`spec/connection.md` section 6). [`Mux::capabilities`] tells them apart.
//!
//! # Driving it
//!
//! * Give received plaintext to [`Mux::handle_data`], but only while [`Mux::wants_data`] says so.
//! * After anything else was called, call [`Mux::poll_event`] and [`Mux::poll_transmit`] until both return
//!   `None`, ask [`Mux::wants_data`] again, and call [`Mux::handle_timeout`] at [`Mux::poll_timeout`].
//! * A [`PeerFault`] is final: close the transport.

mod channel;
mod chunk;
mod config;
mod error;
mod event;
mod fuzz;
mod inbox;
mod jami;
mod liveness;
mod msgpack;
mod mux;
mod native;
mod pool;
mod reason;
mod schedule;
mod table;

pub use chunk::{Chunk, MAX_BODY};
pub use config::{Config, KeepAlive};
pub use error::{ChannelError, OpenError, PeerFault, ProbeError, WriteError};
pub use event::{
    Capabilities, ChannelId, ChannelInfo, ChannelState, Class, Dialect, Event, OpenOptions, PingId, Priority,
    Side, Transmit,
};
pub use fuzz::fuzz;
pub use mux::Mux;
pub use pool::Pool;
pub use reason::{Code, MAX_REASON_TEXT, Reason};

/// Longest name of a channel this side requests, in bytes.
pub const MAX_NAME: usize = 1024;

/// What every native peer takes on a channel before answering its request, and before its settings are known.
pub const EARLY_MIN: u64 = 16 << 10;

/// Requests every native peer keeps undecided at once, before its settings are known.
pub const PENDING_MIN: usize = 64;

/// Largest window the native dialect allows: 1 GiB.
pub const MAX_WINDOW: u64 = 1 << 30;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
