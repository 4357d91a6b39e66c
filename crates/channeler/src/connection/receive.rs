//! What arrives: which link and channel it is for, whether it is authentic and new, and where it came from.

use std::time::Instant;

use bytes::BytesMut;

use super::{
    Connection,
    links::{Named, Theirs},
    phase::Phase,
};
use crate::{
    ChannelId, ConnectionError, ConnectionId, Ecn, LinkId, Route, Violation,
    channel::PIECE,
    crypto::{ChannelOpen, Undecryptable},
    endpoint::EndpointEventKind,
    link::{Arrival, Link},
    wire::{
        self,
        header::{HEADER_LEN, OVERHEAD, expand},
        message::{Messages, kind},
    },
};

/// A channel of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The connection's own.
    Control,
    /// The one in this slot.
    Slot(u32),
    /// One that the peer opens with this packet.
    New(ChannelId),
    /// One that is over: only what the packet says of others matters.
    Gone,
}

impl Connection {
    pub(super) fn on_datagram(&mut self, now: Instant, route: Route, ecn: Option<Ecn>, packet: &mut [u8]) {
        let Some(&first) = packet.first() else { return };
        if !wire::header::is_data(first) {
            self.on_handshake_packet(now, route, packet);
            return;
        }
        match &mut self.phase {
            Phase::Open => self.on_data_packet(now, route, ecn, packet),
            Phase::Handshake { early, .. } => {
                if !early.keep(route, packet) {
                    self.stats.unexpected += 1;
                }
            }
            Phase::Closing(closing) => closing.on_packet(),
            Phase::Draining { .. } | Phase::Drained => {}
        }
    }

    fn on_data_packet(&mut self, now: Instant, route: Route, ecn: Option<Ecn>, packet: &mut [u8]) {
        let Some(protection) = self.protection.as_mut() else { return };
        if packet.len() < OVERHEAD {
            self.stats.unexpected += 1;
            return;
        }
        let Some(header) = protection.opener.unprotect(packet) else {
            self.stats.undecryptable += 1;
            return;
        };
        let (link, expected, place) = match self.links.named(header.cid) {
            Some(Named::Link(place)) => {
                let link = self.links.at(place);
                (link.id(), link.expected_pn(), Some(place))
            }
            Some(Named::Unused(link)) => (link, 0, None),
            None => {
                self.on_strange_id(now, route, header.cid, packet);
                return;
            }
        };
        let pn = expand(header.pn as u32, expected);
        if place.is_some_and(|place| !self.links.at(place).is_fresh(pn)) {
            self.stats.duplicates += 1;
            return;
        }
        let mut fresh_keys = None;
        let target;
        let keys = if header.channel == ChannelId::CONTROL {
            target = Target::Control;
            &mut protection.open
        } else if let Some(slot) = self.slots.find(header.channel) {
            target = Target::Slot(slot);
            let second = self.warm.second(now);
            self.warm.note(slot, second);
            let channel = self.slots.at(slot);
            channel.used = second;
            &mut channel.open
        } else {
            let Some(known) = strange_channel(
                header.channel,
                header.channel.opener() == self.side,
                self.next_serial,
                self.serials_told,
                self.serials.contains(header.channel.serial()),
            ) else {
                self.stats.unexpected += 1;
                return;
            };
            target = known;
            let generation = self.gone.iter().find(|gone| gone.0 == header.channel).map_or(0, |gone| gone.1);
            fresh_keys.insert(ChannelOpen::again(header.channel, generation))
        };
        // One that is nearly as long as may be goes to a buffer of its own, which the data in it then stays in.
        let longest = usize::from(self.config.max_stream_packet);
        let whole = longest > PIECE && (longest - longest / 64..=longest).contains(&packet.len());
        let mut apart = whole.then(|| self.pool.lend(longest - OVERHEAD));
        let opened = protection.opener.open(now, keys, link, pn, header.phase, packet, apart.as_deref_mut());
        let len = match opened {
            Ok(len) => len,
            Err(Undecryptable::Forged) => {
                self.stats.undecryptable += 1;
                return;
            }
            Err(Undecryptable::TooMany) => {
                self.fail(now, ConnectionError::Violation(Violation::Limit));
                return;
            }
        };
        let place = match place {
            Some(place) => place,
            None => match self.link_of_peer(now, link, route) {
                Some(place) => place,
                None => {
                    self.stats.unexpected += 1;
                    return;
                }
            },
        };
        let bytes = packet.len();
        let whole = apart.map(BytesMut::freeze);
        let plain = match &whole {
            Some(whole) => {
                self.pool.remember(whole.clone());
                &whole[..len]
            }
            None => &packet[HEADER_LEN..HEADER_LEN + len],
        };
        let eliciting = is_eliciting(plain);
        let link = self.links.at(place);
        if !link.route().is_same(route) && link.is_newest(pn) {
            link.on_moved(now, route);
            self.events.on_link(place);
        }
        let link = self.links.at(place);
        if link.on_packet(now, pn, eliciting, ecn, bytes) == Arrival::Duplicate {
            self.stats.duplicates += 1;
            return;
        }
        self.stats.packets_received += 1;
        self.stats.bytes_received += bytes as u64;
        self.idle.on_received(now);
        if self.beginning.is_some() {
            self.on_first_packet();
        }
        let result = self.on_messages(now, place, target, fresh_keys, plain, whole.as_ref());
        if let Err(violation) = result.and_then(|()| self.fault.take().map_or(Ok(()), Err)) {
            self.fail(now, ConnectionError::Violation(violation));
        }
    }

    /// The id is none of a link here: the peer may say that it knows nothing of the connection.
    #[cold]
    fn on_strange_id(&mut self, now: Instant, route: Route, id: ConnectionId, packet: &[u8]) {
        if self.links.is_reset(route, id, packet) {
            self.fail(now, ConnectionError::Forgotten);
        } else {
            self.stats.unexpected += 1;
        }
    }

    /// The peer adds a link: a packet with an id that no link had yet is authentic.
    fn link_of_peer(&mut self, now: Instant, link: LinkId, route: Route) -> Option<usize> {
        let by_peer = link.index().is_multiple_of(2) == (self.side == crate::Side::Responder);
        // Those that are being left are few, too, or they could be added and dropped without end.
        let most = self.config.max_links;
        if !by_peer || self.links.living() >= most || self.links.count() >= 2 * most {
            return None;
        }
        let (own, theirs) = self.links.take_ids(link)?;
        Some(self.start_link(now, link, route, own, theirs))
    }

    /// Puts a new link in its place.
    pub(super) fn start_link(
        &mut self,
        now: Instant,
        id: LinkId,
        route: Route,
        own: ConnectionId,
        theirs: Theirs,
    ) -> usize {
        use rand::Rng as _;
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let mut link = Link::new(id, route, self.side, own, theirs.id, &self.config, now, seed);
        link.set_peer(self.theirs.ack_delay, self.theirs.datagram, self.theirs.stream_packet);
        link.set_idle_timeout(self.idle.timeout());
        let place = self.links.insert(link, theirs.reset);
        if let Some(reset) = theirs.reset {
            self.events.tell_endpoint(EndpointEventKind::NewReset(reset.name()));
        }
        self.events.on_link(place);
        self.provide_ids();
        place
    }
}

/// What a packet of a channel without a slot is for, if it can be authentic.
#[cold]
fn strange_channel(channel: ChannelId, own: bool, next_own: u32, told: u64, used: bool) -> Option<Target> {
    let serial = channel.serial();
    if own {
        (serial < next_own).then_some(Target::Gone)
    } else if used {
        Some(Target::Gone)
    } else {
        (u64::from(serial) < told).then_some(Target::New(channel))
    }
}

/// Whether a packet wants an acknowledgement: it holds more than acknowledgements and padding.
#[inline]
fn is_eliciting(plain: &[u8]) -> bool {
    match plain.first() {
        None | Some(&kind::PADDING) => false,
        Some(&(kind::ACK | kind::ACK_ECN | kind::CLOSE)) => Messages(plain).any(|message| {
            !matches!(message, Ok(wire::message::Message::Ack(_) | wire::message::Message::Close { .. }))
        }),
        Some(_) => true,
    }
}
