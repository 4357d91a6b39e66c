//! The server: answers to what other nodes ask (`dht.md` 1.5, 2.4, 2.11).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Node;
use super::family::Family;
use super::listen::News;
use super::request::Purpose;
use super::table::BUCKET_SIZE;
use super::trust::Hold;
use crate::fragment::{UPDATE_BYTES, batches};
use crate::message::FieldRows;
use crate::store::{Change, Listener, Notice, Origin, Subscribed};
use crate::{Body, FieldValue, InfoHash, NodeEntry, Query, Reply, Request, Token, Value, ValueItem, Want};

/// An unproved address draws no more than about one datagram of the usual size.
const UNPROVED_BYTES: usize = 1400;

/// Error codes that travel (`dht.md` 1.6).
const NO_KEY: u16 = 203;
const UNAUTHORIZED: u16 = 401;
const NOT_FOUND: u16 = 404;

impl Node {
    /// Serves a request. `size` is its length on the wire.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: InfoHash,
        transaction: u32,
        request: Request,
        size: usize,
    ) {
        match request {
            Request::Ping => self.respond(from, transaction, Reply::default()),
            Request::Find { target, want } => {
                let reply = self.reply_about(now, from, &sender, &target, want);
                self.respond(from, transaction, reply);
            }
            Request::Get { key, .. } if key.is_zero() => {
                self.refuse(from, transaction, NO_KEY, "get without a key");
            }
            Request::Get { .. } => self.serve_get(now, from, sender, transaction, request, size),
            Request::Put { key, values, created, token } => {
                if key.is_zero() {
                    self.refuse(from, transaction, NO_KEY, "put without a key");
                } else if self.is_token_valid(now, from, token.as_ref()) {
                    self.serve_put(now, from, transaction, key, (&values, created));
                } else {
                    self.refuse(from, transaction, UNAUTHORIZED, "put with a wrong token");
                }
            }
            Request::Refresh { key, value, token } => {
                if !self.is_token_valid(now, from, token.as_ref()) {
                    self.refuse(from, transaction, UNAUTHORIZED, "refresh with a wrong token");
                } else if self.store.refresh(now, &key, value) != Ok(true) {
                    // The reference says so only of unknown keys, and lets the value die of an unknown id.
                    self.refuse(from, transaction, NOT_FOUND, "nothing is stored at this key");
                } else {
                    self.respond(from, transaction, Reply { value_id: Some(value), ..Reply::default() });
                }
            }
            Request::Listen { key, token, socket, query, version } => {
                if key.is_zero() {
                    self.refuse(from, transaction, NO_KEY, "listen without a key");
                } else if self.is_token_valid(now, from, token.as_ref()) {
                    let listener = Listener { node: sender, socket, address: from, version };
                    self.serve_listen(now, transaction, key, listener, query.unwrap_or_default());
                } else {
                    self.refuse(from, transaction, UNAUTHORIZED, "listen with a wrong token");
                }
            }
            Request::Update { socket, token, values, refreshed, expired, .. } => {
                self.respond(from, transaction, Reply::default());
                let news = News { token, values: super::get::inline(&values), refreshed, expired };
                self.news(now, from, sender, socket, news);
            }
        }
    }

    /// Whether a token was given to this address by us; if so, the address is proved.
    pub(super) fn is_token_valid(&mut self, now: Instant, from: SocketAddr, token: Option<&Token>) -> bool {
        let valid = token.is_some_and(|token| self.tokens.verify(from, token));
        if valid {
            self.trust.prove(from, now);
        }
        valid
    }

    /// Good nodes near `target` in the families wanted, and a token.
    fn reply_about(
        &self,
        now: Instant,
        from: SocketAddr,
        asker: &InfoHash,
        target: &InfoHash,
        want: Want,
    ) -> Reply {
        let own = Family::of(&from);
        let none = !want.v4 && !want.v6;
        let list = |family: Family, wanted: bool| -> Vec<NodeEntry> {
            let net = &self.nets[family];
            if !wanted || !net.enabled {
                return Vec::new();
            }
            let near = net.table.closest_good(target, &net.peers, now).into_iter().filter(|id| id != asker);
            near.filter_map(|id| Some(NodeEntry { id, address: net.peers.get(&id)?.address })).collect()
        };
        Reply {
            nodes4: list(Family::V4, want.v4 || (none && own == Family::V4)),
            nodes6: list(Family::V6, want.v6 || (none && own == Family::V6)),
            token: Some(self.tokens.issue(from)),
            ..Reply::default()
        }
    }

    fn serve_get(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: InfoHash,
        transaction: u32,
        request: Request,
        size: usize,
    ) {
        let Request::Get { key, ref query, want } = request else { return };
        let all = Query::all();
        let query = query.as_ref().unwrap_or(&all);
        let values = self.store.get(&key, query);
        let mut reply = self.reply_about(now, from, &sender, &key, want);
        if query.select.is_empty() {
            reply.values = values.into_iter().map(ValueItem::Inline).collect();
        } else if !values.is_empty() {
            reply.fields = Some(cut(query.rows(values.iter().map(AsRef::as_ref))));
        }
        reply.seen_address = Some(from.ip());
        let payloads = self.reply_datagrams(&from, transaction, reply);
        let length: usize = payloads.iter().map(Vec::len).sum();
        if length > UNPROVED_BYTES.max(3 * size) && !self.trust.is_proved(&from, now) {
            self.hold_answer(now, from, sender, transaction, request);
            return;
        }
        for payload in payloads {
            self.transmit(from, payload.into());
        }
    }

    /// Whoever asks for much must show that it receives where it says: a ping goes there, and the answer waits for the
    /// pong. A forged source address draws no more bytes than it sent.
    fn hold_answer(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: InfoHash,
        transaction: u32,
        request: Request,
    ) {
        if self.trust.hold(now, from, transaction, sender, request) == Hold::New {
            self.stats.held += 1;
            // Any answer from there will do, also one that is awaited already.
            if self.requests.any(|open| open.to == from) {
                return;
            }
            self.request(now, (from, Some(sender)), Purpose::Prove, Request::Ping);
        }
    }

    fn serve_put(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: u32,
        key: InfoHash,
        (values, created): (&[ValueItem], Option<i64>),
    ) {
        let far = self.is_far_from(now, Family::of(&from), &key);
        let unix = self.unix_seconds(now);
        for value in super::get::inline(values) {
            let id = value.id;
            if id == 0 {
                self.refuse(from, transaction, NO_KEY, "put with value id 0");
                continue;
            }
            if !far && let Err(refusal) = self.store.put(now, unix, key, value, created, Origin::Remote(from))
            {
                tracing::debug!(%from, %key, id, %refusal, "not stored");
            }
            // The protocol acknowledges also what is not stored.
            self.respond(from, transaction, Reply { value_id: Some(id), ..Reply::default() });
        }
    }

    /// Whether so many good nodes are nearer to a key that nobody should look for it here.
    pub(super) fn is_far_from(&self, now: Instant, family: Family, key: &InfoHash) -> bool {
        let peers = &self.nets[family].peers;
        let good = peers.closest(key, BUCKET_SIZE, |peer| peer.is_good(now));
        good.len() >= BUCKET_SIZE
            && good.last().is_some_and(|farthest| key.compare_distance(farthest, &self.id).is_lt())
    }

    fn serve_listen(
        &mut self,
        now: Instant,
        transaction: u32,
        key: InfoHash,
        listener: Listener,
        query: Query,
    ) {
        let query = Query { select: Vec::new(), restrictions: query.restrictions };
        match self.store.listen(now, key, listener, query) {
            Ok(Subscribed::New(values)) => self.push_values(now, &listener, key, values),
            Ok(Subscribed::Renewed) => {}
            // A promise we could not keep would cost the listener news. Silence makes it ask another node.
            Err(refusal) => {
                tracing::debug!(from = %listener.address, %key, %refusal, "listener refused");
                return;
            }
        }
        let token = Some(self.tokens.issue(listener.address));
        self.respond(listener.address, transaction, Reply { token, ..Reply::default() });
    }

    /// Tells a listener, or ourselves, what changed in the storage.
    pub(super) fn notify(&mut self, now: Instant, Notice { listener, key, change }: Notice) {
        if listener.address.port() == 0 {
            self.local_news(now, listener.socket, change);
            return;
        }
        match change {
            Change::Stored(values) => self.push_values(now, &listener, key, values),
            Change::Refreshed(ids) => self.push_ids(now, &listener, key, ids, Vec::new()),
            Change::Expired(ids) => self.push_ids(now, &listener, key, Vec::new(), ids),
        }
    }

    fn push_values(&mut self, now: Instant, listener: &Listener, key: InfoHash, values: Vec<Arc<Value>>) {
        for batch in batches(values) {
            let values = batch.into_iter().map(ValueItem::Inline).collect();
            let token = Some(self.tokens.issue(listener.address));
            if listener.version == 0 {
                self.respond(listener.address, listener.socket, Reply { token, values, ..Reply::default() });
                continue;
            }
            let update = Request::Update {
                key: Some(key),
                socket: listener.socket,
                token,
                values,
                refreshed: Vec::new(),
                expired: Vec::new(),
            };
            self.push(now, listener, key, update);
        }
    }

    fn push_ids(
        &mut self,
        now: Instant,
        listener: &Listener,
        key: InfoHash,
        refreshed: Vec<u64>,
        expired: Vec<u64>,
    ) {
        let token = Some(self.tokens.issue(listener.address));
        if listener.version == 0 {
            let body = Body::Notice { sender: self.id, token, refreshed, expired };
            self.notice(listener.address, listener.socket, body);
            return;
        }
        let socket = listener.socket;
        let update = Request::Update { key: None, socket, token, values: Vec::new(), refreshed, expired };
        self.push(now, listener, key, update);
    }

    fn push(&mut self, now: Instant, listener: &Listener, key: InfoHash, update: Request) {
        let purpose = Purpose::Update { key, socket: listener.socket };
        if !self.request(now, (listener.address, Some(listener.node)), purpose, update) {
            tracing::warn!(listener = %listener.node, "too many open requests to push an update");
        }
    }
}

/// Cuts rows that would not fit in one datagram; a selection is never sent in parts.
fn cut(mut rows: FieldRows) -> FieldRows {
    let length = |field: &FieldValue| match field {
        FieldValue::OwnerKey(key) => key.len() + 3,
        FieldValue::UserType(name) => name.len() + 3,
        FieldValue::Owner(_) => 22,
        _ => 9,
    };
    let mut bytes = 0;
    let fitting = rows.rows.iter().take_while(|row| {
        bytes += row.iter().map(length).sum::<usize>();
        bytes <= UPDATE_BYTES
    });
    let count = fitting.count();
    rows.rows.truncate(count);
    rows
}
