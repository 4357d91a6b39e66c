//! One attempt: what is sent from which socket to which address, and when.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{AttemptId, Budget, Party, Plan, success_probability};
use crate::Role;
use crate::nat::{Dependence, Mapping};
use crate::policy::{CandidateRefused, RemotePolicy};

/// The most guesses of one attempt, whatever its limits: half of the ports, so that an untried one is soon found.
const MAX_GUESSES: u32 = 32_256;

/// The limits on one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PunchConfig {
    /// The most probes of both sides together. Default 2,500; of [`Plan::Guess`] those that the other side's sockets need
    /// are subtracted.
    pub max_probes: u32,
    /// The most sockets. Default 256.
    pub max_sockets: usize,
    /// The most time. Default 10 s.
    pub duration: Duration,
    /// Guesses begin so much later than the other side's sockets are expected to: no port is tried twice.
    /// Default 500 ms.
    pub head_start: Duration,
    /// Ports after the one seen last that a sequence is followed. Default 64; the controlled side of [`Plan::Meet`]
    /// follows it twice as far.
    pub window: u16,
    /// Predicted ports of the peer that each socket of [`Plan::Spread`] sends to. Default 8.
    pub predicted: u16,
    /// With [`Plan::Meet`]: the time between two rounds. Default 1 s.
    pub round: Duration,
    /// Which addresses may be punched to. Default as for candidates.
    pub policy: RemotePolicy,
}

impl Default for PunchConfig {
    fn default() -> Self {
        Self {
            max_probes: 2_500,
            max_sockets: 256,
            duration: Duration::from_secs(10),
            head_start: Duration::from_millis(500),
            window: 64,
            predicted: 8,
            round: Duration::from_secs(1),
            policy: RemotePolicy::default(),
        }
    }
}

/// Why there is nothing to punch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PunchRefused {
    /// Ordinary checks do.
    #[error("ordinary checks are enough")]
    NotNeeded,
    /// It cannot succeed.
    #[error("both NATs give another port to each destination, one that cannot be guessed")]
    Hopeless,
    /// As many attempts as the budget allows are under way.
    #[error("too many attempts are under way")]
    TooMany,
    /// That address has got what an address may get, and nobody was met there.
    #[error("the peer's address has got all probes that it may get for now")]
    Spent,
    /// The peer's address may not be talked to.
    #[error("{0}")]
    Policy(#[from] CandidateRefused),
}

/// A packet to send now: [`crate::Agent::probe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// From which of the sockets, from 0; with [`Punch::sockets`] = 0 from the session's own.
    pub socket: usize,
    /// Where to.
    pub remote: SocketAddr,
}

/// The plan of one attempt with one peer.
///
/// Open [`Punch::sockets`] UDP sockets, send what [`Punch::poll_probe`] says, call it again at [`Punch::poll_timeout`], and
/// give what arrives on the sockets to [`crate::Agent::adopt`]. Once the agent has a valid pair, or the plan is over,
/// [`Punch::finish`] it and close the sockets but for those that were adopted.
#[derive(Debug)]
pub struct Punch {
    plan: Plan,
    config: PunchConfig,
    id: AttemptId,
    sockets: usize,
    starts: Instant,
    ends: Instant,
    /// What is sent in one round, where it is known beforehand.
    round: Vec<Probe>,
    at: usize,
    peer: SocketAddr,
    guessed: BTreeSet<u16>,
    sent: u32,
    limit: u32,
    rng: StdRng,
}

impl Punch {
    /// A plan for these two mappings; `peer` is what the peer says of itself. Both sides must make one.
    pub fn new(
        config: PunchConfig,
        role: Role,
        ours: Mapping,
        peer: Party,
        budget: &mut Budget,
        now: Instant,
        seed: [u8; 32],
    ) -> Result<Self, PunchRefused> {
        config.policy.permits(peer.outside)?;
        let plan = Plan::choose(ours, peer.mapping);
        let wanted = match plan {
            Plan::Checks => return Err(PunchRefused::NotNeeded),
            Plan::Hopeless => return Err(PunchRefused::Hopeless),
            // The session's own socket, the one the peer knows.
            Plan::Guess => 0,
            Plan::Meet => 1,
            Plan::Spread => config.max_sockets,
        };
        let target = peer.outside.ip();
        let (id, sockets) = budget.join(now, target, wanted)?;
        if sockets < wanted.min(1) {
            budget.leave(id);
            return Err(PunchRefused::TooMany);
        }
        let others = u32::try_from(config.max_sockets).unwrap_or(u32::MAX);
        let limit = match plan {
            Plan::Guess => config.max_probes.saturating_sub(others).min(MAX_GUESSES),
            _ => config.max_probes,
        };
        let head_start = if plan == Plan::Guess { config.head_start } else { Duration::ZERO };
        Ok(Self {
            plan,
            id,
            sockets,
            starts: now + head_start,
            ends: now + config.duration,
            round: round(plan, &config, role, peer, sockets),
            at: 0,
            peer: peer.outside,
            guessed: BTreeSet::new(),
            sent: 0,
            limit,
            rng: StdRng::from_seed(seed),
            config,
        })
    }

    /// What it does.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// How many sockets to open beside those of the session.
    pub fn sockets(&self) -> usize {
        self.sockets
    }

    /// Probes sent so far.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// The chance to succeed if all probes of both sides arrive and the other side has the same limits.
    pub fn probability(&self) -> f64 {
        let count = |sockets: usize| u32::try_from(sockets).unwrap_or(u32::MAX);
        let most = count(self.config.max_sockets);
        match self.plan {
            Plan::Guess => success_probability(most, self.limit),
            Plan::Spread => success_probability(count(self.sockets), self.limit.saturating_sub(most)),
            Plan::Checks | Plan::Meet | Plan::Hopeless => 1.0,
        }
    }

    /// Nothing will be sent any more.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.ends || self.sent >= self.limit || self.is_spent()
    }

    fn is_spent(&self) -> bool {
        self.plan == Plan::Spread && self.at >= self.round.len()
    }

    /// The next packet to send, until `None`.
    pub fn poll_probe(&mut self, now: Instant, budget: &mut Budget) -> Option<Probe> {
        if self.is_over(now) {
            budget.rest(self.id);
            return None;
        }
        if now < self.starts || !budget.take(now, self.id) {
            return None;
        }
        self.sent += 1;
        if self.plan == Plan::Guess {
            return Some(Probe { socket: 0, remote: self.guess() });
        }
        let probe = *self.round.get(self.at)?;
        self.at += 1;
        if self.plan == Plan::Meet && self.at >= self.round.len() {
            // Once more later: the packets of both sides must cross.
            self.at = 0;
            self.starts = now + self.config.round;
        }
        Some(probe)
    }

    /// A port not tried yet.
    fn guess(&mut self) -> SocketAddr {
        loop {
            // MAX_GUESSES leaves half of the ports untried.
            let port = self.rng.random_range(1024..=u16::MAX);
            if self.guessed.insert(port) {
                return SocketAddr::new(self.peer.ip(), port);
            }
        }
    }

    /// When to call [`Punch::poll_probe`] again; `None` once it is over.
    pub fn poll_timeout(&self, now: Instant, budget: &Budget) -> Option<Instant> {
        if self.is_over(now) {
            return None;
        }
        budget.next(self.id).map(|at| at.max(self.starts).min(self.ends))
    }

    /// The peer was met: probes to its address are no burden to anybody else.
    pub fn succeed(&self, budget: &mut Budget) {
        budget.vindicate(self.id);
    }

    /// Gives the share of the budget back. Must be called in every case.
    pub fn finish(&mut self, budget: &mut Budget) {
        budget.leave(self.id);
    }
}

/// What is sent in one round: see the module for the order.
fn round(plan: Plan, config: &PunchConfig, role: Role, peer: Party, sockets: usize) -> Vec<Probe> {
    let mut probes: Vec<Probe> = match plan {
        Plan::Meet => {
            let (stride, count) = match role {
                Role::Controlling => (2, config.window),
                Role::Controlled => (1, config.window.saturating_mul(2)),
            };
            let following = peer.following(stride).take(count.into());
            following.map(|remote| Probe { socket: 0, remote }).collect()
        }
        Plan::Spread => {
            // Where each port that is tried has another one, one opens our NAT for all, or nothing does.
            let moves = matches!(peer.mapping, Mapping::Dependent { on: Dependence::AddressAndPort, .. });
            let targets = peer.predict(if moves { 1 } else { config.predicted });
            let of = |remote: &SocketAddr| {
                let remote = *remote;
                (0..sockets).map(move |socket| Probe { socket, remote })
            };
            targets.iter().flat_map(of).collect()
        }
        Plan::Checks | Plan::Guess | Plan::Hopeless => Vec::new(),
    };
    probes.truncate(config.max_probes as usize);
    probes
}
