//! What became of packets: the channels and the control messages hear of it.

use std::time::Instant;

use super::{Connection, records::Item, slots::mark};
use crate::{
    channel::{Carried, Context, Effects},
    link::Content,
};

/// The data that a packet carried, if any.
#[inline]
fn carried(content: &Content) -> Option<Carried> {
    (content.len > 0 || content.fin).then_some(Carried {
        start: content.start,
        len: content.len,
        tries: content.tries,
        fin: content.fin,
        mirrored: false,
    })
}

impl Connection {
    /// Takes what a link found out. Its place, for the report.
    pub(super) fn take_outcome(&mut self, now: Instant, place: usize) {
        let mut outcome = std::mem::take(&mut self.outcome);
        for &content in &outcome.acked {
            self.on_content_acked(now, content);
        }
        for &content in &outcome.lost {
            self.stats.packets_lost += 1;
            self.on_content_lost(now, content);
        }
        for content in &outcome.late {
            self.on_content_late(now, content);
        }
        if outcome.status_changed {
            self.events.on_link(place);
        }
        if outcome.progress || outcome.status_changed {
            self.rtt = self.links.rtt();
        }
        let status_changed = outcome.status_changed;
        outcome.clear();
        self.outcome = outcome;
        if status_changed {
            self.on_link_status(now);
        }
    }

    #[inline]
    fn on_content_acked(&mut self, now: Instant, content: Content) {
        if content.control != Content::NONE {
            self.on_record_settled(now, &content, true);
        }
        if content.channel != Content::NONE {
            let slot = content.channel;
            let channel = self.slots.at(slot);
            channel.refs -= 1;
            channel.in_flight -= 1;
            channel.seal.on_acked(now, content.keys);
            let mut effects = Effects::default();
            if let Some(carried) = carried(&content) {
                let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
                channel.channel.on_acked(&mut cx, &carried, &mut effects);
            }
            self.settle(slot, now, &effects);
        } else if let Some(protection) = &mut self.protection {
            protection.seal.on_acked(now, content.keys);
        }
    }

    pub(super) fn on_content_lost(&mut self, now: Instant, content: Content) {
        let mut gone = true;
        if content.control != Content::NONE {
            gone = self.on_record_settled(now, &content, false);
        }
        if content.channel != Content::NONE {
            let slot = content.channel;
            let channel = self.slots.at(slot);
            channel.refs -= 1;
            channel.in_flight -= 1;
            let mut effects = Effects::default();
            if gone && let Some(carried) = carried(&content) {
                let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
                channel.channel.on_lost(&mut cx, &carried, &mut effects);
            }
            self.settle(slot, now, &effects);
        }
    }

    /// It was given up, and arrived after all: that may spare a repair.
    fn on_content_late(&mut self, now: Instant, content: &Content) {
        let slot = content.channel;
        let same = self.slots.get(slot).is_some_and(|channel| channel.generation == content.generation);
        if same && let Some(carried) = carried(content) {
            let mut effects = Effects::default();
            let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
            self.slots.at(slot).channel.on_acked(&mut cx, &carried, &mut effects);
            self.settle(slot, now, &effects);
        }
    }

    /// One copy of a packet with a record came to its end. Whether the packet is lost for good: no copy arrived, none is on its way.
    fn on_record_settled(&mut self, now: Instant, content: &Content, arrived: bool) -> bool {
        if content.channel == Content::NONE {
            self.control_in_flight -= 1;
        }
        let Some(arrived) = self.records.settle(content.control, arrived) else { return false };
        let mut items = std::mem::take(&mut self.settled);
        self.records.finish(content.control, &mut items);
        for item in items.drain(..) {
            if arrived {
                self.on_item_acked(now, &item);
            } else {
                self.on_item_lost(now, &item);
            }
        }
        self.settled = items;
        !arrived
    }

    fn on_item_acked(&mut self, now: Instant, item: &Item) {
        let mut effects = Effects::default();
        let slot = match item {
            Item::Open(slot) => {
                let channel = self.slots.at(*slot);
                if channel.clear(mark::OPENING) {
                    channel.clear(mark::OPEN_DUE);
                    channel.label = None;
                }
                *slot
            }
            Item::Channel(slot, said) => {
                let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
                self.slots.at(*slot).channel.on_control_acked(&mut cx, said, &mut effects);
                *slot
            }
            _ => return,
        };
        self.slots.at(slot).refs -= 1;
        self.settle(slot, now, &effects);
    }

    fn on_item_lost(&mut self, now: Instant, item: &Item) {
        let slot = match item {
            Item::Open(slot) => {
                let channel = self.slots.at(*slot);
                if channel.is(mark::OPENING) && channel.ended.is_none() {
                    channel.set(mark::OPEN_DUE);
                }
                *slot
            }
            Item::Channel(slot, said) => {
                self.slots.at(*slot).channel.on_control_lost(said);
                *slot
            }
            _ => {
                self.say(*item);
                return;
            }
        };
        self.slots.at(slot).refs -= 1;
        self.settle(slot, now, &Effects::default());
    }
}
