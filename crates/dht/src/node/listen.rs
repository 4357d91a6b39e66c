//! Listens: the four nearest nodes, and some that everybody reaches, tell us what comes and goes at a key (`dht.md` 2.10).

mod known;
mod rounds;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use self::known::Known;
pub(super) use self::rounds::Rounds;
use super::Node;
use super::address::same_endpoint;
use super::event::{Event, OpId};
use super::family::Family;
use super::ops::Op;
use super::search::{Ask, Heads, LISTEN_NODES, Pace, Search, SearchKey};
use super::timers::Timer;
use crate::store::{Change, Listener, Subscribed};
use crate::{InfoHash, Query, Request, Token, Value};

/// A listen is renewed this often, so that address mappings on the way stay open.
const RENEW: Duration = Duration::from_secs(20);
/// The same for a node that can be reached at any time.
const RENEW_STABLE: Duration = Duration::from_secs(290);
/// Protocol version we ask for: pushes are requests, and repeated until we answer.
const VERSION: u32 = 1;

/// The address of listeners in this program: no remote one can have it.
pub(super) const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A listen over both families.
#[derive(Debug)]
pub(super) struct Listen {
    pub(super) key: InfoHash,
    query: Query,
    /// Socket id under which the local storage tells this listen, and the name it goes by there.
    pub(super) local: (u32, InfoHash),
    known: Known,
}

/// Where a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    Here,
    At(Family, InfoHash),
}

/// What the listens with one query want of a search.
#[derive(Debug)]
pub(super) struct Subscription {
    query: Query,
    pub(super) ops: BTreeSet<OpId>,
}

/// A subscription at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) socket: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asking,
    Confirmed(Instant),
}

/// What a socket id of ours stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    /// A subscription at a remote node.
    Remote { search: SearchKey, node: InfoHash, subscription: u32 },
    /// A listen at our own storage.
    Local(OpId),
}

/// News from a storing node.
#[derive(Debug)]
pub(super) struct News {
    pub(super) token: Option<Token>,
    pub(super) values: Vec<Arc<Value>>,
    pub(super) refreshed: Vec<u64>,
    pub(super) expired: Vec<u64>,
}

impl Node {
    /// Reports values at `key` that match, now and as they come and go, until [`Node::cancel`]: [`Event::Listened`]
    /// and [`Event::Expired`]. The selection of the query is ignored.
    pub fn listen(&mut self, now: Instant, key: InfoHash, query: Query) -> OpId {
        let op = self.draw_op();
        if self.ops.len() >= self.config.limits.operations {
            return op;
        }
        let query = Query { select: Vec::new(), restrictions: query.restrictions };
        let local = (self.draw_socket(), InfoHash(self.rng.random()));
        self.sockets.insert(local.0, Socket::Local(op));
        let listen = Listen { key, query: query.clone(), local, known: Known::default() };
        self.ops.insert(op, Op::Listen(listen));
        self.listen_here(now, op);
        for family in self.families() {
            let fresh = self.next_subscription;
            self.next_subscription = self.next_subscription.wrapping_add(1);
            self.open_search(now, SearchKey { key, family }, |search| {
                // Listens that want the same share what travels.
                match search.subscriptions.values_mut().find(|it| it.query == query) {
                    Some(subscription) => {
                        subscription.ops.insert(op);
                    }
                    None => {
                        let subscription = Subscription { query: query.clone(), ops: BTreeSet::from([op]) };
                        search.subscriptions.insert(fresh, subscription);
                    }
                }
            });
            self.share_known(now, op, SearchKey { key, family });
        }
        self.settle(now);
        op
    }

    /// A listen that joins others with the same query starts with what those know: nodes push old values only once.
    fn share_known(&mut self, now: Instant, op: OpId, key: SearchKey) {
        let Some(search) = self.searches.get(&key) else { return };
        let Some(shared) = search.subscriptions.values().find(|it| it.ops.contains(&op)) else { return };
        let Some(other) = shared.ops.iter().find(|other| **other != op) else { return };
        let Some(Op::Listen(other)) = self.ops.get(other) else { return };
        for (holder, values) in other.known.at_nodes() {
            self.learn_values(now, op, holder, values);
        }
    }

    /// Subscribes a listen, or again, to our own storage.
    fn listen_here(&mut self, now: Instant, op: OpId) {
        let Some(Op::Listen(listen)) = self.ops.get(&op) else { return };
        let (socket, node) = listen.local;
        let listener = Listener { node, socket, address: HERE, version: VERSION };
        let outcome = self.store.listen(now, listen.key, listener, listen.query.clone());
        if let Ok(Subscribed::New(values)) = outcome {
            self.learn_values(now, op, Holder::Here, values);
        }
        self.timers.set_sooner(Timer::Listen(op), now + self.config.limits.store.listener_life / 2);
    }

    fn draw_socket(&mut self) -> u32 {
        loop {
            let socket = self.requests.draw_transaction(&mut self.rng);
            if !self.sockets.contains_key(&socket) {
                return socket;
            }
        }
    }

    /// Makes the subscriptions of all listens anew, as soon as may be: others may see us at another address than before, as
    /// behind a router that has restarted, and nobody has told. What is pushed to the old one is lost, until listens are
    /// renewed in their turn. The engine does so by itself when answers show it; this is for who has other signs.
    pub fn listen_anew(&mut self, now: Instant) {
        self.timers.set_sooner(Timer::ListenAnew, self.subscribed.next(now));
    }

    /// Nodes tell those that subscribe anew all they have, but not those that renew: so old sockets are left.
    pub(super) fn subscribe_anew(&mut self, now: Instant) {
        tracing::debug!("all subscriptions are made anew");
        self.subscribed.count(now);
        for (key, search) in self.searches.iter_mut().filter(|(_, search)| !search.subscriptions.is_empty()) {
            for member in &mut search.members {
                for listening in std::mem::take(&mut member.listens).into_values() {
                    self.sockets.remove(&listening.socket);
                }
                member.forget_token();
            }
            self.dirty.insert(*key);
        }
    }

    fn listen_period(&self) -> Duration {
        if self.config.public_stable { RENEW_STABLE } else { RENEW }
    }

    /// Opens and renews the listens of a search at its nearest nodes, and lets go of those that are no longer near.
    pub(super) fn advance_listens(
        &mut self,
        now: Instant,
        key: SearchKey,
        search: &mut Search,
        heads: &Heads,
    ) {
        if search.subscriptions.is_empty() {
            return;
        }
        let wanted_at = |place: &usize| {
            heads.nearest.iter().take(LISTEN_NODES).any(|it| it == place) || heads.open.contains(place)
        };
        let targets: Vec<usize> = heads.nearest[..heads.usable].iter().copied().filter(wanted_at).collect();
        let period = self.listen_period();
        let wanted: Vec<(u32, Query)> =
            search.subscriptions.iter().map(|(id, it)| (*id, it.query.clone())).collect();
        for place in 0..search.members.len() {
            let near = wanted_at(&place);
            let member = &mut search.members[place];
            // Until all have answered, who is near may be so by hearsay only.
            if heads.synced && !near && member.pace == Pace::Prompt && !member.listens.is_empty() {
                for (_, listening) in std::mem::take(&mut member.listens) {
                    self.sockets.remove(&listening.socket);
                }
            }
            let Some(token) = member.token.clone().filter(|_| !member.is_paused(now)) else { continue };
            for (subscription, query) in &wanted {
                let socket = match member.listens.get(subscription) {
                    None if targets.contains(&place) => self.draw_socket(),
                    Some(&Listening { socket, state: State::Confirmed(at) })
                        if near && now >= at + period =>
                    {
                        socket
                    }
                    _ => continue,
                };
                let request = Request::Listen {
                    key: key.key,
                    token: Some(token.clone()),
                    socket,
                    query: (!query.restrictions.is_empty()).then(|| query.clone()),
                    version: VERSION,
                };
                let ask = Ask::Listen { subscription: *subscription, socket };
                if self.ask(now, key, member.id, ask, request) {
                    member.listens.insert(*subscription, Listening { socket, state: State::Asking });
                    let remote = Socket::Remote { search: key, node: member.id, subscription: *subscription };
                    self.sockets.insert(socket, remote);
                }
            }
        }
    }

    /// When a listen of a search has to be renewed.
    pub(super) fn next_listen(&self, search: &Search) -> Option<Instant> {
        let period = self.listen_period();
        let confirmed = search.members.iter().flat_map(|member| member.listens.values());
        confirmed
            .filter_map(|it| if let State::Confirmed(at) = it.state { Some(at + period) } else { None })
            .min()
    }

    /// A node confirmed a listen; newer ones send a fresh token along.
    pub(super) fn listen_answered(
        &mut self,
        now: Instant,
        (key, node): (SearchKey, InfoHash),
        (subscription, socket): (u32, u32),
        token: Option<Token>,
    ) {
        let Some(member) = self.searches.get_mut(&key).and_then(|search| search.member(&node)) else {
            return;
        };
        member.accepted();
        if token.is_some() {
            member.token = token;
        }
        if let Some(listening) = member.listens.get_mut(&subscription).filter(|it| it.socket == socket) {
            listening.state = State::Confirmed(now);
        }
    }

    /// A listen was refused, or nobody answered it: its socket id is not used again.
    pub(super) fn close_listen(&mut self, key: SearchKey, node: InfoHash, subscription: u32, socket: u32) {
        self.sockets.remove(&socket);
        if let Some(member) = self.searches.get_mut(&key).and_then(|search| search.member(&node))
            && member.listens.get(&subscription).is_some_and(|it| it.socket == socket)
        {
            member.listens.remove(&subscription);
        }
    }

    /// Closes the listens at a node that does not answer.
    pub(super) fn close_listens_at(&mut self, family: Family, node: &InfoHash) {
        let at_node = |socket: &Socket| matches!(socket, Socket::Remote { search, node: at, .. } if at == node && search.family == family);
        let closed: Vec<(u32, Socket)> = self
            .sockets
            .iter()
            .filter(|(_, socket)| at_node(socket))
            .map(|(id, socket)| (*id, *socket))
            .collect();
        for (id, socket) in closed {
            if let Socket::Remote { search, node, subscription } = socket {
                self.close_listen(search, node, subscription, id);
            }
        }
    }

    /// Whether what comes under a socket id of ours is from the node that the socket was opened to.
    pub(super) fn is_listened_at(&self, from: SocketAddr, node: InfoHash, socket: u32) -> bool {
        let Some(Socket::Remote { search, node: at, .. }) = self.sockets.get(&socket) else { return false };
        let known = self.nets[search.family].peers.get(&node).map(|peer| peer.address);
        *at == node && known.is_some_and(|address| same_endpoint(&address, &from))
    }

    /// News from a remote node under one of our socket ids. What comes from anybody but the node that the socket was
    /// opened to is ignored.
    pub(super) fn news(&mut self, now: Instant, from: SocketAddr, node: InfoHash, socket: u32, news: News) {
        let Some(&Socket::Remote { search: key, subscription, .. }) = self.sockets.get(&socket) else {
            return;
        };
        if !self.is_listened_at(from, node, socket) {
            self.stats.unexpected += 1;
            return;
        }
        let Some(search) = self.searches.get_mut(&key) else { return };
        let ops: Vec<OpId> =
            search.subscriptions.get(&subscription).map_or(vec![], |it| it.ops.iter().copied().collect());
        if let Some(member) = search.member(&node)
            && news.token.is_some()
        {
            member.token = news.token;
        }
        let holder = Holder::At(key.family, node);
        for op in ops {
            self.learn_values(now, op, holder, news.values.clone());
            self.learn_refreshed(now, op, holder, &news.refreshed);
            self.learn_expired(op, holder, &news.expired);
        }
    }

    /// News from our own storage.
    pub(super) fn local_news(&mut self, now: Instant, socket: u32, change: Change) {
        let Some(&Socket::Local(op)) = self.sockets.get(&socket) else { return };
        match change {
            Change::Stored(values) => self.learn_values(now, op, Holder::Here, values),
            Change::Refreshed(_) => {}
            Change::Expired(ids) => self.learn_expired(op, Holder::Here, &ids),
        }
    }

    fn learn_values(&mut self, now: Instant, op: OpId, holder: Holder, values: Vec<Arc<Value>>) {
        let Some(Op::Listen(listen)) = self.ops.get_mut(&op) else { return };
        let mut new = Vec::new();
        for value in values.into_iter().filter(|value| value.id != 0) {
            if !listen.query.matches(&value) {
                continue;
            }
            if listen.known.note(now, &value, holder) {
                continue;
            }
            if value.owner().is_some() && value.check_signature().is_err() {
                self.stats.forged += 1;
                continue;
            }
            listen.known.enter(now, &value, holder, self.config.limits.values_per_operation);
            new.push(value);
        }
        self.rearm_listen(op);
        if !new.is_empty() {
            self.push_event(Event::Listened { op, new });
        }
    }

    fn learn_refreshed(&mut self, now: Instant, op: OpId, holder: Holder, ids: &[u64]) {
        let Some(Op::Listen(listen)) = self.ops.get_mut(&op) else { return };
        for id in ids {
            listen.known.refresh(now, *id, holder);
        }
    }

    fn learn_expired(&mut self, op: OpId, holder: Holder, ids: &[u64]) {
        let Some(Op::Listen(listen)) = self.ops.get_mut(&op) else { return };
        for id in ids {
            listen.known.release(*id, holder);
        }
        self.report_expired(op);
    }

    /// The time of some values may be over.
    pub(super) fn listen_timeout(&mut self, now: Instant, op: OpId) {
        self.listen_here(now, op);
        let Some(Op::Listen(listen)) = self.ops.get_mut(&op) else { return };
        listen.known.release_overdue(now);
        self.report_expired(op);
        self.rearm_listen(op);
    }

    fn report_expired(&mut self, op: OpId) {
        let Some(Op::Listen(listen)) = self.ops.get_mut(&op) else { return };
        let lost = listen.known.take_lost();
        if !lost.is_empty() {
            self.push_event(Event::Expired { op, ids: lost });
        }
    }

    fn rearm_listen(&mut self, op: OpId) {
        let Some(Op::Listen(listen)) = self.ops.get(&op) else { return };
        if let Some(at) = listen.known.next_overdue() {
            self.timers.set_sooner(Timer::Listen(op), at);
        }
    }
}
