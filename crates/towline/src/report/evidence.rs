//! What the diagnosis goes by: the facts of a report that tell causes apart, counted.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use towline_ice::gather::{NatReport, ServerError};
use towline_ice::nat::Mapping;
use towline_ice::{CandidateKind, PairError, PairState, Transport};

use super::dates::{Dates, Span};
use super::{CandidateReport, PairReport, Report, Surroundings};
use crate::error::{ConnectError, Step};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    /// The step that the attempt is in, or failed in, and for how long.
    pub(super) step: Option<(Step, Duration)>,
    pub(super) error: Option<ConnectError>,
    /// The connection stands.
    pub(super) stands: bool,
    pub(super) here: Families,
    pub(super) there: Families,
    pub(super) udp: Pairs,
    pub(super) tcp: Pairs,
    /// What servers say of us.
    pub(super) stun: Stun,
    pub(super) dates: Dates,
    pub(super) around: Surroundings,
}

/// Candidates of one side, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v4: usize,
    pub(super) v6: usize,
    /// Of both, those on relays,
    pub(super) relayed: usize,
    /// and those of the internet.
    pub(super) public: usize,
}

/// Pairs of one protocol, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    pub(super) all: usize,
    pub(super) valid: usize,
    /// Without an answer, so far or for good.
    pub(super) silent: usize,
    /// Refused by the host there.
    pub(super) refused: usize,
    /// No route, or forbidden on the way.
    pub(super) unreachable: usize,
    /// Checks sent on those that are direct.
    pub(super) sent: u32,
    /// Checks of the peer that came.
    pub(super) received: u32,
}

/// What STUN servers say, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stun {
    pub(super) answered: usize,
    pub(super) silent: usize,
    /// Answers that cannot be true.
    pub(super) lies: usize,
    pub(super) mapping: Mapping,
}

impl Evidence {
    pub(super) fn of(report: &Report, around: Surroundings, theirs: Option<Span>) -> Self {
        let dates = Dates { now: around.clock, ahead: None, ours: around.span, theirs };
        let pairs = |tcp: bool| {
            let of = |pair: &&PairReport| matches!(pair.transport, Transport::Tcp(_)) == tcp;
            Pairs::of(report.pairs.iter().filter(of))
        };
        Self {
            step: report.steps.last().map(|last| (last.step, last.took)),
            error: report.error.clone(),
            stands: report.state == crate::ConnectionState::Established,
            here: Families::of(&report.here),
            there: Families::of(&report.there),
            udp: pairs(false),
            tcp: pairs(true),
            stun: Stun::of(&report.nat),
            dates,
            around,
        }
    }
}

impl Families {
    fn of(candidates: &[CandidateReport]) -> Self {
        let v4 = |address: SocketAddr| address.ip().to_canonical().is_ipv4();
        Self {
            v4: candidates.iter().filter(|candidate| v4(candidate.address)).count(),
            v6: candidates.iter().filter(|candidate| !v4(candidate.address)).count(),
            public: candidates.iter().filter(|candidate| is_public(candidate.address.ip())).count(),
            relayed: candidates.iter().filter(|candidate| candidate.kind == CandidateKind::Relayed).count(),
        }
    }

    /// There are candidates, and none of them is of a family that the other has.
    pub(super) fn foreign_to(self, other: Self) -> bool {
        let none = |side: Self| side.v4 + side.v6 == 0;
        !none(self) && !none(other) && (self.v4 == 0 || other.v4 == 0) && (self.v6 == 0 || other.v6 == 0)
    }
}

/// Not of a home's, a carrier's or this host's own.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let carrier = a == 100 && b & 0xc0 == 64;
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || carrier)
        }
        IpAddr::V6(v6) => {
            !(v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified())
        }
    }
}

impl Pairs {
    fn of<'a>(pairs: impl Iterator<Item = &'a PairReport>) -> Self {
        let mut counted = Self::default();
        for pair in pairs {
            counted.all += 1;
            counted.sent += pair.sent;
            counted.received += pair.received;
            match pair.state {
                PairState::Valid => counted.valid += 1,
                PairState::Failed(PairError::Refused) => counted.refused += 1,
                PairState::Failed(PairError::Unreachable) => counted.unreachable += 1,
                PairState::Failed(PairError::Silent | PairError::ConnectTimeout)
                | PairState::Checking
                | PairState::Connecting
                | PairState::Retrying => counted.silent += 1,
                PairState::Waiting | PairState::Failed(_) => {}
            }
        }
        counted
    }

    /// Both counts together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            all: self.all + other.all,
            valid: self.valid + other.valid,
            silent: self.silent + other.silent,
            refused: self.refused + other.refused,
            unreachable: self.unreachable + other.unreachable,
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }
}

impl Stun {
    fn of(nat: &NatReport) -> Self {
        let failed =
            |kind: fn(ServerError) -> bool| nat.failures.iter().filter(|(_, _, error)| kind(*error)).count();
        Self {
            answered: nat.observations.len(),
            silent: failed(|error| matches!(error, ServerError::Silent | ServerError::NotConnected)),
            lies: failed(|error| {
                matches!(error, ServerError::ImpossibleAddress(_) | ServerError::Contradicted(_))
            }),
            mapping: if nat.udp_v4 == Mapping::Unknown { nat.udp_v6 } else { nat.udp_v4 },
        }
    }
}
