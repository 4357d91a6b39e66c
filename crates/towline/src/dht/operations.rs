//! The operations under way: which handle an event of the engine belongs to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use towline_dht::message::FieldRows;
use towline_dht::node::{Event, Node, OpId, PutOptions};
use towline_dht::{InfoHash, Value};

use super::announce::AnnouncementState;
use super::config::DhtLimits;
use super::error::GetError;
use super::get::{LookupOutbox, LookupReport};
use super::listen::ListenOutbox;
use super::request::{Place, Request, Start, Taker, Ticket};

#[derive(Debug)]
struct Operation {
    /// In the engine; `None` once it is over there and only its last batch is still to be taken.
    op: Option<OpId>,
    kind: Kind,
    /// Kept as long as the operation is.
    _place: Place,
}

#[derive(Debug)]
enum Kind {
    Get(LookupOutbox<Arc<Value>>),
    Query(LookupOutbox<FieldRows>),
    Listen(ListenOutbox),
    Put(Put),
}

/// A put, with what it takes to begin it again.
#[derive(Debug)]
struct Put {
    name: ValueName,
    value: Value,
    options: PutOptions,
    state: watch::Sender<AnnouncementState>,
    /// What to do when no node stores it.
    failing: Failing,
}

/// A value at its key. Of several puts of the same one only the last counts.
type ValueName = (InfoHash, u64);

#[derive(Debug, Clone, Copy)]
enum Failing {
    /// Give up: it is no permanent put, or a newer one has taken its place.
    Final,
    /// Begin again after this pause, or when we are connected.
    Retry { pause: Duration },
}

/// The pause before a permanent put that failed is begun again; it doubles.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// The longest such pause.
const LAST_RETRY: Duration = Duration::from_mins(5);

/// All operations of all handles.
#[derive(Debug)]
pub(super) struct Operations {
    by_ticket: BTreeMap<Ticket, Operation>,
    by_op: BTreeMap<OpId, Ticket>,
    /// The newest put of each value.
    puts: BTreeMap<ValueName, Ticket>,
    /// Permanent puts to begin again.
    retries: BTreeSet<(Instant, Ticket)>,
    /// Operations that wait until nodes may be found.
    held: VecDeque<(Ticket, Place, Start)>,
    limits: DhtLimits,
}

impl Operations {
    pub(super) fn new(limits: DhtLimits) -> Self {
        Self {
            by_ticket: BTreeMap::new(),
            by_op: BTreeMap::new(),
            puts: BTreeMap::new(),
            retries: BTreeSet::new(),
            held: VecDeque::new(),
            limits,
        }
    }

    /// Does what a handle asks. Unless it `may_start`, an operation is held until [`release`](Self::release).
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        node: &mut Node,
        request: Request,
        may_start: bool,
    ) {
        match request {
            Request::Start { ticket, place, what } if may_start => self.start(now, node, ticket, place, what),
            Request::Start { ticket, place, what } => self.held.push_back((ticket, place, what)),
            Request::Take { ticket, into } => self.take(ticket, into),
            Request::Cancel { ticket, place } => {
                self.held.retain(|(held, ..)| *held != ticket);
                if let Some(op) = self.remove(ticket) {
                    node.cancel(now, op);
                }
                // Not before the message has left the queue.
                drop(place);
            }
        }
    }

    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Starts what was held.
    pub(super) fn release(&mut self, now: Instant, node: &mut Node) {
        while let Some((ticket, place, what)) = self.held.pop_front() {
            self.start(now, node, ticket, place, what);
        }
    }

    fn start(&mut self, now: Instant, node: &mut Node, ticket: Ticket, place: Place, what: Start) {
        let (op, kind) = match what {
            Start::Get { key, options, first } => {
                let outbox = LookupOutbox::new(first, self.limits.get_backlog);
                (node.get(now, key, options), Kind::Get(outbox))
            }
            Start::Query { key, query, first } => {
                let outbox = LookupOutbox::new(first, self.limits.get_backlog);
                (node.query(now, key, query), Kind::Query(outbox))
            }
            Start::Listen { key, query, first } => {
                let outbox = ListenOutbox::new(first, self.limits.listen_backlog);
                (node.listen(now, key, query), Kind::Listen(outbox))
            }
            Start::Put { key, value, options, state } => {
                let name = (key, value.id);
                self.supersede(name, ticket);
                let failing =
                    if options.permanent { Failing::Retry { pause: FIRST_RETRY } } else { Failing::Final };
                let op = node.put(now, key, value.clone(), options);
                (op, Kind::Put(Put { name, value, options, state, failing }))
            }
        };
        self.by_op.insert(op, ticket);
        self.by_ticket.insert(ticket, Operation { op: Some(op), kind, _place: place });
    }

    /// Notes the newest put of a value. The engine ends an older one, which must not come back.
    fn supersede(&mut self, name: ValueName, newest: Ticket) {
        if let Some(older) = self.puts.insert(name, newest)
            && let Some(Operation { kind: Kind::Put(put), .. }) = self.by_ticket.get_mut(&older)
        {
            put.failing = Failing::Final;
            self.retries.retain(|(_, ticket)| *ticket != older);
        }
    }

    fn take(&mut self, ticket: Ticket, into: Taker) {
        // An operation that has said its last is gone: the handle learns it by the question being dropped.
        let Some(operation) = self.by_ticket.get_mut(&ticket) else { return };
        match (&mut operation.kind, into) {
            (Kind::Get(outbox), Taker::Get(into)) => outbox.asked(into),
            (Kind::Query(outbox), Taker::Query(into)) => outbox.asked(into),
            (Kind::Listen(outbox), Taker::Listen(into)) => outbox.asked(into),
            _ => unreachable!("a handle asks for what it started"),
        }
        self.remove_if_drained(ticket);
    }

    /// Passes on what the engine tells about an operation.
    pub(super) fn handle_event(&mut self, now: Instant, node: &mut Node, op: OpId, event: Event) {
        // Cancelled in between.
        let Some(ticket) = self.by_op.get(&op).copied() else { return };
        let operation = self.by_ticket.get_mut(&ticket).expect("both indexes hold the same operations");
        let fits = match (&mut operation.kind, event) {
            (Kind::Get(outbox), Event::Values { values, .. }) => outbox.found(values),
            (Kind::Query(outbox), Event::Fields { rows, .. }) => outbox.found([rows]),
            (Kind::Listen(outbox), Event::Listened { new, .. }) => {
                outbox.listened(new);
                true
            }
            (Kind::Listen(outbox), Event::Expired { ids, .. }) => {
                outbox.expired(&ids);
                true
            }
            (Kind::Put(put), Event::PutDone { stored_at, .. }) => {
                put.state.send_replace(match stored_at {
                    0 => AnnouncementState::NotStored,
                    on => AnnouncementState::Stored { on },
                });
                if let (0, Failing::Retry { pause }) = (stored_at, &mut put.failing) {
                    self.retries.insert((now + *pause, ticket));
                    *pause = (*pause * 2).min(LAST_RETRY);
                }
                true
            }
            (Kind::Get(_) | Kind::Query(_), Event::GetDone { ok, nodes, .. }) => {
                let end = if ok { Ok(LookupReport { nodes }) } else { Err(GetError::Unreachable) };
                self.end_lookup(ticket, end);
                true
            }
            (kind, event) => unreachable!("{event:?} is no event of {kind:?}"),
        };
        if !fits {
            node.cancel(now, op);
            self.end_lookup(ticket, Err(GetError::Backlog));
        }
    }

    fn end_lookup(&mut self, ticket: Ticket, end: Result<LookupReport, GetError>) {
        let Some(operation) = self.by_ticket.get_mut(&ticket) else { return };
        if let Some(op) = operation.op.take() {
            self.by_op.remove(&op);
        }
        match &mut operation.kind {
            Kind::Get(outbox) => outbox.end(end),
            Kind::Query(outbox) => outbox.end(end),
            Kind::Listen(_) | Kind::Put(_) => {}
        }
        self.remove_if_drained(ticket);
    }

    /// Forgets a lookup whose handle has all there is.
    fn remove_if_drained(&mut self, ticket: Ticket) {
        let Some(operation) = self.by_ticket.get(&ticket) else { return };
        let drained = match &operation.kind {
            Kind::Get(outbox) => outbox.is_drained(),
            Kind::Query(outbox) => outbox.is_drained(),
            Kind::Listen(_) | Kind::Put(_) => false,
        };
        if drained && operation.op.is_none() {
            self.remove(ticket);
        }
    }

    /// Forgets an operation; returns its name in the engine, if it still has one.
    fn remove(&mut self, ticket: Ticket) -> Option<OpId> {
        let operation = self.by_ticket.remove(&ticket)?;
        if let Kind::Put(put) = &operation.kind {
            if self.puts.get(&put.name) == Some(&ticket) {
                self.puts.remove(&put.name);
            }
            self.retries.retain(|(_, retried)| *retried != ticket);
        }
        self.by_op.remove(&operation.op?);
        operation.op
    }

    /// When a permanent put is to be begun again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, node: &mut Node) {
        while let Some(&(at, ticket)) = self.retries.first() {
            if at > now {
                break;
            }
            self.retries.pop_first();
            let Some(Operation { op, kind: Kind::Put(put), .. }) = self.by_ticket.get_mut(&ticket) else {
                continue;
            };
            if let Some(old) = op.take() {
                self.by_op.remove(&old);
                node.cancel(now, old);
            }
            let again = node.put(now, put.name.0, put.value.clone(), put.options);
            *op = Some(again);
            self.by_op.insert(again, ticket);
        }
    }

    /// We are connected (again): permanent puts that failed are begun again now.
    pub(super) fn connected(&mut self, now: Instant) {
        self.retries = self.retries.iter().map(|(_, ticket)| (now, *ticket)).collect();
    }
}
