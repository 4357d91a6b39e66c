//! When something is due, and what then.

use std::time::Instant;

use super::pair::{Link, Pair, State};
use super::stream::StreamState;
use super::{Agent, CloseReason, Phase, Role};

impl Agent {
    /// When to call [`Agent::handle_timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let streams = self.streams.values().filter_map(|s| match s.state {
            StreamState::Accepted { deadline, .. } => Some(deadline),
            _ => None,
        });
        match &self.phase {
            Phase::Over => None,
            Phase::Gathering => streams.min(),
            Phase::Selected(_) if !self.is_looking() => self.next_upkeep(),
            Phase::Checking(_) | Phase::Selected(_) => {
                let pairs = self.pairs().filter_map(|p| match p.state {
                    State::Connecting { deadline } => Some(deadline),
                    State::Retrying { at } => Some(at),
                    _ => None,
                });
                let checks = self.checks.values().filter(|c| c.has_timer()).map(|c| c.due);
                streams
                    .chain(pairs)
                    .chain(checks)
                    .chain(self.next_decision())
                    .chain(self.next_start())
                    .chain(self.next_upkeep())
                    .chain(self.next_recheck())
                    .chain(self.next_retirement())
                    .min()
            }
        }
    }

    /// When the first selection, or giving up, may be due.
    fn next_decision(&self) -> Option<Instant> {
        let Phase::Checking(checking) = &self.phase else { return None };
        let nomination = checking.first_valid.map(|at| at + self.config.nomination_delay);
        let nomination = nomination.filter(|_| self.awaits_better());
        let settle = checking.settle.filter(|_| self.role == Role::Controlled);
        nomination.into_iter().chain(settle).chain(checking.patience).min()
    }

    /// A valid pair waits for a better one.
    fn awaits_better(&self) -> bool {
        self.role == Role::Controlling
            && self.pairs().any(Pair::is_valid)
            && !self.pairs().any(|p| self.is_nominee(p.id))
    }

    /// When the pacer lets the next waiting pair start.
    fn next_start(&self) -> Option<Instant> {
        let may_connect = self.connecting() < self.config.max_connecting;
        let startable = |p: &Pair| p.state == State::Waiting && (may_connect || p.link != Link::Opened(None));
        self.pairs().any(startable).then(|| self.pacer.next()).flatten()
    }

    /// Does what is due; too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        self.upkeep_due(now);
        if matches!(self.phase, Phase::Selected(_) | Phase::Over) && !self.is_looking() {
            return;
        }
        let late = |state| matches!(state, StreamState::Accepted { deadline, .. } if deadline <= now);
        let late: Vec<_> = self.streams.iter().filter(|(_, s)| late(s.state)).map(|(id, _)| *id).collect();
        for stream in late {
            self.close(stream, CloseReason::Unauthenticated);
        }
        if self.is_looking() {
            self.pairs_due(now);
            self.checks_due(now);
            self.rechecks_due(now);
            self.retirement_due(now);
            self.advance(now);
        }
    }
}
