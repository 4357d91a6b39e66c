//! Putting requests, answers and errors on the wire.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Node;
use super::event::Transmit;
use super::family::Family;
use super::request::{Open, Purpose};
use super::rtt::MOST_PATIENCE;
use super::search::{Ask, SearchKey};
use super::timers::Timer;
use crate::fragment::datagrams;
use crate::{Body, InfoHash, Message, Reply, Request};

impl Node {
    pub(super) fn transmit(&mut self, to: SocketAddr, payload: Bytes) {
        if self.transmits.len() >= self.config.limits.transmits {
            self.stats.overflowed += 1;
            return;
        }
        self.stats.sent += 1;
        self.transmits.push_back(Transmit { to, payload });
    }

    fn message(&self, to: &SocketAddr, transaction: u32, body: Body) -> Message {
        Message { transaction, network: self.config.network, client: self.reach.is_client_to(to), body }
    }

    /// Sends a request. `false` if too many are open.
    pub(super) fn request(
        &mut self,
        now: Instant,
        to: (SocketAddr, Option<InfoHash>),
        purpose: Purpose,
        request: Request,
    ) -> bool {
        if self.requests.is_full() {
            return false;
        }
        let transaction = self.requests.draw_transaction(&mut self.rng);
        let message = self.message(&to.0, transaction, Body::Request { sender: self.id, request });
        self.reach.contact(to.0.ip(), now);
        let payloads: Vec<Bytes> = datagrams(&message).into_iter().map(Bytes::from).collect();
        for payload in &payloads {
            self.transmit(to.0, payload.clone());
        }
        let patience = self.patience(&to, &purpose);
        let again = self.requests.enter(now, transaction, to, purpose, payloads, &mut self.rng);
        self.timers.set(Timer::Request(transaction), again);
        if let Some(patience) = patience {
            self.timers.set(Timer::Slow(transaction), now + patience);
        }
        self.stats.requests += 1;
        true
    }

    /// How long a search waits for this request before it goes on with others, where one does and that is sooner than
    /// the request is repeated. All that follows in a search stands behind these two questions.
    fn patience(&self, (to, node): &(SocketAddr, Option<InfoHash>), purpose: &Purpose) -> Option<Duration> {
        if !matches!(purpose, Purpose::Search { ask: Ask::Find | Ask::Look { .. }, .. }) {
            return None;
        }
        let net = &self.nets[Family::of(to)];
        let own = node.and_then(|node| net.peers.get(&node)).map(|peer| peer.round_trip).unwrap_or_default();
        Some(own.patience(net.round_trip)).filter(|patience| *patience < MOST_PATIENCE)
    }

    /// Sends a request of a search to one of its nodes.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        key: SearchKey,
        node: InfoHash,
        ask: Ask,
        request: Request,
    ) -> bool {
        let Some(to) = self.nets[key.family].peers.get(&node).map(|peer| peer.address) else { return false };
        self.request(now, (to, Some(node)), Purpose::Search { key, ask }, request)
    }

    /// Pings a node, unless that is being done or there is more important work.
    pub(super) fn ping(&mut self, now: Instant, id: InfoHash, to: SocketAddr) {
        let busy = self.requests.len() > self.config.limits.requests / 2;
        if busy || self.requests.any(|open| open.purpose == Purpose::Ping && open.to == to) {
            return;
        }
        self.request(now, (to, Some(id)), Purpose::Ping, Request::Ping);
    }

    /// Pings a node at the address we have of it.
    pub(super) fn ping_known(&mut self, now: Instant, family: Family, id: InfoHash) {
        if let Some(address) = self.nets[family].peers.get(&id).map(|peer| peer.address) {
            self.ping(now, id, address);
        }
    }

    pub(super) fn respond(&mut self, to: SocketAddr, transaction: u32, mut reply: Reply) {
        reply.seen_address = Some(to.ip());
        for payload in self.reply_datagrams(&to, transaction, reply) {
            self.transmit(to, payload.into());
        }
    }

    pub(super) fn reply_datagrams(&self, to: &SocketAddr, transaction: u32, reply: Reply) -> Vec<Vec<u8>> {
        datagrams(&self.message(to, transaction, Body::Reply { sender: self.id, reply }))
    }

    pub(super) fn refuse(&mut self, to: SocketAddr, transaction: u32, code: u16, text: &str) {
        let body = Body::Error { sender: Some(self.id), code, text: text.to_owned() };
        let payload = self.message(&to, transaction, body).encode();
        self.transmit(to, payload.into());
    }

    pub(super) fn notice(&mut self, to: SocketAddr, transaction: u32, body: Body) {
        let payload = self.message(&to, transaction, body).encode();
        self.transmit(to, payload.into());
    }

    /// Takes a request out: it is answered, or not needed any more.
    pub(super) fn end_request(&mut self, transaction: u32) -> Option<Open> {
        self.timers.cancel(Timer::Request(transaction));
        self.timers.cancel(Timer::Slow(transaction));
        self.requests.remove(transaction)
    }
}
