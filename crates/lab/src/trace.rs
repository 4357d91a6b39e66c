//! The record of everything that moved.

use std::{collections::VecDeque, fmt, net::SocketAddr, time::Duration};

use crate::{link::Drop, node::NodeId, packet::Kind};

/// What happened to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A host sent it, or a box that refused another.
    Sent,
    /// It arrived at a host that wanted it.
    Arrived,
    /// It did not arrive.
    Dropped(Drop),
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Something happened to a packet.
    Packet {
        /// Virtual time since the start.
        at: Duration,
        /// Where: the host or router, for a link the one at its end.
        node: NodeId,
        /// What happened.
        event: Event,
        /// What kind of packet it is.
        kind: Kind,
        /// Source, as seen there.
        from: SocketAddr,
        /// Destination, as seen there.
        to: SocketAddr,
        /// Payload in bytes.
        len: usize,
    },
    /// The story said something ([`World::note`](crate::World::note)).
    Note {
        /// Virtual time since the start.
        at: Duration,
        /// What it said.
        text: String,
    },
}

/// Everything that moved: a hash over all of it, numbers, and the last part of the timeline.
///
/// Two runs of one story from one seed have equal traces. The content of packets is left out, because
/// signatures and handshakes of real programs may draw on chance outside of the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    hash: u64,
    sent: u64,
    arrived: u64,
    dropped: u64,
    keep: usize,
    timeline: VecDeque<Record>,
}

impl Trace {
    pub(crate) fn new(keep: usize) -> Self {
        // The offset basis of FNV-1a.
        Self { hash: 0xcbf2_9ce4_8422_2325, sent: 0, arrived: 0, dropped: 0, keep, timeline: VecDeque::new() }
    }

    /// A hash (FNV-1a) over all events so far, also those that the timeline no longer holds.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Packets sent by hosts, and by boxes to refuse others.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Packets that arrived at a host which wanted them.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Packets that were dropped on the way or at their end.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The last events, oldest first. How many are kept is an option of the run.
    pub fn timeline(&self) -> impl Iterator<Item = &Record> {
        self.timeline.iter()
    }

    pub(crate) fn record(&mut self, record: Record) {
        match &record {
            Record::Packet { at, node, event, kind, from, to, len } => {
                let event = match event {
                    Event::Sent => {
                        self.sent += 1;
                        0
                    }
                    Event::Arrived => {
                        self.arrived += 1;
                        1
                    }
                    Event::Dropped(why) => {
                        self.dropped += 1;
                        2 + why.code()
                    }
                };
                self.absorb(&(at.as_nanos() as u64).to_le_bytes());
                self.absorb(&(node.0 as u64).to_le_bytes());
                self.absorb(&[event, *kind as u8]);
                self.absorb_addr(*from);
                self.absorb_addr(*to);
                self.absorb(&(*len as u64).to_le_bytes());
            }
            Record::Note { at, text } => {
                self.absorb(&(at.as_nanos() as u64).to_le_bytes());
                self.absorb(text.as_bytes());
            }
        }
        if self.keep > 0 {
            if self.timeline.len() == self.keep {
                self.timeline.pop_front();
            }
            self.timeline.push_back(record);
        }
    }

    fn absorb(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // The prime of FNV-1a.
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn absorb_addr(&mut self, addr: SocketAddr) {
        match addr {
            SocketAddr::V4(v4) => self.absorb(&v4.ip().octets()),
            SocketAddr::V6(v6) => self.absorb(&v6.ip().octets()),
        }
        self.absorb(&addr.port().to_le_bytes());
    }
}

/// The timeline as text, a line per event.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timeline.iter().try_for_each(|record| writeln!(f, "{record}"))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet { at, event, kind, from, to, len, .. } => {
                write!(f, "{:>13.6} {kind:<11} {from} -> {to} {len}", at.as_secs_f64())?;
                match event {
                    Event::Sent => Ok(()),
                    Event::Arrived => f.write_str(" arrived"),
                    Event::Dropped(why) => write!(f, " dropped: {why:?}"),
                }
            }
            Self::Note { at, text } => write!(f, "{:>13.6} {text}", at.as_secs_f64()),
        }
    }
}
