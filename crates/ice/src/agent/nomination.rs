//! Choosing the pair, and giving up (RFC 8445 section 8.1, spec 4.5, 4.8).

use std::cmp::Reverse;
use std::time::Instant;

use super::check::Purpose;
use super::pair::{Link, Nomination, Pair, State};
use super::{Agent, CloseReason, Event, LossReason, PairId, Role, SelectedPath, ValidPair};
use crate::candidate::Transport;
use crate::config::Paths;
use crate::preference::Preference;
use crate::report::{FailureReason, FailureReport, PairError};

/// Where the session stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// The peer is not known. Its checks are answered, none of ours can be made.
    Gathering,
    /// Looking for a pair.
    Checking(Checking),
    /// Data flows.
    Selected(Selected),
    /// Failed or lost.
    Over,
}

#[derive(Debug, Default)]
pub(super) struct Checking {
    /// Controlling: when the first pair became valid.
    pub(super) first_valid: Option<Instant>,
    /// Controlling: the pair whose nominating check is on its way.
    nominee: Option<PairId>,
    /// Controlled: when an aggressive peer's best pair so far is taken.
    pub(super) settle: Option<Instant>,
    /// When hope ends, now that nothing of ours is open any more.
    pub(super) patience: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Selected {
    pub(super) pair: PairId,
    pub(super) path: SelectedPath,
    /// Controlling: the better pair whose nominating check is on its way.
    nominee: Option<PairId>,
}

impl Agent {
    pub(super) fn begin(&mut self) {
        if matches!(self.phase, Phase::Gathering) {
            self.phase = Phase::Checking(Checking::default());
        }
    }

    pub(super) fn is_nominee(&self, id: PairId) -> bool {
        match &self.phase {
            Phase::Checking(checking) => checking.nominee == Some(id),
            Phase::Selected(selected) => selected.nominee == Some(id),
            Phase::Gathering | Phase::Over => false,
        }
    }

    pub(super) fn forget_nominee(&mut self) {
        match &mut self.phase {
            Phase::Checking(checking) => checking.nominee = None,
            Phase::Selected(selected) => selected.nominee = None,
            Phase::Gathering | Phase::Over => {}
        }
    }

    pub(super) fn note_valid(&mut self, now: Instant) {
        if let Phase::Checking(checking) = &mut self.phase {
            checking.first_valid.get_or_insert(now);
        }
    }

    /// Does whatever the state allows now. Every change ends here.
    pub(super) fn advance(&mut self, now: Instant) {
        if !self.is_looking() {
            return;
        }
        self.replace_lost(now);
        self.start_checks(now);
        match (self.role, matches!(self.phase, Phase::Selected(_))) {
            (Role::Controlling, false) => self.nominate(now),
            (Role::Controlled, false) => self.follow(now),
            (Role::Controlling, true) => self.upgrade(now),
            (Role::Controlled, true) => self.follow_upgrade(now),
        }
        self.consider_failure(now);
    }

    fn best(&self, fits: impl Fn(&Pair) -> bool) -> Option<&Pair> {
        // Of equals the oldest.
        self.pairs().filter(|p| fits(p)).max_by_key(|p| (self.rank(p), Reverse(p.id)))
    }

    fn better_is_open(&self, best: &Pair) -> bool {
        let rank = self.rank(best);
        self.pairs().any(|p| p.is_unfinished() && self.rank(p) > rank)
    }

    /// Controlling: the best valid pair, once no better one is open or the delay is over.
    fn nominate(&mut self, now: Instant) {
        let Phase::Checking(Checking { nominee: None, first_valid, .. }) = self.phase else { return };
        let Some(best) = self.best(Pair::is_valid) else { return };
        let id = best.id;
        let wait_until = first_valid.map_or(now, |at| at + self.config.nomination_delay);
        if self.config.preference.waits() && now < wait_until && self.better_is_open(best) {
            return;
        }
        if let Phase::Checking(checking) = &mut self.phase {
            checking.nominee = Some(id);
        }
        self.send_check(now, id, Purpose::Nominate);
    }

    /// Controlling: nominates a pair of a better kind than the selected one.
    fn upgrade(&mut self, now: Instant) {
        let Phase::Selected(Selected { pair, nominee: None, .. }) = self.phase else { return };
        let Some(best) = self.best(Pair::is_valid) else { return };
        if self.kind(best) <= self.kind(self.pair(pair)) {
            return;
        }
        let id = best.id;
        if let Phase::Selected(selected) = &mut self.phase {
            selected.nominee = Some(id);
        }
        self.send_check(now, id, Purpose::Nominate);
    }

    /// Controlled: the pair nominated last, if that is another one than the selected.
    fn follow_upgrade(&mut self, now: Instant) {
        let Phase::Selected(Selected { pair, .. }) = self.phase else { return };
        let since = self.pair(pair).nominated_as;
        let latest = self.pairs().filter(|p| p.is_valid() && p.nominated_as > since);
        if let Some(id) = latest.max_by_key(|p| p.nominated_as).map(|p| p.id) {
            self.select(now, id);
        }
    }

    /// When the selected pair is lost and others work: the best of them, without asking the peer, which sees the same.
    pub(super) fn replace_lost(&mut self, now: Instant) {
        let Phase::Selected(Selected { pair, .. }) = self.phase else { return };
        if self.pair(pair).is_valid() {
            return;
        }
        let valid = self.pairs().filter(|p| p.is_valid());
        let next = valid.max_by_key(|p| (p.nominated_as, self.rank(p), Reverse(p.id))).map(|p| p.id);
        match next {
            Some(id) => {
                self.select(now, id);
                if self.role == Role::Controlling {
                    self.send_check(now, id, Purpose::Nominate);
                }
            }
            None => {
                tracing::debug!("no path works any more");
                self.phase = Phase::Checking(Checking::default());
                self.events.push_back(Event::Disconnected);
            }
        }
    }

    /// Controlled: the pair the peer nominated, once our own check on it has succeeded.
    fn follow(&mut self, now: Instant) {
        let regular = |p: &Pair| p.is_valid() && p.nomination == Nomination::Regular;
        if let Some(pair) = self.best(regular) {
            return self.select(now, pair.id);
        }
        let aggressive = self.best(|p| p.is_valid() && p.nomination == Nomination::Aggressive);
        let aggressive = aggressive.map(|p| (p.id, self.better_is_open(p)));
        let Phase::Checking(checking) = &mut self.phase else { return };
        let Some((id, open)) = aggressive else {
            checking.settle = None;
            return;
        };
        let settle = *checking.settle.get_or_insert(now + self.config.aggressive_settle);
        if !open || now >= settle {
            self.select(now, id);
        }
    }

    /// From now on pairs are chosen so. The controlling side moves at once if it has selected another kind; the controlled one follows
    /// it, whatever it prefers itself.
    pub fn prefer(&mut self, now: Instant, preference: Preference) {
        self.config.preference = preference;
        self.advance(now);
    }

    /// How pairs are chosen.
    pub fn preference(&self) -> Preference {
        self.config.preference
    }

    /// Gives up a pair, and its connection: the driver has no use for it. False when there is none, or it has failed
    /// already. A pair given up is not tried again from this side, one that has failed neither.
    pub fn give_up(&mut self, now: Instant, id: PairId) -> bool {
        let Some(pair) = self.pairs.get_mut(&id) else { return false };
        pair.again = None;
        if matches!(pair.state, State::Failed(_)) {
            return false;
        }
        self.fail_pair(now, id, PairError::Superseded);
        if self.ends_with_its_path()
            && matches!(&self.phase, Phase::Selected(selected) if selected.pair == id)
        {
            self.lose(LossReason::GivenUp);
        }
        self.advance(now);
        true
    }

    fn path(&self, pair: &Pair) -> SelectedPath {
        match pair.link.stream().and_then(|s| Some((s, self.streams.get(&s)?))) {
            Some((stream, open)) => SelectedPath::Tcp { stream, local: open.local, remote: open.remote },
            None => {
                let (local, remote) = self.addresses(pair);
                SelectedPath::Udp { local, remote }
            }
        }
    }

    pub(super) fn valid_pair(&self, id: PairId) -> ValidPair {
        let pair = self.pair(id);
        ValidPair {
            pair: id,
            generation: pair.generation,
            path: self.path(pair),
            local: self.locals[pair.local].kind,
            remote: self.remotes[pair.remote].candidate.kind,
            priority: self.priority(pair),
            rtt: pair.rtt,
        }
    }

    pub(super) fn select(&mut self, now: Instant, id: PairId) {
        let ValidPair { path, rtt, .. } = self.valid_pair(id);
        if self.config.paths == Paths::One {
            self.close_others(now, id);
        }
        tracing::debug!(pair = id.0, ?path, role = ?self.role, ?rtt, "path selected");
        self.keep_up(now, id);
        self.outdate(now, id);
        self.connected = true;
        self.phase = Phase::Selected(Selected { pair: id, path, nominee: None });
        self.events.push_back(Event::Selected { pair: id, path, role: self.role, rtt });
    }

    fn close_others(&mut self, now: Instant, id: PairId) {
        let others: Vec<_> = self
            .pairs()
            .filter(|p| p.id != id && (p.is_unfinished() || (p.is_valid() && p.link != Link::Udp)))
            .map(|p| p.id)
            .collect();
        for other in others {
            self.fail_pair(now, other, PairError::Superseded);
        }
        // Those that never authenticated, the peer's spare connection (spec 4.8) among them.
        let keep = self.pair(id).link.stream();
        let spare: Vec<_> = self.streams.keys().copied().filter(|&s| Some(s) != keep).collect();
        for stream in spare {
            self.close(stream, CloseReason::NotSelected);
        }
        self.checks.clear();
    }

    /// Ends the attempt when nothing is open, nothing can come in, or nothing came for long enough.
    fn consider_failure(&mut self, now: Instant) {
        let Phase::Checking(Checking { nominee, patience, .. }) = self.phase else { return };
        // One that was connected fails only if it has a single path, lost it and finds no other.
        if self.connected && self.config.paths == Paths::Many {
            return;
        }
        let valid = self.pairs().any(Pair::is_valid);
        if valid && self.config.paths == Paths::Many {
            // Each valid pair is in use already; which one is preferred can wait.
            return self.set_patience(None);
        }
        let open = self.pairs().any(Pair::is_unfinished);
        let more_to_come = !(valid || self.remote_complete && self.local_complete);
        if open || nominee.is_some() || more_to_come {
            self.set_patience(None);
            return;
        }
        let listens = |c: &crate::Candidate| c.accepts() || c.transport == Transport::Udp;
        let reason = if valid {
            FailureReason::NotNominated
        } else if self.locals.is_empty() && !self.connected {
            return self.fail(FailureReason::NoLocalCandidates);
        } else if self.remotes.is_empty() && !self.connected {
            return self.fail(FailureReason::NoRemoteCandidates);
        } else if self.pairs.is_empty() {
            FailureReason::NoPairs
        } else {
            FailureReason::AllPairsFailed
        };
        if !valid && !self.connected && !self.locals.iter().any(listens) {
            return self.fail(reason);
        }
        let wait = match self.role {
            Role::Controlling => self.config.controlling_patience,
            Role::Controlled => self.config.controlled_patience,
        };
        let until = patience.unwrap_or(now + wait);
        if now >= until {
            self.fail(reason);
        } else {
            self.set_patience(Some(until));
        }
    }

    fn set_patience(&mut self, until: Option<Instant>) {
        if let Phase::Checking(checking) = &mut self.phase {
            checking.patience = until;
        }
    }

    fn fail(&mut self, reason: FailureReason) {
        let streams: Vec<_> = self.streams.keys().copied().collect();
        for stream in streams {
            self.close(stream, CloseReason::Failed);
        }
        self.checks.clear();
        self.phase = Phase::Over;
        let report = FailureReport { reason, pairs: self.pair_reports() };
        tracing::debug!(%report, "no path");
        self.events.push_back(Event::Failed(report));
    }

    pub(super) fn lose(&mut self, reason: LossReason) {
        tracing::debug!(%reason, "path lost");
        self.phase = Phase::Over;
        self.events.push_back(Event::Lost(reason));
    }

    /// Pairs whose connect or retry time has come.
    pub(super) fn pairs_due(&mut self, now: Instant) {
        let states: Vec<_> = self.pairs().map(|p| (p.id, p.state)).collect();
        for (id, state) in states {
            match state {
                State::Connecting { deadline } if deadline <= now => {
                    self.fail_pair(now, id, PairError::ConnectTimeout);
                }
                State::Retrying { at } if at <= now => self.set_state(id, State::Waiting),
                _ => {}
            }
        }
    }
}
