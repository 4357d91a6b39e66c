//! What will happen, in order of time.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

use crate::{
    node::{NodeId, PortId},
    packet::Packet,
};

#[derive(Debug)]
pub(crate) enum Happening {
    /// A packet has crossed the link from this port and is in the network.
    InNetwork { from: PortId, packet: Packet },
    /// A packet has crossed the link to this port.
    AtPort { port: PortId, packet: Packet },
    /// A packet arrives at a host without a link: from itself.
    AtHost { node: NodeId, packet: Packet },
    /// A box has something to say.
    AtBox { node: NodeId },
    /// A timer of a connection.
    Timer { node: NodeId, connection: u64 },
}

#[derive(Debug)]
struct Entry {
    at: Duration,
    number: u64,
    what: Happening,
}

/// Ordered by time, then by the order of insertion, which makes a run repeatable.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    inserted: u64,
    /// Something came to the front since this was last asked.
    earlier: bool,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Duration, what: Happening) {
        self.earlier |= self.heap.peek().is_none_or(|first| at < first.at);
        self.inserted += 1;
        self.heap.push(Entry { at, number: self.inserted, what });
    }

    /// The next thing that has happened by `now`, and when.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<(Duration, Happening)> {
        if self.heap.peek()?.at > now {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }

    /// When the next thing happens.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Whether the front has changed since the last call.
    pub(crate) fn take_earlier(&mut self) -> bool {
        std::mem::take(&mut self.earlier)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap has its greatest entry first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
