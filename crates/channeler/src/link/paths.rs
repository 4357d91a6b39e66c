//! Where the peer is: validation, moves, packet sizes, the end.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::{Link, Outcome};
use crate::{
    LinkStatus, Route,
    congestion::{Control, Controller, Pacer},
};

impl Link {
    /// The handshake proved that the peer is there.
    pub(crate) fn set_validated(&mut self) {
        self.validation.accept();
        self.on_validated();
    }

    fn on_validated(&mut self) {
        if self.status == LinkStatus::Validating {
            self.status = LinkStatus::Active;
        }
        self.mtu.start();
    }

    pub(crate) fn is_validated(&self) -> bool {
        self.validation.is_valid()
    }

    /// The challenge to send now (message CHALLENGE, class `Probe`, padded to the smallest MTU), if one is due.
    #[inline]
    pub(crate) fn challenge_due(&self) -> Option<[u8; 8]> {
        self.validation.due()
    }

    /// It left.
    pub(crate) fn on_challenge_sent(&mut self, now: Instant) {
        // Before anything is known of the round trip, soon: the first may be lost to a NAT that the peer opens just now.
        let interval = if self.rtt.is_measured() { self.pto() } else { Duration::from_millis(200) };
        self.validation.on_challenge_sent(now, interval);
    }

    /// The peer sent a challenge on this link.
    pub(crate) fn on_challenge(&mut self, bytes: [u8; 8]) {
        self.validation.on_challenge(bytes);
        self.keepalive.on_challenged();
    }

    /// The answer to send now (message RESPONSE, class `Probe`, padded as the challenge was), if one is due.
    #[inline]
    pub(crate) fn response_due(&self) -> Option<[u8; 8]> {
        self.validation.response()
    }

    /// It left.
    pub(crate) fn on_response_sent(&mut self) {
        self.validation.on_response_sent();
    }

    /// The peer answered a challenge. Others than the one that is out are ignored.
    pub(crate) fn on_response(&mut self, bytes: [u8; 8], out: &mut Outcome) {
        let before = self.status;
        if self.validation.on_response(bytes) {
            self.on_validated();
            out.status_changed |= before != self.status;
            out.progress = true;
        }
    }

    /// An authentic packet that [is the newest](Link::is_newest) came by another route: the peer moved, or its NAT forgot.
    /// What is on its way stays so; the new address is challenged and gets no more than three times what it sends until it
    /// answers. If it never does, the link goes back.
    pub(crate) fn on_moved(&mut self, now: Instant, route: Route) {
        if route == self.route || self.stream || route.is_stream() {
            return;
        }
        let challenge = self.rng.random();
        let returned = self.validation.on_moved(now, self.route, route, challenge);
        // Another port is another mapping in the same NAT; another address is another path (RFC 9000, section 9.4).
        let same_path = match (self.route.remote(), route.remote()) {
            (Some(old), Some(new)) => old.ip() == new.ip(),
            _ => false,
        };
        if !same_path && !returned {
            self.forget_path(now);
        }
        self.route = route;
        // That the driver had no room for the old one says nothing of this one, and it will not take it back.
        self.ready = true;
    }

    /// The system says that the network is another one: the same addresses may mean another path.
    pub(crate) fn forget_path(&mut self, now: Instant) {
        self.rtt.reset();
        self.reorder = super::Reorder::new();
        self.ecn.restart(self.ecn_wanted);
        self.mtu.restart();
        if self.validation.is_valid() {
            self.mtu.start();
        }
        self.control = Controller::new(self.algorithm, now, self.mtu.current(), self.rng.random());
        self.background = None;
        self.pacer = Pacer::new(now);
        self.delivery_rate = 0;
    }

    /// The size of a packet to try now: a PING padded to it, with `mtu_probe` in its content. Only on a link that works.
    #[inline]
    pub(crate) fn mtu_probe(&mut self, now: Instant) -> Option<u16> {
        if self.status != LinkStatus::Active || self.pto_count > 0 || !self.validation.is_valid() {
            return None;
        }
        self.mtu.probe(now)
    }

    pub(super) fn on_mtu(&mut self, out: &mut Outcome) {
        self.resize();
        out.mtu_changed = true;
    }

    /// Tells the windows how large packets are.
    pub(super) fn resize(&mut self) {
        self.control.on_mtu(self.mtu.current());
        if let Some(background) = &mut self.background {
            background.on_mtu(self.mtu.current());
        }
    }

    /// Ends the link: everything on its way is lost.
    pub(crate) fn close(&mut self, now: Instant, out: &mut Outcome) {
        self.set_status(LinkStatus::Closed, out);
        self.abandon(now, out);
    }
}
