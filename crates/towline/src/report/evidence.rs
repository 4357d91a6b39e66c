//! What the diagnosis goes by: the facts of a report that tell causes apart, counted.

use std::net::IpAddr;
use std::time::Duration;

use towline_ice::gather::{NatReport, ServerError, Via};
use towline_ice::nat::Mapping;
use towline_ice::{CandidateKind, PairError, PairState, Transport};

use super::dates::{Dates, Span};
use super::servers::{Asked, Said};
use super::{CandidateReport, PairReport, Report, Surroundings};
use crate::error::{ConnectError, Step};
use crate::info::LinkInfo;
use crate::path::Use;
use crate::reach::PunchReport;
use crate::signal::Plight;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    /// The step that the attempt is in, or failed in, and for how long.
    pub(super) step: Option<(Step, Duration)>,
    pub(super) error: Option<ConnectError>,
    /// Since the attempt began.
    pub(super) elapsed: Duration,
    /// The connection stands. Of candidates and pairs those of relays are not counted then: they are not what is missed.
    pub(super) stands: bool,
    /// For so long paths have been looked for.
    pub(super) looked: Duration,
    pub(super) here: Families,
    pub(super) there: Families,
    pub(super) udp: Pairs,
    pub(super) tcp: Pairs,
    /// The NATs of both sides, and what came of punching.
    pub(super) punch: Option<PunchReport>,
    /// The paths of a connection that stands, and those of them that work.
    pub(super) links: (usize, usize),
    /// Some work, and all of these go by relays.
    pub(super) relayed: bool,
    /// The relay of ours that all of them go by, as `host:port`.
    pub(super) relay: Option<String>,
    /// All of them go to an address of the peer on a relay.
    pub(super) relay_there: bool,
    /// Both are seen at one outside address.
    pub(super) one_outside: bool,
    /// What servers say of us.
    pub(super) stun: Stun,
    pub(super) dates: Dates,
    /// What the peer says that it meets with.
    pub(super) told: Option<Plight>,
    pub(super) around: Surroundings,
}

/// What is known of the peer beside its candidates.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peer {
    /// When its certificates count.
    pub(super) span: Option<Span>,
    /// How far its clock is ahead of ours, in seconds.
    pub(super) ahead: Option<i64>,
    /// What it says that it meets with.
    pub(super) plight: Option<Plight>,
}

/// Candidates of one side, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v4: usize,
    pub(super) v6: usize,
    /// Of both, those on relays,
    pub(super) relayed: usize,
    /// those of the internet,
    pub(super) public: usize,
    /// and of these those of interfaces.
    pub(super) open: usize,
}

/// Pairs of one protocol, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    pub(super) all: usize,
    pub(super) valid: usize,
    /// Without an answer, so far or for good.
    pub(super) silent: usize,
    /// Refused by a host of the internet: in private networks it may be anybody.
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
    /// Servers are asked in this attempt.
    pub(super) asks: bool,
    /// Answers to it, over UDP.
    pub(super) answered: usize,
    /// Servers that do not answer at all; none, if any of them does.
    pub(super) silent: usize,
    /// There are servers, STUN or relays, which tell addresses, too.
    pub(super) configured: bool,
    /// Answers that cannot be true.
    pub(super) lies: usize,
    pub(super) mapping: Mapping,
}

impl Evidence {
    pub(super) fn of(report: &Report, around: Surroundings, peer: Peer, asks: bool) -> Self {
        let dates = Dates { now: around.clock, ahead: peer.ahead, ours: around.span, theirs: peer.span };
        let stands = report.state == crate::ConnectionState::Established;
        let counts = |kind: CandidateKind| !stands || kind != CandidateKind::Relayed;
        let pairs = |tcp: bool| {
            let of = |pair: &&PairReport| matches!(pair.transport, Transport::Tcp(_)) == tcp;
            let direct = |pair: &&PairReport| counts(pair.kind) && counts(pair.remote_kind);
            Pairs::of(report.pairs.iter().filter(of).filter(direct))
        };
        let families = |candidates: &[CandidateReport]| {
            Families::of(candidates.iter().filter(|candidate| counts(candidate.kind)))
        };
        let path = report.steps.iter().find(|step| step.step == Step::Path);
        Self {
            step: report.steps.last().map(|last| (last.step, last.took)),
            error: report.error.clone(),
            elapsed: report.elapsed,
            stands,
            looked: path.map(|path| report.elapsed.saturating_sub(path.at)).unwrap_or_default(),
            here: families(&report.here),
            there: families(&report.there),
            punch: report.punch,
            links: (
                report.links.len(),
                report.links.iter().filter(|link| link.purpose != Use::Nothing).count(),
            ),
            relayed: report.is_relayed(),
            relay: common_relay(report, &around.asked),
            relay_there: report.links.iter().all(|link| is_relay_of_peer(report, link)),
            one_outside: share_outside(&report.here, &report.there),
            udp: pairs(false),
            tcp: pairs(true),
            stun: Stun { asks, ..Stun::of(&report.nat, &around.asked) },
            dates,
            told: peer.plight,
            around,
        }
    }
}

impl Families {
    fn of<'a>(candidates: impl Iterator<Item = &'a CandidateReport>) -> Self {
        let mut counted = Self::default();
        for candidate in candidates {
            let (ip, kind) = (candidate.address.ip().to_canonical(), candidate.kind);
            counted.v4 += usize::from(ip.is_ipv4());
            counted.v6 += usize::from(ip.is_ipv6());
            counted.relayed += usize::from(kind == CandidateKind::Relayed);
            counted.public += usize::from(is_public(ip));
            counted.open += usize::from(is_public(ip) && kind == CandidateKind::Host);
        }
        counted
    }

    /// There are candidates, and none of them is of the family of this address.
    pub(super) fn lacks(self, ip: IpAddr) -> bool {
        let of_it = if ip.to_canonical().is_ipv4() { self.v4 } else { self.v6 };
        of_it == 0 && self.v4 + self.v6 > 0
    }

    /// There are candidates, and none of them is of a family that the other has.
    pub(super) fn foreign_to(self, other: Self) -> bool {
        let none = |side: Self| side.v4 + side.v6 == 0;
        !none(self) && !none(other) && (self.v4 == 0 || other.v4 == 0) && (self.v6 == 0 || other.v6 == 0)
    }
}

/// The relay on whose address of ours all paths begin.
fn common_relay(report: &Report, asked: &[Asked]) -> Option<String> {
    let first = report.links.first()?.path.local;
    let same = report.links.iter().all(|link| link.path.local == first);
    let relay = asked.iter().find(|server| server.relayed.contains(&first))?;
    same.then(|| relay.host().to_owned())
}

/// Whether a path goes to an address of the peer on a relay.
fn is_relay_of_peer(report: &Report, link: &LinkInfo) -> bool {
    let of_relay = |candidate: &CandidateReport| candidate.kind == CandidateKind::Relayed;
    let mut relays = report.there.iter().filter(|candidate| of_relay(candidate));
    relays.any(|candidate| candidate.address == link.path.remote)
}

/// Whether both sides have a candidate that others see at one address.
fn share_outside(here: &[CandidateReport], there: &[CandidateReport]) -> bool {
    let outside = |candidates: &[CandidateReport]| -> Vec<IpAddr> {
        let seen = candidates.iter().filter(|candidate| candidate.kind == CandidateKind::ServerReflexive);
        seen.map(|candidate| candidate.address.ip()).collect()
    };
    let theirs = outside(there);
    outside(here).iter().any(|ip| theirs.contains(ip))
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
                PairState::Failed(PairError::Refused) if is_public(pair.remote.ip()) => counted.refused += 1,
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
    fn of(nat: &NatReport, asked: &[Asked]) -> Self {
        let lies = |error: &ServerError| {
            matches!(error, ServerError::ImpossibleAddress(_) | ServerError::Contradicted(_))
        };
        let servers = || asked.iter().filter(|server| !server.relay);
        let silent = servers().filter(|server| server.said == Said::Silent).count();
        let idle = servers().filter(|server| server.said == Said::Nothing).count();
        Self {
            answered: nat.observations.iter().filter(|(via, _)| *via == Via::Udp).count(),
            silent: if silent + idle == servers().count() { silent } else { 0 },
            configured: !asked.is_empty(),
            asks: false,
            lies: nat.failures.iter().filter(|(_, _, error)| lies(error)).count(),
            mapping: if nat.udp_v4 == Mapping::Unknown { nat.udp_v6 } else { nat.udp_v4 },
        }
    }
}
