//! What is known of a connection, or of an attempt at one: what was tried, what came of it, and what is wrong.
//!
//! An attempt keeps a [`Journal`]; a [`Report`] is a copy of it at one moment, with what follows from it: the
//! [`causes`](Report::causes), which `diagnosis.rs` finds. They are known long before the attempt itself gives up.

mod cause;
mod dates;
mod diagnosis;
mod evidence;
mod journal;
mod servers;
mod show;
mod surroundings;

use std::net::SocketAddr;
use std::time::Duration;

use towline_ice::gather::NatReport;
use towline_ice::{CandidateKind, PairError, PairState, Transport};
use towline_identity::DeviceId;

use crate::dht::{PerFamily, Reachability};
use crate::error::{ConnectError, Step};
use crate::info::{ConnectionId, ConnectionState, LinkInfo, Origin};
use crate::path::Use;
use crate::reach::PunchReport;

pub use cause::{Cause, Side};
pub(crate) use journal::{Journal, View};
pub(crate) use surroundings::Surroundings;

/// What is known of a connection or an attempt at one, at one moment. `Display` gives a page for people.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The remote device.
    pub device: DeviceId,
    /// The connection or attempt.
    pub connection: ConnectionId,
    /// Which side asked for it.
    pub origin: Origin,
    /// How far it came.
    pub state: ConnectionState,
    /// Since it began; to its end, if the attempt has failed.
    pub elapsed: Duration,
    /// Why the attempt failed, if it has.
    pub error: Option<ConnectError>,
    /// What is wrong, the deciding cause first. While an attempt goes on these are what it looks like so far; of a connection that
    /// stands they are what is wrong beside it: first, if only relays carry it, why no direct path does.
    pub causes: Vec<Cause>,
    /// The steps, in order.
    pub steps: Vec<StepReport>,
    /// Our candidates.
    pub here: Vec<CandidateReport>,
    /// The peer's candidates.
    pub there: Vec<CandidateReport>,
    /// Pairs of candidates, best first; no more than the agent's limits allow.
    pub pairs: Vec<PairReport>,
    /// The NAT before us, as STUN servers see it.
    pub nat: NatReport,
    /// The NATs of both sides, as each says, and what was done to punch through them; nothing towards Jami.
    pub punch: Option<PunchReport>,
    /// The servers that are configured, and what they answered.
    pub servers: Vec<ServerReport>,
    /// Whether the nodes of the DHT reach ours. If not, ours only asks, unless it is set up otherwise.
    pub reachability: PerFamily<Reachability>,
    /// The links of a connection that stands: what each path is used for, and why.
    pub links: Vec<LinkInfo>,
}

/// One step of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepReport {
    /// Which.
    pub step: Step,
    /// When it began, since the attempt did.
    pub at: Duration,
    /// How long it took; so far, if it goes on.
    pub took: Duration,
}

/// A candidate, and how it was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateReport {
    /// Its kind.
    pub kind: CandidateKind,
    /// Its transport.
    pub transport: Transport,
    /// Its address.
    pub address: SocketAddr,
    /// When it was learned, since the attempt began.
    pub at: Duration,
    /// The STUN servers that told it.
    pub told_by: Vec<SocketAddr>,
}

/// A STUN server or a relay, and what came of asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReport {
    /// As it is configured, without its secret.
    pub server: String,
    /// Whether it did what it is for, when it was last asked; `None` as long as there is no answer, or nobody asked.
    /// So it is with a relay that answers checks, and was not needed lately.
    pub works: Option<bool>,
    /// How long ago `text` became known: by use, or with a relay that nobody uses, when it was checked last. `None` as long as nothing is
    /// known.
    pub age: Option<Duration>,
    /// What it said, or why not, for people.
    pub text: String,
}

/// A pair of candidates, and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairReport {
    /// The kind of our candidate.
    pub kind: CandidateKind,
    /// The kind of the peer's.
    pub remote_kind: CandidateKind,
    /// The transport.
    pub transport: Transport,
    /// Our base address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Where it stands.
    pub state: PairState,
    /// Since when, since the attempt began.
    pub since: Duration,
    /// Round trip of the last check answered.
    pub rtt: Option<Duration>,
    /// Checks sent, repetitions included.
    pub sent: u32,
    /// Checks of the peer received.
    pub received: u32,
    /// Whether it was nominated.
    pub nominated: bool,
}

impl Report {
    /// The deciding cause.
    pub fn cause(&self) -> Option<&Cause> {
        self.causes.first()
    }

    /// It stands, and all of its paths that work go by relays.
    fn is_relayed(&self) -> bool {
        let mut works = self.links.iter().filter(|link| link.purpose != Use::Nothing).peekable();
        works.peek().is_some() && works.all(|link| link.kind.is_relayed())
    }

    /// How many pairs of one protocol ended so.
    fn failed(&self, tcp: bool, error: PairError) -> usize {
        let ended = |pair: &&PairReport| {
            matches!(pair.transport, Transport::Tcp(_)) == tcp && pair.state == PairState::Failed(error)
        };
        self.pairs.iter().filter(ended).count()
    }
}
