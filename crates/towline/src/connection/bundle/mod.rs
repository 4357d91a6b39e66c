//! Channels by the channeler transport over the paths that ICE found: what two Towlines speak.
//!
//! A channel of the program is a channel of the transport, its name the label. What the transport has no words for goes by a
//! channel of control ([`control`]).

mod control;
mod ends;
mod lanes;
mod links;
mod moves;
mod openings;
mod outward;
mod shake;
mod socket;
mod sockets;
mod stream;
mod thinning;
mod wires;

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use towline_channeler::{ChannelId, Connection, Side};
use towline_ice::Preference;
use towline_identity::Chain;
use towline_mux::{
    Chunk, Code, KeepAlive, MAX_BODY, OpenError, OpenOptions, PeerFault, Pool, Priority, Reason,
};

pub(crate) use self::outward::Later;
pub(crate) use self::shake::{Introduction, shake};
pub(crate) use self::wires::Wires;

use self::control::{Control, Message};
use self::lanes::{Lanes, from_transport, to_transport};
use self::links::Links;
use self::moves::Moves;
use self::thinning::Thinning;
use super::carrier::{Event, Filled, PingId, WriteError};
use crate::error::CloseReason;
use crate::info::ChannelInfo;

/// Codes of programs begin here in the transport; ours follow behind.
const FIRST_CODE: u64 = towline_channeler::Code::PROGRAM.0;
/// Set in a code whose text comes on the control channel.
const HAS_TEXT: u64 = 1 << 40;
/// Pings of ours that may be unanswered.
const MAX_PINGS: usize = 64;
/// What each channel may have handed over that its program did not take, however many there are; twice what a reader reports
/// at the latest.
const LEAST_SHARE: usize = 2 * 1024;
/// The most that one channel may have so. Less than half the window that a channel starts with, so that what a reader who stands
/// still has in hand does not make the transport grant more.
const MOST_SHARE: usize = 64 * 1024;
/// The same for a channel that has received much: its window has grown with that. As much as its queue holds.
const GROWN_SHARE: usize = 256 * 1024;
/// A channel may have this part of what it received so far in hand.
const GROWTH: u64 = 16;

/// Bounds of what the transport does not bound itself.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Channels that the peer may have open.
    pub(crate) channels: usize,
    /// Requests of the peer that wait for a decision.
    pub(crate) undecided: usize,
    /// Longest name.
    pub(crate) name: usize,
    /// Bytes handed over over all channels that programs did not take, as long as each has [`LEAST_SHARE`].
    pub(crate) handed_over: usize,
    /// The longest that a peer which has ended a path may take to answer on another.
    pub(crate) probe_timeout: Duration,
    /// How long a connection lives without a path that works.
    pub(crate) adrift: Duration,
    /// When a silent peer is asked for a sign of life, and given up.
    pub(crate) keep_alive: Option<KeepAlive>,
}

/// A question that the peer has to answer in time.
#[derive(Debug, Clone, Copy)]
struct Probe {
    id: u64,
    until: Instant,
    /// Without an answer the connection ends; otherwise it looks for the peer elsewhere.
    ends: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Bundle {
    inner: Connection,
    wires: Box<Wires>,
    links: Links,
    thinning: Thinning,
    moves: Moves,
    lanes: Lanes,
    bounds: Bounds,
    pool: Pool,
    control: Control,
    control_id: Option<ChannelId>,
    events: VecDeque<Event>,
    /// This side takes no more requests, and has said that it knows of no more of its own.
    leaving: bool,
    said_last: bool,
    /// The same of the peer.
    peer_leaving: bool,
    heard_last: bool,
    pings: Vec<(u64, Instant)>,
    next_ping: u64,
    /// The newest probe.
    probe: Option<Probe>,
    /// When the last byte came, and whether the peer was asked for more since.
    heard: Instant,
    asked: bool,
    /// How often something came since this was last made sure of.
    came: u32,
    /// The peer broke a rule on the control channel.
    fault: Option<CloseReason>,
}

impl Bundle {
    fn new(now: Instant, inner: Connection, mut wires: Box<Wires>, bounds: Bounds) -> Self {
        wires.outward.connected();
        let mut bundle = Self {
            inner,
            wires,
            links: Links::default(),
            thinning: Thinning::new(now),
            moves: Moves::new(now, bounds.adrift),
            lanes: Lanes::default(),
            bounds,
            pool: Pool::default(),
            control: Control::default(),
            control_id: None,
            events: VecDeque::new(),
            leaving: false,
            said_last: false,
            peer_leaving: false,
            heard_last: false,
            pings: Vec::new(),
            next_ping: 0,
            probe: None,
            heard: now,
            asked: false,
            came: 0,
            fault: None,
        };
        if bundle.inner.side() == Side::Initiator {
            let options = towline_channeler::OpenOptions {
                priority: towline_channeler::Priority(u8::MAX),
                ..towline_channeler::OpenOptions::default()
            };
            bundle.control_id = bundle.inner.open(now, options).ok();
        }
        if bundle.preference() == Preference::UdpFirst {
            bundle.control.say(&Message::UdpFirst);
        }
        bundle
    }

    /// Draws the buffers of received data from `pool`.
    #[must_use]
    pub(crate) fn with_pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    pub(super) fn peer_chain(&self) -> Option<&Chain> {
        self.inner.peer()?.chain.as_ref()
    }

    // ---- channels

    pub(super) fn open(
        &mut self,
        now: Instant,
        name: &str,
        options: OpenOptions,
    ) -> Result<ChannelId, OpenError> {
        if self.leaving || self.peer_leaving {
            return Err(OpenError::GoingAway);
        }
        if name.is_empty() {
            return Err(OpenError::EmptyName);
        }
        let request = towline_channeler::OpenOptions {
            label: name.as_bytes().to_vec(),
            priority: to_transport(options.priority),
            ..towline_channeler::OpenOptions::default()
        };
        let id = self.inner.open(now, request).map_err(|error| match error {
            towline_channeler::OpenError::TooMany => OpenError::NoFreeNumber,
            towline_channeler::OpenError::Label => OpenError::NameTooLong(name.len()),
            _ => OpenError::Closed,
        })?;
        self.lanes.insert(id, name.into(), true);
        Ok(id)
    }

    /// The peer asks for a channel.
    fn offer(&mut self, now: Instant, id: ChannelId, label: &[u8], priority: towline_channeler::Priority) {
        if label.is_empty() && self.control_id.is_none() && self.inner.side() == Side::Responder {
            self.control_id = Some(id);
            return;
        }
        let bounds = &self.bounds;
        let objection = match std::str::from_utf8(label) {
            _ if self.leaving => Code::GoingAway,
            _ if self.lanes.theirs >= bounds.channels => Code::TooManyChannels,
            _ if self.lanes.undecided >= bounds.undecided => Code::TooManyPending,
            Ok(name) if (1..=bounds.name).contains(&name.len()) => {
                self.lanes.insert(id, name.into(), false);
                let priority = from_transport(priority);
                let id = super::carrier::ChannelId::Bundle(id);
                self.events.push_back(Event::Requested { id, name: name.into(), priority });
                return;
            }
            _ => Code::BadName,
        };
        let code = to_code(objection);
        // It cannot be gone: this is the first that is heard of it.
        let _ = self.inner.refuse(now, id, code);
    }

    pub(super) fn accept(&mut self, now: Instant, id: ChannelId) {
        self.lanes.decide(id);
        let _ = self.inner.accept(now, id);
    }

    pub(super) fn refuse(&mut self, now: Instant, id: ChannelId, reason: &Reason) {
        self.reset(now, id, reason);
    }

    pub(super) fn reset(&mut self, now: Instant, id: ChannelId, reason: &Reason) {
        let code = self.explain(id, reason);
        self.lanes.remove(id);
        let _ = self.inner.reset(now, id, code);
    }

    pub(super) fn stop(&mut self, now: Instant, id: ChannelId, reason: &Reason) {
        let code = self.explain(id, reason);
        let _ = self.inner.stop(now, id, code);
    }

    pub(super) fn write(&mut self, now: Instant, id: ChannelId, chunk: Chunk) -> Result<(), WriteError> {
        use towline_channeler::{Reason as Why, WriteError as Error};
        let len = chunk.len() as u64;
        match self.inner.write_all(now, id, chunk) {
            Ok(()) => {
                if let Some(lane) = self.lanes.get(id) {
                    lane.sent += len;
                }
                Ok(())
            }
            // With the connection everything ends, and nothing more is to be swallowed until then.
            Err((Error::Blocked | Error::Ended(Why::Connection), chunk)) => Err(WriteError::Full(chunk)),
            Err(_) => Err(WriteError::Ended),
        }
    }

    pub(super) fn finish(&mut self, now: Instant, id: ChannelId) {
        let _ = self.inner.finish(now, id);
    }

    /// What a channel that received so much may have handed over that its program did not take.
    fn share(&self, received: u64) -> usize {
        let most = usize::try_from(received / GROWTH).unwrap_or(GROWN_SHARE).clamp(MOST_SHARE, GROWN_SHARE);
        (self.bounds.handed_over / self.lanes.len().max(1)).clamp(LEAST_SHARE, most)
    }

    pub(super) fn receive_window(&self, id: ChannelId) -> Option<u64> {
        self.lanes.look(id).map(|lane| self.share(lane.received) as u64)
    }

    pub(super) fn read(&mut self, now: Instant, id: ChannelId) -> Option<Bytes> {
        let share = self.share(self.lanes.look(id)?.received);
        let readable = self.inner.readable(id)?;
        let lane = self.lanes.get(id)?;
        let room = share.saturating_sub(lane.taken);
        if room == 0 {
            lane.held = true;
            return None;
        }
        let inner = &mut self.inner;
        // A small part would keep all of the buffer that it lies in.
        let whole = if room >= MAX_BODY { inner.read_whole(now, id, room) } else { None };
        let bytes = whole.unwrap_or_else(|| {
            self.pool.filled(readable.min(room).min(MAX_BODY), |buf| match inner.read(now, id, buf) {
                Ok(towline_channeler::Read::Data(read)) => read,
                Ok(towline_channeler::Read::Finished) | Err(_) => 0,
            })
        });
        lane.taken += bytes.len();
        lane.received += bytes.len() as u64;
        (!bytes.is_empty()).then_some(bytes)
    }

    pub(super) fn consumed(&mut self, _: Instant, id: ChannelId, bytes: usize) {
        let Some(share) = self.lanes.look(id).map(|lane| self.share(lane.received)) else { return };
        let Some(lane) = self.lanes.get(id) else { return };
        lane.taken = lane.taken.saturating_sub(bytes);
        if lane.held && lane.taken < share {
            lane.held = false;
            self.events.push_back(Event::Readable { id: super::carrier::ChannelId::Bundle(id) });
        }
    }

    pub(super) fn rest(
        &mut self,
        now: Instant,
        id: ChannelId,
        ended: bool,
        _: bool,
    ) -> (VecDeque<Bytes>, bool) {
        let (mut rest, mut finished) = (VecDeque::new(), ended);
        while !finished {
            let mut buf = vec![0; self.inner.readable(id).unwrap_or(1).min(MOST_SHARE)];
            match self.inner.read(now, id, &mut buf) {
                Ok(towline_channeler::Read::Data(read @ 1..)) => {
                    buf.truncate(read);
                    rest.push_back(buf.into());
                }
                Ok(towline_channeler::Read::Finished) => finished = true,
                Ok(towline_channeler::Read::Data(0)) | Err(_) => break,
            }
        }
        (rest, finished)
    }

    pub(super) fn set_priority(&mut self, id: ChannelId, priority: Priority) {
        let _ = self.inner.set_priority(id, to_transport(priority));
    }

    pub(super) fn list(&self) -> Vec<ChannelInfo> {
        self.lanes.list()
    }

    pub(super) fn has_channels(&self) -> bool {
        self.lanes.len() > 0
    }

    // ---- the connection

    pub(super) fn ping(&mut self, now: Instant) -> Option<PingId> {
        if self.pings.len() == MAX_PINGS {
            return None;
        }
        let id = self.next_ping;
        if !self.control.say(&Message::Ping(id)) {
            return None;
        }
        self.next_ping += 1;
        self.pings.push((id, now));
        Some(PingId::Bundle(id))
    }

    pub(super) fn probe(&mut self, now: Instant) {
        self.inner.network_changed(now);
        self.probe_within(now, self.bounds.probe_timeout, true);
    }

    pub(super) fn is_adrift(&self) -> bool {
        self.moves.is_adrift()
    }

    fn probe_within(&mut self, now: Instant, patience: Duration, ends: bool) {
        // Not one of those that are counted: when many are unanswered, it is needed most.
        let id = self.next_ping;
        if self.control.say(&Message::Ping(id)) {
            self.next_ping += 1;
            let ends = ends || self.probe.is_some_and(|probe| probe.ends);
            self.probe = Some(Probe { id, until: now + patience, ends });
        }
    }

    pub(super) fn go_away(&mut self, _: Instant, reason: Reason) {
        if !self.leaving {
            self.leaving = true;
            self.control.say(&Message::GoAway(reason));
        }
    }

    pub(super) fn has_heard_all(&self) -> bool {
        self.heard_last
    }

    pub(super) fn close(&mut self, now: Instant, say: &Reason) {
        self.inner.close(now, to_code(say.code), &say.text);
    }

    pub(super) fn owes(&self) -> bool {
        !self.control.output().is_empty() || !self.inner.is_delivered()
    }

    /// Moves what is to be said on the control channel on.
    fn flush_control(&mut self, now: Instant) {
        if self.leaving && !self.said_last && self.lanes.asked == 0 {
            self.said_last = self.control.say(&Message::Last);
        }
        let Some(id) = self.control_id else { return };
        while !self.control.output().is_empty() {
            match self.inner.write(now, id, self.control.output()) {
                Ok(taken) => self.control.written(taken),
                Err(_) => return,
            }
        }
    }

    /// Reads what came on the control channel.
    fn read_control(&mut self, now: Instant, id: ChannelId) {
        let mut buf = [0; 512];
        while let Ok(towline_channeler::Read::Data(read @ 1..)) = self.inner.read(now, id, &mut buf) {
            self.control.take(&buf[..read]);
            loop {
                match self.control.next() {
                    Ok(Some(message)) => self.heed(now, message),
                    Ok(None) => break,
                    Err(control::Malformed) => {
                        self.fault = Some(CloseReason::Fault(PeerFault::MalformedControl));
                        return;
                    }
                }
            }
        }
    }

    fn heed(&mut self, now: Instant, message: Message) {
        match message {
            Message::Ping(id) => {
                self.control.say(&Message::Pong(id));
            }
            Message::Pong(id) => {
                if self.probe.is_some_and(|probe| probe.id <= id) {
                    self.probe = None;
                }
                if let Some(at) = self.pings.iter().position(|(ping, _)| *ping == id) {
                    let rtt = now.saturating_duration_since(self.pings.swap_remove(at).1);
                    self.events.push_back(Event::Pong { id: PingId::Bundle(id), rtt });
                }
            }
            Message::GoAway(reason) => {
                if !std::mem::replace(&mut self.peer_leaving, true) {
                    self.events.push_back(Event::GoAway { reason });
                }
            }
            Message::Last => self.heard_last = true,
            Message::Reason { channel, text } => self.on_text(channel, text),
            Message::Restart { round, credentials } => self.heed_restart(now, round, credentials),
            Message::Candidates(trickle) => self.wires.take_trickle(now, trickle),
            Message::UdpFirst => self.heed_udp_first(now),
        }
    }

    pub(super) fn poll_event(&mut self, now: Instant) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let Some(event) = self.inner.poll_event() else { break };
            self.on_event(now, event);
        }
        self.flush_control(now);
        None
    }

    // ---- the wires

    /// What came with events is for [`poll_receive`](Self::poll_receive) to look into.
    pub(super) fn is_unsettled(&self) -> bool {
        self.links.changed || self.fault.is_some() || self.wires.has_more()
    }

    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        if let Some(fault) = self.fault.take() {
            self.inner.close(now, towline_channeler::Code::VIOLATION, &fault.to_string());
            return Err(fault);
        }
        let received = self.wires.poll_receive(cx, now, &mut self.inner);
        self.tend_links(now);
        let moved = self.tend_moves(now);
        if self.wires.take_heard() {
            (self.heard, self.asked) = (now, false);
            self.came = self.came.saturating_add(1);
        }
        if let Some(error) = self.inner.closed() {
            return Err(ends::close_reason(error, self.wires.failure()));
        }
        // What came before is still to be heard. Streams tell of their end, and a dial can begin at once; whether datagrams
        // still arrive is for the transport to find out.
        match self.wires.failure() {
            Some(_) if self.is_lost() && (received || moved) => Ok(true),
            Some(failure) if self.is_lost() => Err(failure),
            _ => Ok(moved || self.wires.has_more()),
        }
    }

    /// No path works, and none is looked for.
    fn is_lost(&self) -> bool {
        !self.moves.is_adrift() && self.wires.paths().next().is_none()
    }

    pub(super) fn fill(&mut self, cx: &mut Context<'_>, now: Instant) -> Filled {
        self.flush_control(now);
        self.wires.fill(cx, now, &mut self.inner);
        Filled::All
    }

    pub(super) fn unsent(&self) -> usize {
        self.wires.unsent()
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        self.wires.poll_write(cx, &mut self.inner).map(Ok)
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        let probe = self.probe.map(|probe| probe.until);
        let own =
            [probe, self.silence(), self.lull(), self.thinning.poll_timeout(), self.moves.poll_timeout()];
        [self.inner.poll_timeout(), self.wires.poll_timeout()].into_iter().chain(own).flatten().min()
    }

    /// When the peer is to be asked for a sign of life, or given up. The transport keeps its datagram links alive by itself,
    /// but not streams, and a stream may be all there is.
    fn silence(&self) -> Option<Instant> {
        let KeepAlive { interval, timeout } = self.bounds.keep_alive?;
        Some(self.heard + interval + if self.asked { timeout } else { Duration::ZERO })
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.inner.poll_timeout().is_some_and(|at| at <= now) {
            self.inner.handle_timeout(now);
        }
        self.wires.handle_timeout(now);
        self.handle_thinning(now);
        if let Some(probe) = self.probe.take_if(|probe| probe.until <= now) {
            if probe.ends {
                self.events.push_back(Event::Dead);
            } else {
                self.on_doubt(now);
            }
        }
        self.tend_moves(now);
        if self.lull().is_some_and(|at| at <= now) {
            self.came = 0;
            self.look_in();
        }
        if self.silence().is_some_and(|at| at <= now) {
            if self.asked {
                self.events.push_back(Event::Dead);
                // Once is enough.
                self.bounds.keep_alive = None;
            } else {
                self.asked = true;
                self.look_in();
            }
        }
    }

    pub(crate) async fn end(&mut self, reason: &CloseReason) {
        if matches!(reason, CloseReason::Transport(_) | CloseReason::Truncated) {
            return;
        }
        self.inner.close(towline_net::now(), towline_channeler::Code::DONE, "");
        self.wires.say_goodbye(&mut self.inner).await;
    }
}

/// How the transport says a code of ours.
fn to_code(code: Code) -> towline_channeler::Code {
    towline_channeler::Code(FIRST_CODE + u64::from(u32::from(code)))
}

/// What a code of the peer means, and whether its text comes on the control channel.
fn from_code(code: towline_channeler::Code) -> (Code, bool) {
    let plain = code.0 & !HAS_TEXT;
    let meaning = match plain.checked_sub(FIRST_CODE).map(u32::try_from) {
        Some(Ok(code)) => Code::from(code),
        // Of the transport itself.
        _ => match code {
            towline_channeler::Code::REFUSED => Code::Declined,
            towline_channeler::Code::LIMIT => Code::TooManyChannels,
            towline_channeler::Code::DROPPED => Code::Cancelled,
            towline_channeler::Code::VIOLATION => Code::Protocol,
            towline_channeler::Code::GOING_AWAY => Code::GoingAway,
            _ => Code::Unspecified,
        },
    };
    (meaning, code.0 & HAS_TEXT != 0)
}
