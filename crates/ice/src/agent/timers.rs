//! When something is due, and what then.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use super::pair::{Link, Pair, State};
use super::stream::StreamState;
use super::{Agent, CloseReason, Phase, Role};
use crate::stun::{BINDING, Class, Encoder, TransactionId};

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
            Phase::Selected(selected) => Some(selected.keepalive),
            Phase::Checking(checking) => {
                let pairs = self.pairs.iter().filter_map(|p| match p.state {
                    State::Connecting { deadline } => Some(deadline),
                    State::Retrying { at } => Some(at),
                    _ => None,
                });
                let checks = self.checks.values().map(|c| c.due);
                let nomination = checking.first_valid.map(|at| at + self.config.nomination_delay);
                let nomination = nomination.filter(|_| self.awaits_better());
                streams
                    .chain(pairs)
                    .chain(checks)
                    .chain(nomination)
                    .chain(self.next_start())
                    .chain(checking.settle.filter(|_| self.role == Role::Controlled))
                    .chain(checking.patience)
                    .min()
            }
        }
    }

    /// A valid pair waits for a better one.
    fn awaits_better(&self) -> bool {
        self.role == Role::Controlling
            && self.pairs.iter().any(Pair::is_valid)
            && !self.pairs.iter().any(|p| self.is_nominee(p.id))
    }

    /// When the pacer lets the next waiting pair start.
    fn next_start(&self) -> Option<Instant> {
        let may_connect = self.connecting() < self.config.max_connecting;
        let startable = |p: &Pair| p.state == State::Waiting && (may_connect || p.link != Link::Opened(None));
        self.pairs.iter().any(startable).then(|| self.pacer.next()).flatten()
    }

    /// Does what is due; too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Phase::Selected(selected) = &self.phase {
            if selected.keepalive <= now {
                self.keep_alive(now);
            }
            return;
        }
        let late = |state| matches!(state, StreamState::Accepted { deadline, .. } if deadline <= now);
        let late: Vec<_> = self.streams.iter().filter(|(_, s)| late(s.state)).map(|(id, _)| *id).collect();
        for stream in late {
            self.close(stream, CloseReason::Unauthenticated);
        }
        if matches!(self.phase, Phase::Checking(_)) {
            self.pairs_due(now);
            self.checks_due(now);
            self.advance(now);
        }
    }

    /// A Binding indication with FINGERPRINT alone (spec 4.8, RFC 8445 section 11).
    fn keep_alive(&mut self, now: Instant) {
        let next = self.next_keepalive(now);
        let Phase::Selected(selected) = &mut self.phase else { return };
        selected.keepalive = next;
        let pair = selected.pair;
        let mut transaction = TransactionId([0; 12]);
        self.rng.fill_bytes(&mut transaction.0);
        self.send_on(pair, Encoder::new(Class::Indication, BINDING, transaction).finish(None));
    }

    pub(super) fn next_keepalive(&mut self, now: Instant) -> Instant {
        let jitter = self.config.keepalive_jitter.as_millis() as u64;
        now + self.config.keepalive + Duration::from_millis(self.rng.random_range(0..=jitter))
    }
}
