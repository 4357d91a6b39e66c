//! What a program does with channels.

use std::time::Instant;

use bytes::Bytes;

use super::{
    Connection, NoChannel,
    phase::Phase,
    records::Item,
    slots::{Slot, mark},
};
use crate::{
    Capabilities, ChannelId, Code, OpenError, OpenOptions, Placement, Priority, Read, ReadError, Reason,
    Resend, Violation,
    channel::{Channel, Context, Effects, Load, PeerLimits, Wants},
    crypto::{ChannelOpen, ChannelSeal},
};

/// Forgotten channels whose keys were changed that are told from others: if so many more end before the peer heard that its last
/// packet arrived, it repeats that packet until the connection ends, for it cannot be opened. 8 bytes each, and few channels live
/// long enough to change keys.
const GONE: usize = 1024;

impl Connection {
    /// Opens a channel. It can be written to at once, even before [`Event::Connected`](crate::Event::Connected): the first packet
    /// carries both the opening and data.
    pub fn open(&mut self, now: Instant, options: OpenOptions) -> Result<ChannelId, OpenError> {
        if !matches!(self.phase, Phase::Handshake { .. } | Phase::Open) {
            return Err(OpenError::Closed);
        }
        if options.label.len() as u64 > self.theirs.max_label {
            return Err(OpenError::Label);
        }
        let sound = match options.capabilities.resend {
            Resend::No | Resend::Forever => true,
            Resend::Tries(tries) => tries > 0,
            Resend::Until(time) => {
                (1..=1 << 32).contains(&time.as_millis()) && time.subsec_nanos() % 1_000_000 == 0
            }
        };
        if !sound {
            return Err(OpenError::Capabilities);
        }
        if u64::from(self.next_serial) >= self.serials_allowed.min(u64::from(ChannelId::SERIALS)) {
            return Err(OpenError::TooMany);
        }
        let id = ChannelId::new(self.side, self.next_serial);
        self.next_serial += 1;
        let OpenOptions { capabilities, label, priority, placement } = options;
        let slot = self.insert_channel(id, capabilities, priority, placement, label.into());
        self.schedule_if_ready(slot);
        let _ = now;
        Ok(id)
    }

    /// Makes a channel of either side.
    pub(super) fn insert_channel(
        &mut self,
        id: ChannelId,
        capabilities: Capabilities,
        priority: Priority,
        placement: Placement,
        label: Box<[u8]>,
    ) -> u32 {
        self.stats.channels_opened += 1;
        let opened_here = id.opener() == self.side;
        let channel = Channel::new(id, capabilities, &self.config, self.peer_limits());
        self.slots.insert(Slot {
            id,
            channel,
            seal: ChannelSeal::new(id),
            open: ChannelOpen::new(id),
            priority,
            placement,
            marks: if opened_here { mark::OPENING | mark::OPEN_DUE } else { 0 },
            refs: 0,
            begun: 0,
            in_flight: 0,
            turn: 0,
            load: Load::default(),
            grant: 0,
            used: 0,
            noted: None,
            label: Some(label),
            generation: 0,
            lost: [0; 2],
            ended: None,
        })
    }

    /// What the peer said about each channel.
    pub(super) fn peer_limits(&self) -> PeerLimits {
        PeerLimits {
            window: self.theirs.window,
            messages: self.theirs.messages,
            max_message: self.theirs.max_message,
        }
    }

    /// Tells the peer that the program here took its channel; its side hears [`Event::Accepted`](crate::Event::Accepted).
    /// Nothing waits for it.
    pub fn accept(&mut self, now: Instant, channel: ChannelId) -> Result<(), NoChannel> {
        let here = channel.opener() == self.side;
        self.change(now, channel, |channel, _, _| {
            if !here {
                channel.accept();
            }
        })
    }

    /// Ends a channel of the peer in both directions, with a code such as [`Code::REFUSED`].
    pub fn refuse(&mut self, now: Instant, channel: ChannelId, code: Code) -> Result<(), NoChannel> {
        self.reset(now, channel, code)
    }

    /// Reads bytes of a stream, or one message. What came before the connection ended can still be read after.
    pub fn read(&mut self, now: Instant, channel: ChannelId, buf: &mut [u8]) -> Result<Read, ReadError> {
        let Some(slot) = self.slots.find(channel) else { return Err(ReadError::Unknown) };
        let mut effects = Effects::default();
        let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
        let read = self.slots.at(slot).channel.read(&mut cx, buf, &mut effects);
        self.settle(slot, now, &effects);
        match read {
            Err(ReadError::Blocked) if self.error.is_some() => Err(ReadError::Ended(Reason::Connection)),
            read => read,
        }
    }

    /// Takes up to `most` bytes of a stream without copying them, if what comes next lies in a buffer of its own, as that of long
    /// packets does. `None` if it does not, or there is nothing: then it is for [`read`](Self::read) to say.
    pub fn read_whole(&mut self, now: Instant, channel: ChannelId, most: usize) -> Option<Bytes> {
        let slot = self.slots.find(channel)?;
        let mut effects = Effects::default();
        let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
        let read = self.slots.at(slot).channel.read_whole(&mut cx, most, &mut effects)?;
        self.settle(slot, now, &effects);
        Some(read)
    }

    /// Ends this side's direction: what was written still arrives, then the peer reads the end.
    pub fn finish(&mut self, now: Instant, channel: ChannelId) -> Result<(), NoChannel> {
        self.change(now, channel, |channel, _, _| channel.finish())?;
        if let Some(slot) = self.slots.find(channel) {
            self.end_turn_to_write(slot);
        }
        Ok(())
    }

    /// Ends a channel at once in both directions; what was not delivered is lost.
    pub fn reset(&mut self, now: Instant, channel: ChannelId, code: Code) -> Result<(), NoChannel> {
        self.change(now, channel, |channel, cx, effects| channel.reset(cx, code, effects))
    }

    /// Asks the peer to send no more on a channel; what it sends is dropped. Own direction goes on.
    pub fn stop(&mut self, now: Instant, channel: ChannelId, code: Code) -> Result<(), NoChannel> {
        self.change(now, channel, |channel, cx, effects| channel.stop(cx, code, effects))
    }

    fn change(
        &mut self,
        now: Instant,
        channel: ChannelId,
        act: impl FnOnce(&mut Channel, &mut Context<'_>, &mut Effects),
    ) -> Result<(), NoChannel> {
        let slot = self.find(channel)?;
        if self.error.is_some() {
            return Ok(());
        }
        let mut effects = Effects::default();
        let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
        act(&mut self.slots.at(slot).channel, &mut cx, &mut effects);
        self.settle(slot, now, &effects);
        Ok(())
    }

    /// Changes the place of a channel in the order of sending.
    pub fn set_priority(&mut self, channel: ChannelId, priority: Priority) -> Result<(), NoChannel> {
        let slot = self.find(channel)?;
        let placement = self.slots.at(slot).placement;
        self.set_class(slot, (priority, placement));
        Ok(())
    }

    /// Changes the links that a channel's packets take from here to the peer.
    pub fn set_placement(&mut self, channel: ChannelId, placement: Placement) -> Result<(), NoChannel> {
        let slot = self.find(channel)?;
        let priority = self.slots.at(slot).priority;
        self.set_class(slot, (priority, placement));
        Ok(())
    }

    /// Begins a new generation of keys for a channel's packets to the peer. It does so by itself long before a key wears out.
    ///
    /// False if the peer has not yet shown that it has the current one, or did so less than 2 s ago.
    pub fn update_keys(&mut self, now: Instant, channel: ChannelId) -> Result<bool, NoChannel> {
        let slot = self.find(channel)?;
        let updated = self.slots.at(slot).seal.update(now);
        self.stats.key_updates += u64::from(updated);
        Ok(updated)
    }

    /// Whether the peer has acknowledged everything that was written, and every end of a channel: [`close`](Self::close) would lose
    /// nothing. Looks at all channels.
    pub fn is_delivered(&self) -> bool {
        (0..self.slots.bound()).filter_map(|slot| self.slots.get(slot)).all(|slot| !slot.channel.owes())
    }

    /// Length of the next message to read, or of the bytes of a stream that are there; `None` if nothing is.
    pub fn readable(&self, channel: ChannelId) -> Option<usize> {
        self.slots.look(channel)?.channel.readable()
    }

    fn find(&mut self, channel: ChannelId) -> Result<u32, NoChannel> {
        self.slots.find(channel).ok_or(NoChannel)
    }

    // ---- for the rest of the connection

    /// After anything was done to a channel: events, windows, control messages, timers, the schedule, its end.
    #[inline]
    pub(super) fn settle(&mut self, slot: u32, now: Instant, effects: &Effects) {
        self.apply(slot, effects);
        if effects.received | effects.consumed != 0 {
            if !self.credit.on_received(effects.received, effects.consumed) {
                self.fault = Some(Violation::Window);
            }
            if self.credit.is_due() {
                self.say(Item::ConnectionWindow);
            }
        }
        if self.error.is_some() {
            return;
        }
        self.check_control(slot);
        self.slots.at(slot).weigh(&mut self.shares);
        if effects.ended.is_some() {
            self.end_turn_to_write(slot);
        }
        let channel = self.slots.at(slot);
        if let Some(at) = channel.channel.poll_timeout() {
            self.deadlines.note(slot, at, &mut channel.noted);
        }
        if self.credit.promise(&mut channel.begun, channel.channel.begun()) {
            self.on_credit();
        }
        self.schedule_if_ready(slot);
        if effects.ended.is_some() || self.slots.at(slot).ended.is_some() {
            self.release(slot);
        }
        self.pool.watch(now);
    }

    /// Puts a channel in the schedule if it has something to send.
    #[inline]
    pub(super) fn schedule_if_ready(&mut self, slot: u32) {
        let channel = self.slots.at(slot);
        if channel.is(mark::SCHEDULED) {
            return;
        }
        let opens = channel.is(mark::OPEN_DUE) && channel.ended.is_none();
        match channel.channel.wants() {
            Wants::Nothing if !opens => return,
            // It goes as a control message, along with whatever leaves.
            Wants::End if !channel.is(mark::OPENING) => return,
            Wants::Data if !opens && self.credit.room(channel.begun) == 0 => {
                if channel.set(mark::CREDIT) {
                    self.waiting.push_back(slot);
                }
                return;
            }
            _ => {}
        }
        channel.set(mark::SCHEDULED);
        self.schedule.push(slot, channel.priority, channel.placement, channel.is_sparse());
    }

    /// The connection's window has room again.
    pub(super) fn on_credit(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some(slot) = self.waiting.pop_front() else { return };
            self.slots.at(slot).clear(mark::CREDIT);
            self.schedule_if_ready(slot);
            self.release(slot);
        }
    }

    /// Forgets a channel if it is over, everybody heard of it, and nothing that is on its way names it.
    pub(super) fn release(&mut self, slot: u32) {
        const HELD: u32 = mark::SCHEDULED | mark::CREDIT | mark::CONTROL | mark::EVENT | mark::EVENTS;
        let channel = self.slots.at(slot);
        if channel.ended.is_none()
            || channel.refs > 0
            || channel.marks & HELD != 0
            || !channel.channel.is_gone()
        {
            return;
        }
        let by_peer = channel.id.opener() != self.side;
        if channel.open.generation() > 0 {
            if self.gone.len() == GONE {
                self.gone.pop_front();
            }
            self.gone.push_back((channel.id, channel.open.generation()));
        }
        self.slots.remove(slot);
        let slots = &self.slots;
        self.deadlines
            .trim(slots.len(), |at, slot| slots.get(slot).is_some_and(|channel| channel.noted == Some(at)));
        if by_peer {
            self.serials_over += 1;
            let bound = self.serials_bound();
            let news = bound - self.serials_told.min(bound);
            if news >= u64::from(self.config.max_channels / 16).max(1) {
                self.say(Item::Channels);
            }
        }
    }

    /// Serial numbers below this may be used by the peer: as many as were forgotten, and as many again as may be open.
    pub(super) fn serials_bound(&self) -> u64 {
        let open = u64::from(self.config.max_channels).max(crate::parameters::EARLY_CHANNELS);
        (self.serials_over + open).min(u64::from(ChannelId::SERIALS))
    }
}
