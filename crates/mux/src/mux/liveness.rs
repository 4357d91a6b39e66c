//! Pings and what follows from silence.

use std::time::Instant;

use super::{Life, Mux, Wire};
use crate::jami;
use crate::liveness::Due;
use crate::native::Message;
use crate::{Event, PingId, ProbeError};

impl Mux {
    /// Measures the round trip: [`Event::Pong`] follows.
    pub fn ping(&mut self, now: Instant) -> Result<PingId, ProbeError> {
        if !matches!(self.life, Life::Running { .. }) {
            return Err(ProbeError::Closed);
        }
        if !self.can_ping() {
            return Err(ProbeError::Unsupported);
        }
        self.send_ping(now, true).ok_or(ProbeError::TooMany)
    }

    /// As [`ping`](Self::ping), but [`Event::Dead`] follows if no answer comes within
    /// [`Config::probe_timeout`](crate::Config::probe_timeout).
    #[doc(alias = "sendBeacon")]
    pub fn liveness_probe(&mut self, now: Instant) -> Result<PingId, ProbeError> {
        let id = self.ping(now)?;
        self.liveness.probe(now, id);
        Ok(id)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.life {
            Life::Running { .. } => self.liveness.poll_timeout(),
            Life::Closed | Life::Failed(_) => None,
        }
    }

    /// Does what is due by `now`; harmless when called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !matches!(self.life, Life::Running { .. }) {
            return;
        }
        match self.liveness.due(now, !self.wants_data(), self.blocked || !self.can_ping()) {
            Due::Nothing => {}
            Due::Ask => {
                self.send_ping(now, false);
            }
            Due::Dead => self.events.push_back(Event::Dead),
        }
    }

    /// Whether the peer answers pings.
    pub(super) fn can_ping(&self) -> bool {
        match &self.wire {
            Wire::Native(_) => true,
            Wire::Jami(jami) => jami.peer_version >= Some(1),
        }
    }

    /// Measures the round trip for our own use.
    pub(super) fn measure(&mut self, now: Instant) {
        if self.liveness.is_stale(now) {
            self.send_ping(now, false);
        }
    }

    fn send_ping(&mut self, now: Instant, told: bool) -> Option<PingId> {
        let id = self.liveness.ping(now, told)?;
        match &mut self.wire {
            Wire::Native(native) => native.say(Message::Ping { nonce: id.0 }),
            Wire::Jami(jami) => jami.say(jami::Message::Beacon { request: true }),
        }
        Some(id)
    }

    pub(super) fn on_pong(&mut self, now: Instant, nonce: Option<u64>) {
        if let Some(answer) = self.liveness.pong(now, nonce)
            && answer.told
        {
            self.events.push_back(Event::Pong { id: answer.id, rtt: answer.rtt });
        }
    }
}
