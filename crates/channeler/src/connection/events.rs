//! What the program hears, and in which order. Each channel and each link is in its queue once, however much happened to it,
//! so nothing here grows with what is not fetched.

use std::collections::VecDeque;

use super::{Connection, phase::Phase, slots::mark};
use crate::{
    Event,
    channel::Effects,
    endpoint::{EndpointEvent, EndpointEventKind},
};

/// Events that were not fetched.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Whether the program still has to hear that the connection came to be.
    pub(super) connected: bool,
    /// Whether it has to hear that it ended.
    pub(super) closed: bool,
    /// Slots of channels to which something happened.
    channels: VecDeque<u32>,
    /// Places of links whose report is due.
    links: VecDeque<usize>,
    /// For the endpoint.
    endpoint: VecDeque<EndpointEvent>,
}

impl Events {
    /// The endpoint must know this.
    pub(super) fn tell_endpoint(&mut self, kind: EndpointEventKind) {
        self.endpoint.push_back(EndpointEvent(kind));
    }

    /// For the endpoint.
    pub(super) fn next_for_endpoint(&mut self) -> Option<EndpointEvent> {
        self.endpoint.pop_front()
    }

    /// A link's status changed.
    pub(super) fn on_link(&mut self, place: usize) {
        if !self.links.contains(&place) {
            self.links.push_back(place);
        }
    }
}

impl Connection {
    /// Notes an event of a channel.
    pub(super) fn note_event(&mut self, slot: u32, event: u32) {
        let channel = self.slots.at(slot);
        channel.marks |= event;
        if channel.set(mark::EVENT) {
            self.events.channels.push_back(slot);
        }
    }

    /// What an operation on a channel did beyond its result.
    #[inline]
    pub(super) fn apply(&mut self, slot: u32, effects: &Effects) {
        if *effects != Effects::default() {
            self.apply_changes(slot, effects);
        }
    }

    fn apply_changes(&mut self, slot: u32, effects: &Effects) {
        let mut events = 0;
        let channel = self.slots.at(slot);
        if effects.readable {
            events |= mark::READABLE_EVENT;
        }
        if effects.writable {
            events |= mark::WRITABLE_EVENT;
        }
        if effects.window_changed {
            events |= mark::WINDOW_EVENT;
        }
        if effects.finished {
            events |= mark::FINISHED_EVENT;
        }
        if effects.lost_sent | effects.lost_received != 0 {
            channel.lost[0] += effects.lost_sent;
            channel.lost[1] += effects.lost_received;
            events |= mark::LOST_EVENT;
        }
        if let Some(reason) = effects.ended {
            channel.ended = Some(reason);
            events |= mark::ENDED_EVENT;
        }
        if events != 0 && !channel.is(mark::SILENT) {
            self.note_event(slot, events);
        }
    }

    /// The next event.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.events.connected) {
            return Some(Event::Connected);
        }
        while let Some(place) = self.events.links.pop_front() {
            if let Some(report) = self.links.report(place) {
                return Some(Event::Link(report));
            }
        }
        while let Some(&slot) = self.events.channels.front() {
            if let Some(event) = self.channel_event(slot) {
                return Some(event);
            }
            self.events.channels.pop_front();
            self.slots.at(slot).clear(mark::EVENT);
            self.release(slot);
        }
        let over = !matches!(self.phase, Phase::Handshake { .. } | Phase::Open);
        if over && std::mem::take(&mut self.events.closed) {
            return self.error.clone().map(Event::Closed);
        }
        None
    }

    /// The next event of one channel, in the order in which they make sense.
    fn channel_event(&mut self, slot: u32) -> Option<Event> {
        let channel = self.slots.at(slot);
        let id = channel.id;
        let pending = channel.marks & mark::EVENTS;
        if pending == 0 {
            return None;
        }
        let first = pending & pending.wrapping_neg();
        channel.marks &= !first;
        Some(match first {
            mark::OPENED_EVENT => Event::Opened {
                channel: id,
                capabilities: channel.channel.capabilities(),
                label: channel.label.take().map_or_else(Vec::new, <[u8]>::into_vec),
                priority: channel.priority,
            },
            mark::ACCEPTED_EVENT => Event::Accepted(id),
            mark::READABLE_EVENT => Event::Readable(id),
            mark::WRITABLE_EVENT => Event::Writable(id),
            mark::WINDOW_EVENT => {
                let (bytes, messages) = channel.channel.send_window();
                let packet = u64::from(self.links.mtu()) - crate::wire::header::OVERHEAD as u64;
                Event::WindowChanged { channel: id, packets: bytes.div_ceil(packet).min(messages), bytes }
            }
            mark::LOST_EVENT => {
                let [sent, received] = &mut channel.lost;
                let own = *sent > 0;
                let messages = std::mem::take(if own { sent } else { received });
                if own && *received > 0 {
                    channel.marks |= mark::LOST_EVENT;
                }
                Event::Lost { channel: id, messages, sent: own }
            }
            mark::FINISHED_EVENT => Event::Finished(id),
            _ => {
                channel.marks &= !mark::EVENTS;
                Event::Ended(id, channel.ended?)
            }
        })
    }
}
