//! The sending direction: what was written and may still be needed, what of it is to be sent, and when to give up.

use bytes::Bytes;

use super::{
    effects::{Context, Effects},
    outbox::{Outbox, Outgoing},
    ranges::{Ranges, Repairs},
    rope::{Rope, WHOLE},
};
use crate::{Capabilities, Code, Reason, Resend, WriteError};

/// What the end of the direction is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fin {
    /// More may be written.
    Open,
    /// To be told; never was.
    Due,
    /// On its way.
    Sent,
    /// What told of it was lost.
    Again,
    /// The peer knows it.
    Known,
}

/// Whether there is anything to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// No.
    Nothing,
    /// What was lost: it needs no window of the connection.
    Repair,
    /// Nothing but the end of the direction, which may go without a packet of the channel's own.
    End,
    /// New bytes within the channel's window; the connection's window has to allow them, too.
    Data,
}

/// What `Channel::fill` put into a packet, to be returned when the packet was acknowledged or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    /// First offset of the data.
    pub(crate) start: u64,
    /// How many offsets.
    pub(crate) len: u32,
    /// How often this range was repaired before.
    pub(crate) tries: u8,
    /// Whether the end of the direction was told.
    pub(crate) fin: bool,
    /// Set by the caller for both of two packets that carried the same: one of them lost is no loss.
    pub(crate) mirrored: bool,
}

/// What a channel holds that was written, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// All of it.
    pub(crate) held: u32,
    /// What is to be sent for the first time, and may be.
    pub(crate) unsent: u32,
}

/// A message was given up on a channel that closes on loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LossCloses;

/// See the module.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) rope: Rope,
    /// Everything below was acknowledged or given up.
    pub(super) floor: u64,
    /// Everything below was sent or given up.
    pub(super) next: u64,
    /// Where the next write goes.
    pub(super) written: u64,
    /// Offsets below this may be sent.
    pub(super) max_offset: u64,
    /// How much may be held at present.
    pub(super) limit: u64,
    /// Acknowledged or given up above the floor.
    pub(super) settled: Ranges,
    pub(super) repairs: Repairs,
    /// Room that a refused write waits for; 0: none waits.
    pub(super) awaited: u32,
    /// How much might be held at the last write, by what other channels leave.
    share: u32,
    /// The last write to a stream was not taken whole: more follows as soon as there is room.
    more: bool,
    /// What fits into a packet, as far as is known.
    pub(super) packet: u32,
    pub(super) fin: Fin,
    /// The peer wants no more.
    pub(super) stopped: Option<Code>,
    pub(super) outbox: Option<Box<Outbox>>,
    /// Ranges of which one of two copies was lost.
    pub(super) half_lost: Option<Box<Ranges>>,
}

/// First limit of what is held.
const FIRST_LIMIT: u64 = 64 << 10;

/// A stream's writer hears of room when there is this much, or the sixteenth part of the limit.
const STREAM_ROOM: u64 = 16 << 10;

/// In four bytes, of which each channel has many: what exceeds them counts as the most.
fn short(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Sender {
    pub(super) fn new(
        capabilities: Capabilities,
        max_offset: u64,
        max_messages: u64,
        max_message: u64,
    ) -> Self {
        let outbox = (!capabilities.is_stream()).then(|| Box::new(Outbox::new(max_messages, max_message)));
        Self {
            rope: Rope::default(),
            floor: 0,
            next: 0,
            written: 0,
            max_offset,
            limit: FIRST_LIMIT,
            settled: Ranges::default(),
            repairs: Repairs::default(),
            awaited: 0,
            share: u32::MAX,
            more: false,
            packet: 0,
            fin: Fin::Open,
            stopped: None,
            outbox,
            half_lost: None,
        }
    }

    // ---- writing

    /// Where the bytes that must be kept begin: without repair a byte is forgotten when it is sent.
    #[inline]
    pub(super) fn base(&self, resend: Resend) -> u64 {
        if resend == Resend::No { self.next } else { self.floor }
    }

    /// What it holds, and what of it is to be sent.
    #[inline]
    pub(super) fn load(&self, resend: Resend) -> Load {
        Load {
            held: short(self.held(resend)),
            unsent: short(self.written.min(self.max_offset).saturating_sub(self.next)),
        }
    }

    /// Whether more may be written.
    pub(super) fn is_writable(&self) -> bool {
        self.fin == Fin::Open && self.stopped.is_none()
    }

    /// Memory in use.
    #[inline]
    pub(super) fn held(&self, resend: Resend) -> u64 {
        let records = self.outbox.as_ref().map_or(0, |outbox| outbox.len() * Outbox::COST);
        self.written - self.base(resend) + records
    }

    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        resend: Resend,
        share: u64,
        turn: usize,
        bytes: &[u8],
    ) -> Result<usize, WriteError> {
        let most = self.begin_write(cx, share)?;
        if let Some(outbox) = &self.outbox {
            let longest = (cx.config.max_message as u64).min(outbox.max_message()).min(cx.config.send_buffer);
            if bytes.len() as u64 > longest {
                return Err(WriteError::TooLong(longest as usize));
            }
            let span = (bytes.len() as u64).max(1);
            let held = self.held(resend);
            if held > 0 && !self.has_room(held, span + Outbox::COST, most) {
                self.awaited = short(span + Outbox::COST);
                return Err(WriteError::Blocked);
            }
            self.append(cx, resend, bytes, span);
            let expires = match resend {
                Resend::Until(after) => cx.now.checked_add(after),
                _ => None,
            };
            let message = Outgoing { end: self.written, expires, empty: bytes.is_empty(), gone: false };
            if let Some(outbox) = &mut self.outbox {
                outbox.push(message);
            }
            return Ok(bytes.len());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = self.stream_room(resend, most)?;
        let mut taken = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if taken > turn {
            taken = turn;
            // Until the next turn, nothing comes that would fill up a packet.
            let packet = u64::from(self.packet).max(1);
            let part = ((self.backlog() + turn as u64) % packet) as usize;
            if part < turn {
                taken -= part;
            }
        }
        self.append(cx, resend, &bytes[..taken], taken as u64);
        self.more = taken < bytes.len();
        if self.more {
            self.awaited = short(STREAM_ROOM.min(most.div_ceil(2)));
        }
        Ok(taken)
    }

    /// Writes all of `bytes` if there is room for any. Of a stream a buffer that is worth it is kept.
    pub(super) fn write_all<B: AsRef<[u8]> + Into<Bytes>>(
        &mut self,
        cx: &mut Context<'_>,
        resend: Resend,
        share: u64,
        bytes: B,
    ) -> Result<(), (WriteError, B)> {
        if self.outbox.is_some() {
            let written = self.write(cx, resend, share, usize::MAX, bytes.as_ref());
            return written.map(drop).map_err(|error| (error, bytes));
        }
        let room = self.begin_write(cx, share).and_then(|most| self.stream_room(resend, most));
        if let Err(error) = room {
            return Err((error, bytes));
        }
        self.more = false;
        let len = bytes.as_ref().len();
        if len >= WHOLE {
            self.rope.adopt(self.written, bytes.into());
            self.written += len as u64;
        } else if len > 0 {
            self.append(cx, resend, bytes.as_ref(), len as u64);
        }
        Ok(())
    }

    /// Whether anything may be written, and how much may be held at most.
    fn begin_write(&mut self, cx: &mut Context<'_>, share: u64) -> Result<u64, WriteError> {
        if let Some(code) = self.stopped {
            return Err(WriteError::Ended(Reason::Peer(code)));
        }
        if self.fin != Fin::Open {
            return Err(WriteError::Finished);
        }
        self.share = short(share);
        Ok(self.most(cx))
    }

    /// How much more of a stream may be held, if anything.
    fn stream_room(&mut self, resend: Resend, most: u64) -> Result<u64, WriteError> {
        let held = self.held(resend);
        if !self.has_room(held, 1, most) {
            self.more = true;
            self.awaited = short(STREAM_ROOM.max(self.limit / 16).min(most.div_ceil(2)));
            return Err(WriteError::Blocked);
        }
        Ok(self.limit.min(most).saturating_sub(held))
    }

    /// How much may be held at most.
    pub(super) fn most(&self, cx: &mut Context<'_>) -> u64 {
        if self.share == u32::MAX { cx.config.send_buffer } else { u64::from(self.share) }
    }

    /// Whether `wanted` more may be held. What is held doubles while nearly all of it is on its way and still more is wanted:
    /// it follows what the network takes.
    pub(super) fn has_room(&mut self, held: u64, wanted: u64, most: u64) -> bool {
        while held + wanted > self.limit.min(most)
            && self.limit < most
            && self.written - self.next <= self.limit / 4
        {
            self.limit *= 2;
        }
        held + wanted <= self.limit.min(most)
    }

    fn append(&mut self, cx: &mut Context<'_>, resend: Resend, bytes: &[u8], span: u64) {
        let end = self.written + span;
        self.rope.write(cx.pool, self.base(resend)..end, self.written, bytes);
        self.written = end;
    }

    /// Everything below `next` was sent or given up.
    #[inline]
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, resend: Resend, next: u64) {
        let from = std::mem::replace(&mut self.next, next);
        if resend == Resend::No {
            self.rope.release(cx.pool, from, next..self.written);
        }
    }

    /// How much a write would take now; of a message channel, the longest message.
    #[cfg(test)]
    pub(super) fn room(&self, cx: &mut Context<'_>, resend: Resend) -> u64 {
        self.limit.min(self.most(cx)).saturating_sub(self.held(resend))
    }

    pub(super) fn finish(&mut self) {
        if self.fin == Fin::Open {
            self.fin = Fin::Due;
        }
    }

    // ---- sending

    /// Whether there is anything to send.
    #[inline]
    pub(super) fn wants(&self) -> Wants {
        if !self.repairs.is_empty() {
            Wants::Repair
        } else if self.next < self.written {
            if self.is_allowed() && !self.gathers() { Wants::Data } else { Wants::Nothing }
        } else if matches!(self.fin, Fin::Due | Fin::Again) {
            Wants::End
        } else {
            Wants::Nothing
        }
    }

    /// Whether what is left of a stream fills no packet, and may wait for more: the writer stands ready to go on as soon as
    /// something that is on its way has arrived. Packets that are not full cost as much as others, and end a batch.
    #[inline]
    fn gathers(&self) -> bool {
        self.more
            && self.next > self.floor
            && self.written - self.next < u64::from(self.packet).min(WHOLE as u64)
            && self.fin == Fin::Open
    }

    /// Whether the peer's window for the channel allows the next offset.
    #[inline]
    fn is_allowed(&self) -> bool {
        self.next < self.max_offset
            && self.outbox.as_ref().is_none_or(|outbox| outbox.cursor() < outbox.max_messages)
    }

    /// Whether there is something that only the peer's window for the channel holds back.
    #[cfg(test)]
    pub(super) fn is_blocked(&self) -> bool {
        self.next < self.written && !self.is_allowed()
    }

    /// What the peer's window leaves: bytes, messages.
    pub(super) fn window(&self) -> (u64, u64) {
        let messages = self
            .outbox
            .as_ref()
            .map_or(u64::MAX, |outbox| outbox.max_messages.saturating_sub(outbox.cursor()));
        (self.max_offset.saturating_sub(self.next), messages)
    }

    /// Offsets of the message that was begun that are not sent.
    #[inline]
    pub(super) fn begun(&self) -> u64 {
        let begun = self.outbox.as_ref().and_then(|outbox| outbox.get(outbox.cursor()));
        begun.filter(|(start, _)| *start < self.next).map_or(0, |(_, message)| message.end - self.next)
    }

    /// Offsets that were written and not sent.
    #[inline]
    pub(super) fn backlog(&self) -> u64 {
        self.written - self.next
    }

    /// Offsets that were used up.
    pub(super) fn sent(&self) -> u64 {
        self.next
    }

    /// The end of what a packet carries that was left out of it.
    #[inline]
    pub(super) fn left_out(&self, carried: &Carried, fx: &Effects) -> &[u8] {
        if fx.left_out == 0 {
            return &[];
        }
        let end = carried.start + u64::from(carried.len);
        let whole = self.rope.whole(&(end - fx.left_out as u64..end));
        whole.map_or(&[], |(buffer, part)| &buffer[part])
    }

    /// The end of the direction, and how many messages it has: it is told now.
    pub(super) fn tell_end(&mut self) -> (u64, u64) {
        self.fin = Fin::Sent;
        (self.written, self.outbox.as_ref().map_or(0, |outbox| outbox.written()))
    }

    // ---- what the peer says

    pub(super) fn on_window(&mut self, max_offset: u64, max_messages: u64, fx: &mut Effects) {
        if max_offset > self.max_offset {
            self.max_offset = max_offset;
            fx.window_changed = true;
        }
        if let Some(outbox) = &mut self.outbox
            && max_messages > outbox.max_messages
        {
            outbox.max_messages = max_messages;
            fx.window_changed = true;
        }
    }

    /// The peer reads no more: the direction ends where sending is, and nothing is repaired but that.
    pub(super) fn on_stop(&mut self, cx: &mut Context<'_>, code: Code, fx: &mut Effects) {
        if self.stopped.is_some() {
            return;
        }
        self.stopped = Some(code);
        if matches!(self.fin, Fin::Open | Fin::Due) {
            self.written = self.next;
            if let Some(outbox) = &mut self.outbox {
                outbox.cut(self.next);
            }
            self.fin = Fin::Due;
        } else if let Some(outbox) = &mut self.outbox {
            outbox.cut(self.written);
        }
        self.drop_data(cx);
        self.awaited = 0;
        fx.writable = true;
    }

    /// Nothing of what was written matters any more.
    fn drop_data(&mut self, cx: &mut Context<'_>) {
        self.floor = self.written;
        self.settled.clear();
        self.repairs.clear();
        self.half_lost = None;
        self.rope.free(cx.pool);
    }

    /// Nothing is sent any more, not even the end.
    pub(super) fn abort(&mut self, cx: &mut Context<'_>) {
        self.written = self.next;
        self.fin = Fin::Known;
        if let Some(outbox) = &mut self.outbox {
            outbox.cut(self.next);
        }
        self.drop_data(cx);
    }

    /// Whether the peer knows that it has everything that it will get.
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.fin == Fin::Known
            && self.floor == self.written
            && self.outbox.as_ref().is_none_or(|outbox| outbox.all_known())
    }

    /// Whether the peer has yet to hear of anything that was written, or of the end.
    pub(super) fn owes(&self) -> bool {
        !self.is_idle() || !matches!(self.fin, Fin::Open | Fin::Known)
    }

    pub(super) fn stopped(&self) -> Option<Code> {
        self.stopped
    }

    pub(super) fn outbox(&mut self) -> Option<&mut Outbox> {
        self.outbox.as_deref_mut()
    }

    pub(super) fn has_untold(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.has_untold())
    }

    /// Whether nothing is written, on its way or awaited.
    pub(super) fn is_idle(&self) -> bool {
        self.floor == self.written
    }

    /// Gives back what an idle direction does not need.
    pub(super) fn shrink(&mut self, cx: &mut Context<'_>) {
        self.rope.free(cx.pool);
        self.settled.clear();
        self.repairs.clear();
        self.half_lost = None;
        self.limit = FIRST_LIMIT;
        if let Some(outbox) = &mut self.outbox {
            outbox.shrink();
        }
    }

    /// Whether [`Sender::shrink`] would give something back.
    pub(super) fn holds_memory(&self) -> bool {
        self.rope.holds_memory()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.rope.memory()
            + self.settled.memory()
            + self.repairs.memory()
            + self.half_lost.as_ref().map_or(0, |ranges| size_of::<Ranges>() + ranges.memory())
            + self.outbox.as_ref().map_or(0, |outbox| outbox.memory())
    }
}
