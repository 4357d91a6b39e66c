//! A candidate pair and the connection it may have.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{PairId, Role, StreamId};
use crate::report::{PairError, PairState};
use crate::stun::TransactionId;

/// How packets of a pair travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Datagrams between the bases.
    Udp,
    /// A connection we open.
    Opened(Option<StreamId>),
    /// A connection the peer opened.
    Accepted(StreamId),
}

impl Link {
    pub(super) fn stream(self) -> Option<StreamId> {
        match self {
            Self::Udp => None,
            Self::Opened(stream) => stream,
            Self::Accepted(stream) => Some(stream),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Connecting { deadline: Instant },
    Retrying { at: Instant },
    Checking,
    Valid,
    Failed(PairError),
}

impl State {
    pub(super) fn report(self) -> PairState {
        match self {
            Self::Waiting => PairState::Waiting,
            Self::Connecting { .. } => PairState::Connecting,
            Self::Retrying { .. } => PairState::Retrying,
            Self::Checking => PairState::Checking,
            Self::Valid => PairState::Valid,
            Self::Failed(error) => PairState::Failed(error),
        }
    }
}

/// What USE-CANDIDATE has been seen on a pair, as the controlled side cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nomination {
    /// No check from the peer yet.
    Unseen,
    /// Checks without it only.
    Plain,
    /// The first check had it: the peer nominates aggressively and may prefer another pair yet.
    Aggressive,
    /// It came after a plain check: the peer has decided.
    Regular,
}

impl Nomination {
    pub(super) fn after(self, use_candidate: bool) -> Self {
        match (self, use_candidate) {
            (Self::Unseen, false) => Self::Plain,
            (Self::Unseen, true) => Self::Aggressive,
            (Self::Plain, true) => Self::Regular,
            (seen, _) => seen,
        }
    }

    pub(super) fn is_nominated(self) -> bool {
        matches!(self, Self::Aggressive | Self::Regular)
    }
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) id: PairId,
    /// Counts restarts.
    pub(super) generation: u32,
    /// Index of the local candidate.
    pub(super) local: usize,
    /// Index of the remote candidate.
    pub(super) remote: usize,
    pub(super) link: Link,
    pub(super) state: State,
    /// As the controlled side sees it.
    pub(super) nomination: Nomination,
    /// As the controlling side did it.
    pub(super) nominated: bool,
    pub(super) retries_left: u32,
    pub(super) rtt: Option<Duration>,
    pub(super) mapped: Option<SocketAddr>,
    pub(super) checks_sent: u32,
    pub(super) checks_received: u32,
    /// Bytes handed out as early data.
    pub(super) early: usize,
    /// What keeps it alive, while it is valid and in use.
    pub(super) upkeep: Option<Upkeep>,
    /// When it is tried again after a failure, and how many times it has been.
    pub(super) again: Option<Instant>,
    pub(super) rechecks: u32,
    pub(super) was_valid: bool,
    /// The place of the peer's last nomination of this pair among all of them, from 1, and the check that made it.
    pub(super) nominated_as: u64,
    pub(super) nominated_by: Option<TransactionId>,
}

/// What a pair in use needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// Binding indications, so that middleboxes remember it.
    KeepAlive { next: Instant },
    /// Binding requests that the peer must answer (RFC 7675).
    Consent { next: Instant, expires: Instant },
}

impl Upkeep {
    pub(super) fn due(self) -> Instant {
        match self {
            Self::KeepAlive { next } => next,
            Self::Consent { next, expires } => next.min(expires),
        }
    }
}

impl Pair {
    pub(super) fn new(
        id: PairId,
        generation: u32,
        local: usize,
        remote: usize,
        link: Link,
        retries: u32,
    ) -> Self {
        Self {
            id,
            generation,
            local,
            remote,
            link,
            state: State::Waiting,
            nomination: Nomination::Unseen,
            nominated: false,
            retries_left: retries,
            rtt: None,
            mapped: None,
            checks_sent: 0,
            checks_received: 0,
            early: 0,
            upkeep: None,
            again: None,
            rechecks: 0,
            was_valid: false,
            nominated_as: 0,
            nominated_by: None,
        }
    }

    /// Something may still come of it.
    pub(super) fn is_unfinished(&self) -> bool {
        !matches!(self.state, State::Valid | State::Failed(_))
    }

    pub(super) fn is_valid(&self) -> bool {
        self.state == State::Valid
    }
}

/// RFC 8445 section 6.1.2.3.
pub(super) fn pair_priority(role: Role, local: u32, remote: u32) -> u64 {
    let (controlling, controlled) = match role {
        Role::Controlling => (u64::from(local), u64::from(remote)),
        Role::Controlled => (u64::from(remote), u64::from(local)),
    };
    (controlling.min(controlled) << 32)
        + 2 * controlling.max(controlled)
        + u64::from(controlling > controlled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_compute_one_priority() {
        let (low, high) = (1_862_270_975, 2_130_706_431);
        assert_eq!(pair_priority(Role::Controlling, high, low), pair_priority(Role::Controlled, low, high));
        assert_eq!(
            pair_priority(Role::Controlling, high, low),
            (u64::from(low) << 32) + 2 * u64::from(high) + 1
        );
        assert_eq!(pair_priority(Role::Controlled, high, low), (u64::from(low) << 32) + 2 * u64::from(high));
    }

    #[test]
    fn only_a_first_check_with_the_flag_is_aggressive() {
        assert_eq!(Nomination::Unseen.after(false).after(true), Nomination::Regular);
        assert_eq!(Nomination::Unseen.after(true).after(false).after(true), Nomination::Aggressive);
        assert!(!Nomination::Plain.after(false).is_nominated());
    }
}
