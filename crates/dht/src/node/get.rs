//! Gets and queries: ids first, then each value from one or two of the nodes that have it (`dht.md` 2.8).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::Node;
use super::event::{Event, GetOptions, OpId};
use super::family::Family;
use super::ops::Op;
use super::search::{Ask, Heads, Search, SearchKey};
use crate::message::FieldRows;
use crate::{Field, FieldValue, InfoHash, Query, Reply, Request, Restriction, Value, ValueItem, Want};

/// Fetches a get has under way in one family.
const PARALLEL_FETCHES: usize = 32;
/// A value without a signature that holds is fetched from so many nodes: one of them might lie.
const COPIES: usize = 2;
/// When a node has at least two and at most so many values that are all wanted, they are asked for at once.
const MAX_TOGETHER: usize = 16;
/// Nodes remembered to ask for a value when those asked first fail.
const MAX_SPARES: usize = 8;

/// A version of a value, as a selection of ids names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    id: u64,
    seq: u64,
}

/// Who has a version of a value. One node is asked at a time.
#[derive(Debug, Default)]
struct Sources {
    flying: BTreeSet<InfoHash>,
    spares: VecDeque<(Family, InfoHash)>,
    copies: usize,
    /// A copy had a signature that holds: nobody else need be asked.
    proved: bool,
}

impl Sources {
    fn is_satisfied(&self) -> bool {
        self.proved || self.copies >= COPIES
    }

    /// A fetch is over, or takes too long to wait for.
    fn landed(&mut self, node: &InfoHash, found: bool, proved: bool) {
        if self.flying.remove(node) {
            self.copies += usize::from(found);
        }
        self.proved |= proved;
    }

    /// Who should be asked now, if anybody.
    fn next(&mut self) -> Option<(Family, InfoHash)> {
        if self.is_satisfied() || !self.flying.is_empty() {
            return None;
        }
        let (family, node) = self.spares.pop_front()?;
        self.flying.insert(node);
        Some((family, node))
    }
}

/// A get or query over both families.
#[derive(Debug)]
pub(super) struct Get {
    pub(super) key: InfoHash,
    /// With a selection it is a query: rows, not values, are reported.
    query: Query,
    plain: bool,
    pub(super) pending: BTreeSet<Family>,
    ok: bool,
    nodes: usize,
    seen: BTreeMap<u64, Vec<Arc<Value>>>,
    delivered: usize,
    sources: BTreeMap<Wanted, Sources>,
    /// Fetches for the searches to send.
    queue: Vec<(SearchKey, InfoHash, Wanted)>,
}

/// The part of a get that one search does.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    /// Nodes asked, and whether they answered.
    pub(super) asked: BTreeMap<InfoHash, bool>,
    queue: VecDeque<(InfoHash, Vec<Wanted>)>,
    fetching: usize,
}

impl Lookup {
    fn is_fetching(&self) -> bool {
        self.fetching > 0 || !self.queue.is_empty()
    }
}

impl Get {
    fn new(key: InfoHash, query: Query, plain: bool) -> Self {
        Self {
            key,
            query,
            plain,
            pending: BTreeSet::new(),
            ok: false,
            nodes: 0,
            seen: BTreeMap::new(),
            delivered: 0,
            sources: BTreeMap::new(),
            queue: Vec::new(),
        }
    }

    /// What a node is asked first.
    fn first_query(&self) -> Option<Query> {
        if !self.query.select.is_empty() {
            return Some(self.query.clone());
        }
        if self.plain {
            return (!self.query.restrictions.is_empty()).then(|| self.query.clone());
        }
        Some(Query { select: vec![Field::Id, Field::Seq], restrictions: self.query.restrictions.clone() })
    }

    fn knows(&self, value: &Value) -> bool {
        self.seen.get(&value.id).is_some_and(|known| known.iter().any(|it| **it == *value))
    }
}

impl Node {
    /// Looks values up. They come as [`Event::Values`], each once, those stored here first; [`Event::GetDone`] is the
    /// last. `dht.md` 2.8.
    pub fn get(&mut self, now: Instant, key: InfoHash, options: GetOptions) -> OpId {
        let query = Query { select: Vec::new(), restrictions: options.query.restrictions };
        self.start_get(now, Get::new(key, query, options.plain))
    }

    /// Asks for fields of values instead of whole values: [`Event::Fields`] for each node that has some, then
    /// [`Event::GetDone`]. An empty selection asks for ids.
    pub fn query(&mut self, now: Instant, key: InfoHash, mut query: Query) -> OpId {
        if query.select.is_empty() {
            query.select.push(Field::Id);
        }
        self.start_get(now, Get::new(key, query, false))
    }

    fn start_get(&mut self, now: Instant, mut get: Get) -> OpId {
        let op = self.draw_op();
        let key = get.key;
        let query = get.query.clone();
        let local = self.store.get(&key, &query);
        for value in &local {
            // What is stored here was checked when it came.
            let sources = get.sources.entry(Wanted { id: value.id, seq: value.seq().into() }).or_default();
            (sources.copies, sources.proved) = (1, value.is_signed());
        }
        if self.ops.len() < self.config.limits.operations {
            for family in self.families() {
                if self.open_search(now, SearchKey { key, family }, |search| {
                    search.lookups.insert(op, Lookup::default());
                }) {
                    get.pending.insert(family);
                }
            }
        }
        self.ops.insert(op, Op::Get(get));
        if query.select.is_empty() {
            self.deliver(op, local);
        } else if !local.is_empty() {
            let rows = query.rows(local.iter().map(AsRef::as_ref));
            self.push_event(Event::Fields { op, rows });
        }
        self.finish_get_if_over(op);
        self.settle(now);
        op
    }

    /// Asks a node for the first time on behalf of a get.
    pub(super) fn look_request(&self, op: OpId, key: InfoHash) -> Option<Request> {
        let Some(Op::Get(get)) = self.ops.get(&op) else { return None };
        Some(Request::Get { key, query: get.first_query(), want: Want::default() })
    }

    /// A node's first answer: values, fields, or ids of values to fetch.
    pub(super) fn look_answered(&mut self, search: SearchKey, node: InfoHash, op: OpId, reply: &Reply) {
        let Some(Op::Get(get)) = self.ops.get_mut(&op) else { return };
        let Some(lookup) = self.searches.get_mut(&search).and_then(|search| search.lookups.get_mut(&op))
        else {
            return;
        };
        if lookup.asked.insert(node, true) != Some(true) {
            get.nodes += 1;
        }
        match &reply.fields {
            Some(rows) if !get.query.select.is_empty() => {
                let rows = rows.clone();
                if !rows.rows.is_empty() {
                    self.push_event(Event::Fields { op, rows });
                }
            }
            Some(rows) => {
                let listed = listed(rows, self.config.limits.values_per_operation);
                let all = listed.len();
                let wanted: Vec<Wanted> = listed
                    .into_iter()
                    .filter(|it| get.wants(*it, search.family, node, &self.config.limits))
                    .collect();
                if wanted.len() > 1 && wanted.len() == all && all <= MAX_TOGETHER {
                    lookup.queue.push_back((node, wanted));
                } else {
                    lookup.queue.extend(wanted.into_iter().map(|it| (node, vec![it])));
                }
            }
            // A node too old for selections, or a plain get.
            None => self.deliver(op, inline(&reply.values)),
        }
    }

    /// Sends the fetches that wait, as many as may be under way.
    pub(super) fn advance_fetches(&mut self, now: Instant, key: SearchKey, search: &mut Search) {
        for (&op, lookup) in &mut search.lookups {
            if let Some(Op::Get(get)) = self.ops.get_mut(&op) {
                let ours = get.queue.extract_if(.., |(search, ..)| *search == key);
                lookup.queue.extend(ours.map(|(_, node, version)| (node, vec![version])));
            }
            while lookup.fetching < PARALLEL_FETCHES {
                let Some((node, wanted)) = lookup.queue.pop_front() else { break };
                let restrictions = match wanted.as_slice() {
                    [one] => vec![Restriction::Id(one.id)],
                    _ => match self.ops.get(&op) {
                        Some(Op::Get(get)) => get.query.restrictions.clone(),
                        _ => break,
                    },
                };
                let query = Some(Query { select: Vec::new(), restrictions });
                let request = Request::Get { key: key.key, query, want: Want::default() };
                if self.ask(now, key, node, Ask::Fetch { op, wanted: wanted.clone() }, request) {
                    lookup.fetching += 1;
                } else {
                    // The node died since it was asked, or too much is under way.
                    self.landed(op, &node, &wanted, &BTreeSet::new(), &BTreeSet::new());
                }
            }
        }
    }

    /// Values came, or not all of those the node had named.
    pub(super) fn fetch_answered(
        &mut self,
        search: SearchKey,
        node: InfoHash,
        (op, wanted): (OpId, &[Wanted]),
        reply: &Reply,
    ) {
        let values = inline(&reply.values);
        let proved: BTreeSet<u64> =
            values.iter().filter(|it| self.is_proved(op, it)).map(|it| it.id).collect();
        let found: BTreeSet<u64> = values.iter().map(|value| value.id).collect();
        self.deliver(op, values);
        self.end_fetch(search, op);
        self.landed(op, &node, wanted, &found, &proved);
    }

    /// A fetch came to nothing: others are asked.
    pub(super) fn fetch_failed(&mut self, search: SearchKey, node: InfoHash, op: OpId, wanted: &[Wanted]) {
        self.end_fetch(search, op);
        self.fetch_late(node, op, wanted);
    }

    /// A fetch takes long: others are asked meanwhile.
    pub(super) fn fetch_late(&mut self, node: InfoHash, op: OpId, wanted: &[Wanted]) {
        self.landed(op, &node, wanted, &BTreeSet::new(), &BTreeSet::new());
    }

    fn end_fetch(&mut self, search: SearchKey, op: OpId) {
        if let Some(lookup) = self.searches.get_mut(&search).and_then(|search| search.lookups.get_mut(&op)) {
            lookup.fetching = lookup.fetching.saturating_sub(1);
        }
    }

    /// Takes note of what a node brought, and asks the next one for what is still wanted.
    fn landed(
        &mut self,
        op: OpId,
        node: &InfoHash,
        wanted: &[Wanted],
        found: &BTreeSet<u64>,
        proved: &BTreeSet<u64>,
    ) {
        let Some(Op::Get(get)) = self.ops.get_mut(&op) else { return };
        for version in wanted {
            let Some(sources) = get.sources.get_mut(version) else { continue };
            sources.landed(node, found.contains(&version.id), proved.contains(&version.id));
            if let Some((family, next)) = sources.next() {
                get.queue.push((SearchKey { key: get.key, family }, next, *version));
            }
        }
        self.dirty.extend(get.queue.iter().map(|(search, ..)| *search));
    }

    /// Whether a signed value is new to the get and its signature holds, or is known from before.
    fn is_proved(&self, op: OpId, value: &Value) -> bool {
        let Some(Op::Get(get)) = self.ops.get(&op) else { return false };
        value.is_signed() && (get.knows(value) || value.check_signature().is_ok())
    }

    /// Reports values the get has not seen.
    fn deliver(&mut self, op: OpId, values: Vec<Arc<Value>>) {
        let Some(Op::Get(get)) = self.ops.get_mut(&op) else { return };
        let mut fresh = Vec::new();
        for value in values {
            let room = get.delivered < self.config.limits.values_per_operation;
            if !room || value.id == 0 || !get.query.matches(&value) || get.knows(&value) {
                continue;
            }
            if value.owner().is_some() && value.check_signature().is_err() {
                self.stats.forged += 1;
                continue;
            }
            get.delivered += 1;
            get.seen.entry(value.id).or_default().push(Arc::clone(&value));
            fresh.push(value);
        }
        if !fresh.is_empty() {
            self.push_event(Event::Values { op, values: fresh });
        }
    }

    /// Ends the gets of a search whose nearest nodes have all answered.
    pub(super) fn complete_lookups(&mut self, key: SearchKey, search: &mut Search, heads: &Heads) {
        let ids: Vec<InfoHash> = heads.nearest.iter().map(|&place| search.members[place].id).collect();
        if ids.is_empty() || heads.incomplete {
            return;
        }
        let over = |lookup: &Lookup| {
            !lookup.is_fetching() && ids.iter().all(|id| lookup.asked.get(id).copied().unwrap_or(false))
        };
        let done: Vec<OpId> =
            search.lookups.iter().filter(|(_, lookup)| over(lookup)).map(|(op, _)| *op).collect();
        for op in done {
            search.lookups.remove(&op);
            self.end_lookup(op, key.family, true);
        }
    }

    /// A family has done what it could for a get.
    pub(super) fn end_lookup(&mut self, op: OpId, family: Family, ok: bool) {
        if let Some(Op::Get(get)) = self.ops.get_mut(&op) {
            get.pending.remove(&family);
            get.ok |= ok;
        }
        self.finish_get_if_over(op);
    }

    fn finish_get_if_over(&mut self, op: OpId) {
        if let Some(Op::Get(get)) = self.ops.get(&op)
            && get.pending.is_empty()
        {
            let (ok, nodes) = (get.ok, get.nodes);
            self.ops.remove(&op);
            self.push_event(Event::GetDone { op, ok, nodes });
        }
    }
}

impl Get {
    /// Whether this node should be asked for a version of a value it has. If not, it is remembered in case.
    fn wants(&mut self, version: Wanted, family: Family, node: InfoHash, limits: &super::Limits) -> bool {
        if self.sources.len() >= limits.values_per_operation && !self.sources.contains_key(&version) {
            return false;
        }
        let sources = self.sources.entry(version).or_default();
        let known = sources.flying.contains(&node) || sources.spares.contains(&(family, node));
        if sources.is_satisfied() || known {
            return false;
        }
        if sources.flying.is_empty() {
            sources.flying.insert(node);
            return true;
        }
        if sources.spares.len() < MAX_SPARES {
            sources.spares.push_back((family, node));
        }
        false
    }
}

/// The versions in an answer to a selection of ids.
fn listed(rows: &FieldRows, limit: usize) -> Vec<Wanted> {
    let version = |row: &Vec<FieldValue>| {
        let id =
            row.iter().find_map(|field| if let FieldValue::Id(id) = field { Some(*id) } else { None })?;
        let seq =
            row.iter().find_map(|field| if let FieldValue::Seq(seq) = field { Some(*seq) } else { None });
        Some(Wanted { id, seq: seq.unwrap_or(0) })
    };
    rows.rows.iter().filter_map(version).take(limit).collect()
}

pub(super) fn inline(items: &[ValueItem]) -> Vec<Arc<Value>> {
    let value =
        |item: &ValueItem| if let ValueItem::Inline(value) = item { Some(Arc::clone(value)) } else { None };
    items.iter().filter_map(value).collect()
}
