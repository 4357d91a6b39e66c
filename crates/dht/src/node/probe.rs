//! Which nodes answer to strangers. A node behind a NAT that answers us because it asked us first is of no use to
//! others: they store nothing there that we find, and we should send nobody there (`dht.md` 2.4).
//!
//! Two things show that a node answers to anybody: it answered the first question that went to its host, before
//! anything came from there; or it answers a ping from another port of ours, which it never sent anything to. So
//! each public node that comes to us by itself is pinged once from there: under another id and with the client flag,
//! since nodes of OpenDHT look for a node where its id was seen last.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Node;
use super::address::{canonical, same_endpoint};
use super::family::Family;
use super::peers::Openness;
use super::reach::is_public;
use super::request::{Open, Purpose};
use crate::{Body, InfoHash, Message, Request};

/// What was found out holds for this long.
pub(super) const VERDICT_TIME: Duration = Duration::from_hours(1);
/// A probe that led to nothing is not repeated before.
pub(super) const PROBE_PAUSE: Duration = Duration::from_mins(10);

/// Whether this node can tell anything by its probes: some network may let none out, or no answers in.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// The other port exists.
    enabled: bool,
    answered: Option<Instant>,
}

impl Probes {
    fn work(&self, now: Instant) -> bool {
        self.answered.is_some_and(|at| now.saturating_duration_since(at) < VERDICT_TIME)
    }

    /// We are somewhere else.
    pub(super) fn reset(&mut self) {
        self.answered = None;
    }
}

impl Node {
    /// Tells whether the driver has another port, from which it sends what is marked [`Transmit::probe`], and whose
    /// datagrams it gives to [`Node::handle_probed`]. Without it, nodes that ask us first are taken for nodes that
    /// everybody reaches.
    ///
    /// [`Transmit::probe`]: super::Transmit::probe
    pub fn set_probing(&mut self, enabled: bool) {
        self.probes.enabled = enabled;
    }

    /// Finds out whether a node answers to strangers, if that is not known.
    pub(super) fn probe(&mut self, now: Instant, id: InfoHash, to: SocketAddr) {
        let busy = self.requests.len() > self.config.limits.requests / 2;
        if !self.probes.enabled || busy || !is_public(to.ip()) {
            return;
        }
        // A control: that somebody who answers everybody answers this, too, shows that probes come through.
        if !self.probes.work(now) {
            let open = self.nets[Family::of(&to)].peers.any_open(now);
            if let Some((id, address)) = open.filter(|(open, _)| *open != id) {
                self.send_probe(now, id, address);
            }
        }
        self.send_probe(now, id, to);
    }

    fn send_probe(&mut self, now: Instant, id: InfoHash, to: SocketAddr) {
        if self.requests.any(|open| open.purpose == Purpose::Probe && open.to == to) {
            return;
        }
        self.nets[Family::of(&to)].peers.probed(&id, now);
        let body = Body::Request { sender: self.probe_id, request: Request::Ping };
        let transaction = self.requests.draw_transaction(&mut self.rng);
        let message = Message { transaction, network: self.config.network, client: true, body };
        self.send_request(now, transaction, (to, Some(id)), Purpose::Probe, vec![message.encode().into()]);
    }

    /// Takes a datagram that came to the other port. Only answers to probes count there.
    pub fn handle_probed(&mut self, now: Instant, from: SocketAddr, data: &[u8]) {
        let from = canonical(from);
        let Ok(Message { transaction, body: Body::Reply { sender, .. }, .. }) = Message::decode(data) else {
            return;
        };
        let asked = |open: &Open| {
            open.purpose == Purpose::Probe && open.node == Some(sender) && same_endpoint(&open.to, &from)
        };
        if self.requests.get(transaction).is_some_and(asked) {
            self.end_request(transaction);
            self.probes.answered = Some(now);
            self.open_to_strangers(now, Family::of(&from), sender);
        }
        self.settle(now);
    }

    /// A node answered somebody it had not sent anything to.
    pub(super) fn open_to_strangers(&mut self, now: Instant, family: Family, id: InfoHash) {
        if self.nets[family].peers.judge(&id, Openness::Open(now)) {
            self.offer_again(family, id);
        }
    }

    /// Nobody answered a probe.
    pub(super) fn probe_failed(&mut self, now: Instant, open: &Open) {
        let family = Family::of(&open.to);
        let Some(id) = open.node else { return };
        if !self.probes.work(now) {
            self.nets[family].peers.acquit(&id);
            self.offer_again(family, id);
            return;
        }
        tracing::debug!(%id, at = %open.to, "a node answers only to whom it asked");
        if self.nets[family].peers.judge(&id, Openness::Shut(now)) {
            self.offer_again(family, id);
        }
    }
}
