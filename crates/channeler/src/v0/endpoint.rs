//! The endpoint: its state, what the program calls, and its timers.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{
    Config, Cookie, Counters, Event, Handle, MIN_PACKET, OVERHEAD, OpenError, ReadError, UNSET_HALF,
    WriteError,
    channel::{Again, Channel, Opener, Proof, Queue, State},
    cookie::{Baker, Subject},
};
use crate::{PeerId, varint};

/// How long a keyed cookie stays the newest. Twice that it is good.
const EPOCH: Duration = Duration::from_secs(30);

/// More channels make it hard to find a free half of an id.
const MOST_CHANNELS: usize = 1 << 14;

/// One side of the protocol of 2021 towards one peer.
///
/// Without I/O: the driver gives it what came ([`handle`](Self::handle)) and what time it is
/// ([`handle_timeout`](Self::handle_timeout)), sends what [`poll_transmit`](Self::poll_transmit) writes, and waits for the
/// next datagram or until [`poll_timeout`](Self::poll_timeout). After every call it asks these again.
///
/// Nothing limits the rate of what is written: the protocol has no acknowledgements to learn it from.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) config: Config,
    pub(super) own: PeerId,
    pub(super) peer: PeerId,
    pub(super) channels: BTreeMap<Handle, Channel>,
    /// Those whose both halves are known.
    pub(super) by_id: BTreeMap<u32, Handle>,
    pub(super) by_name: BTreeMap<(Opener, u16), Handle>,
    pub(super) answers: VecDeque<Answer>,
    /// Channels that have something to send, in turn.
    pub(super) ready: VecDeque<Handle>,
    pub(super) events: VecDeque<Event>,
    pub(super) counters: Counters,
    /// Of the next packet on the default channel.
    pub(super) sequence: u16,
    pub(super) scratch: Vec<u8>,
    baker: Baker,
    started: Instant,
    rng: StdRng,
    next: u64,
    /// For each channel a time not later than what it waits for.
    timers: BTreeSet<(Instant, Handle)>,
}

/// Grants that go back in one packet.
#[derive(Debug)]
pub(super) struct Answer {
    pub to: SocketAddr,
    /// Not more than what was answered.
    pub size: usize,
    pub payload: Vec<u8>,
}

/// How a channel is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// What the peer is told: bit 0 resend, 1 ordered, 2 close on loss. Default 0, which the reference always says.
    pub capabilities: u16,
    /// Whether what was written before the peer's grant goes in one packet with the proof of it, half a round trip
    /// earlier. Default false: the reference does not understand it.
    pub early_data: bool,
}

impl Endpoint {
    /// An endpoint named `own`, for talking to `peer`. All chance comes from the seed, which nobody else may know.
    #[must_use]
    pub fn new(mut config: Config, own: PeerId, peer: PeerId, now: Instant, seed: [u8; 32]) -> Self {
        config.packet_size = config.packet_size.max(MIN_PACKET);
        config.max_channels = config.max_channels.min(MOST_CHANNELS);
        let mut rng = StdRng::from_seed(seed);
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self {
            baker: Baker::new(config.cookies.clone(), key),
            sequence: rng.next_u32() as u16,
            config,
            own,
            peer,
            channels: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            answers: VecDeque::new(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            scratch: Vec::new(),
            started: now,
            rng,
            next: 0,
            timers: BTreeSet::new(),
        }
    }

    /// Asks the peer, at this address, for a channel. Messages may be written at once; they wait for the grant.
    pub fn open(&mut self, now: Instant, to: SocketAddr, options: OpenOptions) -> Result<Handle, OpenError> {
        if self.channels.len() >= self.config.max_channels {
            return Err(OpenError::TooMany);
        }
        // A half that the peer opened with is free for us, but the reference would take it for the same channel.
        let half = loop {
            let half = self.draw_half();
            if ![Opener::Own, Opener::Peer].iter().any(|opener| self.by_name.contains_key(&(*opener, half))) {
                break half;
            }
        };
        let end = now + self.config.open_timeout;
        let again = Again { send: true, due: end.min(now + self.config.retry), times: 1 };
        let handle = self.add((Opener::Own, half), State::Pending { end, again }, to, options, now);
        self.wake(handle);
        Ok(handle)
    }

    /// Writes one message, which arrives whole, once or more often, or not at all.
    pub fn write(&mut self, now: Instant, channel: Handle, message: &[u8]) -> Result<(), WriteError> {
        let longest = self.max_message();
        let slot = self.channels.get_mut(&channel).ok_or(WriteError::Unknown)?;
        if message.len() > longest {
            return Err(WriteError::TooLong(longest));
        }
        if !slot.outgoing.push(message, self.config.send_buffer) {
            slot.blocked = true;
            return Err(WriteError::Blocked);
        }
        slot.active = now;
        self.wake(channel);
        Ok(())
    }

    /// Copies the next message to the buffer and gives its length, which may be 0.
    pub fn read(&mut self, channel: Handle, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let slot = self.channels.get_mut(&channel).ok_or(ReadError::Unknown)?;
        let message = slot.incoming.front().ok_or(ReadError::Blocked)?;
        let len = message.len();
        buffer.get_mut(..len).ok_or(ReadError::TooShort(len))?.copy_from_slice(message);
        slot.incoming.pop();
        Ok(len)
    }

    /// Forgets a channel and what waits on it. The peer is not told: the protocol has no word for it.
    pub fn close(&mut self, channel: Handle) {
        self.remove(channel);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), which may be for nothing.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(time, handle)) = self.timers.first()
            && time <= now
        {
            self.timers.pop_first();
            if let Some(channel) = self.channels.get_mut(&handle) {
                channel.timer = None;
                self.expire(now, handle);
            }
        }
    }

    /// Longest message that a packet carries, in bytes.
    #[must_use]
    pub fn max_message(&self) -> usize {
        let room = usize::from(self.config.packet_size) - OVERHEAD - 1;
        let len = room - varint::len(room as u64);
        // Where a shorter length leaves a byte, it is used.
        if 1 + len + varint::len(len as u64 + 1) <= room { len + 1 } else { len }
    }

    /// What came and was dropped so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn add(
        &mut self,
        name: (Opener, u16),
        state: State,
        remote: SocketAddr,
        options: OpenOptions,
        now: Instant,
    ) -> Handle {
        let handle = Handle(self.next);
        self.next += 1;
        if let State::Open { id, .. } = state {
            self.by_id.insert(id, handle);
        }
        self.by_name.insert(name, handle);
        let channel = Channel {
            name,
            capabilities: options.capabilities,
            early_data: options.early_data,
            remote,
            state,
            outgoing: Queue::default(),
            incoming: Queue::default(),
            sequence: self.rng.next_u32() as u16,
            active: now,
            timer: None,
            queued: false,
            blocked: false,
        };
        self.channels.insert(handle, channel);
        self.arm(handle);
        handle
    }

    fn remove(&mut self, handle: Handle) {
        if let Some(channel) = self.channels.remove(&handle) {
            self.by_name.remove(&channel.name);
            if let State::Open { id, .. } = channel.state {
                self.by_id.remove(&id);
            }
            if let Some(timer) = channel.timer {
                self.timers.remove(&(timer, handle));
            }
            if channel.queued {
                self.ready.retain(|ready| *ready != handle);
            }
        }
    }

    /// Gives the channel a turn to send, if it has something.
    pub(super) fn wake(&mut self, handle: Handle) {
        if let Some(channel) = self.channels.get_mut(&handle)
            && channel.wants()
            && !channel.queued
        {
            channel.queued = true;
            self.ready.push_back(handle);
        }
    }

    /// Sees to it that the endpoint wakes not later than the channel needs it.
    pub(super) fn arm(&mut self, handle: Handle) {
        let Some(channel) = self.channels.get_mut(&handle) else {
            return;
        };
        let due = match &channel.state {
            State::Pending { again, .. } => again.due,
            State::Open { proof, .. } => {
                let idle = channel.active + self.config.idle_timeout;
                proof.as_ref().map_or(idle, |proof| proof.again.due.min(idle))
            }
        };
        // A timer that fires too early is armed again; moving it with each packet would cost more.
        if channel.timer.is_none_or(|timer| due < timer) {
            if let Some(timer) = channel.timer.replace(due) {
                self.timers.remove(&(timer, handle));
            }
            self.timers.insert((due, handle));
        }
    }

    /// Does what is due on a channel, and arms its timer again.
    fn expire(&mut self, now: Instant, handle: Handle) {
        let idle = self.config.idle_timeout;
        let Some(channel) = self.channels.get_mut(&handle) else {
            return;
        };
        let times = match &mut channel.state {
            State::Pending { end, .. } if *end <= now => {
                self.events.push_back(Event::Unanswered(handle));
                return self.remove(handle);
            }
            State::Open { .. } if channel.active + idle <= now => {
                self.events.push_back(Event::Idle(handle));
                return self.remove(handle);
            }
            State::Pending { again, .. } if again.due <= now => Some(again.times),
            State::Open { proof, .. } => match proof {
                Some(Proof { again, repeats, .. }) if again.due <= now && *repeats > 0 => {
                    *repeats -= 1;
                    Some(again.times)
                }
                Some(Proof { again, .. }) if again.due <= now => {
                    *proof = None;
                    None
                }
                _ => None,
            },
            State::Pending { .. } => None,
        };
        if let Some(times) = times {
            let due = now + self.interval(times);
            self.say_again(handle, due);
        }
        self.arm(handle);
        self.wake(handle);
    }

    fn say_again(&mut self, handle: Handle, due: Instant) {
        let Some(channel) = self.channels.get_mut(&handle) else {
            return;
        };
        let (again, due) = match &mut channel.state {
            State::Pending { again, end } => (again, due.min(*end)),
            State::Open { proof: Some(proof), .. } => (&mut proof.again, due),
            State::Open { proof: None, .. } => return,
        };
        *again = Again { send: true, due, times: again.times.saturating_add(1) };
    }

    /// The time until something is said again that was said `times` times.
    pub(super) fn interval(&mut self, times: u32) -> Duration {
        let spread = (1_u32 << times.min(16)) - 1;
        let share = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        let grown = self.config.retry.mul_f64(1.0 + share * f64::from(spread));
        grown.min(self.config.max_retry).max(self.config.retry)
    }

    /// Half of an id that is not the reserved one.
    pub(super) fn draw_half(&mut self) -> u16 {
        loop {
            let half = self.rng.next_u32() as u16;
            if half != UNSET_HALF {
                return half;
            }
        }
    }

    /// The cookie that is sent now.
    pub(super) fn bake(&self, now: Instant, address: SocketAddr, opener: Opener, subject: Subject) -> Cookie {
        self.bake_at(self.epoch(now), address, opener, subject)
    }

    /// Whether a cookie that came back is ours and not too old.
    pub(super) fn is_ours(
        &self,
        now: Instant,
        address: SocketAddr,
        opener: Opener,
        subject: Subject,
        cookie: Cookie,
    ) -> bool {
        let epoch = self.epoch(now);
        [Some(epoch), epoch.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|epoch| self.bake_at(epoch, address, opener, subject) == cookie)
    }

    fn epoch(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / EPOCH.as_secs()
    }

    fn bake_at(&self, epoch: u64, address: SocketAddr, opener: Opener, subject: Subject) -> Cookie {
        let (initiator, responder) = match opener {
            Opener::Own => (self.own, self.peer),
            Opener::Peer => (self.peer, self.own),
        };
        self.baker.bake(epoch, address, initiator, responder, subject)
    }
}
