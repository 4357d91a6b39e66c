//! Punching through NATs that give each destination another port ([`towline_ice::punch`]), beside the ordinary checks of a connection:
//! when it begins, what it is allowed, and what became of it.
//!
//! Both sides tell each other what NAT they are behind, as soon as they know. If ports are in the way, both punch for some
//! seconds, each in its part. That never holds up a path that works: data takes a relay meanwhile.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use towline_ice::punch::{Budget, Party, Plan, Probe, Punch, PunchConfig, PunchRefused};
use towline_ice::{FailureReason, RemotePolicy, Role};

/// What ordinary checks may take before sockets are opened: most networks need no more.
const CHECKS_FIRST: Duration = Duration::from_millis(250);
/// How long sockets stay open after the last probe: those of the peer, and the answers, are on their way.
const LINGER: Duration = Duration::from_secs(2);
/// How long whatever is no matter of NATs may take to turn up, where datagrams have no way: hosts of one network, IPv6, TCP. The
/// last of these takes longest: a first SYN finds the NAT there closed, is repeated after 1 s and after 3 s (RFC 6298 section
/// 2.1), one of the two may be lost, and the answer takes a round trip. Reports tell the cause at once.
const OTHERWISE: Duration = Duration::from_secs(4);

/// What all attempts of a node share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Punches(Arc<Mutex<Budget>>);

impl Punches {
    fn lock(&self) -> MutexGuard<'_, Budget> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one side knows of its own NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) party: Party,
    /// The socket that was seen at [`Party::outside`].
    pub(crate) base: SocketAddr,
}

/// How punching stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PunchReport {
    /// The NAT of this side; nothing as long as it is not known.
    pub ours: Option<Party>,
    /// The NAT of the peer, as it says.
    pub theirs: Option<Party>,
    /// What is to be done about the two, once both are known.
    pub plan: Option<Plan>,
    /// Probes sent by this side.
    pub probes: u32,
    /// Sockets opened for it, the one of the session not counted.
    pub sockets: usize,
    /// Fewer sockets were to be had than wanted.
    pub shortage: Option<Shortage>,
    /// What became of it.
    pub result: PunchResult,
}

impl PunchReport {
    /// Which NATs, of this side and of the peer, take a random port for each destination.
    pub(crate) fn random(&self) -> (bool, bool) {
        let random = |party: Option<Party>| party.is_some_and(|it| it.mapping.is_random());
        (random(self.ours), random(self.theirs))
    }
}

impl fmt::Display for PunchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |party: Option<Party>| party.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        write!(f, "NAT here {}, NAT there {}: {}", known(self.ours), known(self.theirs), self.result)?;
        if let Some(plan) = self.plan {
            write!(f, " ({plan})")?;
        }
        if self.probes > 0 {
            write!(f, ", {} probes from {} sockets", self.probes, self.sockets.max(1))?;
        }
        self.shortage.map_or(Ok(()), |shortage| write!(f, ", {shortage}"))
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PunchResult {
    /// One of the sides did not tell what NAT it is behind, or not yet.
    Unknown,
    /// The ports are known or can be foretold.
    NotNeeded,
    /// One side is seen at an IPv4 address and the other at one of IPv6: no packet leads from the one to the other.
    Apart,
    /// No direct path can be found over UDP: known at once.
    Hopeless,
    /// It goes on, or is about to begin.
    UnderWay,
    /// There is a direct path.
    Met,
    /// Everything was tried.
    InVain,
    /// It was not begun.
    Refused(PunchRefused),
}

impl fmt::Display for PunchResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "nothing is known of one of them",
            Self::NotNeeded => "no punching is needed",
            Self::Apart => "nothing leads from IPv4 to IPv6",
            Self::Hopeless => "punching is hopeless",
            Self::UnderWay => "punching",
            Self::Met => "met",
            Self::InVain => "punched in vain",
            Self::Refused(error) => return write!(f, "punching was not begun, {error}"),
        })
    }
}

/// Not all sockets could be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortage {
    /// So many could,
    pub opened: usize,
    /// of so many.
    pub wanted: usize,
    /// What the system said.
    pub kind: io::ErrorKind,
    /// The number by which the system names the error.
    pub code: Option<i32>,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, wanted, kind, code } = self;
        let error = code.map_or_else(|| io::Error::from(*kind), io::Error::from_raw_os_error);
        write!(f, "{opened} of {wanted} sockets could be opened for punching: {error}")
    }
}

/// Where an attempt stands.
#[derive(Debug)]
enum Stage {
    /// For both sides to be known.
    Waiting,
    /// Ordinary checks have their chance until then.
    Checks {
        until: Instant,
    },
    Punching(Box<Attempt>),
    /// There is nothing to be done, which is known since then.
    Hopeless {
        since: Instant,
    },
    Over(PunchResult),
}

/// Probes go out, and sockets are open. Its share of the budget is given back with it.
#[derive(Debug)]
struct Attempt {
    punch: Punch,
    ends: Instant,
    punches: Punches,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.punch.finish(&mut self.punches.lock());
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Punching {
    punches: Punches,
    config: PunchConfig,
    ours: Option<Seen>,
    theirs: Option<Party>,
    /// The peer may still tell.
    awaits_theirs: bool,
    /// We may still learn.
    awaits_ours: bool,
    stage: Stage,
    probes: u32,
    sockets: usize,
    shortage: Option<Shortage>,
}

impl Punching {
    /// `theirs` is what the peer has said of itself so far, and `more` whether it may say something yet.
    pub(crate) fn new(punches: Punches, policy: RemotePolicy, theirs: Option<Party>, more: bool) -> Self {
        Self {
            punches,
            config: PunchConfig { policy, ..PunchConfig::default() },
            ours: None,
            theirs,
            awaits_theirs: more,
            awaits_ours: true,
            stage: Stage::Waiting,
            probes: 0,
            sockets: 0,
            shortage: None,
        }
    }

    /// What we are behind, as far as it is known; `last` when we shall not learn more.
    pub(crate) fn learn(&mut self, now: Instant, ours: Option<Seen>, last: bool) {
        self.ours = ours.or(self.ours);
        self.awaits_ours &= !last;
        self.consider(now);
    }

    /// What the peer says; `last` when it will not say more.
    pub(crate) fn hear(&mut self, now: Instant, theirs: Option<Party>, last: bool) {
        self.theirs = theirs.or(self.theirs);
        self.awaits_theirs &= !last;
        self.consider(now);
    }

    fn plan(&self) -> Option<Plan> {
        Some(Plan::choose(self.ours?.party.mapping, self.theirs?.mapping))
    }

    /// Begins as soon as both sides are known.
    fn consider(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Waiting) {
            return;
        }
        self.stage = match self.plan() {
            Some(Plan::Checks) => Stage::Over(PunchResult::NotNeeded),
            Some(Plan::Hopeless) => {
                tracing::debug!(ours = ?self.ours, theirs = ?self.theirs, "no direct path over UDP can be found");
                Stage::Hopeless { since: now }
            }
            Some(_) => Stage::Checks { until: now + CHECKS_FIRST },
            None => return,
        };
    }

    /// Nothing that is not known yet will change what can be reached by ordinary checks.
    pub(crate) fn is_settled(&self) -> bool {
        match self.stage {
            Stage::Waiting => {
                (self.ours.is_none() && !self.awaits_ours) || (self.theirs.is_none() && !self.awaits_theirs)
            }
            Stage::Checks { .. } | Stage::Punching(_) => false,
            Stage::Hopeless { .. } | Stage::Over(_) => true,
        }
    }

    /// Why there is no direct path, and from when on an attempt without any other should not go on.
    pub(crate) fn hopeless(&self) -> Option<(Instant, FailureReason)> {
        let Stage::Hopeless { since } = self.stage else { return None };
        let random = self.report().random() == (true, true);
        let reason = if random { FailureReason::RandomPorts } else { FailureReason::MovingPorts };
        Some((since + OTHERWISE, reason))
    }

    /// Direct paths to these addresses work: no more is needed.
    pub(crate) fn succeed(&mut self, mut remotes: impl Iterator<Item = SocketAddr>) {
        let ip = self.theirs.map(|theirs| theirs.outside.ip().to_canonical());
        match &self.stage {
            Stage::Punching(attempt) => {
                // Who is met elsewhere may have named anybody.
                if remotes.any(|remote| Some(remote.ip().to_canonical()) == ip) {
                    attempt.punch.succeed(&mut attempt.punches.lock());
                }
            }
            Stage::Checks { .. } => {}
            _ => return,
        }
        self.end(PunchResult::Met);
    }

    /// Begins and ends what is due.
    pub(crate) fn advance(&mut self, now: Instant, role: Role, seed: impl FnOnce() -> [u8; 32]) {
        match &self.stage {
            Stage::Checks { until } if *until <= now => self.begin(now, role, seed()),
            Stage::Punching(attempt) if attempt.ends <= now => self.end(PunchResult::InVain),
            _ => {}
        }
    }

    fn end(&mut self, result: PunchResult) {
        self.stage = Stage::Over(result);
        tracing::debug!(report = ?self.report(), "punching is over");
    }

    fn begin(&mut self, now: Instant, role: Role, seed: [u8; 32]) {
        let (Some(ours), Some(theirs)) = (self.ours, self.theirs) else { return };
        let is_v4 = |outside: SocketAddr| outside.ip().to_canonical().is_ipv4();
        if is_v4(ours.party.outside) != is_v4(theirs.outside) {
            return self.end(PunchResult::Apart);
        }
        let ends = now + self.config.duration + LINGER;
        let config = self.config.clone();
        let mut budget = self.punches.lock();
        let made = Punch::new(config, role, ours.party.mapping, theirs, &mut budget, now, seed);
        drop(budget);
        self.stage = match made {
            Ok(punch) => {
                tracing::debug!(plan = %punch.plan(), sockets = punch.sockets(), %theirs, "punching");
                let punches = self.punches.clone();
                Stage::Punching(Box::new(Attempt { punch, ends, punches }))
            }
            Err(PunchRefused::NotNeeded) => Stage::Over(PunchResult::NotNeeded),
            Err(PunchRefused::Hopeless) => Stage::Hopeless { since: now },
            Err(error) => {
                tracing::debug!(%error, "punching was not begun");
                Stage::Over(PunchResult::Refused(error))
            }
        };
    }

    /// Sockets may be open.
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Punching(_))
    }

    /// The socket of the session that the peer knows.
    pub(crate) fn base(&self) -> Option<SocketAddr> {
        self.ours.map(|seen| seen.base)
    }

    /// How many sockets are wanted beside that one.
    pub(crate) fn wants(&self) -> usize {
        match &self.stage {
            Stage::Punching(attempt) => attempt.punch.sockets(),
            _ => 0,
        }
    }

    /// The next packet to send.
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let Stage::Punching(attempt) = &mut self.stage else { return None };
        let Attempt { punch, punches, .. } = &mut **attempt;
        let probe = punch.poll_probe(now, &mut punches.lock())?;
        self.probes += 1;
        Some(probe)
    }

    /// So many sockets are open.
    pub(crate) fn opened(&mut self, sockets: usize) {
        self.sockets = sockets;
    }

    /// No more than so many can be open.
    pub(crate) fn run_short(&mut self, opened: usize, error: &io::Error) {
        let wanted = self.wants();
        self.sockets = opened;
        let shortage = Shortage { opened, wanted, kind: error.kind(), code: error.raw_os_error() };
        tracing::debug!(%shortage, "punching");
        self.shortage = Some(shortage);
    }

    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        match &self.stage {
            Stage::Checks { until } => Some(*until),
            Stage::Punching(attempt) => {
                let next = attempt.punch.poll_timeout(now, &attempt.punches.lock());
                Some(next.map_or(attempt.ends, |at| at.min(attempt.ends)))
            }
            Stage::Hopeless { since } => Some(*since + OTHERWISE).filter(|at| *at > now),
            Stage::Waiting | Stage::Over(_) => None,
        }
    }

    /// How it stands.
    pub(crate) fn report(&self) -> PunchReport {
        PunchReport {
            ours: self.ours.map(|seen| seen.party),
            theirs: self.theirs,
            plan: self.plan(),
            probes: self.probes,
            sockets: self.sockets,
            shortage: self.shortage,
            result: match self.stage {
                Stage::Waiting => PunchResult::Unknown,
                Stage::Checks { .. } | Stage::Punching(_) => PunchResult::UnderWay,
                Stage::Hopeless { .. } => PunchResult::Hopeless,
                Stage::Over(result) => result,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ours: &str, theirs: &str, now: Instant) -> Punching {
        let mut punching = Punching::new(Punches::default(), RemotePolicy::default(), None, true);
        let party = ours.parse().unwrap();
        punching.learn(now, Some(Seen { party, base: "10.0.0.1:5000".parse().unwrap() }), true);
        assert_eq!((punching.report().result, punching.is_settled()), (PunchResult::Unknown, false));
        punching.hear(now, theirs.parse().ok(), true);
        punching
    }

    #[test]
    fn what_is_hopeless_is_known_at_once_and_costs_nothing() {
        let now = towline_net::now();
        let random = "by-port-random 198.51.100.1:7000";
        for (theirs, reason) in [
            ("by-port-random 198.51.100.2:7000", FailureReason::RandomPorts),
            ("by-port-sequential:1 198.51.100.2:7000", FailureReason::MovingPorts),
        ] {
            let mut punching = told(random, theirs, now);
            punching.advance(now, Role::Controlled, || [0; 32]);
            let report = punching.report();
            assert_eq!((report.result, report.plan), (PunchResult::Hopeless, Some(Plan::Hopeless)));
            assert_eq!((report.probes, punching.wants(), punching.is_settled()), (0, 0, true));
            assert_eq!(punching.hopeless(), Some((now + OTHERWISE, reason)));
        }
    }

    #[test]
    fn nothing_is_sent_from_one_family_to_the_other() {
        let now = towline_net::now();
        let (six, four) = ("open [2001:db8::1]:7000", "by-port-random 198.51.100.2:7000");
        for (ours, theirs) in [(six, four), (four, six)] {
            let mut punching = told(ours, theirs, now);
            punching.advance(now + CHECKS_FIRST, Role::Controlling, || [0; 32]);
            let report = punching.report();
            assert_eq!((report.result, report.probes, punching.wants()), (PunchResult::Apart, 0, 0));
            assert!(punching.is_settled() && punching.poll_probe(now + CHECKS_FIRST).is_none());
        }
    }

    #[test]
    fn what_an_attempt_has_of_the_budget_goes_back_with_it() {
        let now = towline_net::now();
        let mut punching = told("by-port-random 198.51.100.1:7000", "independent 198.51.100.2:7000", now);
        let punches = punching.punches.clone();
        let begun = now + CHECKS_FIRST;
        punching.advance(begun, Role::Controlled, || [0; 32]);
        assert_eq!((punching.wants(), punches.lock().sockets()), (256, 256));
        assert!(punching.poll_probe(begun).is_some());
        punching.advance(begun + punching.config.duration + LINGER, Role::Controlled, || [0; 32]);
        assert_eq!((punching.report().result, punches.lock().attempts()), (PunchResult::InVain, 0));
    }
}
