//! What time brings about.

use std::time::{Duration, Instant};

use super::{
    Connection,
    phase::{Closing, Phase},
    warm,
};
use crate::{
    ConnectionError, LinkStatus,
    channel::{Context, Effects},
    link::LinkTimeout,
};

impl Connection {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let beginning = self.beginning.as_ref().and_then(super::begin::Beginning::poll_timeout);
        match &self.phase {
            Phase::Handshake { .. } => beginning,
            Phase::Closing(Closing { until, .. }) | Phase::Draining { until } => Some(*until),
            Phase::Drained => None,
            Phase::Open => {
                let mut next = self.idle.deadline(self.least_idle());
                let links =
                    self.links.iter().flat_map(|(_, entry)| [entry.link.poll_timeout(), entry.leaves]);
                let others = [
                    beginning,
                    self.deadlines.next(),
                    self.warm.next(),
                    self.bare_deadline(),
                    self.pool.poll_timeout(),
                    self.shares.poll_timeout(),
                ];
                for at in links.chain(others).flatten() {
                    next = next.min(at);
                }
                Some(next)
            }
        }
    }

    /// However short the timeout: what it takes to notice that a link is dead, and to try once more.
    fn least_idle(&self) -> Duration {
        3 * self.links.iter().map(|(_, entry)| entry.link.pto()).max().unwrap_or_default()
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        self.on_handshake_timeout(now);
        match &self.phase {
            Phase::Open => {}
            Phase::Closing(Closing { until, .. }) | Phase::Draining { until } => {
                if now >= *until {
                    self.drain();
                }
                return;
            }
            Phase::Handshake { .. } | Phase::Drained => return,
        }
        for place in 0..self.links.places() {
            self.on_link_time(now, place);
        }
        while let Some((at, slot)) = self.deadlines.pop(now) {
            if self.slots.get(slot).is_some_and(|channel| channel.noted == Some(at)) {
                let mut effects = Effects::default();
                let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
                let channel = self.slots.at(slot);
                channel.noted = None;
                channel.channel.handle_timeout(&mut cx, &mut effects);
                self.settle(slot, now, &effects);
            }
        }
        self.pool.handle_timeout(now);
        self.shares.handle_timeout(now);
        let second = self.warm.second(now);
        let mut idle = false;
        while let Some(slot) = self.warm.pop(now) {
            if self.slots.get(slot).is_none() {
                continue;
            }
            let channel = self.slots.at(slot);
            if channel.used + warm::KEPT > second {
                self.warm.note(slot, channel.used);
            } else {
                channel.seal.idle();
                channel.open.idle(now);
                idle = true;
            }
        }
        if idle {
            for place in 0..self.links.places() {
                if let Some(entry) = self.links.get(place) {
                    entry.link.rest(now);
                }
            }
        }
        if self.bare_deadline().is_some_and(|at| now >= at) {
            self.fail(now, ConnectionError::NoLink);
        } else if now >= self.idle.deadline(self.least_idle()) {
            let bare = self.links.bare_since().is_some();
            self.fail(now, if bare { ConnectionError::NoLink } else { ConnectionError::TimedOut });
        }
    }

    /// When a connection without a link is given up.
    fn bare_deadline(&self) -> Option<Instant> {
        self.links.bare_since().map(|since| since + self.config.no_link_timeout)
    }

    fn on_link_time(&mut self, now: Instant, place: usize) {
        while let Some(entry) = self.links.get(place) {
            let timeout = entry.link.on_timeout(now, &mut self.outcome);
            self.take_outcome(now, place);
            let Some(timeout) = timeout else { break };
            self.on_link_timeout(now, place, timeout);
        }
        if let Some(entry) = self.links.get(place)
            && entry.leaves.is_some_and(|at| now >= at)
        {
            self.forget_link(now, place);
        }
    }

    /// Nobody answered on a link. One that never worked is no link: both sides forget it, and what was to take it goes elsewhere.
    fn on_no_answer(&mut self, now: Instant, place: usize) {
        if let Some(entry) = self.links.get(place)
            && entry.link.status() == LinkStatus::Dead
        {
            let link = entry.link.id();
            self.close_link(now, link);
        }
    }

    fn on_link_timeout(&mut self, now: Instant, place: usize, timeout: LinkTimeout) {
        match timeout {
            LinkTimeout::Probe | LinkTimeout::Suspect | LinkTimeout::Dead => {
                self.on_silence(now, place, timeout);
            }
            LinkTimeout::KeepAlive => self.ping(place),
            LinkTimeout::ValidationFailed => self.on_no_answer(now, place),
            LinkTimeout::Loss
            | LinkTimeout::AckDue
            | LinkTimeout::PaceReady
            | LinkTimeout::MtuProbe
            | LinkTimeout::Challenge => {}
        }
    }
}
