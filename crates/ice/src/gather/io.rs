//! What goes into and comes out of a gatherer.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::candidate::Candidate;

/// How a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// By datagrams.
    Udp,
    /// On a TCP connection.
    Tcp,
}

/// A STUN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is asked.
    pub via: Via,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let via = if self.via == Via::Udp { "udp" } else { "tcp" };
        write!(f, "stun {via} {}", self.address)
    }
}

/// One question to one server from one local address. Names its TCP connection towards the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(pub(super) u32);

/// Something the driver does for the gatherer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatherAction {
    /// Send a datagram.
    SendUdp {
        /// The local address.
        local: SocketAddr,
        /// Where to.
        remote: SocketAddr,
        /// The datagram.
        payload: Bytes,
    },
    /// Open a TCP connection from exactly this local address and port, shared with the listener on it
    /// (RFC 6544 section 5.2), or the answer says nothing about the listener; then call
    /// [`super::Gatherer::handle_tcp_connected`] or [`super::Gatherer::handle_tcp_failed`].
    Connect {
        /// Names the connection from now on.
        question: QuestionId,
        /// The address and port to bind to.
        local: SocketAddr,
        /// Where to.
        remote: SocketAddr,
    },
    /// Write bytes to a TCP connection. They are not framed.
    Write {
        /// The connection.
        question: QuestionId,
        /// The bytes.
        payload: Bytes,
    },
    /// Close a TCP connection, or give up opening it.
    Close {
        /// The connection.
        question: QuestionId,
    },
}

/// Something the driver may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatherEvent {
    /// A server-reflexive candidate; its base is the local address. To be given to [`crate::Agent::add_local`].
    Candidate(Candidate),
    /// A server was of no use from one local address.
    ServerFailed {
        /// The server.
        server: Server,
        /// Asked from here.
        base: SocketAddr,
        /// What went wrong.
        error: ServerError,
    },
    /// Every server has answered or failed, or time is up. The last event.
    Done,
}

/// Why a server was of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// No answer in time.
    #[error("no answer")]
    Silent,
    /// No answer but one from another address, which counts for nothing.
    #[error("the answer came from {0}, which was not asked")]
    Elsewhere(SocketAddr),
    /// The TCP connection could not be made.
    #[error("cannot be connected to")]
    NotConnected,
    /// The TCP connection ended, or held something that is not STUN, before there was an answer.
    #[error("the connection ended without an answer")]
    Closed,
    /// It answered with an error.
    #[error("answered with code {0}")]
    Rejected(u16),
    /// The answer holds no address.
    #[error("the answer holds no address")]
    NoAddress,
    /// The answer names an address that nobody outside could have seen us at.
    #[error("told us {0}, which cannot be our address")]
    ImpossibleAddress(SocketAddr),
    /// It alone tells this address, two or more others tell another.
    #[error("told us {0}, against all others")]
    Contradicted(SocketAddr),
}
