//! One side of a multiplexed connection.

mod jami;
mod liveness;
mod native;
mod open;
mod stream;
mod transmit;
mod window;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::channel::{Channel, Phase};
use crate::liveness::Liveness;
use crate::pool::Pool;
use crate::schedule::Scheduler;
use crate::table::Table;
use crate::{
    Capabilities, ChannelId, ChannelInfo, Chunk, Code, Config, Dialect, Event, PeerFault, Priority, Reason,
    Side,
};

/// One side of a multiplexed connection. See the [crate documentation](crate) for how to drive it.
#[derive(Debug)]
#[doc(alias = "MultiplexedSocket")]
pub struct Mux {
    side: Side,
    config: Config,
    wire: Wire,
    table: Table,
    scheduler: Scheduler,
    events: VecDeque<Event>,
    liveness: Liveness,
    /// The transport takes nothing at present.
    blocked: bool,
    life: Life,
    /// Buffers for what arrives.
    pool: Pool,
    /// A chunk whose last frame was handed out by the latest `poll_transmit`.
    in_flight: Option<Chunk>,
    /// Our requests that have not left yet.
    waiting: VecDeque<ChannelId>,
    /// Our requests that have left and are not answered.
    unanswered: usize,
    /// Where the search for a free number begins.
    next_number: u16,
    /// Payload received and not consumed, over all channels.
    held: u64,
    /// Sum of the receive windows.
    committed: u64,
    /// Payload queued to be sent, over all channels.
    queued: usize,
    /// Requests of the peer that are not decided, and the bytes of their names.
    pending: usize,
    pending_names: usize,
    /// Channels the peer requested and whose numbers are bound.
    peer_channels: usize,
    /// Bytes of queued control messages the peer caused.
    replies: usize,
    /// Where the search for idle windows goes on.
    hand: usize,
    /// The channel that last could not grow for lack of budget.
    pressed_by: Option<ChannelId>,
}

/// What is particular to a dialect.
#[derive(Debug)]
enum Wire {
    Native(native::Native),
    Jami(jami::Jami),
}

#[derive(Debug)]
enum Life {
    Running {
        /// We take no new channels.
        leaving: bool,
        /// The peer takes none.
        peer_leaving: bool,
    },
    Closed,
    Failed(PeerFault),
}

impl Mux {
    /// A mux at the start of the stream. Values of `config` out of range are brought into it.
    pub fn new(dialect: Dialect, side: Side, config: Config, now: Instant) -> Self {
        let config = config.checked();
        let wire = match dialect {
            Dialect::Native => Wire::Native(native::Native::new(&config)),
            Dialect::Jami => Wire::Jami(jami::Jami::new()),
        };
        let mut mux = Self {
            side,
            wire,
            table: Table::default(),
            scheduler: Scheduler::default(),
            events: VecDeque::new(),
            liveness: Liveness::new(config.keep_alive, config.probe_timeout, now),
            blocked: false,
            life: Life::Running { leaving: false, peer_leaving: false },
            pool: Pool::default(),
            in_flight: None,
            waiting: VecDeque::new(),
            unanswered: 0,
            next_number: open::half(side).0,
            held: 0,
            committed: 0,
            queued: 0,
            pending: 0,
            pending_names: 0,
            peer_channels: 0,
            replies: 0,
            hand: 0,
            pressed_by: None,
            config,
        };
        if dialect == Dialect::Native {
            mux.measure(now);
        }
        mux
    }

    /// The same with buffers from `pool`, which several connections may share.
    #[must_use]
    pub fn with_pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// Which dialect is spoken.
    pub fn dialect(&self) -> Dialect {
        match self.wire {
            Wire::Native(_) => Dialect::Native,
            Wire::Jami(_) => Dialect::Jami,
        }
    }

    /// What can be done on this connection.
    pub fn capabilities(&self) -> Capabilities {
        let native = self.dialect() == Dialect::Native;
        Capabilities {
            half_close: native,
            windows: native,
            reasons: native,
            early: native,
            ping: self.can_ping(),
        }
    }

    /// Takes plaintext as received, split anywhere. After an error nothing more is taken: a native peer is told
    /// by a last [`poll_transmit`](Self::poll_transmit), then the transport should be closed.
    pub fn handle_data(&mut self, now: Instant, data: &[u8]) -> Result<(), PeerFault> {
        match self.life {
            Life::Running { .. } => {}
            Life::Closed => return Ok(()),
            Life::Failed(fault) => return Err(fault),
        }
        self.liveness.heard(now);
        let outcome = match &self.wire {
            Wire::Native(_) => self.handle_native(now, data),
            Wire::Jami(_) => self.handle_jami(now, data),
        };
        outcome.inspect_err(|fault| {
            tracing::debug!(%fault, "the peer broke a rule");
            self.shut(Reason::new(Code::Protocol, &fault.to_string()));
            self.life = Life::Failed(*fault);
        })
    }

    /// Whether to read from the transport: false while the receive budget is used up, or while replies the peer
    /// asked for do not get out. Ask again after every other call.
    pub fn wants_data(&self) -> bool {
        self.held < self.config.receive_budget && self.replies < self.config.max_replies
    }

    /// Tells whether the transport holds bytes back because the peer does not take them. A keep-alive ping then does not
    /// get out, and silence proves nothing: whether the peer still lives is the transport's to find out. A Jami
    /// peer whose program does not read shows itself like this.
    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes no new channels from now on, and says so where the dialect can; present ones go on.
    pub fn go_away(&mut self, reason: Reason) {
        if let Life::Running { leaving, .. } = &mut self.life
            && !std::mem::replace(leaving, true)
        {
            self.say_go_away(reason);
        }
    }

    /// Drops all channels and says go-away. Poll transmits until `None`, then close the transport.
    pub fn close(&mut self, reason: Reason) {
        if matches!(self.life, Life::Running { .. }) {
            self.shut(reason);
            self.life = Life::Closed;
        }
    }

    fn shut(&mut self, reason: Reason) {
        self.say_go_away(reason);
        self.table = Table::default();
        self.scheduler = Scheduler::default();
        self.waiting.clear();
        (self.held, self.committed, self.queued) = (0, 0, 0);
        (self.pending, self.pending_names, self.peer_channels, self.unanswered) = (0, 0, 0, 0);
    }

    /// Whether [`close`](Self::close) was called or the peer broke a rule.
    pub fn is_closed(&self) -> bool {
        !matches!(self.life, Life::Running { .. })
    }

    /// All channels whose requests were not refused and that were not given up, in no particular but always the
    /// same order.
    pub fn channels(&self) -> impl Iterator<Item = ChannelInfo<'_>> {
        let windows = self.dialect() == Dialect::Native;
        self.table.iter().filter(|channel| !channel.gone).map(move |channel| channel.info(windows))
    }

    /// One channel.
    pub fn info(&self, id: ChannelId) -> Option<ChannelInfo<'_>> {
        Some(self.table.get(id).filter(|channel| !channel.gone)?.info(self.dialect() == Dialect::Native))
    }

    /// Smoothed round trip, if one was measured. Rises slowly and falls at once.
    pub fn rtt(&self) -> Option<Duration> {
        self.liveness.rtt()
    }

    /// Received payload bytes held at present: received and not consumed, over all channels.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Schedules the channel's data differently from now on; the peer is not told. Unknown channels are ignored.
    pub fn set_priority(&mut self, id: ChannelId, priority: Priority) {
        if let Some(channel) = self.table.get_mut(id) {
            channel.priority = priority;
        }
    }

    /// Payload bytes queued to be sent at present, over all channels.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Makes the channel wait for its turn if it has something to send.
    fn schedule(&mut self, id: ChannelId) {
        if let Some(channel) = self.table.get_mut(id)
            && channel.is_sendable()
            && !std::mem::replace(&mut channel.outgoing.scheduled, true)
        {
            self.scheduler.push(id, channel.priority);
        }
    }

    /// Draws the consequences of an end: frees the number when both directions have ended, and the channel when
    /// nothing is left to read.
    fn settle(&mut self, id: ChannelId) {
        let Some(channel) = self.table.get_mut(id) else { return };
        if !channel.is_over() {
            return;
        }
        if std::mem::replace(&mut channel.bound, false) {
            let number = channel.number;
            if !channel.gone {
                self.events.push_back(Event::Closed { id });
            }
            if channel.phase == Phase::Pending {
                self.pending -= 1;
                self.pending_names -= channel.name.len();
            }
            if !channel.ours {
                self.peer_channels -= 1;
            }
            self.committed -= std::mem::take(&mut channel.incoming.window);
            self.table.unbind(number);
        }
        if self.table.get(id).is_some_and(|channel| channel.gone || channel.incoming.held() == 0) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        let channel = self.table.remove(id)?;
        self.held -= channel.incoming.held();
        self.queued -= channel.outgoing.queued;
        Some(channel)
    }
}
