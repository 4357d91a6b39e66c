//! TCP: ordered, reliable, with windows, loss recovery and congestion control.
//!
//! Segments travel as packets through the same links and boxes as datagrams do, so loss costs the time that
//! recovery takes, an outage stalls, and a middlebox sees what it would see. Sequence numbers start at 0.

mod connection;
mod listener;
mod receive;
mod send;
mod stream;

use std::time::Duration;

pub(crate) use self::{
    connection::{Connection, Owner, Phase},
    listener::{Backlog, Listener},
    stream::{Connecting, Stream},
};

/// Sent data may stay unacknowledged for this long: the user timeout of the real sockets.
pub(crate) const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence after which a connection is probed, and the time between probes.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(20);
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Retransmission timeout before there is a measurement (RFC 6298), and its bounds.
pub(crate) const INITIAL_RTO: Duration = Duration::from_secs(1);
pub(crate) const MIN_RTO: Duration = Duration::from_millis(200);
pub(crate) const MAX_RTO: Duration = Duration::from_secs(5);
/// How long a connection that no program holds waits for the other side's end.
pub(crate) const ORPHAN_LINGER: Duration = Duration::from_mins(1);
/// Connections that wait to be accepted.
pub(crate) const BACKLOG: usize = 128;
