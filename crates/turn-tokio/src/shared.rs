//! What the task of an allocation and its handles have in common.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::{Notify, oneshot};
use towline_turn::{Allocation, Client, DataConnection, Failure};

use crate::Options;

/// Addresses remembered as refused.
const MAX_REFUSED: usize = 256;

/// Datagrams held until their peers are permitted, and the longest one: the first packets of a connection attempt.
const MAX_HELD: usize = 32;
const MAX_HELD_LEN: usize = 1500;

/// Peers whose datagrams are counted.
const MAX_COUNTED: usize = 256;

/// A peer gets a channel with this datagram: fewer are attempts that came to nothing.
const WORTH_A_CHANNEL: u8 = 8;

/// How an allocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was given back.
    Closed,
    /// The server, or the way to it, is gone or has forgotten it.
    Lost(Failure),
}

impl Ended {
    /// Why nothing is possible any more.
    pub(crate) fn reason(self) -> Failure {
        match self {
            Self::Closed => Failure::AllocationEnded,
            Self::Lost(reason) => reason,
        }
    }
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// There is something for the task to do.
    pub(crate) work: Notify,
    /// Something was told: the allocation, its end, a connection.
    pub(crate) news: Notify,
}

pub(crate) struct State {
    pub(crate) client: Client,
    pub(crate) allocation: Option<Allocation>,
    pub(crate) ended: Option<Ended>,
    pub(crate) closing: bool,
    pub(crate) inbox: Inbox,
    // Bytes for a stream to the server.
    pub(crate) out: Vec<u8>,
    pub(crate) out_limit: usize,
    pub(crate) writers: Vec<Waker>,
    refused: BTreeMap<IpAddr, Failure>,
    // Datagrams to peers whose permission is being asked for.
    held: Vec<(SocketAddr, Vec<u8>)>,
    // Datagrams sent to peers that have no channel yet.
    sent: BTreeMap<SocketAddr, u8>,
    pub(crate) connections: VecDeque<Box<DataConnection>>,
    pub(crate) dialling: BTreeMap<SocketAddr, Dialling>,
}

/// Who waits for the outcome of a dial.
pub(crate) type Dialling = oneshot::Sender<Result<Box<DataConnection>, Failure>>;

impl Shared {
    pub(crate) fn new(client: Client, options: &Options) -> Self {
        let state = State {
            client,
            allocation: None,
            ended: None,
            closing: false,
            inbox: Inbox::new(options.receive_queue),
            out: Vec::new(),
            out_limit: options.send_queue,
            writers: Vec::new(),
            refused: BTreeMap::new(),
            held: Vec::new(),
            sent: BTreeMap::new(),
            connections: VecDeque::new(),
            dialling: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), work: Notify::new(), news: Notify::new() }
    }

    /// What a task that panicked left behind is still whole: every change is made by the client itself.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something that the task tells.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // From here on nothing is missed, even before it is polled.
            news.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            news.await;
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Received datagrams that wait to be read.
pub(crate) struct Inbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    bytes: usize,
    limit: usize,
    pub(crate) reader: Option<Waker>,
}

/// What a datagram costs beyond its content: empty ones are not free.
const OVERHEAD: usize = 64;

impl Inbox {
    fn new(limit: usize) -> Self {
        Self { datagrams: VecDeque::new(), bytes: 0, limit, reader: None }
    }

    /// Keeps a datagram for the reader, unless too many wait already.
    pub(crate) fn receive(&mut self, from: SocketAddr, payload: &[u8]) {
        let cost = payload.len() + OVERHEAD;
        if self.bytes + cost > self.limit {
            tracing::trace!(%from, "a relayed datagram is lost: nobody reads");
            return;
        }
        self.bytes += cost;
        self.datagrams.push_back((from, payload.to_vec()));
        self.wake();
    }

    pub(crate) fn read(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let (from, payload) = self.datagrams.pop_front()?;
        self.bytes -= payload.len() + OVERHEAD;
        Some((from, payload))
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl State {
    pub(crate) fn refuse(&mut self, ip: IpAddr, reason: Failure) {
        // Whoever waits for this one must hear of it, so another one is forgotten.
        if self.refused.len() >= MAX_REFUSED && !self.refused.contains_key(&ip) {
            self.refused.pop_first();
        }
        self.refused.insert(ip, reason);
    }

    /// Keeps a datagram until its peer is permitted.
    pub(crate) fn hold(&mut self, to: SocketAddr, payload: &[u8]) {
        if self.held.len() < MAX_HELD && payload.len() <= MAX_HELD_LEN {
            self.held.push((to, payload.to_vec()));
        }
    }

    /// What was held for an address.
    pub(crate) fn release(&mut self, ip: IpAddr) -> Vec<(SocketAddr, Vec<u8>)> {
        self.held.extract_if(.., |(to, _)| to.ip() == ip).collect()
    }

    /// A datagram goes to a peer without a channel: whether it is time for one.
    pub(crate) fn worth_a_channel(&mut self, to: SocketAddr) -> bool {
        if self.sent.len() >= MAX_COUNTED && !self.sent.contains_key(&to) {
            return false;
        }
        let sent = self.sent.entry(to).or_insert(0);
        *sent = sent.saturating_add(1);
        *sent == WORTH_A_CHANNEL
    }

    pub(crate) fn refusal(&self, ip: IpAddr) -> Option<Failure> {
        self.refused.get(&ip).copied()
    }

    pub(crate) fn forgive(&mut self, ip: IpAddr) {
        self.refused.remove(&ip);
    }

    /// Nothing comes any more.
    pub(crate) fn end(&mut self, how: Ended) {
        self.ended.get_or_insert(how);
        self.inbox.wake();
        self.wake_writers();
        // Whoever waits for a dial learns that it came to nothing, as its sender is gone.
        self.dialling.clear();
    }

    pub(crate) fn wake_writers(&mut self) {
        for writer in self.writers.drain(..) {
            writer.wake();
        }
    }
}
