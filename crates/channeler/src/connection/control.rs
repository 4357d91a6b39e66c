//! Control messages and acknowledgements that go on their own.

use std::time::Instant;

use super::{
    Connection,
    packet::{self, Batch, Lone},
    records::Item,
    slots::mark,
};
use crate::{
    ChannelId, Code, ConnectionId, LinkStatus, Transmit,
    endpoint::EndpointEventKind,
    link::{Class, Content, Permit},
    wire::{
        header::TAG_LEN,
        message::{
            CONTROL_MAX, put_channels, put_connection_window, put_link_preference, put_new_id, put_ping,
            put_retire_link,
        },
    },
};

impl Connection {
    /// Has a control message of the connection sent, which must arrive.
    pub(super) fn say(&mut self, item: Item) {
        if !self.due.contains(&item) {
            self.due.push_back(item);
        }
    }

    /// Whether a control message waits.
    #[inline]
    pub(super) fn control_due(&self) -> bool {
        !self.due.is_empty() || !self.control.is_empty()
    }

    /// A channel may have a control message to send.
    #[inline]
    pub(super) fn check_control(&mut self, slot: u32) {
        let channel = self.slots.at(slot);
        if channel.channel.control_due() && channel.set(mark::CONTROL) {
            self.control.push_back(slot);
        }
    }

    /// Gives the peer connection ids for links to come, if it is short of them.
    pub(super) fn provide_ids(&mut self) {
        use rand::RngExt as _;
        while let Some(link) = self.links.wants_id() {
            let id = ConnectionId(self.rng.random());
            self.links.issue(link, id);
            self.events.tell_endpoint(EndpointEventKind::NewId(id));
            self.say(Item::NewId(link));
        }
    }

    /// Puts the control messages that wait into a packet that may grow to `end`. What they were is in `items`.
    pub(super) fn write_control(&mut self, buf: &mut Vec<u8>, end: usize) {
        while let Some(&item) = self.due.front() {
            if end - buf.len() < CONTROL_MAX {
                return;
            }
            self.due.pop_front();
            match item {
                Item::ConnectionWindow => put_connection_window(buf, self.credit.tell()),
                Item::Channels => {
                    self.serials_told = self.serials_told.max(self.serials_bound());
                    put_channels(buf, self.serials_told);
                }
                Item::NewId(link) => match self.links.unused_id(link) {
                    Some(id) => put_new_id(buf, link, id, &self.resets.of(id)),
                    None => continue,
                },
                Item::RetireLink(link) => put_retire_link(buf, link, Code::DONE),
                Item::Preference(link) => {
                    let Some(place) = self.links.by_id(link) else { continue };
                    let Some(entry) = self.links.get(place) else { continue };
                    put_link_preference(buf, link, !entry.own_backup);
                }
                Item::Open(_) | Item::Channel(..) => continue,
            }
            self.items.push(item);
        }
        while let Some(&slot) = self.control.front() {
            let channel = self.slots.at(slot);
            // Before the peer knows the channel it hears nothing of it but OPEN, or that it is over.
            let held = channel.is(mark::OPENING) && channel.ended.is_none();
            if !held {
                if let Some(said) = channel.channel.write_control(buf, end - buf.len()) {
                    channel.refs += 1;
                    self.items.push(Item::Channel(slot, said));
                    continue;
                }
                if channel.channel.control_due() {
                    return;
                }
            }
            channel.clear(mark::CONTROL);
            self.control.pop_front();
            self.release(slot);
        }
    }

    /// Writes a packet of the control channel: an acknowledgement if one is pending, and what waits if `messages`. Gives its length.
    fn control_into(
        &mut self,
        now: Instant,
        place: usize,
        limit: usize,
        messages: bool,
        buf: &mut Vec<u8>,
    ) -> Option<usize> {
        let link = self.links.at(place);
        let stream = link.is_stream();
        let start = packet::begin(buf, stream);
        let end = start + limit - TAG_LEN;
        let mut wanted = false;
        if link.ack_pending() {
            let room = if messages { (end - buf.len()) / 2 } else { end - buf.len() - 2 };
            let id = link.id();
            link.write_ack(now, buf, room, id);
            wanted = link.ack_wants_ack();
        }
        if messages {
            self.write_control(buf, end);
        }
        if wanted && self.items.is_empty() && end - buf.len() >= 2 {
            put_ping(buf);
        } else {
            wanted = false;
        }
        if buf.len() == start + crate::wire::header::HEADER_LEN {
            packet::undo(buf, start, stream);
            return None;
        }
        let eliciting = wanted || !self.items.is_empty();
        let mut content = Content::EMPTY;
        if !self.items.is_empty() {
            content.control = self.records.take(&mut self.items, 1);
            self.control_in_flight += 1;
        }
        let protection = self.protection.as_mut()?;
        let link = self.links.at(place);
        let sealed = packet::seal(
            now,
            &protection.sealer,
            &mut protection.seal,
            ChannelId::CONTROL,
            link,
            buf,
            start,
            &[],
        );
        let Ok(len) = sealed else {
            packet::undo(buf, start, stream);
            if content.is_tracked() {
                self.on_content_lost(now, content);
            }
            return None;
        };
        content.keys = protection.seal.keys();
        link.on_sent(now, len as u32, eliciting, content);
        self.on_packet_sent(now, len, eliciting);
        Some(len)
    }

    /// Adds what waits to a batch of data.
    pub(super) fn append_control(&mut self, now: Instant, batch: &mut Batch, buf: &mut Vec<u8>) {
        let class = self.control_class();
        let link = self.links.at(batch.place);
        let mtu = usize::from(link.mtu());
        let limit = batch.limit(mtu);
        if limit >= 256
            && link.can_send(now, limit as u32, class) == Permit::Yes
            && let Some(len) = self.control_into(now, batch.place, limit, true, buf)
        {
            batch.on_packet(len, mtu, buf);
        }
    }

    fn control_class(&self) -> Class {
        if self.control_in_flight == 0 { Class::Sparse } else { Class::Normal }
    }

    /// Control messages without data, and acknowledgements without either.
    pub(super) fn transmit_control(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.control_had_turn = true;
        if self.control_due()
            && let Some(place) = self.links.for_control()
        {
            let class = self.control_class();
            let link = self.links.at(place);
            let mtu = link.mtu();
            let transmit = Transmit { route: link.route(), ecn: link.ecn(), segment: None };
            if link.can_send(now, u32::from(mtu), class) == Permit::Yes
                && self.control_into(now, place, usize::from(mtu), true, buf).is_some()
            {
                return Some(transmit);
            }
        }
        for place in 0..self.links.places() {
            let wanted = self.links.get(place).is_some_and(|entry| entry.link.ack_wanted(now));
            if wanted && let Some(transmit) = self.transmit_ack(now, place, buf) {
                return Some(transmit);
            }
        }
        None
    }

    /// An acknowledgement of what came by one link: by the same if that works.
    pub(super) fn transmit_ack(&mut self, now: Instant, place: usize, buf: &mut Vec<u8>) -> Option<Transmit> {
        let entry = self.links.get(place)?;
        // A way that was not tried yet is tried by this, too; and only by the same is the round trip that of the link.
        let works = entry.tier() < 2
            || entry.leaves.is_some()
            || (entry.link.status() == LinkStatus::Validating
                && entry.link.can_send(now, u32::from(entry.link.mtu()), Class::Ack) == Permit::Yes);
        let carrier = if works { place } else { self.links.for_control().unwrap_or(place) };
        let link = self.links.at(carrier);
        let mtu = link.mtu();
        if link.can_send(now, u32::from(mtu), Class::Ack) != Permit::Yes {
            return None;
        }
        let transmit = Transmit { route: link.route(), ecn: link.ecn(), segment: None };
        if carrier == place {
            return self.control_into(now, place, usize::from(mtu), false, buf).map(|_| transmit);
        }
        let id = link.id();
        let mut ack = std::mem::take(&mut self.scratch);
        ack.clear();
        let room = usize::from(mtu) - crate::wire::header::OVERHEAD;
        let written = self.links.at(place).write_ack(now, &mut ack, room, id);
        let sent = written
            .then(|| self.control_packet(now, carrier, buf, Lone::QUIET, |buf| buf.extend_from_slice(&ack)));
        self.scratch = ack;
        sent.flatten()
    }
}
