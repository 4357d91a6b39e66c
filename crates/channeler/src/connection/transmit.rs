//! What is sent next.
//!
//! Each call gives one batch: packets for one route, of one length. First what single links need (challenges, probes of the packet
//! size), then data by the order of the [schedule](super::schedule), with acknowledgements in the first packet and control messages
//! where they fit or behind it; and if there is no data, those alone.

use std::time::Instant;

use super::{
    Connection,
    links::Way,
    packet::{self, Batch, Lone},
    phase::Phase,
    records::Item,
    schedule::turn,
    slots::mark,
    turns::LONGEST,
};
use crate::{
    Priority, Transmit,
    channel::{Context, Effects, Room, Wants},
    link::{Class, Content, Permit},
    wire::{
        header::{OVERHEAD, TAG_LEN},
        message::{open_max, put_challenge, put_open, put_ping, put_response},
    },
};

/// Room in the first data packet of a batch below which an acknowledgement does not ride in it.
const ACK_ROOM: usize = 256;
/// The most that an acknowledgement takes of a data packet.
const ACK_SHARE: usize = 128;

/// What became of an attempt to send data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// A packet was added.
    Sent,
    /// The channel has nothing that may be sent.
    Nothing,
}

impl Connection {
    pub(super) fn next_transmit(
        &mut self,
        now: Instant,
        segments: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let transmit = self.transmit_next(now, segments.max(1), buf);
        if matches!(self.phase, Phase::Open) {
            self.let_write(now);
        }
        transmit
    }

    fn transmit_next(&mut self, now: Instant, segments: usize, buf: &mut Vec<u8>) -> Option<Transmit> {
        if let Some(transmit) = self.transmit_beginning(now, buf) {
            return Some(transmit);
        }
        match self.phase {
            Phase::Open => {}
            Phase::Closing(_) => return self.transmit_close(now, buf),
            _ => return None,
        }
        if let Some(transmit) = self.transmit_for_links(now, buf) {
            return Some(transmit);
        }
        // Behind a batch of data there is room for control messages; a single packet takes turns with them.
        let control_first = segments == 1 && self.control_due() && !self.control_had_turn;
        let first = if control_first { self.transmit_control(now, buf) } else { None };
        first
            .or_else(|| self.transmit_data(now, segments, buf))
            .or_else(|| if control_first { None } else { self.transmit_control(now, buf) })
            .or_else(|| self.transmit_probes(now, buf))
            .or_else(|| {
                // Whoever still waits is held back by a window or a pacer, which are not idle.
                if self.schedule.is_empty() {
                    for place in 0..self.links.places() {
                        if let Some(entry) = self.links.get(place) {
                            entry.link.on_idle();
                        }
                    }
                }
                None
            })
    }

    /// What single links need, whatever the rest.
    fn transmit_for_links(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        if let Some(place) = self.twin.place.take() {
            return self.transmit_twin(now, place, buf);
        }
        let several = self.links.places() > 1;
        for place in 0..self.links.places() {
            let Some(entry) = self.links.get(place) else { continue };
            let link = &mut entry.link;
            let (challenge, response) = (link.challenge_due(), link.response_due());
            if challenge.is_some() || response.is_some() {
                // To an address that is not validated only as much as is allowed: then it goes unpadded.
                let base = u32::from(self.config.min_mtu);
                let pad =
                    [base, 100].into_iter().find(|&len| link.can_send(now, len, Class::Probe) == Permit::Yes);
                if let Some(pad) = pad {
                    if challenge.is_some() {
                        link.on_challenge_sent(now);
                    }
                    if response.is_some() {
                        link.on_response_sent();
                    }
                    return self.control_packet(
                        now,
                        place,
                        buf,
                        Lone { pad: pad as usize, ..Lone::PROBE },
                        |buf| {
                            if let Some(token) = challenge {
                                put_challenge(buf, token);
                            }
                            if let Some(token) = response {
                                put_response(buf, token);
                            }
                        },
                    );
                }
            }
            if let Some(size) = link.mtu_probe(now)
                && link.can_send(now, u32::from(size), Class::Normal) == Permit::Yes
            {
                let content = Content { mtu_probe: true, ..Content::EMPTY };
                return self.control_packet(
                    now,
                    place,
                    buf,
                    Lone { pad: usize::from(size), content, eliciting: true },
                    put_ping,
                );
            }
            // The link that data takes acknowledges along with it; the others must not wait for its end.
            if several
                && self.last_place != place
                && link.ack_wanted(now)
                && let Some(transmit) = self.transmit_ack(now, place, buf)
            {
                return Some(transmit);
            }
        }
        None
    }

    /// Data of channels.
    fn transmit_data(&mut self, now: Instant, segments: usize, buf: &mut Vec<u8>) -> Option<Transmit> {
        let control_due = self.control_due();
        self.control_had_turn = false;
        let most = if control_due { (segments - 1).max(1) } else { segments };
        let mut batch: Option<Batch> = None;
        let mut queue = 0;
        let mut quantum = 0;
        while queue < self.schedule.queues() {
            let Some(slot) = self.schedule.front(queue) else {
                queue += 1;
                continue;
            };
            let Some((class, backlog)) = self.is_ready(queue, slot) else { continue };
            let (_, placement) = self.schedule.class(queue);
            let way = self.links.choose(now, placement, class, backlog);
            let (place, twin) = match way {
                Way::Nowhere => {
                    queue += 1;
                    continue;
                }
                Way::One(place) => (place, None),
                Way::Two(place, twin) => (place, Some(twin)),
            };
            let link = self.links.at(place);
            if batch.as_ref().is_some_and(|batch| batch.place != place || twin.is_some()) {
                break;
            }
            let stream = link.is_stream();
            let rate = link.send_rate();
            let current = batch.get_or_insert_with(|| {
                quantum = turn(rate);
                self.turn = (quantum as u32).min(LONGEST);
                let most = if twin.is_some() { 1 } else { most };
                Batch::new(place, stream, most, rate, buf)
            });
            let attempt = self.data_packet(now, slot, current, twin, buf);
            self.end_turn(queue, slot, attempt, quantum);
            if current.is_full() || (twin.is_some() && attempt == Attempt::Sent) {
                self.schedule.yield_queue(queue);
                break;
            }
        }
        let mut batch = batch?;
        self.last_place = batch.place;
        if self.control_due() && !batch.is_full() {
            self.append_control(now, &mut batch, buf);
        }
        batch.transmit(self.links.at(batch.place))
    }

    /// Looks whether the channel at the front of a queue may send, and takes it out if not.
    #[inline]
    fn is_ready(&mut self, queue: usize, slot: u32) -> Option<(Class, u64)> {
        let channel = self.slots.at(slot);
        let (priority, placement) = self.schedule.class(queue);
        let opening = channel.is(mark::OPEN_DUE) && channel.ended.is_none();
        let moved = channel.priority != priority || channel.placement != placement;
        let ready = match channel.channel.wants() {
            Wants::Nothing => opening,
            Wants::Data => opening || self.credit.room(channel.begun) > 0,
            Wants::Repair => true,
            Wants::End => channel.is(mark::OPENING),
        };
        if moved || !ready {
            self.unschedule(queue, slot);
            return None;
        }
        let class = if channel.is_sparse() {
            Class::Sparse
        } else if priority == Priority::BACKGROUND {
            Class::Background
        } else {
            Class::Normal
        };
        Some((class, channel.channel.backlog()))
    }

    /// Takes the channel at the front of a queue out, and puts it where it belongs.
    #[cold]
    fn unschedule(&mut self, queue: usize, slot: u32) {
        self.schedule.pop(queue);
        let channel = self.slots.at(slot);
        channel.clear(mark::SCHEDULED);
        let waits = channel.channel.wants() == Wants::Data && !channel.is(mark::OPEN_DUE);
        if waits && self.credit.room(channel.begun) == 0 {
            if channel.set(mark::CREDIT) {
                self.waiting.push_back(slot);
            }
        } else {
            self.schedule_if_ready(slot);
            self.check_control(slot);
            self.release(slot);
        }
    }

    /// After a packet, or none: whose turn is it?
    #[inline]
    fn end_turn(&mut self, queue: usize, slot: u32, attempt: Attempt, quantum: i32) {
        let channel = self.slots.at(slot);
        let over = channel.turn <= 0;
        if over {
            channel.turn += quantum;
        }
        // One that has said all keeps no place behind others, who may have to wait for long: it comes afresh.
        let idle = over && channel.channel.wants() == Wants::Nothing;
        if attempt == Attempt::Nothing || idle {
            self.schedule.pop(queue);
            channel.clear(mark::SCHEDULED);
            // What it has does not fit into the connection's window.
            if channel.channel.wants() == Wants::Data && channel.set(mark::CREDIT) {
                self.waiting.push_back(slot);
            }
            self.release(slot);
        } else if over {
            self.schedule.rotate(queue);
        }
    }

    /// Adds a packet of a channel to a batch. With a twin, the same goes out by another link next.
    #[inline]
    fn data_packet(
        &mut self,
        now: Instant,
        slot: u32,
        batch: &mut Batch,
        twin: Option<usize>,
        buf: &mut Vec<u8>,
    ) -> Attempt {
        if self.protection.is_none() {
            return Attempt::Nothing;
        }
        let control_due = self.control_due();
        let channel = self.slots.at(slot);
        let link = self.links.at(batch.place);
        let mut mtu = usize::from(link.mtu());
        if let Some(twin) = twin {
            mtu = mtu.min(usize::from(self.links.at(twin).mtu()));
        }
        let link = self.links.at(batch.place);
        let stream = link.is_stream();
        let limit = batch.limit(mtu);
        let start = packet::begin(buf, stream);
        let end = start + limit - TAG_LEN;
        let mut acked = false;
        let opens = channel.is(mark::OPENING);
        let first = if opens { open_max(channel.label.as_deref().map_or(0, <[u8]>::len)) } else { 0 };
        if limit > ACK_ROOM + first
            && twin.is_none()
            && (link.ack_wanted(now) || (batch.is_empty() && link.ack_pending()))
        {
            acked = link.write_ack(now, buf, ACK_SHARE, link.id());
        }
        let data = buf.len();
        if opens {
            let label = channel.label.as_deref().unwrap_or_default();
            if first > end - buf.len() {
                // Only behind smaller packets of the same batch.
                packet::undo(buf, start, stream);
                batch.close();
                return Attempt::Sent;
            }
            put_open(buf, channel.id, channel.channel.capabilities(), channel.priority, label);
        }
        let mut effects = Effects::default();
        let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
        let room = Room {
            bytes: end - buf.len(),
            credit: self.credit.room(channel.begun),
            // Control messages come behind the data, and what goes out twice is sealed twice.
            may_leave: stream && twin.is_none() && !control_due,
        };
        let carried = channel.channel.fill(&mut cx, buf, room, &mut effects);
        self.credit.on_sent(effects.sent);
        self.credit.promise(&mut channel.begun, channel.channel.begun());
        channel.weigh(&mut self.shares);
        if carried.is_none() && !opens && !acked {
            packet::undo(buf, start, stream);
            self.settle(slot, now, &effects);
            return Attempt::Nothing;
        }
        let tracked = opens || carried.is_some();
        if tracked && control_due {
            self.write_control(buf, end);
        }
        batch.pad(buf, start, limit);
        if twin.is_some() {
            self.twin.bytes.clear();
            self.twin.bytes.extend_from_slice(&buf[data..]);
        }
        let protection = self.protection.as_mut().expect("it was there before");
        let (channel, link) = (self.slots.at(slot), self.links.at(batch.place));
        let rest = carried.as_ref().map_or(&[][..], |carried| channel.channel.left_out(carried, &effects));
        let keys = &mut channel.seal;
        let sealed = packet::seal(now, &protection.sealer, keys, channel.id, link, buf, start, rest);
        let mut content = packet::content(slot, channel);
        if let Some(carried) = carried {
            content.start = carried.start;
            content.len = carried.len;
            content.tries = carried.tries;
            content.fin = carried.fin;
        }
        let copies = if twin.is_some() { 2 } else { 1 };
        if tracked {
            channel.refs += copies;
            channel.in_flight += copies;
        } else {
            content = Content::EMPTY;
        }
        if opens {
            channel.clear(mark::OPEN_DUE);
            channel.refs += 1;
            self.items.push(Item::Open(slot));
        }
        if twin.is_some() || !self.items.is_empty() {
            content.control = self.records.take(&mut self.items, copies as u8);
            content.mirrored = twin.is_some();
        }
        let Ok(len) = sealed else {
            // The key is worn out, and the peer confirmed none of it. What it was to carry waits.
            packet::undo(buf, start, stream);
            for _ in 0..copies {
                self.on_content_lost(now, content);
            }
            self.slots.at(slot).clear(mark::OPEN_DUE);
            return Attempt::Nothing;
        };
        channel.turn -= len as i32;
        let second = self.warm.second(now);
        self.warm.note(slot, second);
        channel.used = second;
        link.on_sent(now, len as u32, tracked, content);
        batch.on_packet(len, mtu, buf);
        self.on_packet_sent(now, len, tracked);
        if let Some(twin) = twin {
            self.twin.place = Some(twin);
            self.twin.content = content;
        }
        self.apply(slot, &effects);
        // With nothing but its opening it waits for more to say, or for windows.
        if carried.is_some() { Attempt::Sent } else { Attempt::Nothing }
    }

    /// The second copy of a packet.
    fn transmit_twin(&mut self, now: Instant, place: usize, buf: &mut Vec<u8>) -> Option<Transmit> {
        let content = self.twin.content;
        let protection = self.protection.as_mut()?;
        let channel = self.slots.at(content.channel);
        if self.links.get(place).is_none() {
            self.on_content_lost(now, content);
            return None;
        }
        let link = self.links.at(place);
        let stream = link.is_stream();
        let start = packet::begin(buf, stream);
        buf.extend_from_slice(&self.twin.bytes);
        let keys = &mut channel.seal;
        let Ok(len) = packet::seal(now, &protection.sealer, keys, channel.id, link, buf, start, &[]) else {
            packet::undo(buf, start, stream);
            self.on_content_lost(now, content);
            return None;
        };
        let transmit = Transmit { route: link.route(), ecn: link.ecn(), segment: None };
        link.on_sent(now, len as u32, true, content);
        self.on_packet_sent(now, len, true);
        Some(transmit)
    }

    /// Probes of links that are silent, for which there was no data.
    fn transmit_probes(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        for place in 0..self.links.places() {
            let Some(entry) = self.links.get(place) else { continue };
            let due = entry.link.probes_due() > 0 || entry.ping;
            let small = OVERHEAD as u32 + 2;
            if due && entry.link.can_send(now, small, Class::Probe) == Permit::Yes {
                entry.ping = false;
                return self.control_packet(now, place, buf, Lone::PROBE, put_ping);
            }
        }
        None
    }
}
