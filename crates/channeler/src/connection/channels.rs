//! What a program does with channels.

use std::time::Instant;

use super::{
    Connection, NoChannel,
    phase::Phase,
    records::Item,
    slots::{Opening, Slot, mark},
};
use crate::{
    Capabilities, ChannelId, Code, OpenError, OpenOptions, Placement, Priority, Read, ReadError, Reason, Resend, Side,
    WriteError,
    channel::{Channel, Context, Effects},
    crypto::{ChannelOpen, ChannelSeal},
};

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
            Resend::Until(time) => (1..=1 << 32).contains(&time.as_millis()) && time.subsec_nanos() % 1_000_000 == 0,
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
        let slot = self.insert_channel(id, capabilities, priority, placement, Some(Opening { label }));
        self.schedule_if_ready(slot, now);
        Ok(id)
    }

    /// Makes a channel of either side.
    pub(super) fn insert_channel(
        &mut self,
        id: ChannelId,
        capabilities: Capabilities,
        priority: Priority,
        placement: Placement,
        opening: Option<Opening>,
    ) -> u32 {
        self.stats.channels_opened += 1;
        let opened_here = id.opener() == self.side;
        let channel = Channel::new(
            id,
            capabilities,
            if opened_here { self.side } else { self.side.peer() },
            &self.config,
            self.theirs.window,
            self.theirs.messages,
            self.theirs.max_message,
        );
        self.slots.insert(Slot {
            id,
            channel,
            seal: ChannelSeal::new(id),
            open: ChannelOpen::new(id),
            priority,
            placement,
            marks: if opened_here { mark::OPENING } else { 0 },
            refs: 0,
            in_flight: 0,
            turn: 0,
            used: 0,
            noted: None,
            opening: opening.map(Box::new),
            lost: [0; 2],
            ended: None,
        })
    }

    /// Tells the peer that the program here took its channel; its side hears [`Event::Accepted`](crate::Event::Accepted).
    /// Nothing waits for it.
    pub fn accept(&mut self, now: Instant, channel: ChannelId) -> Result<(), NoChannel> {
        let slot = self.find(channel)?;
        let side = self.side;
        let entry = self.slots.at(slot);
        if entry.id.opener() != side && entry.ended.is_none() && entry.set(mark::ACCEPTED) {
            self.say(Item::Accept(slot));
        }
        let _ = now;
        Ok(())
    }

    /// Ends a channel of the peer in both directions, with a code such as [`Code::REFUSED`].
    pub fn refuse(&mut self, now: Instant, channel: ChannelId, code: Code) -> Result<(), NoChannel> {
        self.reset(now, channel, code)
    }

    /// Writes to a channel: as many bytes of a stream as there is room for, or one whole message. Returns how many bytes were taken.
    pub fn write(&mut self, now: Instant, channel: ChannelId, bytes: &[u8]) -> Result<usize, WriteError> {
        let Some(slot) = self.slots.find(channel) else { return Err(WriteError::Unknown) };
        if self.error.is_some() {
            return Err(WriteError::Ended(Reason::Connection));
        }
        let mut effects = Effects::default();
        let context = context!(self, now);
        let taken = self.slots.at(slot).channel.write(context, bytes, &mut effects)?;
        self.apply(slot, &effects);
        self.schedule_if_ready(slot, now);
        Ok(taken)
    }

    /// Reads bytes of a stream, or one message. What came before the connection ended can still be read after.
    pub fn read(&mut self, now: Instant, channel: ChannelId, buf: &mut [u8]) -> Result<Read, ReadError> {
        let Some(slot) = self.slots.find(channel) else { return Err(ReadError::Unknown) };
        let mut effects = Effects::default();
        let context = context!(self, now);
        let read = self.slots.at(slot).channel.read(context, buf, &mut effects);
        self.settle(slot, now, &effects);
        match read {
            Err(ReadError::Blocked) if self.error.is_some() => Err(ReadError::Ended(Reason::Connection)),
            read => read,
        }
    }

    /// Ends this side's direction: what was written still arrives, then the peer reads the end.
    pub fn finish(&mut self, now: Instant, channel: ChannelId) -> Result<(), NoChannel> {
        self.change(now, channel, |channel, context, effects| channel.finish(context, effects))
    }

    /// Ends a channel at once in both directions; what was not delivered is lost.
    pub fn reset(&mut self, now: Instant, channel: ChannelId, code: Code) -> Result<(), NoChannel> {
        self.change(now, channel, |channel, context, effects| channel.reset(context, code, effects))
    }

    /// Asks the peer to send no more on a channel; what it sends is dropped. Own direction goes on.
    pub fn stop(&mut self, now: Instant, channel: ChannelId, code: Code) -> Result<(), NoChannel> {
        self.change(now, channel, |channel, context, effects| channel.stop(context, code, effects))
    }

    fn change(
        &mut self,
        now: Instant,
        channel: ChannelId,
        act: impl FnOnce(&mut Channel, Context<'_>, &mut Effects),
    ) -> Result<(), NoChannel> {
        let slot = self.find(channel)?;
        if self.error.is_some() {
            return Ok(());
        }
        let mut effects = Effects::default();
        let context = context!(self, now);
        act(&mut self.slots.at(slot).channel, context, &mut effects);
        self.settle(slot, now, &effects);
        Ok(())
    }

    /// Changes the place of a channel in the order of sending.
    pub fn set_priority(&mut self, channel: ChannelId, priority: Priority) -> Result<(), NoChannel> {
        let slot = self.find(channel)?;
        self.slots.at(slot).priority = priority;
        Ok(())
    }

    /// Changes the links that a channel's packets take from here to the peer.
    pub fn set_placement(&mut self, channel: ChannelId, placement: Placement) -> Result<(), NoChannel> {
        let slot = self.find(channel)?;
        self.slots.at(slot).placement = placement;
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

    /// Length of the next message to read, or of the bytes of a stream that are there; `None` if nothing is.
    pub fn readable(&self, channel: ChannelId) -> Option<usize> {
        self.slots.look(channel)?.channel.readable()
    }

    fn find(&mut self, channel: ChannelId) -> Result<u32, NoChannel> {
        self.slots.find(channel).ok_or(NoChannel)
    }
}
