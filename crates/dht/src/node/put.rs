//! Puts: a value goes to the eight nearest nodes, and some that everybody reaches (`search.rs`), and a permanent one is kept alive there (`dht.md` 2.9).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::Node;
use super::event::{Event, OpId, PutOptions, Status};
use super::family::Family;
use super::ops::Op;
use super::request::{Open, Purpose};
use super::search::{Ask, Heads, Search, SearchKey};
use crate::fragment::INLINE_MAX_BYTES;
use crate::store::Origin;
use crate::{Field, FieldValue, InfoHash, Query, Reply, Request, Restriction, Value, ValueItem, Want, types};

/// A permanent put is renewed this long before the value would expire.
const RENEW_MARGIN: Duration = Duration::from_secs(10);

/// A put over both families.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) key: InfoHash,
    pub(super) value: Arc<Value>,
    pub(super) permanent: bool,
    /// Started by ourselves to hand a stored value on: no event is sent, the copy here goes when it is over.
    pub(super) hand_on: bool,
    pending: BTreeSet<Family>,
    stored_at: BTreeSet<InfoHash>,
    reported: bool,
}

/// The part of a put that one search does.
#[derive(Debug, Clone)]
pub(super) struct Announce {
    pub(super) op: OpId,
    pub(super) value: Arc<Value>,
    created: Option<i64>,
    permanent: bool,
    read_back: bool,
    announced: bool,
}

/// What is known about our value at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    /// A request about it is on the way.
    Asking,
    /// The node said at this time that it has it.
    Acknowledged(Instant),
    /// And it answered a get with it.
    Confirmed(Instant),
    /// It said so, but does not have it.
    Denied(Instant),
}

impl Holding {
    fn since(self) -> Option<Instant> {
        match self {
            Self::Asking => None,
            Self::Acknowledged(at) | Self::Confirmed(at) | Self::Denied(at) => Some(at),
        }
    }
}

impl Announce {
    /// From one acknowledgement to the next.
    fn renewal(&self) -> Duration {
        types::expiry(self.value.value_type()).saturating_sub(RENEW_MARGIN)
    }

    pub(super) fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// Whether a node is done with it, so far.
    fn is_settled(&self, holding: Option<&Holding>) -> bool {
        match holding {
            None | Some(Holding::Asking) => false,
            Some(Holding::Acknowledged(_)) => !self.read_back,
            Some(Holding::Confirmed(_) | Holding::Denied(_)) => true,
        }
    }

    fn put_request(&self, key: InfoHash, token: crate::Token) -> Request {
        let values = vec![ValueItem::Inline(Arc::clone(&self.value))];
        Request::Put { key, values, created: self.created, token: Some(token) }
    }
}

impl Node {
    /// Stores a value. A value id of 0 becomes a random one. Ends with [`Event::PutDone`], but a permanent put goes
    /// on in silence until [`Node::cancel_put`]. A newer put of the same id at the same key takes the place of an
    /// older one, which is then over (and failed, if it was not done).
    pub fn put(&mut self, now: Instant, key: InfoHash, mut value: Value, options: PutOptions) -> OpId {
        let op = self.draw_op();
        if value.id == 0 {
            value.id = self.rng.random_range(1..=u64::MAX);
        }
        let value = Arc::new(value);
        let unix = self.unix_seconds(now);
        let created = options.created.map_or(unix, |at| at.as_secs().try_into().unwrap_or(i64::MAX));
        self.replace_put(&key, &value);
        if let Err(refusal) = self.store.put(now, unix, key, Arc::clone(&value), Some(created), Origin::Local)
        {
            tracing::debug!(%key, id = value.id, %refusal, "not kept here");
        }
        self.start_put(now, op, key, value, (created, options), false);
        self.settle(now);
        op
    }

    /// Hands a value of others on to the nodes that are nearest to its key by now.
    pub(super) fn hand_on(&mut self, now: Instant, key: InfoHash, value: Arc<Value>, created: i64) {
        let op = self.draw_op();
        self.start_put(now, op, key, value, (created, PutOptions::default()), true);
    }

    fn start_put(
        &mut self,
        now: Instant,
        op: OpId,
        key: InfoHash,
        value: Arc<Value>,
        (created, options): (i64, PutOptions),
        hand_on: bool,
    ) {
        let announce = Announce {
            op,
            value: Arc::clone(&value),
            created: (!options.permanent).then_some(created),
            permanent: options.permanent,
            read_back: options.read_back,
            announced: false,
        };
        let mut put = Put {
            key,
            value,
            permanent: options.permanent,
            hand_on,
            pending: BTreeSet::new(),
            stored_at: BTreeSet::new(),
            reported: false,
        };
        let room = self.ops.len() < self.config.limits.operations;
        for family in self.families().into_iter().filter(|_| room) {
            let id = announce.value.id;
            if self.open_search(now, SearchKey { key, family }, |search| {
                for member in &mut search.members {
                    member.holdings.remove(&id);
                }
                search.puts.insert(id, announce.clone());
            }) {
                put.pending.insert(family);
            }
        }
        self.ops.insert(op, Op::Put(put));
        self.finish_put_if_over(op);
    }

    /// Ends an older put of the same value id.
    fn replace_put(&mut self, key: &InfoHash, value: &Value) {
        let same = |op: &Op| matches!(op, Op::Put(put) if put.key == *key && put.value.id == value.id);
        let Some(op) = self.ops.iter().find(|(_, op)| same(op)).map(|(id, _)| *id) else { return };
        if let Some(Op::Put(old)) = self.ops.remove(&op) {
            if !old.value.same_content(value) || old.permanent {
                self.store.remove_local(key, value.id);
            }
            if !old.reported {
                self.push_event(Event::PutDone { op, ok: false, stored_at: 0 });
            }
        }
        for family in Family::ALL {
            if let Some(search) = self.searches.get_mut(&SearchKey { key: *key, family }) {
                search.puts.remove(&value.id);
            }
        }
    }

    /// Sends what the puts of a search have to send, and ends those that are done.
    pub(super) fn advance_puts(&mut self, now: Instant, key: SearchKey, search: &mut Search, heads: &Heads) {
        let puts: Vec<Announce> = search.puts.values().cloned().collect();
        for put in &puts {
            let id = put.value.id;
            for &place in &heads.nearest[..heads.usable] {
                let member = &mut search.members[place];
                let Some(token) = member.token.clone().filter(|_| !member.is_paused(now)) else { continue };
                let (ask, request) = match member.holdings.get(&id) {
                    None if put.permanent && put.value.packed_size() >= INLINE_MAX_BYTES => {
                        probe(key.key, id, true)
                    }
                    None => (Ask::Put { value: id }, put.put_request(key.key, token)),
                    Some(Holding::Acknowledged(_)) if put.read_back && !put.announced => {
                        probe(key.key, id, false)
                    }
                    Some(holding)
                        if put.permanent
                            && holding.since().is_some_and(|since| now >= since + put.renewal()) =>
                    {
                        probe(key.key, id, true)
                    }
                    Some(_) => continue,
                };
                let node = member.id;
                if self.ask(now, key, node, ask, request) {
                    member.holdings.insert(id, Holding::Asking);
                }
            }
            let settled = |&place: &usize| put.is_settled(search.members[place].holdings.get(&id));
            if heads.synced && !heads.incomplete && !put.announced && heads.nearest.iter().all(settled) {
                self.announced(now, key, search, put, heads);
            }
        }
    }

    fn announced(
        &mut self,
        now: Instant,
        key: SearchKey,
        search: &mut Search,
        put: &Announce,
        heads: &Heads,
    ) {
        let id = put.value.id;
        let stored = |member: &&super::search::Member| match member.holdings.get(&id) {
            Some(Holding::Acknowledged(_)) => !put.read_back,
            Some(Holding::Confirmed(_)) => true,
            _ => false,
        };
        let holders: Vec<InfoHash> = heads
            .nearest
            .iter()
            .map(|&place| &search.members[place])
            .filter(stored)
            .map(|it| it.id)
            .collect();
        if put.permanent {
            if let Some(announce) = search.puts.get_mut(&id) {
                announce.announced = true;
            }
        } else {
            search.puts.remove(&id);
            for member in &mut search.members {
                member.holdings.remove(&id);
            }
        }
        tracing::debug!(key = %key.key, family = %key.family, id, nodes = holders.len(), ?now, "announced");
        self.end_announce(put.op, key.family, holders);
    }

    /// A family has done what it could for a put.
    pub(super) fn end_announce(&mut self, op: OpId, family: Family, holders: Vec<InfoHash>) {
        if let Some(Op::Put(put)) = self.ops.get_mut(&op) {
            put.pending.remove(&family);
            put.stored_at.extend(holders);
        }
        self.finish_put_if_over(op);
    }

    /// Tells of a put that is over, or only waits for a family in which nobody answers; there it goes on in silence.
    fn finish_put_if_over(&mut self, op: OpId) {
        let Some(Op::Put(put)) = self.ops.get(&op) else { return };
        let over = put.pending.is_empty();
        let enough = || {
            let unheard = |family: &Family| self.is_unheard(*family);
            !put.hand_on && !put.stored_at.is_empty() && put.pending.iter().all(unheard)
        };
        if !over && (put.reported || !enough()) {
            return;
        }
        let Some(Op::Put(put)) = self.ops.get_mut(&op) else { return };
        let told = std::mem::replace(&mut put.reported, true);
        let stored_at = put.stored_at.len();
        let (key, id, hand_on) = (put.key, put.value.id, put.hand_on);
        if over && !put.permanent {
            self.ops.remove(&op);
        }
        if hand_on {
            if stored_at > 0 {
                self.store.discard(&key, id);
            }
        } else if !told {
            self.push_event(Event::PutDone { op, ok: stored_at > 0, stored_at });
        }
    }

    /// Whether a family seems to lead nowhere: nobody answers, and nobody has just been asked for the first time.
    fn is_unheard(&self, family: Family) -> bool {
        let fresh = |open: &Open| {
            open.purpose == Purpose::Bootstrap && Family::of(&open.to) == family && !open.is_late()
        };
        self.nets[family].status != Status::Connected && !self.requests.any(fresh)
    }

    /// Nobody answers at a bootstrap address so far: no put need wait for that.
    pub(super) fn bootstrap_late(&mut self, family: Family) {
        let waits = |op: &Op| matches!(op, Op::Put(put) if put.pending.contains(&family));
        let ops: Vec<OpId> = self.ops.iter().filter(|(_, op)| waits(op)).map(|(id, _)| *id).collect();
        for op in ops {
            self.finish_put_if_over(op);
        }
    }

    /// When the puts of a search have to do something about its nearest nodes again.
    pub(super) fn next_renewal(search: &Search, heads: &Heads) -> Option<Instant> {
        let permanent: Vec<&Announce> = search.puts.values().filter(|put| put.permanent).collect();
        let renewals = heads.nearest.iter().flat_map(|&place| {
            let holdings: &BTreeMap<u64, Holding> = &search.members[place].holdings;
            permanent.iter().filter_map(|put| Some(holdings.get(&put.value.id)?.since()? + put.renewal()))
        });
        renewals.min()
    }

    /// The answer to "do you have it?".
    pub(super) fn probe_answered(
        &mut self,
        now: Instant,
        (key, node): (SearchKey, InfoHash),
        value: u64,
        ask: &Ask,
        reply: &Reply,
    ) {
        let Some(search) = self.searches.get_mut(&key) else { return };
        let Some(put) = search.puts.get(&value).cloned() else { return };
        let Some(member) = search.member(&node) else { return };
        let stored = stored_seq(reply, value);
        let has_it = stored.is_some_and(|seq| seq >= u64::from(put.value.seq()));
        if matches!(ask, Ask::ReadBack { .. }) {
            member
                .holdings
                .insert(value, if has_it { Holding::Confirmed(now) } else { Holding::Denied(now) });
            return;
        }
        let Some(token) = reply.token.clone().or_else(|| member.token.clone()) else {
            member.holdings.remove(&value);
            return;
        };
        let (ask, request) = if has_it {
            (Ask::Refresh { value }, Request::Refresh { key: key.key, value, token: Some(token) })
        } else {
            (Ask::Put { value }, put.put_request(key.key, token))
        };
        if !self.ask(now, key, node, ask, request)
            && let Some(member) = self.searches.get_mut(&key).and_then(|search| search.member(&node))
        {
            member.holdings.remove(&value);
        }
        if put.permanent {
            self.renew_local_copy(now, key.key, &put.value);
        }
    }

    /// Our own copy lives as long as those of others.
    fn renew_local_copy(&mut self, now: Instant, key: InfoHash, value: &Arc<Value>) {
        if !matches!(self.store.refresh(now, &key, value.id), Ok(true)) {
            let unix = self.unix_seconds(now);
            let again = self.store.put(now, unix, key, Arc::clone(value), None, Origin::Local);
            if let Err(refusal) = again {
                tracing::debug!(%key, id = value.id, %refusal, "not kept here");
            }
        }
    }

    /// A node says it stored, or refreshed, our value.
    pub(super) fn put_answered(
        &mut self,
        now: Instant,
        key: SearchKey,
        node: InfoHash,
        value: u64,
        reply: &Reply,
    ) {
        let Some(member) = self.searches.get_mut(&key).and_then(|search| search.member(&node)) else {
            return;
        };
        member.accepted();
        if reply.value_id.is_some_and(|id| id != value) {
            member.holdings.remove(&value);
        } else {
            member.holdings.insert(value, Holding::Acknowledged(now));
        }
    }

    /// The node forgot the key: it gets the whole value again.
    pub(super) fn refresh_unknown(&mut self, now: Instant, key: SearchKey, node: InfoHash, value: u64) {
        let Some(search) = self.searches.get_mut(&key) else { return };
        let Some(put) = search.puts.get(&value).cloned() else { return };
        let Some(member) = search.member(&node) else { return };
        member.holdings.remove(&value);
        let Some(token) = member.token.clone() else { return };
        if self.ask(now, key, node, Ask::Put { value }, put.put_request(key.key, token))
            && let Some(member) = self.searches.get_mut(&key).and_then(|search| search.member(&node))
        {
            member.holdings.insert(value, Holding::Asking);
        }
    }
}

/// The question whether a node has a value, before it is renewed or after it was put.
fn probe(key: InfoHash, value: u64, renew: bool) -> (Ask, Request) {
    let query = Query { select: vec![Field::Id, Field::Seq], restrictions: vec![Restriction::Id(value)] };
    let ask = if renew { Ask::Probe { value } } else { Ask::ReadBack { value } };
    (ask, Request::Get { key, query: Some(query), want: Want::default() })
}

/// The sequence number a node has the value with, if it has it.
fn stored_seq(reply: &Reply, value: u64) -> Option<u64> {
    if let Some(rows) = &reply.fields {
        let row = rows.rows.iter().find(|row| row.contains(&FieldValue::Id(value)))?;
        let seq =
            row.iter().find_map(|field| if let FieldValue::Seq(seq) = field { Some(*seq) } else { None });
        return Some(seq.unwrap_or(0));
    }
    super::get::inline(&reply.values).iter().find(|it| it.id == value).map(|it| it.seq().into())
}
