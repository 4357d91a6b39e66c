//! What an agent knows and did, for people, logs and error messages.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::candidate::{Candidate, Transport};
use crate::{PairId, Role, StreamId};

/// The state of one candidate pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairState {
    /// Waits for its turn.
    Waiting,
    /// The TCP connection is being opened.
    Connecting,
    /// The connect was refused and will be repeated (relayed candidates only).
    Retrying,
    /// A check waits for its answer.
    Checking,
    /// A check was answered.
    Valid,
    /// It will not be used.
    Failed(PairError),
}

/// Why a pair failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum PairError {
    /// The connect was refused.
    #[error("refused")]
    Refused,
    /// No route, or the network forbids it.
    #[error("unreachable")]
    Unreachable,
    /// The connect was reset or failed in another way.
    #[error("connect failed")]
    ConnectFailed,
    /// The connect was not answered.
    #[error("connect timed out")]
    ConnectTimeout,
    /// No check was answered.
    #[error("silent")]
    Silent,
    /// The peer answered with an error.
    #[error("rejected with code {0}")]
    Rejected(u16),
    /// The connection ended.
    #[error("closed")]
    Closed,
    /// A limit on connects, or on packets to that address, was used up first.
    #[error("not tried")]
    NotTried,
    /// Another pair was selected first.
    #[error("superseded")]
    Superseded,
    /// It worked, and the peer stopped answering on it (RFC 7675).
    #[error("consent lost")]
    ConsentLost,
    /// The local address is gone ([`crate::Agent::remove_local`]).
    #[error("local address gone")]
    LocalGone,
}

/// The outcome of a TCP connect that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// Refused by the remote host.
    Refused,
    /// Reset while connecting.
    Reset,
    /// No route to it, or forbidden.
    Unreachable,
    /// The operating system gave up waiting.
    TimedOut,
    /// Anything else.
    Other,
}

/// One candidate pair in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairReport {
    /// Identifies the pair in events.
    pub id: PairId,
    /// How often the session had been restarted when the pair was made.
    pub generation: u32,
    /// Transport, and for TCP the local part in it.
    pub transport: Transport,
    /// The local base address.
    pub local: SocketAddr,
    /// The remote address.
    pub remote: SocketAddr,
    /// The TCP connection, while there is one.
    pub stream: Option<StreamId>,
    /// Pair priority (RFC 8445 section 6.1.2.3).
    pub priority: u64,
    /// Where it stands.
    pub state: PairState,
    /// Round trip of the last check answered.
    pub rtt: Option<Duration>,
    /// USE-CANDIDATE was sent or received on it.
    pub nominated: bool,
    /// Checks sent, repetitions included.
    pub checks_sent: u32,
    /// Valid checks received.
    pub checks_received: u32,
    /// Our address as the peer sees it.
    pub mapped: Option<SocketAddr>,
}

/// Everything an agent knows; see [`crate::Agent::report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The role now.
    pub role: Role,
    /// Local candidates.
    pub local: Vec<Candidate>,
    /// Remote candidates that take part.
    pub remote: Vec<Candidate>,
    /// Every pair, best first.
    pub pairs: Vec<PairReport>,
    /// The pair in use.
    pub selected: Option<PairId>,
    /// TCP connections the agent knows of.
    pub streams: usize,
    /// Remote candidates refused by the policy.
    pub refused_candidates: u32,
    /// Accepted connections refused by the limits.
    pub refused_connections: u32,
    /// Packets and frames dropped.
    pub dropped: u64,
}

/// Why no pair could be selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FailureReason {
    /// Nothing to send from.
    #[error("there is no local candidate")]
    NoLocalCandidates,
    /// The peer offered nothing that may be used.
    #[error("the peer offered no usable candidate")]
    NoRemoteCandidates,
    /// Both sides have candidates, but no two fit, and none of ours can be reached.
    #[error("no local and remote candidate fit together")]
    NoPairs,
    /// All pairs failed.
    #[error("no candidate pair answered")]
    AllPairsFailed,
    /// The controlling peer never nominated a pair.
    #[error("the peer did not nominate a pair")]
    NotNominated,
    /// The NATs of both sides do not let any pair work, and there is no relay: found out by comparing the two
    /// ([`crate::punch::Plan::Hopeless`]), not by the agent.
    #[error("both NATs allocate random ports per destination: no direct path exists")]
    RandomPorts,
    /// The same, where one of them allocates its ports in sequence.
    #[error(
        "one NAT allocates random ports per destination, the other the next one for each: \
         no direct path exists"
    )]
    MovingPorts,
}

/// The end of an attempt, with its evidence. `Display` gives one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureReport {
    /// What went wrong.
    pub reason: FailureReason,
    /// Every pair that was tried.
    pub pairs: Vec<PairReport>,
}

impl FailureReport {
    /// How many pairs of this transport ended so.
    pub fn count(&self, tcp: bool, error: PairError) -> usize {
        let matches = |pair: &&PairReport| {
            matches!(pair.transport, Transport::Tcp(_)) == tcp && pair.state == PairState::Failed(error)
        };
        self.pairs.iter().filter(matches).count()
    }
}

impl std::error::Error for FailureReport {}

impl fmt::Display for FailureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        let mut groups = std::collections::BTreeMap::<(bool, PairError), usize>::new();
        for pair in &self.pairs {
            if let PairState::Failed(error) = pair.state {
                *groups.entry((!matches!(pair.transport, Transport::Tcp(_)), error)).or_default() += 1;
            }
        }
        for (n, ((udp, error), count)) in groups.into_iter().enumerate() {
            let separator = if n == 0 { ": " } else { ", " };
            write!(f, "{separator}{count} {} {error}", if udp { "UDP" } else { "TCP" })?;
        }
        Ok(())
    }
}
