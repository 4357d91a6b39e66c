//! Links that come, fall silent and go.

use std::time::Instant;

use super::{
    AddLinkError, Connection,
    phase::{Phase, linger},
    records::Item,
};
use crate::{
    LinkId, LinkReport, LinkStatus, Priority, Route, Side,
    channel::{Carried, Effects, Said},
    endpoint::EndpointEventKind,
    link::{Content, LinkTimeout},
};

/// Packets of a silent link that are repeated on another before it is known to be dead.
const REINJECTED: usize = 2048;

impl Connection {
    /// Adds a way to the peer, which becomes active when the peer answered on it.
    pub fn add_link(&mut self, now: Instant, route: Route) -> Result<LinkId, AddLinkError> {
        match self.phase {
            Phase::Open => {}
            Phase::Handshake { .. } => return Err(AddLinkError::NotConnected),
            _ => return Err(AddLinkError::Closed),
        }
        if self.links.has_route(route) {
            return Err(AddLinkError::RouteTaken);
        }
        let most = self.config.max_links.min(usize::try_from(self.theirs.links).unwrap_or(usize::MAX));
        if self.links.living() >= most {
            return Err(AddLinkError::TooMany);
        }
        let (link, own, theirs) = self.links.next_own().ok_or(AddLinkError::NoId)?;
        self.start_link(now, link, route, own, theirs);
        Ok(link)
    }

    /// Drops a link on both sides. What is on its way still arrives; what is lost of it is repeated on others.
    pub fn close_link(&mut self, now: Instant, link: LinkId) {
        if let Some(place) = self.links.by_id(link)
            && matches!(self.phase, Phase::Open)
        {
            self.say(Item::RetireLink(link));
            self.leave_link(now, place);
        }
    }

    /// Whether the peer is to use this link: one that is not available is kept warm as a backup. Links start available.
    pub fn set_available(&mut self, link: LinkId, available: bool) {
        if let Some(place) = self.links.by_id(link)
            && let Some(entry) = self.links.get(place)
            && entry.own_backup == available
        {
            entry.own_backup = !available;
            self.say(Item::Preference(link));
        }
    }

    /// Whether the driver can take packets for this route. Routes start ready.
    pub fn set_ready(&mut self, route: Route, ready: bool) {
        for place in 0..self.links.places() {
            if let Some(entry) = self.links.get(place)
                && entry.link.route().is_same(route)
            {
                entry.link.set_ready(ready);
            }
        }
    }

    /// The driver's socket or stream broke: the links on it are closed and what was on its way is repeated on others.
    pub fn link_lost(&mut self, now: Instant, route: Route) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        for place in 0..self.links.places() {
            if let Some(entry) = self.links.get(place)
                && entry.link.route().is_same(route)
                && entry.link.status() != LinkStatus::Closed
            {
                let id = entry.link.id();
                self.leave_link(now, place);
                self.say(Item::RetireLink(id));
                self.cut_link(now, place);
            }
        }
    }

    /// A hint that addresses changed (another network, waking up): every link is probed at once, and those that are dead every second
    /// again.
    pub fn network_changed(&mut self, now: Instant) {
        for place in 0..self.links.places() {
            if let Some(entry) = self.links.get(place) {
                entry.ping |= !entry.link.try_again(now);
            }
        }
    }

    /// What is known about each link.
    pub fn links(&self) -> impl Iterator<Item = LinkReport> + '_ {
        self.links.iter().filter_map(|(place, _)| self.links.report(place))
    }

    /// Has something sent by a link that the peer acknowledges.
    pub(super) fn ping(&mut self, place: usize) {
        if let Some(entry) = self.links.get(place) {
            entry.ping = true;
        }
    }

    /// No more data by this link. It is forgotten when what was on its way is settled.
    pub(super) fn leave_link(&mut self, now: Instant, place: usize) {
        let Some(entry) = self.links.get(place) else { return };
        let until = now + linger(entry.link.pto());
        if self.links.leave(now, place, until) {
            self.events.on_link(place);
            self.rtt = self.links.rtt();
        }
    }

    /// What is on its way by a link is lost.
    fn cut_link(&mut self, now: Instant, place: usize) {
        if let Some(entry) = self.links.get(place) {
            entry.link.close(now, &mut self.outcome);
            self.outcome.status_changed = false;
            self.take_outcome(now, place);
        }
    }

    /// Forgets a link that was left.
    pub(super) fn forget_link(&mut self, now: Instant, place: usize) {
        self.cut_link(now, place);
        if let Some((id, reset)) = self.links.remove(place) {
            self.events.tell_endpoint(EndpointEventKind::RetireId(id));
            if let Some(reset) = reset {
                self.events.tell_endpoint(EndpointEventKind::RetireReset(reset.name()));
            }
        }
    }

    /// The peer gave a link up before a packet of it came: none may begin it any more.
    pub(super) fn retire_unused(&mut self, link: LinkId) {
        let by_peer = link.index().is_multiple_of(2) == (self.side == Side::Responder);
        if by_peer && let Some((own, _)) = self.links.take_ids(link) {
            self.events.tell_endpoint(EndpointEventKind::RetireId(own));
            self.provide_ids();
        }
    }

    /// A link did not answer in time.
    pub(super) fn on_silence(&mut self, now: Instant, place: usize, silence: LinkTimeout) {
        let other = self.links.has_other(place);
        let Some(entry) = self.links.get(place) else { return };
        if entry.leaves.is_some() && other {
            self.cut_link(now, place);
            return;
        }
        match silence {
            LinkTimeout::Dead if other => {
                entry.link.abandon(now, &mut self.outcome);
                self.take_outcome(now, place);
            }
            LinkTimeout::Suspect if other => self.repeat(now, place, REINJECTED),
            // Probes take along what is missed the longest.
            _ => self.repeat(now, place, 2),
        }
    }

    /// Has the oldest of what is on its way by a link sent once more, by whatever link is best now.
    fn repeat(&mut self, now: Instant, place: usize, most: usize) {
        let mut contents = std::mem::take(&mut self.repeated);
        let unacked = self.links.at(place).unacked();
        contents
            .extend(unacked.filter(|content| content.is_tracked() && !content.mirrored).take(most).copied());
        for content in contents.drain(..) {
            if content.control != Content::NONE {
                self.repeat_said(now, content.control);
            }
            if content.channel == Content::NONE {
                continue;
            }
            let channel = self.slots.at(content.channel);
            if channel.priority == Priority::BACKGROUND && most > 2 {
                continue;
            }
            channel.channel.repeat(&Carried {
                start: content.start,
                len: content.len,
                tries: content.tries,
                fin: content.fin,
                mirrored: false,
            });
            self.settle(content.channel, now, &Effects::default());
        }
        self.repeated = contents;
    }

    /// Ends of directions and windows, which the peer may wait for, are told once more.
    fn repeat_said(&mut self, now: Instant, record: u32) {
        let mut items = std::mem::take(&mut self.settled);
        items.extend_from_slice(self.records.items(record));
        for item in items.drain(..) {
            match item {
                Item::Channel(slot, said @ (Said::Finish | Said::Window(..))) => {
                    self.slots.at(slot).channel.on_control_lost(&said);
                    self.settle(slot, now, &Effects::default());
                }
                Item::ConnectionWindow | Item::Channels => self.say(item),
                _ => {}
            }
        }
        self.settled = items;
    }

    /// Links changed their status: what a dead one holds goes to one that works.
    pub(super) fn on_link_status(&mut self, now: Instant) {
        for place in 0..self.links.places() {
            if let Some(entry) = self.links.get(place)
                && entry.link.status() == LinkStatus::Dead
                && entry.link.in_flight() > 0
                && self.links.has_other(place)
            {
                let mut outcome = std::mem::take(&mut self.outcome);
                self.links.at(place).abandon(now, &mut outcome);
                self.outcome = outcome;
                self.take_outcome(now, place);
            }
        }
    }
}
