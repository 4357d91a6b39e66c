//! What handles ask of the driver.
//!
//! Two queues lead to the driver. Operations (start, take, cancel) have one of their own, which cannot overflow: an
//! operation exists only while it holds one of a fixed number of [`Place`]s, and has at most one message of each
//! kind in the queue. So a cancel is never lost, starting needs no waiting, and no unbounded queue is needed for
//! either. Everything else goes through the other queue, whose senders wait.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use towline_dht::message::FieldRows;
use towline_dht::node::{Event, GetOptions, OpId, PutOptions, Stats};
use towline_dht::{InfoHash, Query, Value};
use towline_net::UdpSocket;

use super::announce::AnnouncementState;
use super::error::SaveError;
use super::get::LookupBatch;
use super::listen::ListenBatch;

/// A place among the operations that may exist at once, held by the handle and by the driver.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// Messages of one place that can be in the queue: start, take, cancel.
pub(super) const REQUESTS_PER_PLACE: usize = 3;

/// Names an operation between handle and driver; the engine's [`OpId`] exists only once it has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u64);

/// About an operation.
#[derive(Debug)]
pub(super) enum Request {
    Start {
        ticket: Ticket,
        place: Place,
        what: Start,
    },
    /// The handle waits for more.
    Take {
        ticket: Ticket,
        into: Taker,
    },
    /// The handle is gone. The place it gives back must outlive the message.
    Cancel {
        ticket: Ticket,
        place: Place,
    },
}

#[derive(Debug)]
pub(super) enum Start {
    Get { key: InfoHash, options: GetOptions, first: oneshot::Sender<LookupBatch<Arc<Value>>> },
    Query { key: InfoHash, query: Query, first: oneshot::Sender<LookupBatch<FieldRows>> },
    Listen { key: InfoHash, query: Query, first: oneshot::Sender<ListenBatch> },
    Put { key: InfoHash, value: Value, options: PutOptions, state: watch::Sender<AnnouncementState> },
}

/// Where the next batch of an operation goes.
#[derive(Debug)]
pub(super) enum Taker {
    Get(oneshot::Sender<LookupBatch<Arc<Value>>>),
    Query(oneshot::Sender<LookupBatch<FieldRows>>),
    Listen(oneshot::Sender<ListenBatch>),
}

/// About the node.
#[derive(Debug)]
pub(super) enum Control {
    Bootstrap(Vec<String>),
    InsertNode { id: InfoHash, addr: SocketAddr },
    ConnectivityChanged,
    ListenAnew,
    Detour(Box<dyn UdpSocket>),
    PassedOn(Option<IpAddr>),
    PublicAddresses(oneshot::Sender<Vec<IpAddr>>),
    Stats(oneshot::Sender<Stats>),
    Shutdown(oneshot::Sender<Result<(), SaveError>>),
}

/// The operation an event of the engine belongs to; `None` for those about the node.
pub(super) fn operation_of(event: &Event) -> Option<OpId> {
    match event {
        Event::Values { op, .. }
        | Event::Fields { op, .. }
        | Event::GetDone { op, .. }
        | Event::PutDone { op, .. }
        | Event::Listened { op, .. }
        | Event::Expired { op, .. } => Some(*op),
        Event::Status(_) => None,
    }
}
