//! What is sent, and when.

use std::time::{Duration, Instant};

use super::{Handshake, State};
use crate::{
    Side,
    handshake::{
        HandshakeError, Peer,
        flight::Flight,
        hybrid,
        message::{self, FRAGMENT_OVERHEAD},
    },
    wire::handshake::{OVERHEAD, put_packet},
};

/// Longest probe timeout.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(3);
/// Least room worth a packet.
const LEAST_ROOM: usize = OVERHEAD + FRAGMENT_OVERHEAD + 64;

impl Handshake {
    /// Appends one packet of at most `max` bytes, at least 1200, to `out`. False if there is nothing to send now.
    pub(crate) fn poll_transmit(&mut self, now: Instant, max: usize, out: &mut Vec<u8>) -> bool {
        let limited = self.side == Side::Responder && !self.validated && !self.settings.reliable;
        let room = if limited { max.min(self.received.saturating_sub(self.sent) as usize) } else { max };
        let reporting = self.report.is_some_and(|at| at <= now);
        if room < LEAST_ROOM {
            self.report = self.report.filter(|_| !reporting);
            return false;
        }
        self.plan_padding(max);
        let sending = self.outgoing.as_ref().is_some_and(Flight::is_pending);
        if !reporting && !sending {
            return false;
        }
        let mut payload = Vec::with_capacity(room);
        if let Some(cookie) = &self.cookie {
            message::put_cookie(&mut payload, cookie);
        }
        if let Some(expected) = self.expected().filter(|_| reporting) {
            message::put_received(&mut payload, expected, self.incoming.have());
        }
        if reporting {
            self.report = None;
        }
        if let Some(flight) = &mut self.outgoing {
            let left = room.saturating_sub(OVERHEAD + payload.len());
            flight.put(&mut payload, left);
        }
        let pad_to = if self.side == Side::Initiator && !self.settings.reliable { room } else { 0 };
        let start = out.len();
        if !put_packet(out, &self.own, &self.peer, &payload, pad_to) {
            return false;
        }
        self.sent += (out.len() - start) as u64;
        self.last_sent = Some(now);
        if !self.settings.reliable && self.outgoing.is_some() {
            self.timer = Some(now + self.timeout);
        }
        true
    }

    /// Before the first packet of `XX`: the answer carries credentials, ours does not. Makes room for them, as if they were as long as our own.
    fn plan_padding(&mut self, max: usize) {
        if self.last_sent.is_some() || self.settings.reliable {
            return;
        }
        let (State::Dialling { peer: Peer::Id(_) | Peer::Trusted, .. }, Some(flight)) =
            (&self.state, &mut self.outgoing)
        else {
            return;
        };
        let chunk = max - OVERHEAD - FRAGMENT_OVERHEAD;
        let own = self.settings.credentials.payload().len() + self.settings.parameters.len();
        let answer = hybrid::CIPHERTEXT_LEN + 32 + 48 + 16 + 12 + own;
        let packets = answer.div_ceil(chunk).saturating_sub(flight.len().div_ceil(chunk));
        flight.set_padding(packets as u32);
    }

    /// When [`Self::handle_timeout`] is to be called, if nothing else happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.deadline, self.timer, self.report].into_iter().flatten().min()
    }

    /// Does what time brought about. An error ends the handshake.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), HandshakeError> {
        if self.deadline.is_some_and(|at| at <= now) {
            return Err(self.verdict.clone());
        }
        if self.timer.is_some_and(|at| at <= now) {
            self.timer = None;
            if let Some(flight) = &mut self.outgoing {
                flight.on_timeout();
                self.repeated = true;
                self.timeout = (self.timeout * 2).min(MAX_TIMEOUT);
                self.timer = Some(now + self.timeout);
            }
        }
        Ok(())
    }
}
