//! The agent: one side of one session.
//!
//! | file | idea |
//! |---|---|
//! | `io` | what goes in and comes out |
//! | `pair` | one candidate pair |
//! | `checklist` | which pairs exist, and starting them |
//! | `check` | checks of ours: sending, repeating, answers |
//! | `probe` | checks outside any pair, for punching |
//! | `request` | checks of the peer |
//! | `stream`, `datagram` | TCP connections and UDP packets |
//! | `nomination` | choosing the pair, giving up |
//! | `restart` | new credentials in mid-session, local addresses that go |
//! | `upkeep` | keeping pairs alive, trying lost ones again |
//! | `targets` | how much is sent to whom |
//! | `timers` | when something is due |

mod check;
mod checklist;
mod datagram;
mod io;
mod nomination;
mod pair;
mod probe;
mod request;
mod restart;
mod stream;
mod targets;
mod timers;
mod upkeep;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use rand::{Rng, SeedableRng, rngs::StdRng};

pub use io::{
    Action, CloseReason, Disposition, DropReason, Event, LossReason, PairId, Refused, Role, SelectedPath,
    StreamId, ValidPair,
};

use crate::addr::{canonical, scoped};
use crate::blob::Description;
use crate::candidate::{COMPONENT, Candidate, CandidateKind};
use crate::config::{Config, Paths};
use crate::credentials::Credentials;
use crate::pacer::Pacer;
use crate::policy::{CandidateRefused, RemotePolicy};
use crate::report::{PairReport, Report};
use crate::stun::TransactionId;
use check::Check;
use nomination::Phase;
use pair::{Link, Pair, State, pair_priority};
use restart::{Generation, Previous};
use stream::Stream;
pub use targets::SharedTargets;
use targets::{Spent, Targets};

/// Switches of role within one session, after which a peer that keeps contradicting is not followed any more.
const MAX_ROLE_SWITCHES: u32 = 4;

#[derive(Debug)]
struct Remote {
    candidate: Candidate,
    generation: u32,
    // Learnt from a check rather than announced.
    learnt: bool,
}

/// One side of one ICE session with one component, without I/O.
///
/// The driver feeds packets, connection events and time in, and after each call drains [`Agent::poll_action`] and
/// [`Agent::poll_event`], then arms one timer for [`Agent::poll_timeout`]. After [`Event::Selected`] the agent goes on
/// living: it keeps the path alive, answers late checks and sorts data from STUN; with [`Paths::Many`] it goes on
/// looking for further and better paths, and tells of each with [`Event::PairValid`] and [`Event::PairLost`].
///
/// Chance (credentials, transaction ids, jitter) comes from the seed alone; it must be unpredictable to others.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    role: Role,
    role_switches: u32,
    tie_breaker: u64,
    rng: StdRng,
    current: Generation,
    // After a restart, until its outcome.
    previous: Option<Previous>,
    // Set by `end_of_remote_candidates`, or from the start without trickling.
    remote_complete: bool,
    // Cleared by `gathering`, until `end_of_local_candidates`.
    local_complete: bool,
    locals: Vec<Candidate>,
    remotes: Vec<Remote>,
    // Boxed, as the others below: a map has room for eleven from the first, and an agent may live for weeks with two.
    pairs: BTreeMap<PairId, Box<Pair>>,
    next_pair: u32,
    // Counts nominating checks of the peer, so that the latest can be told.
    nominations: u64,
    streams: BTreeMap<StreamId, Box<Stream>>,
    checks: BTreeMap<TransactionId, Box<Check>>,
    pacer: Pacer,
    // When a relayed pair goes before better ones, while one waits.
    relayed_turn: Option<Instant>,
    targets: Targets,
    shared: Option<SharedTargets>,
    phase: Phase,
    // A path has been selected: the roles are in use, and no attempt can fail any more.
    connected: bool,
    next_stream: u32,
    connects: Spent,
    refused_candidates: u32,
    refused_connections: u32,
    dropped: u64,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl Agent {
    /// An agent without candidates.
    pub fn new(config: Config, role: Role, now: Instant, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        Self {
            role,
            role_switches: 0,
            tie_breaker: rng.next_u64(),
            current: Generation { number: 0, local: Credentials::generate(&mut rng), remote: None },
            previous: None,
            rng,
            remote_complete: !config.trickle,
            local_complete: true,
            locals: Vec::new(),
            remotes: Vec::new(),
            pairs: BTreeMap::new(),
            next_pair: 0,
            nominations: 0,
            streams: BTreeMap::new(),
            checks: BTreeMap::new(),
            pacer: Pacer::new(config.pacing, config.burst, now),
            relayed_turn: None,
            targets: Targets::new(config.targets),
            shared: None,
            phase: Phase::Gathering,
            connected: false,
            next_stream: 0,
            connects: Spent::default(),
            refused_candidates: 0,
            refused_connections: 0,
            dropped: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            config,
        }
    }

    /// Has what goes to addresses that have not answered count with what other agents send there, beside
    /// [`Config::targets`].
    pub fn share_targets(&mut self, shared: SharedTargets) {
        self.shared = Some(shared);
    }

    /// Which addresses of the peer may be talked to.
    pub fn policy(&self) -> RemotePolicy {
        self.config.policy
    }

    /// Says how many paths stay in use, once it is known what the peer can do; later than the first selection it has no
    /// effect.
    pub fn set_paths(&mut self, paths: Paths) {
        if !self.connected {
            self.config.paths = paths;
        }
    }

    /// Says whether the peer trickles, before its description is set.
    pub fn set_trickle(&mut self, trickle: bool) {
        if self.current.remote.is_none() {
            self.config.trickle = trickle;
            self.remote_complete = !trickle;
        }
    }

    /// Adds a local candidate, before or after the description of the peer came.
    ///
    /// False, and nothing happens, when it duplicates another, is of another component, or the limit is reached. A peer
    /// that trickles must be told of those that come after [`Agent::local_description`] was sent ([`crate::Trickle`]).
    pub fn add_local(&mut self, now: Instant, candidate: Candidate) -> bool {
        if candidate.component != COMPONENT
            || self.locals.len() >= self.config.max_local_candidates
            || self.locals.iter().any(|known| known.duplicates(&candidate))
        {
            return false;
        }
        self.locals.push(candidate);
        self.form_pairs();
        self.advance(now);
        true
    }

    /// More local candidates will come (RFC 8838): the agent does not fail before [`Agent::end_of_local_candidates`].
    pub fn gathering(&mut self) {
        self.local_complete = false;
    }

    /// No more local candidates will come; a peer that trickles must be told so ([`crate::Trickle`]).
    pub fn end_of_local_candidates(&mut self, now: Instant) {
        self.local_complete = true;
        self.advance(now);
    }

    /// What the peer must be told: our credentials and the candidates so far.
    pub fn local_description(&self) -> Description {
        let announced = self.locals.iter().filter(|c| c.kind != CandidateKind::PeerReflexive);
        Description { credentials: self.current.local.clone(), candidates: announced.cloned().collect() }
    }

    /// Takes the description of the peer and begins the checks.
    ///
    /// Returns the candidates that were refused, in order. The credentials of a second call are ignored, unless the session
    /// was restarted in between ([`Agent::restart`]). If nothing can come of it the agent fails at once.
    pub fn set_remote(&mut self, now: Instant, remote: Description) -> Vec<(Candidate, CandidateRefused)> {
        if self.current.remote.is_none() {
            self.current.remote = Some(remote.credentials);
            self.begin();
        }
        self.admit_all(now, remote.candidates)
    }

    /// Takes candidates of the peer, and pairs them once all are known; returns those that were refused, in order.
    pub(crate) fn admit_all(
        &mut self,
        now: Instant,
        candidates: Vec<Candidate>,
    ) -> Vec<(Candidate, CandidateRefused)> {
        let mut refused = Vec::new();
        for candidate in candidates {
            if let Err(reason) = self.admit(candidate.clone())
                && refused.len() < 2 * self.config.policy.max_candidates
            {
                refused.push((candidate, reason));
            }
        }
        self.form_pairs();
        self.advance(now);
        refused
    }

    /// Takes one more candidate of the peer (trickle).
    pub fn add_remote_candidate(
        &mut self,
        now: Instant,
        candidate: Candidate,
    ) -> Result<(), CandidateRefused> {
        self.admit(candidate)?;
        self.form_pairs();
        self.advance(now);
        Ok(())
    }

    /// No more candidates of the peer will come; with [`Config::trickle`] the agent may fail from now on.
    pub fn end_of_remote_candidates(&mut self, now: Instant) {
        self.remote_complete = true;
        self.advance(now);
    }

    /// The user name fragment of the peer's description, once it is known.
    pub fn remote_ufrag(&self) -> Option<&str> {
        self.current.remote.as_ref().map(Credentials::ufrag)
    }

    fn admit(&mut self, candidate: Candidate) -> Result<(), CandidateRefused> {
        let outcome = self.try_admit(candidate);
        self.refused_candidates += u32::from(outcome.is_err());
        outcome
    }

    fn try_admit(&mut self, candidate: Candidate) -> Result<(), CandidateRefused> {
        self.config.policy.admits(&candidate)?;
        let generation = self.current.number;
        let ours = |r: &Remote| r.generation == generation;
        let announced = self.remotes.iter().filter(|r| ours(r) && !r.learnt).count();
        for known in self.remotes.iter_mut().filter(|r| ours(r)) {
            if known.candidate.duplicates(&candidate) {
                if !known.learnt {
                    return Err(CandidateRefused::Duplicate);
                }
                // Learnt before it was announced (RFC 8445 section 7.3.1.3): the announcement knows more.
                known.learnt = false;
                known.candidate = candidate;
                return Ok(());
            }
        }
        if announced >= self.config.policy.max_candidates {
            return Err(CandidateRefused::TooMany);
        }
        self.remotes.push(Remote { candidate, generation, learnt: false });
        Ok(())
    }

    /// The index of the peer's candidate at `address`, learnt now if need be.
    fn learn(
        &mut self,
        generation: u32,
        transport: crate::Transport,
        address: SocketAddr,
        priority: u32,
    ) -> Option<usize> {
        let ours = |r: &&Remote| r.generation == generation;
        let same = |r: &Remote| {
            r.generation == generation
                && r.candidate.transport == transport
                && canonical(r.candidate.address) == canonical(address)
        };
        if let Some(index) = self.remotes.iter().position(same) {
            return Some(index);
        }
        let mut candidate = Candidate::new(CandidateKind::PeerReflexive, transport, address, 0);
        (candidate.address, candidate.base, candidate.priority) = (address, address, priority);
        let learnt = Remote { candidate, generation, learnt: true };
        if self.remotes.iter().filter(ours).filter(|r| r.learnt).count() < self.config.policy.max_reflexive {
            self.remotes.push(learnt);
            return Some(self.remotes.len() - 1);
        }
        // A connection of the peer that has ended makes room: the next one has another port. Never one of UDP, where
        // replayed checks could name address after address.
        let index = (0..self.remotes.len()).find(|&r| {
            let Remote { candidate, generation: of, learnt } = &self.remotes[r];
            let active = candidate.transport == crate::Transport::Tcp(crate::TcpType::Active);
            *learnt && *of == generation && active && !self.is_in_use(r)
        })?;
        self.pairs.retain(|_, p| p.remote != index);
        self.remotes[index] = learnt;
        Some(index)
    }

    /// A pair with that candidate of the peer lives, is selected or will be tried again.
    fn is_in_use(&self, remote: usize) -> bool {
        let selected = |id| matches!(&self.phase, Phase::Selected(s) if s.pair == id);
        let lives = |p: &Pair| !matches!(p.state, State::Failed(_)) || p.again.is_some() || selected(p.id);
        self.pairs().any(|p| p.remote == remote && lives(p))
    }

    /// The next thing to do, until `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing to know, until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is neither anything to do nor to know.
    pub fn is_drained(&self) -> bool {
        self.actions.is_empty() && self.events.is_empty()
    }

    /// The role now: a role conflict may have changed it.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The path data takes, once there is one.
    pub fn selected(&self) -> Option<SelectedPath> {
        match &self.phase {
            Phase::Selected(selected) => Some(selected.path),
            _ => None,
        }
    }

    /// All the agent knows.
    pub fn report(&self) -> Report {
        Report {
            role: self.role,
            local: self.locals.clone(),
            remote: self.remotes.iter().map(|r| r.candidate.clone()).collect(),
            pairs: self.pair_reports(),
            selected: match &self.phase {
                Phase::Selected(selected) => Some(selected.pair),
                _ => None,
            },
            streams: self.streams.len(),
            refused_candidates: self.refused_candidates,
            refused_connections: self.refused_connections,
            dropped: self.dropped,
        }
    }

    fn pair_reports(&self) -> Vec<PairReport> {
        let report = |pair: &Pair| {
            let (local, remote) = self.addresses(pair);
            PairReport {
                id: pair.id,
                generation: pair.generation,
                transport: self.locals[pair.local].transport,
                local,
                remote,
                stream: pair.link.stream(),
                priority: self.priority(pair),
                state: pair.state.report(),
                rtt: pair.rtt,
                nominated: pair.nominated || pair.nomination.is_nominated(),
                checks_sent: pair.checks_sent,
                checks_received: pair.checks_received,
                mapped: pair.mapped,
            }
        };
        let mut reports: Vec<_> = self.pairs().map(report).collect();
        reports.sort_by_key(|r| (Reverse(r.priority), r.id));
        reports
    }

    fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.values().map(|pair| &**pair)
    }

    fn pair(&self, id: PairId) -> &Pair {
        self.pairs.get(&id).expect("ids are handed out with their pairs")
    }

    fn pair_mut(&mut self, id: PairId) -> &mut Pair {
        self.pairs.get_mut(&id).expect("ids are handed out with their pairs")
    }

    fn priority(&self, pair: &Pair) -> u64 {
        let remote = &self.remotes[pair.remote].candidate;
        pair_priority(self.role, self.locals[pair.local].priority, remote.priority)
    }

    /// What decides between pairs whatever their priority, the greater the better: after a restart the new ones, then
    /// the class.
    fn kind(&self, pair: &Pair) -> (u32, Reverse<u8>) {
        let class = self.config.preference.class(pair.link != Link::Udp, self.is_relayed(pair));
        (pair.generation, Reverse(class))
    }

    /// What pairs are compared by: the greater the better.
    fn rank(&self, pair: &Pair) -> ((u32, Reverse<u8>), u64) {
        (self.kind(pair), self.priority(pair))
    }

    fn is_relayed(&self, pair: &Pair) -> bool {
        let kinds = [self.locals[pair.local].kind, self.remotes[pair.remote].candidate.kind];
        kinds.contains(&CandidateKind::Relayed)
    }

    /// Checks go on: for the first path, or for further ones.
    fn is_looking(&self) -> bool {
        match &self.phase {
            Phase::Checking(_) => true,
            Phase::Selected(_) => self.config.paths == Paths::Many || self.previous.is_some(),
            Phase::Gathering | Phase::Over => false,
        }
    }

    /// Local base and remote address of a pair, as a socket takes them.
    fn addresses(&self, pair: &Pair) -> (SocketAddr, SocketAddr) {
        let base = self.locals[pair.local].base;
        (base, scoped(self.remotes[pair.remote].candidate.address, base))
    }

    fn set_state(&mut self, id: PairId, state: State) {
        if self.pair(id).state != state {
            self.pair_mut(id).state = state;
            tracing::trace!(pair = id.0, ?state, "pair changed");
            self.events.push_back(Event::PairChanged { pair: id, state: state.report() });
        }
    }

    fn switch_role(&mut self) {
        self.role = self.role.other();
        self.role_switches += 1;
        self.forget_nominee();
        tracing::debug!(role = ?self.role, "role conflict settled against us");
        self.events.push_back(Event::RoleSwitched { role: self.role });
    }

    fn close(&mut self, stream: StreamId, reason: CloseReason) {
        if self.streams.remove(&stream).is_some() {
            self.actions.push_back(Action::CloseStream { stream, reason });
        }
    }

    fn dispose(&mut self, outcome: Result<Disposition, DropReason>) -> Disposition {
        outcome.unwrap_or_else(|reason| {
            self.dropped += 1;
            tracing::trace!(%reason, "dropped");
            Disposition::Dropped(reason)
        })
    }
}
