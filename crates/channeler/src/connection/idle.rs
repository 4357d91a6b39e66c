//! Silence: how long it has lasted, and how long it may.

use std::time::{Duration, Instant};

/// The idle timeout of a connection (RFC 9000 section 10.1).
#[derive(Debug)]
pub(super) struct Idle {
    timeout: Duration,
    since: Instant,
    /// Whether something that wants an answer was sent since the peer was last heard.
    waiting: bool,
}

impl Idle {
    pub(super) fn new(now: Instant, timeout: Duration) -> Self {
        Self { timeout, since: now, waiting: false }
    }

    /// The peer has a timeout, too.
    pub(super) fn limit(&mut self, timeout: Duration) {
        self.timeout = self.timeout.min(timeout);
    }

    /// The smaller one of both sides.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The peer was heard.
    #[inline]
    pub(super) fn on_received(&mut self, now: Instant) {
        self.since = now;
        self.waiting = false;
    }

    /// Something that wants an answer was sent.
    #[inline]
    pub(super) fn on_sent(&mut self, now: Instant) {
        if !self.waiting {
            self.waiting = true;
            self.since = now;
        }
    }

    /// When the connection is given up. `least`: what it takes to notice that a link is dead.
    pub(super) fn deadline(&self, least: Duration) -> Instant {
        self.since + self.timeout.max(least)
    }
}
