//! What an attempt writes down as it goes on, for whoever asks how it does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use towline_ice::gather::NatReport;
use towline_ice::{Candidate, CandidateKind, PairId, PairState, Transport};
use towline_identity::{Chain, DeviceId};

use super::dates::Span;
use super::diagnosis::{PATIENCE, diagnose, shut_in, to_tell};
use super::evidence::{Evidence, Peer};
use super::{CandidateReport, PairReport, Report, StepReport, Surroundings};
use crate::error::{ConnectError, Step};
use crate::info::{ConnectionId, ConnectionState, LinkInfo, Origin};
use crate::node::context::Context;
use crate::reach::PunchReport;
use crate::signal::Plight;

/// Views are not taken more often than this: they copy every pair.
const VIEW_EVERY: Duration = Duration::from_millis(100);
/// Candidates and pairs whose times are remembered.
const MAX_TIMES: usize = 1024;

/// What an agent and its surroundings look like at one moment.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) ice: towline_ice::Report,
    pub(crate) nat: Option<NatReport>,
    pub(crate) punch: Option<PunchReport>,
}

/// The end of an attempt.
#[derive(Debug)]
struct End {
    at: Duration,
    /// What went wrong, and how things looked then; nothing, if the connection stands.
    failure: Option<(ConnectError, Surroundings)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Journal {
    device: DeviceId,
    connection: ConnectionId,
    origin: Origin,
    began: Instant,
    /// Where to look around.
    ctx: Weak<Context>,
    notes: Mutex<Notes>,
}

#[derive(Debug)]
struct Notes {
    /// When each step began.
    steps: Vec<(Step, Duration)>,
    /// How the attempt ended.
    ended: Option<End>,
    /// When the peer's certificates count.
    span: Option<Span>,
    /// How far the peer's clock is ahead of ours, in seconds.
    ahead: Option<i64>,
    /// What the peer says that it meets with.
    plight: Option<Plight>,
    view: Option<View>,
    viewed: Option<Instant>,
    /// When each candidate was learned: whether it is the peer's, its kind, transport and address.
    learned: BTreeMap<(bool, CandidateKind, Transport, SocketAddr), Duration>,
    /// Since when each pair is in its state.
    since: BTreeMap<PairId, (PairState, Duration)>,
}

impl Journal {
    pub(crate) fn new(
        device: DeviceId,
        connection: ConnectionId,
        origin: Origin,
        ctx: Weak<Context>,
    ) -> Self {
        let began = towline_net::now();
        let notes = Notes {
            steps: vec![(Step::Certificate, Duration::ZERO)],
            ended: None,
            span: None,
            ahead: None,
            plight: None,
            view: None,
            viewed: None,
            learned: BTreeMap::new(),
            since: BTreeMap::new(),
        };
        Self { device, connection, origin, began, ctx, notes: Mutex::new(notes) }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// The attempt goes on to this step.
    pub(crate) fn enter(&self, now: Instant, step: Step) {
        self.notes().steps.push((step, self.since(now)));
    }

    /// This is who the peer is.
    pub(crate) fn met(&self, chain: &Chain) {
        self.notes().span = Some(Span::of(chain));
    }

    /// This is what the peer's clock shows, and what ours does, in seconds since 1970.
    pub(crate) fn compare_clocks(&self, theirs: u64, ours: Duration) {
        let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        self.notes().ahead = Some(signed(theirs).saturating_sub(signed(ours.as_secs())));
    }

    fn look_around(&self) -> Surroundings {
        self.ctx.upgrade().map(|ctx| Surroundings::look(&ctx)).unwrap_or_default()
    }

    /// The attempt has failed.
    pub(crate) fn fail(&self, now: Instant, error: ConnectError) {
        let end = End { at: self.since(now), failure: Some((error, self.look_around())) };
        self.notes().ended.get_or_insert(end);
    }

    /// The connection stands. `watched`: its agent lives on, so that there is another view whenever one is asked for.
    pub(crate) fn stand(&self, now: Instant, watched: bool) {
        let mut notes = self.notes();
        notes.ended.get_or_insert(End { at: self.since(now), failure: None });
        if watched {
            notes.view = None;
        }
    }

    /// When it is time for another view; never, once the attempt is over.
    pub(crate) fn next_view(&self) -> Option<Instant> {
        let notes = self.notes();
        let next = notes.viewed.map_or(self.began, |last| last + VIEW_EVERY);
        notes.ended.is_none().then_some(next)
    }

    /// This is how things look now.
    pub(crate) fn view(&self, now: Instant, view: View) {
        let at = self.since(now);
        let mut notes = self.notes();
        let notes = &mut *notes;
        notes.viewed = Some(now);
        let here = view.ice.local.iter().map(|candidate| (false, candidate));
        let there = view.ice.remote.iter().map(|candidate| (true, candidate));
        for (theirs, candidate) in here.chain(there) {
            if notes.learned.len() < MAX_TIMES {
                notes.learned.entry(name(theirs, candidate)).or_insert(at);
            }
        }
        for pair in &view.ice.pairs {
            let known = notes.since.get(&pair.id);
            let news = known.is_none_or(|(state, _)| *state != pair.state);
            if news && (known.is_some() || notes.since.len() < MAX_TIMES) {
                notes.since.insert(pair.id, (pair.state, at));
            }
        }
        notes.view = Some(view);
    }

    /// The peer says what it meets with.
    pub(crate) fn told(&self, plight: Plight) {
        self.notes().plight = Some(plight);
    }

    /// What this side meets with that the peer should know, while there is no path.
    pub(crate) fn plight(&self, now: Instant) -> Option<Plight> {
        let looking = {
            let notes = self.notes();
            let began = notes.steps.last().filter(|(step, _)| *step == Step::Path).map(|(_, at)| *at);
            notes.ended.is_none() && began.is_some_and(|at| self.since(now) >= at + PATIENCE)
        };
        if !looking {
            return None;
        }
        to_tell(self.report(now, None, Vec::new()).cause()?)
    }

    /// What does not leave this device's network, as servers show that were asked.
    pub(crate) fn shut_in(&self) -> Option<Plight> {
        shut_in(self.look_around())
    }

    /// All that is known, and what follows from it. `links`: of a connection that stands.
    pub(crate) fn report(&self, now: Instant, fresh: Option<View>, links: Vec<LinkInfo>) -> Report {
        let passing = fresh.is_some();
        if let Some(view) = fresh {
            self.view(now, view);
        }
        let mut notes = self.notes();
        let ended = notes.ended.as_ref().map(|end| end.at);
        let (error, around) = match notes.ended.as_ref().and_then(|end| end.failure.clone()) {
            Some((error, around)) => (Some(error), around),
            None => (None, self.look_around()),
        };
        let stands = ended.is_some() && error.is_none();
        let elapsed = if stands { self.since(now) } else { ended.unwrap_or_else(|| self.since(now)) };
        let ends = notes.steps.iter().skip(1).map(|(_, at)| *at).chain([ended.unwrap_or(elapsed)]);
        let steps = notes.steps.iter().zip(ends);
        let steps: Vec<StepReport> = steps
            .map(|((step, at), end)| StepReport { step: *step, at: *at, took: end.saturating_sub(*at) })
            .collect();
        let state = match notes.steps.last().map(|(step, _)| *step) {
            _ if stands => ConnectionState::Established,
            Some(Step::Path) => ConnectionState::Path,
            Some(Step::Tls | Step::Channel) => ConnectionState::Securing,
            _ => ConnectionState::Signalling,
        };
        let asks = notes.view.as_ref().is_some_and(|view| view.nat.is_some());
        let nat = notes.view.as_ref().and_then(|view| view.nat.clone()).unwrap_or_default();
        let mut report = Report {
            device: self.device,
            connection: self.connection,
            origin: self.origin,
            state,
            elapsed,
            error,
            causes: Vec::new(),
            steps,
            here: notes.candidates(false),
            there: notes.candidates(true),
            pairs: notes.pairs(),
            nat,
            punch: notes.view.as_ref().and_then(|view| view.punch),
            servers: around.servers.clone(),
            reachability: around.dht.reachability,
            links,
        };
        if passing {
            notes.view = None;
        }
        let peer = Peer { span: notes.span, ahead: notes.ahead, plight: notes.plight };
        report.causes = diagnose(&Evidence::of(&report, around, peer, asks));
        report
    }
}

/// What a candidate is known by.
fn name(theirs: bool, candidate: &Candidate) -> (bool, CandidateKind, Transport, SocketAddr) {
    (theirs, candidate.kind, candidate.transport, candidate.address)
}

impl Notes {
    fn candidates(&self, theirs: bool) -> Vec<CandidateReport> {
        let Some(view) = &self.view else { return Vec::new() };
        let observations = view.nat.as_ref().map_or(&[][..], |nat| &nat.observations);
        let told_by = |candidate: &Candidate| -> Vec<SocketAddr> {
            let told = !theirs && candidate.kind == CandidateKind::ServerReflexive;
            let same = observations.iter().filter(|(_, seen)| told && seen.mapped == candidate.address);
            same.map(|(_, seen)| seen.server).collect()
        };
        let candidates = if theirs { &view.ice.remote } else { &view.ice.local };
        let report = |candidate: &Candidate| CandidateReport {
            kind: candidate.kind,
            transport: candidate.transport,
            address: candidate.address,
            at: self.learned.get(&name(theirs, candidate)).copied().unwrap_or_default(),
            told_by: told_by(candidate),
        };
        candidates.iter().map(report).collect()
    }

    fn pairs(&self) -> Vec<PairReport> {
        let Some(view) = &self.view else { return Vec::new() };
        let kind = |candidates: &[Candidate], tcp: bool, address: SocketAddr, base: bool| {
            let same = |candidate: &&Candidate| {
                let own = if base { candidate.base } else { candidate.address };
                matches!(candidate.transport, Transport::Tcp(_)) == tcp && own == address
            };
            candidates.iter().find(same).map_or(CandidateKind::Host, |candidate| candidate.kind)
        };
        let report = |pair: &towline_ice::PairReport| {
            let tcp = matches!(pair.transport, Transport::Tcp(_));
            PairReport {
                kind: kind(&view.ice.local, tcp, pair.local, true),
                remote_kind: kind(&view.ice.remote, tcp, pair.remote, false),
                transport: pair.transport,
                local: pair.local,
                remote: pair.remote,
                state: pair.state,
                since: self.since.get(&pair.id).map(|(_, at)| *at).unwrap_or_default(),
                rtt: pair.rtt,
                sent: pair.checks_sent,
                received: pair.checks_received,
                nominated: pair.nominated,
            }
        };
        view.ice.pairs.iter().map(report).collect()
    }
}
