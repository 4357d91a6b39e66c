//! The beginning: from the first packet of the handshake to keys on both sides.

use std::{sync::Arc, time::Instant};

use rand::{Rng as _, RngExt as _, rngs::StdRng};

use super::{
    Connection, Protection,
    links::Theirs,
    phase::{Early, Phase},
};
use crate::{
    ChannelId, Config, ConnectionError, ConnectionId, HandshakeError, LinkId, Route, Side, Transmit,
    Violation,
    channel::Effects,
    crypto::{ChannelOpen, ChannelSeal},
    endpoint::EndpointEventKind,
    handshake::{Established, Handshake, Progress},
    parameters::{FIRST_IDS, Parameters},
    reset::ResetKey,
    wire,
};

/// The handshake, for as long as anything of it may have to be sent again.
#[derive(Debug)]
pub(super) struct Beginning {
    handshake: Handshake,
    route: Route,
}

/// What a connection is born with.
pub(crate) struct Birth {
    pub(crate) side: Side,
    pub(crate) config: Arc<Config>,
    pub(crate) route: Route,
    pub(crate) seed: [u8; 32],
    /// Own connection ids of links 0, 1, 2 and so on.
    pub(crate) ids: Vec<ConnectionId>,
    /// Makes what resets for them hold.
    pub(crate) resets: ResetKey,
}

impl Birth {
    /// Fresh ids and seed.
    pub(crate) fn new(
        side: Side,
        config: Arc<Config>,
        route: Route,
        resets: ResetKey,
        rng: &mut StdRng,
    ) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let ids = (0..=FIRST_IDS).map(|_| ConnectionId(rng.random())).collect();
        Self { side, config, route, seed, ids, resets }
    }

    /// What goes into the handshake.
    pub(crate) fn parameters(&self) -> Vec<u8> {
        let resets = self.ids.iter().map(|id| self.resets.of(*id)).collect();
        Parameters::of(&self.config, self.ids[1..].to_vec(), resets).encode()
    }
}

impl Beginning {
    pub(super) fn new(handshake: Handshake, route: Route) -> Self {
        Self { handshake, route }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.handshake.poll_timeout()
    }
}

impl Connection {
    /// The next packet of the handshake.
    pub(super) fn transmit_beginning(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        let beginning = self.beginning.as_mut()?;
        let stream = beginning.route.is_stream();
        let start = buf.len();
        let max = if stream { self.config.max_stream_packet } else { self.config.min_mtu };
        if stream {
            buf.extend_from_slice(&[0; 2]);
        }
        if !beginning.handshake.poll_transmit(now, usize::from(max), buf) {
            buf.truncate(start);
            return None;
        }
        if stream {
            let len = (buf.len() - start - 2) as u16;
            buf[start..start + 2].copy_from_slice(&len.to_be_bytes());
        }
        let transmit = Transmit { route: beginning.route, ecn: None, segment: None };
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += (buf.len() - start) as u64;
        Some(transmit)
    }

    pub(super) fn on_handshake_packet(&mut self, now: Instant, route: Route, packet: &[u8]) {
        let Some(beginning) = self.beginning.as_mut().filter(|beginning| beginning.route.is_same(route))
        else {
            self.stats.unexpected += 1;
            return;
        };
        let Ok(parsed) = wire::handshake::parse(packet) else {
            self.stats.unexpected += 1;
            return;
        };
        match beginning.handshake.handle(now, &parsed, packet.len()) {
            Ok(Progress::More) => {}
            Ok(Progress::Complete(established)) => self.on_established(now, *established),
            Err(error) => self.on_handshake_error(now, error),
        }
    }

    pub(super) fn on_handshake_timeout(&mut self, now: Instant) {
        let Some(beginning) = self.beginning.as_mut() else { return };
        if let Err(error) = beginning.handshake.handle_timeout(now) {
            self.on_handshake_error(now, error);
        }
    }

    fn on_handshake_error(&mut self, now: Instant, error: HandshakeError) {
        self.beginning = None;
        self.fail(
            now,
            match error {
                HandshakeError::TimedOut => ConnectionError::NoAnswer,
                error => ConnectionError::Handshake(error),
            },
        );
    }

    /// Both sides have keys, or will when what is still on its way arrives.
    fn on_established(&mut self, now: Instant, established: Established) {
        let Phase::Handshake { early } = std::mem::replace(&mut self.phase, Phase::Open) else { return };
        let Some(route) = self.beginning.as_ref().map(|beginning| beginning.route) else { return };
        let Ok(mut theirs) = Parameters::decode(&established.parameters) else {
            self.phase = Phase::Handshake { early: Early::default() };
            self.fail(now, ConnectionError::Violation(Violation::Parameters));
            return;
        };
        let (sealer, opener) = established.secrets.split(self.side);
        self.protection = Some(Box::new(Protection {
            sealer,
            opener,
            seal: ChannelSeal::new(ChannelId::CONTROL),
            open: ChannelOpen::new(ChannelId::CONTROL),
        }));
        self.peer = Some(established.peer);
        self.idle.limit(theirs.idle_timeout);
        self.idle.on_received(now);
        self.credit.allow(theirs.connection_window);
        self.serials_allowed = theirs.channels;
        let zero = LinkId(0);
        let ids = std::iter::once(established.peer_cid).chain(std::mem::take(&mut theirs.ids));
        let resets = std::mem::take(&mut theirs.resets).into_iter().map(Some).chain(std::iter::repeat(None));
        for ((link, id), reset) in (0..).map(LinkId).zip(ids).zip(resets) {
            self.links.on_id(link, Theirs { id, reset });
        }
        self.theirs = theirs;
        if let Some((own, theirs)) = self.links.take_ids(zero) {
            let place = self.start_link(now, zero, route, own, theirs);
            let link = self.links.at(place);
            if let Some(rtt) = established.rtt {
                link.set_rtt(now, rtt);
            }
            // The responder of IK has seen no answer of the initiator yet: its first packet will be one.
            if established.confirmed || self.side == Side::Initiator {
                link.set_validated();
            }
            self.ping(place);
            self.rtt = self.links.rtt();
        }
        self.apply_limits(now);
        if established.confirmed {
            self.on_first_packet();
        } else if self.side == Side::Initiator {
            self.events.connected = true;
            self.was_connected = true;
        }
        for (route, mut packet) in early.into_packets() {
            self.on_datagram(now, route, None, &mut packet);
        }
    }

    /// Channels that were opened before the peer's limits were known learn them.
    fn apply_limits(&mut self, now: Instant) {
        let limits = self.peer_limits();
        for slot in 0..self.slots.bound() {
            if self.slots.get(slot).is_some() {
                let mut effects = Effects::default();
                self.slots.at(slot).channel.on_limits(limits, &mut effects);
                effects.window_changed = false;
                self.settle(slot, now, &effects);
            }
        }
        self.on_credit();
    }

    /// The first packet that the peer protected with the new keys: it has them, and is alive.
    #[cold]
    pub(super) fn on_first_packet(&mut self) {
        self.beginning = None;
        self.events.tell_endpoint(EndpointEventKind::Confirmed);
        if let Some(place) = self.links.by_id(LinkId(0)) {
            let link = self.links.at(place);
            if !link.is_validated() {
                link.set_validated();
                self.events.on_link(place);
            }
        }
        if !std::mem::replace(&mut self.was_connected, true) {
            self.events.connected = true;
        }
    }
}
