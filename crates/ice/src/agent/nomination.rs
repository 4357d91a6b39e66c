//! Choosing the pair, and giving up (RFC 8445 section 8.1, spec 4.5, 4.8).

use std::time::Instant;

use super::pair::{Link, Nomination, Pair, State};
use super::{Agent, CloseReason, Event, LossReason, PairId, Role, SelectedPath};
use crate::candidate::Transport;
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
    pub(super) keepalive: Instant,
}

impl Agent {
    pub(super) fn begin(&mut self) {
        if matches!(self.phase, Phase::Gathering) {
            self.phase = Phase::Checking(Checking::default());
        }
    }

    pub(super) fn is_nominee(&self, id: PairId) -> bool {
        matches!(&self.phase, Phase::Checking(checking) if checking.nominee == Some(id))
    }

    pub(super) fn forget_nominee(&mut self) {
        if let Phase::Checking(checking) = &mut self.phase {
            checking.nominee = None;
        }
    }

    pub(super) fn note_valid(&mut self, now: Instant) {
        if let Phase::Checking(checking) = &mut self.phase {
            checking.first_valid.get_or_insert(now);
        }
    }

    /// Does whatever the state allows now. Every change ends here.
    pub(super) fn advance(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Checking(_)) {
            return;
        }
        self.start_checks(now);
        match self.role {
            Role::Controlling => self.nominate(now),
            Role::Controlled => self.follow(now),
        }
        self.consider_failure(now);
    }

    fn best(&self, fits: impl Fn(&Pair) -> bool) -> Option<&Pair> {
        // Of equals the oldest.
        self.pairs.iter().filter(|p| fits(p)).max_by_key(|p| (self.priority(p), std::cmp::Reverse(p.id)))
    }

    fn better_is_open(&self, best: &Pair) -> bool {
        let priority = self.priority(best);
        self.pairs.iter().any(|p| p.is_unfinished() && self.priority(p) > priority)
    }

    /// Controlling: the best valid pair, once no better one is open or the delay is over.
    fn nominate(&mut self, now: Instant) {
        let Phase::Checking(Checking { nominee: None, first_valid, .. }) = self.phase else { return };
        let Some(best) = self.best(Pair::is_valid) else { return };
        let id = best.id;
        let wait_until = first_valid.map_or(now, |at| at + self.config.nomination_delay);
        if now < wait_until && self.better_is_open(best) {
            return;
        }
        if let Phase::Checking(checking) = &mut self.phase {
            checking.nominee = Some(id);
        }
        self.send_check(now, id, true);
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

    pub(super) fn select(&mut self, now: Instant, id: PairId) {
        let pair = self.pair(id);
        let path = match pair.link.stream().and_then(|s| Some((s, self.streams.get(&s)?))) {
            Some((stream, open)) => SelectedPath::Tcp { stream, local: open.local, remote: open.remote },
            None => {
                let (local, remote) = self.addresses(pair);
                SelectedPath::Udp { local, remote }
            }
        };
        let rtt = pair.rtt;
        let others: Vec<_> = self
            .pairs
            .iter()
            .filter(|p| p.id != id && (p.is_unfinished() || (p.is_valid() && p.link != Link::Udp)))
            .map(|p| p.id)
            .collect();
        for other in others {
            self.fail_pair(other, PairError::Superseded);
        }
        // Those that never authenticated, the peer's spare connection (spec 4.8) among them.
        let keep = self.pair(id).link.stream();
        let spare: Vec<_> = self.streams.keys().copied().filter(|&s| Some(s) != keep).collect();
        for stream in spare {
            self.close(stream, CloseReason::NotSelected);
        }
        self.checks.clear();
        tracing::debug!(pair = id.0, ?path, role = ?self.role, ?rtt, "path selected");
        let keepalive = self.next_keepalive(now);
        self.phase = Phase::Selected(Selected { pair: id, path, keepalive });
        self.events.push_back(Event::Selected { pair: id, path, role: self.role, rtt });
    }

    /// Ends the attempt when nothing is open, nothing can come in, or nothing came for long enough.
    fn consider_failure(&mut self, now: Instant) {
        let Phase::Checking(Checking { nominee, patience, .. }) = self.phase else { return };
        let valid = self.pairs.iter().any(Pair::is_valid);
        let open = self.pairs.iter().any(Pair::is_unfinished);
        let more_to_come = !valid && !self.remote_complete;
        if open || nominee.is_some() || more_to_come {
            self.set_patience(None);
            return;
        }
        let listens = |c: &crate::Candidate| c.is_passive() || c.transport == Transport::Udp;
        let reason = if valid {
            FailureReason::NotNominated
        } else if self.locals.is_empty() {
            return self.fail(FailureReason::NoLocalCandidates);
        } else if self.remotes.is_empty() {
            return self.fail(FailureReason::NoRemoteCandidates);
        } else if self.pairs.is_empty() {
            FailureReason::NoPairs
        } else {
            FailureReason::AllPairsFailed
        };
        if !valid && !self.locals.iter().any(listens) {
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
        for n in 0..self.pairs.len() {
            let id = self.pairs[n].id;
            match self.pairs[n].state {
                State::Connecting { deadline } if deadline <= now => {
                    self.fail_pair(id, PairError::ConnectTimeout);
                }
                State::Retrying { at } if at <= now => self.set_state(id, State::Waiting),
                _ => {}
            }
        }
    }
}
