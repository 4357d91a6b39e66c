//! ICE restart (RFC 8445 section 9): new credentials and candidates, while the old pairs carry data until a new one is
//! selected, and for a moment after. Also local addresses that go away.

use std::net::SocketAddr;
use std::time::Instant;

use super::stream::StreamState;
use super::{Agent, CloseReason, LossReason, PairId, Phase};
use crate::addr::canonical;
use crate::blob::Description;
use crate::candidate::CandidateKind;
use crate::config::Paths;
use crate::credentials::Credentials;
use crate::report::PairError;

/// What one pair of descriptions is known by.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: u32,
    pub(super) local: Credentials,
    pub(super) remote: Option<Credentials>,
}

/// The generation before the current one.
#[derive(Debug)]
pub(super) struct Previous {
    pub(super) generation: Generation,
    /// When it ends: set once a pair of the current one is selected.
    pub(super) until: Option<Instant>,
}

impl Agent {
    /// Restarts the session: new credentials, and all pairs are checked anew. Returns what the peer must be told; its
    /// answer is given to [`Agent::set_remote`].
    ///
    /// The pairs so far go on as they are, until one of the new ones is selected. If none ever is, they stay. The peer
    /// does the same when [`Agent::is_restart`] says so of a description it gets: first `restart`, then `set_remote`.
    /// Candidates of addresses that are gone are to be removed before ([`Agent::remove_local`]), new ones added. With
    /// [`Paths::One`] after it: while a restart is under way the session outlives the pair in use, and fails if none is
    /// selected instead.
    pub fn restart(&mut self, now: Instant) -> Description {
        if matches!(self.phase, Phase::Over) {
            return self.local_description();
        }
        let number = self.current.number + 1;
        let fresh = Generation { number, local: Credentials::generate(&mut self.rng), remote: None };
        let replaced = std::mem::replace(&mut self.current, fresh);
        let in_use = match &self.phase {
            Phase::Selected(selected) => self.pair(selected.pair).generation,
            _ => replaced.number,
        };
        match self.previous.take() {
            // The restart before this one has not come to an end: what it replaces stays.
            Some(previous) if previous.generation.number == in_use => {
                self.previous = Some(Previous { until: None, ..previous });
                self.retire(now, replaced.number);
            }
            older => {
                self.previous = Some(Previous { generation: replaced, until: None });
                if let Some(older) = older {
                    self.retire(now, older.generation.number);
                }
            }
        }
        self.remote_complete = !self.config.trickle;
        self.forget_nominee();
        tracing::debug!(generation = number, "restart");
        self.local_description()
    }

    /// With the path in use the session ends. Not while a restart looks for another: then its outcome decides.
    pub(super) fn ends_with_its_path(&self) -> bool {
        self.config.paths == Paths::One && self.previous.is_none()
    }

    /// Whether this description of the peer begins a restart: it is another one than that in use.
    pub fn is_restart(&self, remote: &Description) -> bool {
        self.current.remote.as_ref().is_some_and(|known| *known != remote.credentials)
    }

    pub(super) fn generation(&self, number: u32) -> Option<&Generation> {
        let previous = self.previous.as_ref().map(|p| &p.generation);
        [Some(&self.current), previous].into_iter().flatten().find(|g| g.number == number)
    }

    /// The generation whose local user name fragment this is.
    pub(super) fn generation_of(&self, ufrag: &[u8]) -> Option<&Generation> {
        let previous = self.previous.as_ref().map(|p| &p.generation);
        [Some(&self.current), previous].into_iter().flatten().find(|g| g.local.ufrag().as_bytes() == ufrag)
    }

    /// A pair was selected: if it is a new one, the old ones have a moment left for what is under way.
    pub(super) fn outdate(&mut self, now: Instant, selected: PairId) {
        let fresh = self.pair(selected).generation == self.current.number;
        let linger =
            if self.config.paths == Paths::Many { self.config.linger } else { std::time::Duration::ZERO };
        if let Some(previous) = &mut self.previous {
            previous.until = fresh.then_some(now + linger);
        }
    }

    pub(super) fn next_retirement(&self) -> Option<Instant> {
        self.previous.as_ref()?.until
    }

    pub(super) fn retirement_due(&mut self, now: Instant) {
        if self.next_retirement().is_some_and(|at| at <= now)
            && let Some(previous) = self.previous.take()
        {
            self.retire(now, previous.generation.number);
        }
    }

    /// Ends all pairs of a generation and forgets them, with the candidates of the peer they came from.
    fn retire(&mut self, now: Instant, number: u32) {
        let pairs: Vec<_> = self.pairs().filter(|p| p.generation == number).map(|p| p.id).collect();
        self.remove_pairs(now, &pairs, PairError::Superseded);
        // Whatever is left refers to the others by index.
        let mut kept = Vec::new();
        let remotes = std::mem::take(&mut self.remotes);
        let moved: Vec<usize> = remotes
            .into_iter()
            .map(|remote| {
                if remote.generation != number {
                    kept.push(remote);
                }
                kept.len().saturating_sub(1)
            })
            .collect();
        self.remotes = kept;
        for pair in self.pairs.values_mut() {
            pair.remote = moved[pair.remote];
        }
    }

    /// Fails pairs as far as they have not, and forgets them.
    fn remove_pairs(&mut self, now: Instant, pairs: &[PairId], error: PairError) {
        for &id in pairs {
            self.fail_pair(now, id, error);
        }
        let selected = |phase: &Phase| match phase {
            Phase::Selected(selected) if pairs.contains(&selected.pair) => true,
            Phase::Gathering | Phase::Checking(_) | Phase::Selected(_) | Phase::Over => false,
        };
        if selected(&self.phase) {
            if self.ends_with_its_path() {
                self.lose(LossReason::GivenUp);
            }
            self.replace_lost(now);
        }
        self.pairs.retain(|id, _| !pairs.contains(id));
    }

    /// A local address is gone, or not to be used any more: its candidates and their pairs go with it. Returns how many
    /// candidates there were.
    pub fn remove_local(&mut self, now: Instant, base: SocketAddr) -> usize {
        self.remove_locals(now, |candidate| canonical(candidate.base) == canonical(base))
    }

    /// What was found out of how others see our addresses does not hold any more: reflexive candidates go, and are to be
    /// gathered anew. Returns how many there were.
    pub fn remove_reflexive(&mut self, now: Instant) -> usize {
        self.remove_locals(now, |candidate| candidate.kind == CandidateKind::ServerReflexive)
    }

    fn remove_locals(&mut self, now: Instant, gone: impl Fn(&crate::Candidate) -> bool) -> usize {
        let affected = |local: usize| gone(&self.locals[local]);
        let pairs: Vec<_> = self.pairs().filter(|p| affected(p.local)).map(|p| p.id).collect();
        let strangers = |state| matches!(state, StreamState::Accepted { local, .. } if affected(local));
        let streams: Vec<_> =
            self.streams.iter().filter(|(_, s)| strangers(s.state)).map(|(id, _)| *id).collect();
        for stream in streams {
            self.close(stream, CloseReason::LocalGone);
        }
        self.remove_pairs(now, &pairs, PairError::LocalGone);
        let before = self.locals.len();
        let moved: Vec<usize> = self
            .locals
            .iter()
            .scan(0, |next, candidate| {
                let index = *next;
                *next += usize::from(!gone(candidate));
                Some(index)
            })
            .collect();
        self.locals.retain(|c| !gone(c));
        for pair in self.pairs.values_mut() {
            pair.local = moved[pair.local];
        }
        for stream in self.streams.values_mut() {
            if let StreamState::Accepted { local, .. } = &mut stream.state {
                *local = moved[*local];
            }
        }
        self.advance(now);
        before - self.locals.len()
    }
}
