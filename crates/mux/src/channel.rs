//! One channel: two directions and what they hold.

use std::collections::VecDeque;
use std::time::Instant;

use crate::inbox::Inbox;
use crate::{ChannelId, ChannelInfo, ChannelState, Chunk, Priority};

/// How far the request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Ours, not sent yet: too many others wait for an answer.
    Waiting {
        /// Data may leave before the answer.
        early: bool,
    },
    /// Ours, sent, not answered.
    Requested {
        /// Data may leave before the answer.
        early: bool,
        /// The peer requested a channel under the same number meanwhile (Jami dialect).
        collided: bool,
    },
    /// The peer's, not decided.
    Pending,
    /// Accepted.
    Open,
}

/// Our direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendSide {
    Open,
    /// The end goes out after what is queued.
    Finishing,
    Ended,
}

/// The peer's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvSide {
    Open,
    /// What arrives is dropped: nobody wants it any more.
    Discarding,
    Ended,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) number: u16,
    pub(crate) name: Box<str>,
    pub(crate) ours: bool,
    pub(crate) priority: Priority,
    pub(crate) phase: Phase,
    /// The application has given it up; it only waits for the peer's end.
    pub(crate) gone: bool,
    /// The number is bound to it.
    pub(crate) bound: bool,
    /// How often it was requested under another number (Jami dialect).
    pub(crate) renumbered: u8,
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
}

#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) side: SendSide,
    pub(crate) queue: VecDeque<Chunk>,
    pub(crate) queued: usize,
    pub(crate) sent: u64,
    /// `sent` may rise to this.
    pub(crate) limit: u64,
    /// Stands in the scheduler.
    pub(crate) scheduled: bool,
    /// A write was turned down.
    pub(crate) wants_room: bool,
}

#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) side: RecvSide,
    pub(crate) inbox: Inbox,
    pub(crate) received: u64,
    /// `received` may rise to this.
    pub(crate) limit: u64,
    /// Given out by `read`.
    pub(crate) handed: u64,
    pub(crate) consumed: u64,
    /// What `limit - consumed` is topped up to.
    pub(crate) window: u64,
    /// When credit was last given.
    pub(crate) credited_at: Instant,
    /// Stands in the queue of channels to give credit to.
    pub(crate) credit_due: bool,
    /// `Event::Readable` was given and not yet answered by a read to the end.
    pub(crate) told: bool,
    /// `received` when the clock hand of the shrinking passed last.
    pub(crate) mark: u64,
    /// Unused credit was asked back and the answer is outstanding.
    pub(crate) shrinking: bool,
}

impl Channel {
    pub(crate) fn new(
        id: ChannelId,
        name: Box<str>,
        ours: bool,
        priority: Priority,
        phase: Phase,
        now: Instant,
    ) -> Self {
        Self {
            id,
            number: id.number,
            name,
            ours,
            priority,
            phase,
            gone: false,
            bound: true,
            renumbered: 0,
            outgoing: Outgoing {
                side: SendSide::Open,
                queue: VecDeque::new(),
                queued: 0,
                sent: 0,
                limit: 0,
                scheduled: false,
                wants_room: false,
            },
            incoming: Incoming {
                side: RecvSide::Open,
                inbox: Inbox::default(),
                received: 0,
                limit: 0,
                handed: 0,
                consumed: 0,
                window: 0,
                credited_at: now,
                credit_due: false,
                told: false,
                mark: 0,
                shrinking: false,
            },
        }
    }

    /// Whether the phase lets data out.
    fn may_send(&self) -> bool {
        match self.phase {
            Phase::Open => true,
            Phase::Requested { early, .. } => early,
            Phase::Waiting { .. } | Phase::Pending => false,
        }
    }

    /// Whether a frame could leave now.
    pub(crate) fn is_sendable(&self) -> bool {
        let out = &self.outgoing;
        self.may_send()
            && match out.side {
                SendSide::Ended => false,
                SendSide::Open => out.queued > 0 && out.limit > out.sent,
                SendSide::Finishing => out.queued == 0 || out.limit > out.sent,
            }
    }

    /// Whether our request was not answered yet.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. } | Phase::Requested { .. })
    }

    /// Whether nothing more passes under its number.
    pub(crate) fn is_over(&self) -> bool {
        self.outgoing.side == SendSide::Ended && self.incoming.side == RecvSide::Ended
    }

    pub(crate) fn info(&self, windows: bool) -> ChannelInfo<'_> {
        let (out, inc) = (&self.outgoing, &self.incoming);
        ChannelInfo {
            id: self.id,
            number: self.number,
            name: &self.name,
            opened_by_us: self.ours,
            priority: self.priority,
            state: self.state(),
            bytes_sent: out.sent,
            bytes_received: inc.received,
            queued: out.queued,
            unconsumed: inc.held(),
            send_window: windows.then(|| out.limit - out.sent),
            receive_window: windows.then_some(inc.window),
        }
    }

    fn state(&self) -> ChannelState {
        let local = self.outgoing.side != SendSide::Open;
        let remote = self.incoming.side != RecvSide::Open;
        match self.phase {
            _ if self.is_over() || (local && remote) => ChannelState::Closing,
            Phase::Waiting { .. } | Phase::Requested { .. } => ChannelState::Requested,
            Phase::Pending => ChannelState::Pending,
            Phase::Open if local => ChannelState::HalfClosedLocal,
            Phase::Open if remote => ChannelState::HalfClosedRemote,
            Phase::Open => ChannelState::Open,
        }
    }
}

impl Outgoing {
    /// Drops what is queued and says how much that was.
    pub(crate) fn drop_queue(&mut self) -> usize {
        self.queue = VecDeque::new();
        self.wants_room = false;
        std::mem::take(&mut self.queued)
    }
}

impl Incoming {
    /// Received and not consumed.
    pub(crate) fn held(&self) -> u64 {
        self.inbox.len() + (self.handed - self.consumed)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.side == RecvSide::Ended
    }

    /// Nothing more will arrive.
    pub(crate) fn end(&mut self) {
        self.side = RecvSide::Ended;
    }

    /// Takes no more: drops what is held and says how much that was.
    pub(crate) fn drop_held(&mut self) -> u64 {
        let held = self.held();
        self.inbox.clear();
        self.consumed = self.handed;
        held
    }
}
