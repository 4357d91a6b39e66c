//! What the program asks of a node and what it hears back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::family::PerFamily;
use crate::message::FieldRows;
use crate::{Query, Value};

/// Names an operation of this node from the call that started it to its last event. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub(super) u64);

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// The bytes, one UDP payload.
    pub payload: Bytes,
}

/// How a get goes about its work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// Which values are wanted. A selection here is ignored: ask for fields with [`super::Node::query`].
    pub query: Query,
    /// Ask for whole values at once instead of for their ids first. Saves a round trip where few and small values
    /// are expected; at a crowded key every asked node sends everything it has.
    pub plain: bool,
}

/// How a put goes about its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Keep the value alive on whichever nodes are nearest, until the put is cancelled.
    pub permanent: bool,
    /// When the value was made, since the Unix epoch; now, if not given. Counts only for values that are not
    /// permanent: their life time starts here.
    pub created: Option<Duration>,
    /// After the nodes have acknowledged the value, ask each whether it really has it, and count only those. A
    /// storing node acknowledges also what it dropped (`dht.md` 9.1).
    pub read_back: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A get found values it had not found before.
    Values {
        /// The get.
        op: OpId,
        /// The new values. Those with an owner carry a signature that holds.
        values: Vec<Arc<Value>>,
    },
    /// A query got an answer. Different nodes name the same value again.
    Fields {
        /// The query.
        op: OpId,
        /// A row for each value of one node.
        rows: FieldRows,
    },
    /// A get or query is over.
    GetDone {
        /// The get or query.
        op: OpId,
        /// Whether the nodes nearest to the key were asked, over at least one family.
        ok: bool,
        /// Nodes that answered.
        nodes: usize,
    },
    /// A put has reached its nodes, or cannot; one that is stored does not wait for a family in which nobody answers,
    /// and goes on there in silence. Renewals of a permanent put are silent.
    PutDone {
        /// The put.
        op: OpId,
        /// Whether at least one node outside this one has the value.
        ok: bool,
        /// How many nodes say (or, with [`PutOptions::read_back`], were seen) to have it.
        stored_at: usize,
    },
    /// A listen found new values, or new versions of known ones. Nodes that disagree about an id have their values
    /// told side by side: which of them holds is for the program to decide.
    Listened {
        /// The listen.
        op: OpId,
        /// The values. Those with an owner carry a signature that holds.
        new: Vec<Arc<Value>>,
    },
    /// Under these ids nothing is stored anywhere any more.
    Expired {
        /// The listen.
        op: OpId,
        /// The ids.
        ids: Vec<u64>,
    },
    /// The state of our connection to the network has changed.
    Status(PerFamily<Status>),
}

/// How well a family of ours is connected to the network (`dht.md` 2.6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// No node is known, and no bootstrap address has yet to answer.
    #[default]
    Disconnected,
    /// Nodes are known or being looked for; none has shown to be alive.
    Connecting,
    /// At least one good node is in the routing table.
    Connected,
}

/// Nodes of one family, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Good nodes in the routing table.
    pub good: usize,
    /// Nodes in the routing table that are neither good nor expired.
    pub dubious: usize,
    /// Nodes with a record, in the table or not.
    pub known: usize,
    /// Depth of our own bucket; the network has about `8 · 2^depth` nodes.
    pub depth: u32,
}

/// Counters since the node was made, and sizes of now. For people, not for decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams that were no message of the protocol.
    pub malformed: u64,
    /// Datagrams dropped for their source address: martian, of a family we do not use, or denied.
    pub unwelcome: u64,
    /// Messages of another network.
    pub foreign: u64,
    /// Requests dropped because of a rate limit.
    pub limited: u64,
    /// Answers that belonged to no request, or came from elsewhere than the request went to.
    pub unexpected: u64,
    /// Values with an owner whose signature does not hold.
    pub forged: u64,
    /// Large answers held until the asker's address was proved.
    pub held: u64,
    /// Requests of ours, retries not counted.
    pub requests: u64,
    /// Requests that ended without an answer.
    pub unanswered: u64,
    /// Requests that peers served to us with an error.
    pub refused: u64,
    /// Datagrams queued for sending.
    pub sent: u64,
    /// Datagrams dropped because the queue for sending was full.
    pub overflowed: u64,
    /// Nodes of each family.
    pub nodes: PerFamily<NodeCounts>,
    /// Open requests.
    pub open_requests: usize,
    /// Searches, idle ones included.
    pub searches: usize,
    /// Operations under way.
    pub operations: usize,
    /// Values stored.
    pub stored_values: usize,
    /// Bytes that those of other nodes take.
    pub stored_bytes: usize,
    /// Listeners at our storage, our own included.
    pub listeners: usize,
}
