//! What goes into and comes out of an agent.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::candidate::CandidateKind;
use crate::report::{FailureReport, PairError, PairState};
use crate::stun::{DecodeError, IntegrityError};

/// The role in the session (RFC 8445 section 6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Nominates the pair. The answerer of a Jami connection request; becomes TLS client (spec 1.3).
    Controlling,
    /// Follows the nomination. The requester; becomes TLS server.
    Controlled,
}

impl Role {
    /// The role of the peer.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Controlling => Self::Controlled,
            Self::Controlled => Self::Controlling,
        }
    }
}

/// Names a TCP connection towards the driver; never reused within an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.0)
    }
}

/// Names a candidate pair; never reused within an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairId(pub(crate) u32);

impl fmt::Display for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pair {}", self.0)
    }
}

/// Something the driver does for the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    SendUdp {
        /// The base address of the local candidate. If that one is relayed, the address on the relay: send it through
        /// there.
        local: SocketAddr,
        /// Where to.
        remote: SocketAddr,
        /// The datagram.
        payload: Bytes,
    },
    /// Open a TCP connection; answer with [`crate::Agent::handle_tcp_connected`] or
    /// [`crate::Agent::handle_tcp_failed`].
    Connect {
        /// Names the connection from now on.
        stream: StreamId,
        /// The address to bind to, that of the local candidate. Port 0 leaves the port free; another one must be used,
        /// and shared with the listener and other connections of it (simultaneous open; `SO_REUSEADDR`,
        /// `SO_REUSEPORT`).
        local: SocketAddr,
        /// Where to.
        remote: SocketAddr,
    },
    /// Write bytes to a TCP connection; the length prefix is already before them.
    SendFrame {
        /// The connection.
        stream: StreamId,
        /// Whole frames.
        payload: Bytes,
    },
    /// Close a TCP connection, or give up opening it. The agent has forgotten it: no answer is expected.
    CloseStream {
        /// The connection.
        stream: StreamId,
        /// Why.
        reason: CloseReason,
    },
}

/// Why the agent closes a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// Another pair was selected.
    #[error("another path was selected")]
    NotSelected,
    /// No valid check came in time.
    #[error("no valid check arrived in time")]
    Unauthenticated,
    /// Too many bytes came before a valid check.
    #[error("too many bytes arrived before a valid check")]
    TooMuchUnauthenticated,
    /// Too much data came before the connection was selected.
    #[error("too much data arrived before the path was selected")]
    TooMuchEarlyData,
    /// The connect took too long.
    #[error("the connection was not established in time")]
    ConnectTimeout,
    /// The check on it failed.
    #[error("its check failed")]
    CheckFailed,
    /// The local address it was accepted at is gone.
    #[error("the local address is gone")]
    LocalGone,
    /// The agent failed.
    #[error("no path was found")]
    Failed,
}

/// An accepted TCP connection is refused: close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no passive local candidate it could belong to.
    #[error("nothing listens there for this session")]
    NoPassiveCandidate,
    /// The remote address is one the policy never talks to.
    #[error("the policy refuses the address")]
    Policy,
    /// Too many connections wait for their first valid check.
    #[error("too many connections have not authenticated yet")]
    TooManyUnauthenticated,
    /// Too many of those come from this address.
    #[error("too many connections from this address have not authenticated yet")]
    TooManyFromAddress,
    /// Too many connections of the peer.
    #[error("too many connections are open")]
    TooMany,
    /// A path is selected, or the agent failed: no further connection is needed.
    #[error("the negotiation is over")]
    Over,
}

/// What became of a packet or frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The agent took it.
    Consumed,
    /// Application bytes of the selected path; with [`crate::Paths::Many`] of any valid pair.
    Data,
    /// Application bytes on a path the peer proved to own and that is not selected yet.
    ///
    /// Keep them, in order, until [`Event::Selected`]: if it names this path they come before later [`Self::Data`],
    /// otherwise they are void. With [`crate::Paths::Many`] the peer may hold a pair for valid a moment before us:
    /// [`Event::PairValid`] says that it counts. The agent bounds their sum by [`crate::Config::early_data`].
    Early,
    /// Not to be used.
    Dropped(DropReason),
}

/// Why a packet or frame is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// Looks like STUN and is none.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A check for another session.
    #[error("the user name is not ours")]
    WrongUser,
    /// A check or answer without proof of the password.
    #[error("not authentic: {0}")]
    NotAuthentic(#[from] IntegrityError),
    /// A check without PRIORITY.
    #[error("the check has no PRIORITY")]
    NoPriority,
    /// An answer to nothing we asked, or to something answered already.
    #[error("no such transaction")]
    UnknownTransaction,
    /// An answer from elsewhere than the question went to.
    #[error("the answer comes from another path than the check took")]
    WrongPath,
    /// Application bytes on a path that is not the selected one.
    #[error("data on a path that is not selected")]
    NotSelected,
    /// Application bytes on a path that has not shown a valid check.
    #[error("data on a path that has not authenticated")]
    Unauthenticated,
    /// More early data than the limit.
    #[error("too much data before the path was selected")]
    TooMuchEarlyData,
    /// The local address belongs to no candidate.
    #[error("no candidate has this local address")]
    UnknownLocal,
    /// The agent knows no such connection, or has closed it.
    #[error("no such connection")]
    UnknownStream,
    /// The remote address is refused by the policy, or there are too many.
    #[error("the remote address may not take part")]
    Policy,
    /// The agent failed: nothing is of use any more.
    #[error("the negotiation is over")]
    Over,
}

/// The path application data takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectedPath {
    /// Datagrams between two addresses.
    Udp {
        /// The base address of the local candidate.
        local: SocketAddr,
        /// The peer.
        remote: SocketAddr,
    },
    /// RFC 4571 frames on a TCP connection.
    Tcp {
        /// The connection.
        stream: StreamId,
        /// Its local end.
        local: SocketAddr,
        /// The peer.
        remote: SocketAddr,
    },
}

impl SelectedPath {
    /// Whether it is a TCP connection.
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// Its local end: for UDP the base of the local candidate.
    pub const fn local(self) -> SocketAddr {
        match self {
            Self::Udp { local, .. } | Self::Tcp { local, .. } => local,
        }
    }

    /// The address of the peer on it.
    pub const fn remote(self) -> SocketAddr {
        match self {
            Self::Udp { remote, .. } | Self::Tcp { remote, .. } => remote,
        }
    }
}

/// A pair that works, as a link of a transport over several paths needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidPair {
    /// The pair.
    pub pair: PairId,
    /// How many restarts ([`crate::Agent::restart`]) it has seen begin: a pair of a later one supersedes it.
    pub generation: u32,
    /// Where its packets go.
    pub path: SelectedPath,
    /// The kind of our candidate.
    pub local: CandidateKind,
    /// The kind of the peer's.
    pub remote: CandidateKind,
    /// Pair priority (RFC 8445 section 6.1.2.3).
    pub priority: u64,
    /// Round trip of the last check on it.
    pub rtt: Option<Duration>,
}

impl ValidPair {
    /// Whether a relay of either side is on the way, as far as candidates tell.
    pub fn is_relayed(&self) -> bool {
        [self.local, self.remote].contains(&CandidateKind::Relayed)
    }
}

/// Something the driver may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A pair moved on.
    PairChanged {
        /// The pair; [`crate::Agent::report`] tells more about it.
        pair: PairId,
        /// Its new state.
        state: PairState,
    },
    /// Data goes here from now on. Comes once per agent with [`crate::Paths::One`]; otherwise again whenever a better
    /// path took its place, or it was lost and another one works.
    Selected {
        /// The pair.
        pair: PairId,
        /// Where data goes.
        path: SelectedPath,
        /// The live role, which decides who is TLS client (spec 1.3).
        role: Role,
        /// Round trip of the last check on it.
        rtt: Option<Duration>,
    },
    /// A pair works. With [`crate::Paths::Many`] only, once until it is lost: it may carry data from now on, whatever
    /// is selected.
    PairValid(ValidPair),
    /// A pair that worked does not any more: send nothing on it. With [`crate::Paths::Many`] only.
    PairLost {
        /// The pair.
        pair: PairId,
        /// What ended it.
        reason: PairError,
    },
    /// A pair of a better kind than the selected one works (see [`crate::Preference`]). With [`crate::Paths::Many`]
    /// only. The controlling side nominates it by itself, and [`Self::Selected`] follows.
    Better(ValidPair),
    /// The peer has not confirmed for too long that it wants packets on the selected pair (RFC 7675): send no more.
    /// [`Self::PairLost`] or [`Self::Lost`] follows.
    ConsentLost {
        /// The pair.
        pair: PairId,
    },
    /// No pair works any more. With [`crate::Paths::Many`], or during a restart, only: the agent lives on, tries the pairs again, takes new
    /// candidates, and selects again when one works.
    Disconnected,
    /// A role conflict was settled against us.
    RoleSwitched {
        /// The role from now on.
        role: Role,
    },
    /// No pair works. The last event of an agent.
    Failed(FailureReport),
    /// The selected path is gone. The last event of an agent.
    Lost(LossReason),
}

/// Why a selected path is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// The TCP connection ended.
    #[error("the connection ended")]
    StreamClosed,
    /// The peer has not consented to packets for too long (RFC 7675).
    #[error("the peer does not answer any more")]
    ConsentLost,
    /// The driver gave it up.
    #[error("the path was given up")]
    GivenUp,
}
