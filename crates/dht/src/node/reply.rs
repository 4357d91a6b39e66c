//! What answers, refusals and silence mean to whoever asked.

use std::net::SocketAddr;
use std::time::Instant;

use super::Node;
use super::address::same_endpoint;
use super::family::Family;
use super::listen::News;
use super::peers::Evidence;
use super::request::{Open, Purpose};
use super::search::{Ask, Pace, SearchKey};
use crate::{InfoHash, Reply};

impl Node {
    /// An answer came; its source has been checked.
    pub(super) fn reply_received(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: InfoHash,
        transaction: u32,
        reply: Reply,
    ) {
        let Some(open) = self.end_request(transaction) else {
            // Old nodes push values as answers to the socket id of a listen.
            let values = super::get::inline(&reply.values);
            let news = News { token: reply.token, values, refreshed: Vec::new(), expired: Vec::new() };
            self.news(now, from, sender, transaction, news);
            return;
        };
        if let Some(round_trip) = open.round_trip(now) {
            let net = &mut self.nets[Family::of(&open.to)];
            net.round_trip.measured(round_trip);
            net.peers.measured(&sender, round_trip);
        }
        if let Some(seen) = reply.seen_address {
            if self.reported.report(from.ip(), seen) {
                self.listen_anew(now);
            }
            self.reach.seen(from.ip(), &self.reported, now);
        }
        match open.purpose {
            Purpose::Bootstrap => self.bootstrap_answered(open.to),
            Purpose::Ping | Purpose::Prove | Purpose::Update { .. } => {}
            Purpose::Explore => self.learn_nodes(now, from, &reply, None),
            Purpose::Search { key, ask } => {
                self.learn_nodes(now, from, &reply, Some(key));
                self.search_answered(now, from, (key, sender), ask, &reply);
                self.dirty.insert(key);
            }
        }
    }

    fn search_answered(
        &mut self,
        now: Instant,
        from: SocketAddr,
        (key, node): (SearchKey, InfoHash),
        ask: Ask,
        reply: &Reply,
    ) {
        if let Some(search) = self.searches.get_mut(&key)
            && let Some(member) = search.member(&node)
        {
            member.pace = Pace::Prompt;
            match (&ask, &reply.token) {
                (Ask::Find | Ask::Look { .. }, Some(token)) => {
                    let is_new = member.replied(token.clone(), now);
                    if is_new {
                        search.again.found();
                    }
                }
                (Ask::Find | Ask::Look { .. }, None) => {
                    // Who gives no tokens stores nothing: useless, and a drain on every search.
                    tracing::debug!(%node, %from, "answers without a token");
                    member.asking = member.asking.saturating_sub(1);
                    self.nets[key.family].peers.expire(&node);
                    self.trust.deny(from, now);
                }
                _ => {}
            }
        }
        match ask {
            Ask::Find => {}
            Ask::Look { op } => self.look_answered(key, node, op, reply),
            Ask::Fetch { op, wanted } => self.fetch_answered(key, node, (op, &wanted), reply),
            Ask::Probe { value } | Ask::ReadBack { value } => {
                self.probe_answered(now, (key, node), value, &ask, reply);
            }
            Ask::Put { value } | Ask::Refresh { value } => {
                self.nets[key.family].peers.accepted(&node);
                self.put_answered(now, key, node, value, reply);
            }
            Ask::Listen { subscription, socket } => {
                self.nets[key.family].peers.accepted(&node);
                self.listen_answered(now, (key, node), (subscription, socket), reply.token.clone());
            }
        }
    }

    /// A request was refused. Only a bad token and an unknown key mean something; after any other error the request
    /// goes on until its attempts end.
    pub(super) fn error_received(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: u32,
        code: u16,
        text: &str,
    ) {
        let expected = self.requests.get(transaction).is_some_and(|open| same_endpoint(&open.to, &from));
        if !expected {
            self.stats.unexpected += 1;
            return;
        }
        self.stats.refused += 1;
        tracing::debug!(%from, code, text, "refused");
        let Some(Open { purpose: Purpose::Search { key, ask }, node: Some(node), .. }) =
            self.requests.get(transaction)
        else {
            return;
        };
        let (key, node, ask) = (*key, *node, ask.clone());
        match (code, ask) {
            (401, ask @ (Ask::Put { .. } | Ask::Refresh { .. } | Ask::Listen { .. })) => {
                self.end_request(transaction);
                self.token_refused(now, key, node);
                // Tokens live longer than we keep them: it sees us elsewhere than when it gave this one.
                self.listen_anew(now);
                self.search_failed(key, node, ask);
            }
            (404, Ask::Refresh { value }) => {
                self.end_request(transaction);
                self.refresh_unknown(now, key, node, value);
            }
            _ => return,
        }
        self.dirty.insert(key);
    }

    /// A node refused its own token: every search forgets it, and this one pauses longer each time.
    fn token_refused(&mut self, now: Instant, key: SearchKey, node: InfoHash) {
        if self.nets[key.family].peers.refused(&node) {
            self.close_listens_at(key.family, &node);
        }
        for (other, search) in self.searches.iter_mut().filter(|(other, _)| other.family == key.family) {
            if let Some(member) = search.member(&node) {
                if *other == key {
                    member.refused(now);
                } else {
                    member.token = None;
                }
                self.dirty.insert(*other);
            }
        }
    }

    /// A request goes out for the second time: meanwhile the search asks somebody else.
    pub(super) fn request_late(&mut self, node: InfoHash, purpose: &Purpose) {
        let Purpose::Search { key, ask } = purpose else { return };
        if let Ask::Fetch { op, wanted } = ask {
            self.fetch_late(node, *op, wanted);
        }
        if let Some(member) = self.searches.get_mut(key).and_then(|search| search.member(&node)) {
            member.pace = Pace::Late;
            self.dirty.insert(*key);
        }
    }

    /// A node takes longer than answers usually do: the search goes on with others, and waits for it only before it
    /// ends.
    pub(super) fn request_slow(&mut self, transaction: u32) {
        let Some(Open { purpose: Purpose::Search { key, .. }, node: Some(node), .. }) =
            self.requests.get(transaction)
        else {
            return;
        };
        let (key, node) = (*key, *node);
        if let Some(member) = self.searches.get_mut(&key).and_then(|search| search.member(&node))
            && member.pace == Pace::Prompt
        {
            member.pace = Pace::Slow;
            self.dirty.insert(key);
        }
    }

    /// Nobody answered, or nobody can be reached.
    pub(super) fn request_failed(&mut self, now: Instant, open: Open) {
        let family = Family::of(&open.to);
        let Some(node) = open.node else {
            if open.purpose == Purpose::Bootstrap {
                self.bootstrap_failed(family);
            }
            return;
        };
        let moved = self.nets[family].peers.fail(&node, &open.to, now);
        self.purpose_failed(node, open.to, open.purpose);
        if moved {
            self.offer_again(family, node);
            return;
        }
        if self.nets[family].peers.get(&node).is_none_or(|peer| !same_endpoint(&peer.address, &open.to)) {
            // It was a rival, or the node has moved since.
            return;
        }
        let others = self.requests.matching(|other| other.node == Some(node) && other.to == open.to);
        for transaction in others {
            if let Some(other) = self.end_request(transaction) {
                self.purpose_failed(node, other.to, other.purpose);
            }
        }
        self.let_go(now, family, node);
    }

    /// A node has expired: who waits for its place in the table is asked, and others are used instead of it.
    pub(super) fn let_go(&mut self, now: Instant, family: Family, node: InfoHash) {
        self.close_listens_at(family, &node);
        if let Some(candidate) = self.nets[family].table.take_candidate(&node) {
            self.ping_known(now, family, candidate);
        }
        self.offer_again(family, node);
    }

    /// The state of a node changed: searches that have it look again.
    fn offer_again(&mut self, family: Family, node: InfoHash) {
        let having =
            self.searches.iter().filter(|(key, search)| key.family == family && search.contains(&node));
        let keys: Vec<SearchKey> = having.map(|(key, _)| *key).collect();
        self.dirty.extend(keys);
    }

    pub(super) fn purpose_failed(&mut self, node: InfoHash, to: SocketAddr, purpose: Purpose) {
        match purpose {
            Purpose::Search { key, ask } => {
                self.search_failed(key, node, ask);
                self.dirty.insert(key);
            }
            // It will not hear of changes any more; if it is alive it subscribes anew and gets everything.
            Purpose::Update { key, socket } => {
                tracing::debug!(%node, %key, socket, "a listener does not answer");
                self.store.drop_listeners_of(&node, to);
            }
            Purpose::Bootstrap | Purpose::Ping | Purpose::Prove | Purpose::Explore => {}
        }
    }

    /// A step of a search came to nothing.
    fn search_failed(&mut self, key: SearchKey, node: InfoHash, ask: Ask) {
        if let Ask::Fetch { op, wanted } = ask {
            self.fetch_failed(key, node, op, &wanted);
            return;
        }
        let Some(search) = self.searches.get_mut(&key) else { return };
        if let Ask::Look { op } = &ask
            && let Some(lookup) = search.lookups.get_mut(op)
        {
            lookup.asked.remove(&node);
        }
        let Some(member) = search.member(&node) else { return };
        match ask {
            Ask::Find | Ask::Look { .. } => {
                member.asking = member.asking.saturating_sub(1);
                if member.pace == Pace::Slow {
                    // It is expired now, or somebody else has its place.
                    member.pace = Pace::Prompt;
                }
            }
            Ask::Probe { value } | Ask::Put { value } | Ask::Refresh { value } | Ask::ReadBack { value } => {
                member.holdings.remove(&value);
            }
            Ask::Listen { subscription, socket } => self.close_listen(key, node, subscription, socket),
            Ask::Fetch { .. } => {}
        }
    }

    /// Takes note of a node that is known by name only.
    pub(super) fn mention(&mut self, now: Instant, id: InfoHash, address: SocketAddr) {
        self.meet(now, id, address, Evidence::Mentioned);
    }
}
