//! Whether somebody answers at the other end of a route, and how much may be sent there until that is known (RFC 9000,
//! sections 8 and 9).

use std::time::{Duration, Instant};

use crate::Route;

/// As long as a route that is tried for the first time may stay silent: a peer behind a NAT opens its side late.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that may go to an address that this side chose itself before anything came from it.
const OWN_ALLOWANCE: u64 = 24_000;
/// Longest time between two challenges.
const MAX_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It answered.
    Valid,
    /// A challenge is out, or due. Back-off counts those that were sent.
    Pending { since: Instant, next: Instant, sent: u32, due: bool },
    /// It never answered.
    Failed,
}

#[derive(Debug)]
pub(super) struct Validation {
    state: State,
    challenge: [u8; 8],
    /// What the peer's latest challenge wants back.
    response: Option<[u8; 8]>,
    received: u64,
    sent: u64,
    allowance: u64,
    /// A route that was valid before the peer moved, to go back to.
    previous: Option<Route>,
}

/// What became of a challenge that nobody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// Send it again.
    Again,
    /// Give up; the route before, if there was one.
    Failed(Option<Route>),
}

impl Validation {
    pub(super) fn new(now: Instant, own: bool, challenge: [u8; 8]) -> Self {
        Self {
            state: State::Pending { since: now, next: now, sent: 0, due: true },
            challenge,
            response: None,
            received: 0,
            sent: 0,
            allowance: if own { OWN_ALLOWANCE } else { 0 },
            previous: None,
        }
    }

    #[inline]
    pub(super) fn is_valid(&self) -> bool {
        self.state == State::Valid
    }

    /// Whether the first validation of the link is still going on.
    pub(super) fn is_first(&self) -> bool {
        !self.is_valid() && self.previous.is_none()
    }

    pub(super) fn accept(&mut self) {
        self.state = State::Valid;
        self.previous = None;
    }

    /// Whether this many bytes more may go there.
    #[inline]
    pub(super) fn allows(&self, bytes: u64) -> bool {
        self.is_valid() || self.sent + bytes <= self.allowance + 3 * self.received
    }

    #[inline]
    pub(super) fn on_sent(&mut self, bytes: u64) {
        if !self.is_valid() {
            self.sent += bytes;
        }
    }

    #[inline]
    pub(super) fn on_received(&mut self, bytes: u64) {
        if !self.is_valid() {
            self.received += bytes;
        }
    }

    /// The challenge to send now, if one is due.
    pub(super) fn due(&self) -> Option<[u8; 8]> {
        match self.state {
            State::Pending { due: true, .. } => Some(self.challenge),
            _ => None,
        }
    }

    /// It was sent. `interval`: until the first repetition.
    pub(super) fn on_challenge_sent(&mut self, now: Instant, interval: Duration) {
        if let State::Pending { next, sent, due, .. } = &mut self.state {
            *next = now + (interval * (1 << (*sent).min(6))).min(MAX_INTERVAL);
            *sent += 1;
            *due = false;
        }
    }

    pub(super) fn on_challenge(&mut self, bytes: [u8; 8]) {
        self.response = Some(bytes);
    }

    pub(super) fn response(&self) -> Option<[u8; 8]> {
        self.response
    }

    pub(super) fn on_response_sent(&mut self) {
        self.response = None;
    }

    /// Whether this answers the challenge and so validates the route.
    pub(super) fn on_response(&mut self, bytes: [u8; 8]) -> bool {
        let answers = matches!(self.state, State::Pending { .. }) && bytes == self.challenge;
        if answers {
            self.accept();
        }
        answers
    }

    /// The peer was heard from elsewhere. Whether the new route is the valid one from before, which needs no proof.
    pub(super) fn on_moved(&mut self, now: Instant, from: Route, to: Route, challenge: [u8; 8]) -> bool {
        if self.previous == Some(to) {
            self.accept();
            return true;
        }
        if self.is_valid() {
            self.previous = Some(from);
        }
        self.state = State::Pending { since: now, next: now, sent: 0, due: true };
        self.challenge = challenge;
        (self.received, self.sent, self.allowance) = (0, 0, 0);
        false
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Pending { next, due: false, .. } => Some(next),
            _ => None,
        }
    }

    /// `patience`: for a route that the peer moved to, where it just was; a new link gets more.
    pub(super) fn on_timeout(&mut self, now: Instant, patience: Duration) -> Option<Expiry> {
        let State::Pending { since, next, due, .. } = &mut self.state else { return None };
        if *due || now < *next {
            return None;
        }
        let patience = if self.previous.is_some() { patience } else { PATIENCE.max(patience) };
        if now.saturating_duration_since(*since) < patience {
            *due = true;
            return Some(Expiry::Again);
        }
        let back = self.previous.take();
        self.state = if back.is_some() { State::Valid } else { State::Failed };
        Some(Expiry::Failed(back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTO: Duration = Duration::from_millis(50);

    fn route(port: u16) -> Route {
        Route::datagram(([192, 0, 2, 1], port).into())
    }

    #[test]
    fn challenge_until_answered() {
        let start = Instant::now();
        let mut path = Validation::new(start, false, [7; 8]);
        assert!(path.is_first() && !path.allows(1));
        path.on_received(1200);
        assert!(path.allows(3600) && !path.allows(3601));
        assert_eq!(path.due(), Some([7; 8]));
        path.on_challenge_sent(start, PTO);
        path.on_sent(1200);
        assert_eq!((path.due(), path.deadline()), (None, Some(start + PTO)));
        assert!(!path.allows(2401));
        assert_eq!(path.on_timeout(start + PTO, 3 * PTO), Some(Expiry::Again));
        path.on_challenge_sent(start + PTO, PTO);
        assert_eq!(path.deadline(), Some(start + 3 * PTO));
        assert!(!path.on_response([8; 8]) && path.on_response([7; 8]) && path.is_valid());
        assert!(path.allows(u64::MAX));
        assert!(!path.on_response([7; 8]), "once");
    }

    #[test]
    fn nobody_answers() {
        let start = Instant::now();
        let mut path = Validation::new(start, true, [7; 8]);
        let (mut now, mut challenges) = (start, 0);
        loop {
            path.on_challenge_sent(now, PTO);
            challenges += 1;
            now = path.deadline().unwrap();
            match path.on_timeout(now, 3 * PTO) {
                Some(Expiry::Again) => assert!(challenges < 100),
                other => {
                    assert_eq!(other, Some(Expiry::Failed(None)));
                    break;
                }
            }
        }
        assert!((PATIENCE..PATIENCE + MAX_INTERVAL).contains(&(now - start)), "{challenges}");
        assert_eq!((path.due(), path.deadline()), (None, None));
    }

    #[test]
    fn moved_and_back() {
        let start = Instant::now();
        let mut path = Validation::new(start, false, [1; 8]);
        path.accept();
        assert!(!path.on_moved(start, route(1), route(2), [2; 8]));
        assert!(!path.is_valid() && !path.is_first() && !path.allows(1));
        assert!(!path.on_moved(start, route(2), route(3), [3; 8]), "moved again before it answered");
        assert!(path.on_moved(start, route(3), route(1), [4; 8]), "the valid one needs no proof");
        assert!(path.is_valid());
        path.on_moved(start, route(1), route(2), [5; 8]);
        path.on_challenge_sent(start, PTO);
        path.on_challenge_sent(start, PTO);
        let end = start + 4 * PTO;
        assert_eq!(path.on_timeout(end, 3 * PTO), Some(Expiry::Failed(Some(route(1)))));
        assert!(path.is_valid());
    }
}
