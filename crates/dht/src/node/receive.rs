//! From datagram to message, and what every message teaches us about its sender (`dht.md` 1.11, 2.2).

use std::net::SocketAddr;
use std::time::Instant;

use super::Node;
use super::address::{canonical, is_martian, listed, same_endpoint};
use super::family::Family;
use super::peers::{Evidence, Noted};
use super::request::Purpose;
use super::search::SearchKey;
use super::table::Placed;
use crate::{Body, InfoHash, Message, NodeEntry, Reply, Request, ValueItem};

/// Nodes taken from one list of an answer. Peers send eight.
const MAX_LISTED: usize = 16;

impl Node {
    /// Takes a datagram. Nothing a peer sends is an error to the caller; what was wrong is counted in
    /// [`Node::stats`].
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, data: &[u8]) {
        self.stats.received += 1;
        let from = canonical(from);
        if !self.nets[Family::of(&from)].enabled || is_martian(&from) || self.trust.is_denied(&from, now) {
            self.stats.unwelcome += 1;
            return;
        }
        let message = match Message::decode(data) {
            Ok(message) => message,
            Err(error) => {
                tracing::trace!(%from, %error, "not a message");
                self.stats.malformed += 1;
                return;
            }
        };
        if message.network != self.config.network {
            self.stats.foreign += 1;
            return;
        }
        if let Some(message) = self.assemble(now, from, message) {
            self.dispatch(now, from, message, data.len());
        }
        self.settle(now);
    }

    /// Checks that a message is one we should deal with, and waits for the rest of one in parts.
    fn assemble(&mut self, now: Instant, from: SocketAddr, message: Message) -> Option<Message> {
        let (transaction, client) = (message.transaction, message.client);
        let whole = match message.body {
            Body::Parts(parts) => self.assembler.handle_parts(now, from, transaction, parts),
            Body::Request { sender, .. } if sender.is_zero() || sender == self.id => return None,
            Body::Request { .. } if !self.rates.admit(now, from.ip()) => {
                self.stats.limited += 1;
                return None;
            }
            Body::Reply { sender, ref reply } => {
                if !self.is_expected(from, transaction, sender) {
                    self.answer_mismatch(now, from, transaction, (sender, client));
                    return None;
                }
                if !is_announced(&reply.values) {
                    return Some(message);
                }
                self.assembler.handle_message(now, from, message)
            }
            Body::Request { ref request, .. } => {
                let is_awaited = match request {
                    Request::Put { values, token, .. } => {
                        is_announced(values) && self.is_token_valid(now, from, token.as_ref())
                    }
                    Request::Update { values, socket, .. } => {
                        is_announced(values) && self.sockets.contains_key(socket)
                    }
                    _ => false,
                };
                // What would be refused when it is whole is refused now: a stranger reserves no memory.
                if !is_awaited {
                    return Some(message);
                }
                self.assembler.handle_message(now, from, message)
            }
            Body::Error { .. } | Body::Notice { .. } => return Some(message),
        };
        whole.unwrap_or_else(|error| {
            tracing::debug!(%from, %error, "fragment refused");
            self.stats.malformed += 1;
            None
        })
    }

    /// Whether an answer comes from where the request went, and from the node it went to.
    fn is_expected(&self, from: SocketAddr, transaction: u32, sender: InfoHash) -> bool {
        if sender.is_zero() || sender == self.id {
            return false;
        }
        match self.requests.get(transaction) {
            Some(open) => same_endpoint(&open.to, &from) && open.node.is_none_or(|node| node == sender),
            None => self.is_listened_at(from, sender, transaction),
        }
    }

    /// An answer we cannot take as one. It may still tell that there is somebody else at the address by now, or
    /// that the address is our own.
    fn answer_mismatch(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: u32,
        (sender, client): (InfoHash, bool),
    ) {
        self.stats.unexpected += 1;
        let Some(open) = self.requests.get(transaction) else { return };
        if !same_endpoint(&open.to, &from) || sender.is_zero() {
            return;
        }
        if let Some(open) = self.end_request(transaction) {
            self.request_failed(now, open);
        }
        if sender != self.id && !client {
            self.meet(now, sender, from, Evidence::Answered);
        }
    }

    fn dispatch(&mut self, now: Instant, from: SocketAddr, message: Message, size: usize) {
        let transaction = message.transaction;
        match message.body {
            Body::Request { sender, request } => {
                self.reach.came(from.ip(), &self.reported, now);
                if message.client {
                    self.flagged(now, sender, from);
                } else {
                    self.meet(now, sender, from, Evidence::Heard);
                }
                self.serve(now, from, sender, transaction, request, size);
            }
            Body::Reply { sender, reply } => {
                self.trust.prove(from, now);
                if message.client {
                    self.retired(now, sender, from);
                } else {
                    self.meet(now, sender, from, Evidence::Answered);
                }
                self.reply_received(now, from, sender, transaction, reply);
                for (transaction, held) in self.trust.release(&from) {
                    self.serve(now, from, held.sender, transaction, held.request, size);
                }
            }
            Body::Error { code, text, .. } => self.error_received(now, from, transaction, code, &text),
            Body::Notice { sender, token, refreshed, expired } => {
                let news = super::listen::News { token, values: Vec::new(), refreshed, expired };
                self.news(now, from, sender, transaction, news);
            }
            Body::Parts(_) => {}
        }
    }

    /// Somebody says that he only asks. If we remember him as one that serves, we ask whether it is he who says so.
    fn flagged(&mut self, now: Instant, id: InfoHash, from: SocketAddr) {
        let peer = self.nets[Family::of(&from)].peers.get(&id);
        if peer.is_some_and(|peer| !peer.is_expired() && same_endpoint(&peer.address, &from)) {
            self.ping(now, id, from);
        }
    }

    /// A node that answered does not serve any more: it is not remembered.
    fn retired(&mut self, now: Instant, id: InfoHash, from: SocketAddr) {
        let family = Family::of(&from);
        let peers = &mut self.nets[family].peers;
        if peers.get(&id).is_some_and(|peer| !peer.is_expired() && same_endpoint(&peer.address, &from)) {
            peers.expire(&id);
            self.let_go(now, family, id);
        }
    }

    /// Takes note of a node: its record, the routing table, and the searches it could help.
    pub(super) fn meet(
        &mut self,
        now: Instant,
        id: InfoHash,
        address: SocketAddr,
        evidence: Evidence,
    ) -> Noted {
        let family = Family::of(&address);
        let net = &mut self.nets[family];
        let first = net.peers.len() == 0;
        let quiet = net.table.is_quiet(now);
        let was_expired = net.peers.get(&id).is_some_and(super::peers::Peer::is_expired);
        let noted = net.peers.note(id, address, evidence, now);
        match noted {
            Noted::New | Noted::Known => {
                let placed = net.table.offer(id, evidence, &net.peers, now);
                match placed {
                    // Only nodes that answered us are named to others: find out at once.
                    Placed::Inserted if evidence < Evidence::Answered => self.ping(now, id, address),
                    Placed::Full { doubtful: Some(member) } if evidence > Evidence::Mentioned => {
                        self.ping_known(now, family, member);
                    }
                    _ => {}
                }
                if placed == Placed::Inserted && quiet {
                    self.neighbour_found(now, family);
                }
                if noted == Noted::New || was_expired {
                    self.offer_to_searches(family, id);
                }
                if first {
                    self.first_node(now, family);
                }
            }
            Noted::Disputed { incumbent } => {
                tracing::debug!(%id, %incumbent, claimed = %address, "a node id is used from another address");
                self.ping(now, id, incumbent);
                self.ping(now, id, address);
            }
            Noted::Ignored | Noted::Full => {}
        }
        noted
    }

    fn offer_to_searches(&mut self, family: Family, id: InfoHash) {
        let peers = &self.nets[family].peers;
        for (key, search) in self.searches.iter_mut().filter(|(key, _)| key.family == family) {
            if search.offer(&key.key, id, peers) || search.contains(&id) {
                self.dirty.insert(*key);
            }
        }
    }

    /// Takes note of the nodes an answer names, above all for the search that asked.
    pub(super) fn learn_nodes(
        &mut self,
        now: Instant,
        from: SocketAddr,
        reply: &Reply,
        search: Option<SearchKey>,
    ) {
        let lists = [(Family::V4, &reply.nodes4), (Family::V6, &reply.nodes6)];
        for (family, nodes) in lists {
            if !self.nets[family].enabled {
                continue;
            }
            for &NodeEntry { id, address } in nodes.iter().take(MAX_LISTED) {
                let address = listed(address, &from);
                let unusable = is_martian(&address) || self.trust.is_denied(&address, now);
                if id == self.id || id.is_zero() || unusable || Family::of(&address) != family {
                    continue;
                }
                self.meet(now, id, address, Evidence::Mentioned);
                if let Some(key) = search.filter(|key| key.family == family)
                    && let Some(search) = self.searches.get_mut(&key)
                {
                    let peers = &self.nets[family].peers;
                    if peers.get(&id).is_some_and(|peer| !peer.is_expired())
                        && search.offer(&key.key, id, peers)
                    {
                        self.dirty.insert(key);
                    }
                }
            }
        }
    }

    /// Whether a request of ours is out to find somebody to start from.
    pub(super) fn is_bootstrapping(&self, family: Family) -> bool {
        self.requests.any(|open| open.purpose == Purpose::Bootstrap && Family::of(&open.to) == family)
    }
}

fn is_announced(values: &[ValueItem]) -> bool {
    values.iter().any(|item| !matches!(item, ValueItem::Inline(_)))
}
