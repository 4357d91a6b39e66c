//! The channels of one connection as its task holds them: between what carries them and the halves in the program.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use towline_mux::{Chunk, Code, OpenOptions, Pool, Priority, Reason};

use super::carrier::{Carrier, ChannelId, Event, WriteError};
use super::command::Line;
use super::flow::{Flow, Half};
use crate::channel::{Card, Channel, IncomingChannel};
use crate::error::{ChannelError, CloseReason};
use crate::info::ConnectionId;
use crate::limits::Limits;
use crate::policy::Peer;

/// Buffers that wait for a reader, per channel. The bytes in them are bounded by the windows.
const READ_QUEUE: usize = 16;
/// The reader reports what it took in portions of a quarter of the window, and of at most this size.
const MAX_REPORT: u64 = 256 * 1024;

/// What is the same for all channels of a connection.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: Arc<Peer>,
    pub(crate) line: Line,
    pub(crate) limits: Arc<Limits>,
    pub(crate) incoming: mpsc::Sender<IncomingChannel>,
    pub(crate) pool: Pool,
}

/// Where the request of a channel stands.
#[derive(Debug)]
enum Phase {
    /// Ours, unanswered: the channel is handed out with the answer.
    Asking { channel: Channel, reply: oneshot::Sender<Result<Channel, ChannelError>>, since: Instant },
    /// Theirs, undecided.
    Offered,
    /// In the hands of the program.
    Open,
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    flow: Arc<Flow>,
    /// To the reader; dropped when nothing more will come.
    deliver: Option<mpsc::Sender<Bytes>>,
    /// Chunks there was no room for.
    parked: VecDeque<Chunk>,
    /// The end of our direction comes behind what is parked.
    finishing: bool,
    /// There may be bytes that the reader's queue had no room for.
    undelivered: bool,
    /// The peer has ended its direction; what is undelivered still comes.
    ended: bool,
    /// The carrier has forgotten the channel.
    gone: bool,
}

/// All channels of a connection.
#[derive(Debug)]
pub(crate) struct Channels {
    setting: Setting,
    /// Boxed, as a map has room for eleven from the first.
    entries: BTreeMap<ChannelId, Box<Entry>>,
    /// Requests of ours by age, for their time limit.
    asking: VecDeque<(Instant, ChannelId)>,
    /// Bytes handed over to be sent, and received, over all channels there ever were.
    sent: u64,
    received: u64,
}

impl Channels {
    pub(crate) fn new(setting: Setting) -> Self {
        Self { setting, entries: BTreeMap::new(), asking: VecDeque::new(), sent: 0, received: 0 }
    }

    /// Whether chunks wait for room in the carrier.
    pub(crate) fn has_parked(&self) -> bool {
        self.entries.values().any(|entry| !entry.parked.is_empty())
    }

    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn insert(
        &mut self,
        carrier: &Carrier,
        id: ChannelId,
        name: &str,
        opened_here: bool,
    ) -> (Arc<Card>, mpsc::Receiver<Bytes>) {
        let (deliver, received) = mpsc::channel(READ_QUEUE);
        let flow = Arc::new(Flow::default());
        let card = Arc::new(Card {
            id,
            name: name.into(),
            connection: self.setting.connection,
            peer: Arc::clone(&self.setting.peer),
            opened_here,
            capabilities: carrier.capabilities(),
            line: self.setting.line.clone(),
            pool: self.setting.pool.clone(),
            flow: Arc::clone(&flow),
        });
        self.entries.insert(
            id,
            Box::new(Entry {
                phase: Phase::Offered,
                flow,
                deliver: Some(deliver),
                parked: VecDeque::new(),
                finishing: false,
                undelivered: false,
                ended: false,
                gone: false,
            }),
        );
        (card, received)
    }

    /// Requests a channel for the program.
    pub(crate) fn open(
        &mut self,
        carrier: &mut Carrier,
        now: Instant,
        name: &str,
        options: OpenOptions,
        reply: oneshot::Sender<Result<Channel, ChannelError>>,
    ) {
        let id = match carrier.open(now, name, options) {
            Ok(id) => id,
            Err(error) => {
                let _ = reply.send(Err(ChannelError::NotOpened(error)));
                return;
            }
        };
        let (card, received) = self.insert(carrier, id, name, true);
        let channel = Channel::new(card, received);
        let phase = if options.early && carrier.capabilities().early {
            // The program may be gone; its dropping the channel then comes back as a command.
            let _ = reply.send(Ok(channel));
            Phase::Open
        } else {
            self.asking.push_back((now, id));
            Phase::Asking { channel, reply, since: now }
        };
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.phase = phase;
        }
    }

    /// Tells the program about a request of the peer.
    fn offer(&mut self, carrier: &mut Carrier, now: Instant, id: ChannelId, name: &str, priority: Priority) {
        let incoming = self.setting.incoming.clone();
        let Ok(permit) = incoming.try_reserve() else {
            // Nobody takes incoming channels, or too slowly.
            carrier.refuse(now, id, &Reason::from(Code::TooManyPending));
            return;
        };
        let (card, received) = self.insert(carrier, id, name, false);
        permit.send(IncomingChannel::new(card, received, priority));
    }

    pub(crate) fn accept(&mut self, carrier: &mut Carrier, now: Instant, id: ChannelId) {
        if let Some(entry) = self.entries.get_mut(&id)
            && matches!(entry.phase, Phase::Offered)
        {
            carrier.accept(now, id);
            entry.phase = Phase::Open;
            self.deliver(carrier, now, id);
        }
    }

    pub(crate) fn refuse(&mut self, carrier: &mut Carrier, now: Instant, id: ChannelId, reason: &Reason) {
        if self.entries.get(&id).is_some_and(|entry| matches!(entry.phase, Phase::Offered)) {
            self.entries.remove(&id);
            carrier.refuse(now, id, reason);
        }
    }

    pub(crate) fn write(&mut self, carrier: &mut Carrier, now: Instant, id: ChannelId, chunk: Chunk) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.parked.push_back(chunk);
            if entry.parked.len() == 1 {
                self.unpark(carrier, now, id);
            }
        }
    }

    /// Hands over what there is room for.
    fn unpark(&mut self, carrier: &mut Carrier, now: Instant, id: ChannelId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        while let Some(chunk) = entry.parked.pop_front() {
            let len = chunk.len();
            match carrier.write(now, id, chunk) {
                Ok(()) => {
                    self.sent += len as u64;
                    entry.flow.release_queued(len);
                }
                Err(WriteError::Full(chunk)) => {
                    let taken = len - chunk.len();
                    if taken > 0 {
                        self.sent += taken as u64;
                        entry.flow.release_queued(taken);
                    }
                    entry.parked.push_front(chunk);
                    return;
                }
                Err(WriteError::Ended) => {
                    // The reason was or will be reported by an event; the bytes go nowhere.
                    entry.flow.release_queued(len);
                }
            }
        }
        if entry.finishing {
            entry.finishing = false;
            carrier.finish(now, id);
            entry.flow.set_finish_sent();
        }
    }

    pub(crate) fn finish(&mut self, carrier: &mut Carrier, now: Instant, id: ChannelId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.finishing = true;
            if entry.parked.is_empty() {
                self.unpark(carrier, now, id);
            }
        }
    }

    /// The program took `bytes`; there may be room for more.
    pub(crate) fn consumed(&mut self, carrier: &mut Carrier, now: Instant, id: ChannelId, bytes: usize) {
        carrier.consumed(now, id, bytes);
        self.deliver(carrier, now, id);
    }

    pub(crate) fn reset(&mut self, carrier: &mut Carrier, now: Instant, id: ChannelId, reason: &Reason) {
        if self.entries.remove(&id).is_some() {
            carrier.reset(now, id, reason);
        }
    }

    /// A half was dropped by the program.
    pub(crate) fn dropped(&mut self, carrier: &mut Carrier, now: Instant, id: ChannelId, half: Half) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if matches!(entry.phase, Phase::Offered) {
            self.refuse(carrier, now, id, &Reason::from(Code::Declined));
            return;
        }
        match half {
            Half::Writer => self.finish(carrier, now, id),
            Half::Reader => {
                entry.deliver = None;
                if !entry.ended {
                    carrier.stop(now, id, &Reason::from(Code::Cancelled));
                }
                self.forget_if_done(id);
            }
        }
    }

    /// Halves whose drop found no room in the command queue. What they wrote before may still be in it, and has to be
    /// handled before [`dropped`](Self::dropped).
    pub(crate) fn sweep(&self) -> Vec<(ChannelId, Half)> {
        let mut found = Vec::new();
        for (id, entry) in &self.entries {
            for half in [Half::Reader, Half::Writer] {
                if entry.flow.take_dropped(half) {
                    found.push((*id, half));
                }
            }
        }
        found
    }

    /// Hands received bytes to the reader, as far as its queue has room.
    fn deliver(&mut self, carrier: &mut Carrier, now: Instant, id: ChannelId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if !entry.undelivered {
            return;
        }
        let Some(deliver) = &entry.deliver else {
            // Nobody reads: what comes is thrown away.
            while carrier.read(now, id).is_some() {}
            entry.undelivered = false;
            return;
        };
        let window = carrier.receive_window(id).unwrap_or(MAX_REPORT);
        entry.flow.set_report_at((window / 4).min(MAX_REPORT) as usize);
        loop {
            let permit = match deliver.try_reserve() {
                Ok(permit) => permit,
                Err(mpsc::error::TrySendError::Closed(())) => {
                    // The reader is being dropped; its command follows.
                    return;
                }
                Err(mpsc::error::TrySendError::Full(())) => {
                    entry.flow.set_stalled();
                    // The reader may have emptied the queue just before it could see the flag.
                    match deliver.try_reserve() {
                        Ok(permit) => {
                            entry.flow.take_stalled();
                            permit
                        }
                        Err(_) => return,
                    }
                }
            };
            match carrier.read(now, id) {
                Some(bytes) => {
                    self.received += bytes.len() as u64;
                    permit.send(bytes);
                }
                None => break,
            }
        }
        entry.undelivered = false;
        if entry.ended {
            entry.deliver = None;
            self.forget_if_done(id);
        }
    }

    fn forget_if_done(&mut self, id: ChannelId) {
        if let Some(entry) = self.entries.get(&id)
            && entry.gone
            && entry.deliver.is_none()
        {
            self.entries.remove(&id);
        }
    }

    /// Ends a channel from outside: both directions find `error`.
    fn abort(&mut self, id: ChannelId, error: ChannelError) {
        if let Some(entry) = self.entries.remove(&id) {
            end(*entry, error);
        }
    }

    /// Handles one event that concerns a channel.
    pub(crate) fn handle_event(&mut self, carrier: &mut Carrier, now: Instant, event: Event) {
        match event {
            Event::Requested { id, name, priority } => self.offer(carrier, now, id, &name, priority),
            Event::Accepted { id } => {
                if let Some(entry) = self.entries.get_mut(&id)
                    && let Phase::Asking { channel, reply, .. } =
                        std::mem::replace(&mut entry.phase, Phase::Open)
                {
                    // Nobody waits any more when this fails; dropping the channel is seen as a command.
                    let _ = reply.send(Ok(channel));
                    self.deliver(carrier, now, id);
                }
            }
            Event::Refused { id, reason } => self.abort(id, ChannelError::Refused(reason)),
            Event::Readable { id } => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.undelivered = true;
                    self.deliver(carrier, now, id);
                }
            }
            Event::Writable { id } => self.unpark(carrier, now, id),
            Event::Finished { id } => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.ended = true;
                    // What is left is delivered first; the queue is closed behind it.
                    entry.undelivered = true;
                    self.deliver(carrier, now, id);
                }
            }
            Event::Stopped { id, reason } => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.flow.end_writing(ChannelError::Stopped(reason));
                    drop_parked(entry);
                }
            }
            Event::Reset { id, reason } => self.abort(id, ChannelError::Reset(reason)),
            Event::Closed { id } => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.gone = true;
                    if !entry.flow.finish_sent() {
                        // A Jami peer's end closes both directions.
                        entry.flow.end_writing(ChannelError::Stopped(Reason::from(Code::Unspecified)));
                        drop_parked(entry);
                    }
                    if !entry.ended {
                        entry.ended = true;
                        entry.undelivered = true;
                    }
                    self.deliver(carrier, now, id);
                    self.forget_if_done(id);
                }
            }
            _ => {}
        }
    }

    /// When the oldest unanswered request of ours runs out.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.asking.front().map(|(since, _)| *since + self.setting.limits.channel_timeout)
    }

    /// Gives up requests of ours that nobody answered; only these, not the connection.
    pub(crate) fn handle_timeout(&mut self, carrier: &mut Carrier, now: Instant) {
        let limit: Duration = self.setting.limits.channel_timeout;
        while let Some(&(since, id)) = self.asking.front() {
            let asking = self
                .entries
                .get(&id)
                .is_some_and(|entry| matches!(entry.phase, Phase::Asking { since: s, .. } if s == since));
            if asking && since + limit > now {
                break;
            }
            self.asking.pop_front();
            if asking {
                carrier.reset(now, id, &Reason::from(Code::TimedOut));
                self.abort(id, ChannelError::TimedOut(limit));
            }
        }
    }

    /// Withdraws requests of ours whose answer nobody waits for any more.
    pub(crate) fn withdraw_abandoned(&mut self, carrier: &mut Carrier, now: Instant) {
        let abandoned =
            |entry: &Entry| matches!(&entry.phase, Phase::Asking { reply, .. } if reply.is_closed());
        let ids: Vec<ChannelId> =
            self.entries.iter().filter(|(_, entry)| abandoned(entry)).map(|(id, _)| *id).collect();
        for id in ids {
            carrier.reset(now, id, &Reason::from(Code::Cancelled));
            self.abort(id, ChannelError::EndedHere);
        }
    }

    /// The connection is gone: every channel ends. After a clean end of a Jami connection, which has no other
    /// way of saying so, readers see the end of the stream.
    pub(crate) fn close(&mut self, carrier: &mut Carrier, now: Instant, reason: &CloseReason) {
        let clean = matches!(reason, CloseReason::Peer) && !carrier.capabilities().half_close;
        for (id, mut entry) in std::mem::take(&mut self.entries) {
            let mut complete = entry.ended;
            if entry.deliver.is_some() {
                // What arrived before the end is still good, and there is no window to wait for any more.
                let (rest, all) = carrier.rest(now, id, entry.ended, entry.undelivered);
                entry.flow.leave_rest(rest);
                complete = all;
            }
            if (clean || complete) && !matches!(entry.phase, Phase::Asking { .. }) {
                entry.flow.end_writing(ChannelError::Connection(reason.clone()));
                entry.deliver = None;
            } else {
                end(*entry, ChannelError::Connection(reason.clone()));
            }
        }
    }
}

/// A task that ends in the middle, with its node, leaves no channel with what looks like a proper end.
impl Drop for Channels {
    fn drop(&mut self) {
        for (_, entry) in std::mem::take(&mut self.entries) {
            end(*entry, ChannelError::Connection(CloseReason::Here));
        }
    }
}

fn drop_parked(entry: &mut Entry) {
    for chunk in entry.parked.drain(..) {
        entry.flow.release_queued(chunk.len());
    }
}

fn end(entry: Entry, error: ChannelError) {
    entry.flow.end_reading(error.clone());
    entry.flow.end_writing(error.clone());
    if let Phase::Asking { reply, .. } = entry.phase {
        let _ = reply.send(Err(error));
    }
}
