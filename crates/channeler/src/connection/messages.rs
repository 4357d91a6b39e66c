//! What the messages of a packet do.

use std::time::Instant;

use bytes::Bytes;

use super::{Connection, links::Theirs, receive::Target, slots::mark};
use crate::{
    Capabilities, ChannelId, Code, ConnectionError, LinkStatus, Placement, Priority, Violation,
    channel::{Context, Effects, Part},
    crypto::ChannelOpen,
    wire::message::{Message, Messages, kind},
};

impl Connection {
    /// Handles all messages of a packet that came by the link in this place. `whole`: the buffer that they lie in, if parts of it may
    /// be kept.
    #[inline]
    pub(super) fn on_messages(
        &mut self,
        now: Instant,
        place: usize,
        mut target: Target,
        mut keys: Option<ChannelOpen>,
        plain: &[u8],
        whole: Option<&Bytes>,
    ) -> Result<(), Violation> {
        if let Target::Slot(slot) = target
            && self.slots.at(slot).is(mark::SILENT)
        {
            // It was reset before its OPEN came: what it carries was counted, and is of a kind that is not known here.
            target = Target::Gone;
        }
        let mut effects = Effects::default();
        // An acknowledgement in the packet may be the last thing that holds the packet's own channel.
        let mut held = None;
        if let Target::Slot(slot) = target {
            self.slots.at(slot).refs += 1;
            held = Some(slot);
        }
        for message in Messages(plain) {
            let message = message?;
            match message {
                Message::Data { offset, fin, bytes } => {
                    let Some(slot) = data_target(target, kind::DATA)? else { continue };
                    let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
                    self.slots.at(slot).channel.on_data(&mut cx, offset, fin, bytes, whole, &mut effects)?;
                }
                Message::Part { number, end, offset, bytes } => {
                    let Some(slot) = data_target(target, kind::PART)? else { continue };
                    let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
                    let part = Part { number, end, offset, bytes };
                    self.slots.at(slot).channel.on_part(&mut cx, part, &mut effects)?;
                }
                Message::Fin { final_offset, messages } => {
                    let Some(slot) = data_target(target, kind::MESSAGE_FIN)? else { continue };
                    let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
                    let channel = &mut self.slots.at(slot).channel;
                    channel.on_message_fin(&mut cx, final_offset, messages, &mut effects)?;
                }
                Message::Ack(ack) => {
                    let Some(acked) = self.links.by_id(ack.link) else { continue };
                    self.links.at(acked).on_ack(now, &ack, acked == place, &mut self.outcome)?;
                    self.take_outcome(now, acked);
                }
                Message::Open { channel, capabilities, priority, label } => {
                    if target == Target::New(channel) {
                        let open = keys.take().unwrap_or_else(|| ChannelOpen::new(channel));
                        target = Target::Slot(self.on_open(channel, open, capabilities, priority, label)?);
                    }
                }
                message => self.on_control(now, place, message)?,
            }
        }
        if let Some(slot) = held {
            self.slots.at(slot).refs -= 1;
        }
        if let Target::Slot(slot) = target {
            self.settle(slot, now, &effects);
        }
        Ok(())
    }

    /// The peer opens a channel.
    #[cold]
    fn on_open(
        &mut self,
        id: ChannelId,
        open: ChannelOpen,
        capabilities: Capabilities,
        priority: Priority,
        label: &[u8],
    ) -> Result<u32, Violation> {
        if label.len() > self.config.max_label.max(crate::parameters::EARLY_LABEL as usize) {
            return Err(Violation::Limit);
        }
        self.use_serial(id)?;
        let slot = self.insert_channel(id, capabilities, priority, Placement::default(), label.into());
        let channel = self.slots.at(slot);
        channel.open = open;
        self.note_event(slot, mark::OPENED_EVENT);
        Ok(slot)
    }

    /// Messages about the connection, or about a channel that they name.
    #[cold]
    fn on_control(&mut self, now: Instant, place: usize, message: Message<'_>) -> Result<(), Violation> {
        match message {
            Message::Skipped(_) => self.stats.skipped += 1,
            Message::Accept { channel } => {
                if let Some(slot) = self.named_channel(channel)?
                    && channel.opener() == self.side
                    && self.slots.at(slot).set(mark::ACCEPTED)
                {
                    self.note_event(slot, mark::ACCEPTED_EVENT);
                }
            }
            Message::Window { channel, max_offset, max_messages } => {
                self.on_channel(now, channel, |channel, _, effects| {
                    channel.on_window(max_offset, max_messages, effects);
                    Ok(())
                })?;
            }
            Message::Reset { channel, code, final_offset } => {
                self.on_reset(now, channel, code, final_offset)?;
            }
            Message::Stop { channel, code } => {
                self.on_channel(now, channel, |channel, cx, effects| {
                    channel.on_stop(cx, code, effects);
                    Ok(())
                })?;
                // Who waits to write has nothing to wait for.
                if let Some(slot) = self.slots.find(channel)
                    && self.end_turn_to_write(slot)
                {
                    self.note_event(slot, mark::WRITABLE_EVENT);
                }
            }
            Message::Finish { channel, final_offset, messages } => {
                self.on_channel(now, channel, |channel, cx, effects| {
                    channel.on_finish(cx, final_offset, messages, effects)
                })?;
            }
            Message::Abandon(abandon) => {
                self.on_channel(now, abandon.channel, |channel, cx, effects| {
                    abandon.ranges().try_for_each(|range| channel.on_abandon(cx, range, effects))
                })?;
            }
            Message::ConnectionWindow { max_bytes } => {
                if self.credit.allow(max_bytes) {
                    self.on_credit();
                }
            }
            Message::Channels { bound } => self.serials_allowed = self.serials_allowed.max(bound),
            Message::NewId { link, cid, reset } => {
                if !self.links.on_id(link, Theirs { id: cid, reset: Some(reset) }) {
                    return Err(Violation::Limit);
                }
            }
            Message::RetireLink { link, .. } => match self.links.by_id(link) {
                Some(place) => self.leave_link(now, place),
                None => self.retire_unused(link),
            },
            Message::LinkPreference { link, available } => {
                if let Some(place) = self.links.by_id(link)
                    && let Some(entry) = self.links.get(place)
                {
                    entry.backup = !available;
                }
            }
            Message::Challenge(token) => self.links.at(place).on_challenge(token),
            Message::Response(token) => {
                self.links.at(place).on_response(token, &mut self.outcome);
                self.take_outcome(now, place);
                if self.links.at(place).status() == LinkStatus::Active {
                    self.rtt = self.links.rtt();
                }
            }
            Message::Close { code, text } => {
                let text = String::from_utf8_lossy(text).into_owned();
                self.on_close(now, ConnectionError::ClosedByPeer { code, text });
            }
            Message::Ping
            | Message::Data { .. }
            | Message::Part { .. }
            | Message::Fin { .. }
            | Message::Ack(_)
            | Message::Open { .. } => {}
        }
        Ok(())
    }

    /// The slot of a channel that a control message names; none if the channel is over.
    fn named_channel(&mut self, id: ChannelId) -> Result<Option<u32>, Violation> {
        if id == ChannelId::CONTROL {
            return Err(Violation::Channel);
        }
        if let Some(slot) = self.slots.find(id) {
            return Ok(Some(slot));
        }
        let was = if id.opener() == self.side {
            id.serial() < self.next_serial
        } else {
            self.serials.contains(id.serial())
        };
        if was { Ok(None) } else { Err(Violation::Channel) }
    }

    fn on_channel(
        &mut self,
        now: Instant,
        id: ChannelId,
        act: impl FnOnce(&mut crate::channel::Channel, &mut Context<'_>, &mut Effects) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let Some(slot) = self.named_channel(id)? else { return Ok(()) };
        let mut effects = Effects::default();
        let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
        act(&mut self.slots.at(slot).channel, &mut cx, &mut effects)?;
        self.settle(slot, now, &effects);
        Ok(())
    }

    /// The peer uses a number for a channel.
    fn use_serial(&mut self, id: ChannelId) -> Result<(), Violation> {
        self.serials.insert(id.serial());
        // Each number is used in the end, or the peer wastes what it was given and this side's memory.
        let most = 2 * self.config.max_channels as usize + 64;
        if self.serials.missing() > most { Err(Violation::Limit) } else { Ok(()) }
    }

    /// RESET. It may overtake the OPEN of its channel, of which the program then never hears.
    fn on_reset(
        &mut self,
        now: Instant,
        id: ChannelId,
        code: Code,
        final_offset: u64,
    ) -> Result<(), Violation> {
        let unheard = id != ChannelId::CONTROL
            && id.opener() != self.side
            && u64::from(id.serial()) < self.serials_told
            && !self.serials.contains(id.serial());
        if unheard {
            self.use_serial(id)?;
            // Whatever it was to be: of the two kinds, this one's first window is the larger.
            let capabilities = Capabilities::datagram();
            let slot = self.insert_channel(
                id,
                capabilities,
                Priority::default(),
                Placement::default(),
                Box::default(),
            );
            self.slots.at(slot).set(mark::SILENT);
        }
        self.on_channel(now, id, |channel, cx, effects| channel.on_reset(cx, code, final_offset, effects))
    }
}

/// The slot that data of a packet is for; none if its channel is over.
#[inline]
fn data_target(target: Target, kind: u8) -> Result<Option<u32>, Violation> {
    match target {
        Target::Slot(slot) => Ok(Some(slot)),
        Target::Gone => Ok(None),
        Target::Control => Err(Violation::OutOfPlace(kind)),
        // Every packet of a channel begins with its OPEN until one of them is known to have arrived.
        Target::New(_) => Err(Violation::Channel),
    }
}
