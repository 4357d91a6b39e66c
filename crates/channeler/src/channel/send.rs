//! The sending direction: what was written and may still be needed, what of it is to be sent, and when to give up.

use super::{
    effects::{Context, Effects},
    outbox::{Outbox, Outgoing},
    ranges::{Ranges, Repair, Repairs},
    ring::Ring,
};
use crate::{
    Capabilities, Code, Reason, Resend, WriteError,
    wire::message::{data_room, part_room, put_data_head, put_message_fin, put_part_head},
};

/// What the end of the direction is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
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
    /// What was lost, or the end of the direction: it needs no window of the connection.
    Repair,
    /// New bytes within the channel's window; the connection's window has to allow them, too.
    Data,
}

/// What [`Sender::fill`] put into a packet, to be returned when the packet was acknowledged or lost.
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

/// A message was given up on a channel that closes on loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LossCloses;

/// See the module.
#[derive(Debug)]
pub(super) struct Sender {
    ring: Ring,
    /// Everything below was acknowledged or given up.
    floor: u64,
    /// Everything below was sent or given up.
    next: u64,
    /// Where the next write goes.
    written: u64,
    /// Offsets below this may be sent.
    max_offset: u64,
    /// How much may be held at present.
    limit: u64,
    /// Acknowledged or given up above the floor.
    settled: Ranges,
    repairs: Repairs,
    /// Room that a refused write waits for; 0: none waits.
    awaited: u64,
    fin: Fin,
    /// The peer wants no more.
    stopped: Option<Code>,
    outbox: Option<Box<Outbox>>,
    /// Ranges of which one of two copies was lost.
    half_lost: Option<Box<Ranges>>,
}

/// First limit of what is held.
const FIRST_LIMIT: u64 = 256 << 10;

/// A stream's writer hears of room when there is this much, or the sixteenth part of the limit.
const STREAM_ROOM: u64 = 16 << 10;

/// A part that neither begins a packet nor ends its message is not made smaller than this.
const LEAST_PART: usize = 64;

impl Sender {
    pub(super) fn new(
        capabilities: Capabilities,
        max_offset: u64,
        max_messages: u64,
        max_message: u64,
    ) -> Self {
        let outbox = (!capabilities.is_stream()).then(|| Box::new(Outbox::new(max_messages, max_message)));
        Self {
            ring: Ring::default(),
            floor: 0,
            next: 0,
            written: 0,
            max_offset,
            limit: FIRST_LIMIT,
            settled: Ranges::default(),
            repairs: Repairs::default(),
            awaited: 0,
            fin: Fin::Open,
            stopped: None,
            outbox,
            half_lost: None,
        }
    }

    // ---- writing

    /// Where the bytes that must be kept begin: without repair a byte is forgotten when it is sent.
    #[inline]
    fn base(&self, resend: Resend) -> u64 {
        if resend == Resend::No { self.next } else { self.floor }
    }

    /// Memory in use.
    #[inline]
    fn held(&self, resend: Resend) -> u64 {
        let records = self.outbox.as_ref().map_or(0, |outbox| outbox.len() * Outbox::COST);
        self.written - self.base(resend) + records
    }

    pub(super) fn write(
        &mut self,
        cx: &Context<'_>,
        resend: Resend,
        bytes: &[u8],
    ) -> Result<usize, WriteError> {
        if let Some(code) = self.stopped {
            return Err(WriteError::Ended(Reason::Peer(code)));
        }
        if self.fin != Fin::Open {
            return Err(WriteError::Finished);
        }
        let most = cx.config.send_buffer;
        if let Some(outbox) = &self.outbox {
            let longest = (cx.config.max_message as u64).min(outbox.max_message()).min(most);
            if bytes.len() as u64 > longest {
                return Err(WriteError::TooLong(longest as usize));
            }
            let span = (bytes.len() as u64).max(1);
            let held = self.held(resend);
            if held > 0 && !self.has_room(held, span + Outbox::COST, most) {
                self.awaited = span + Outbox::COST;
                return Err(WriteError::Blocked);
            }
            self.append(resend, bytes, span);
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
        let held = self.held(resend);
        if bytes.is_empty() {
            return Ok(0);
        }
        if !self.has_room(held, 1, most) {
            self.awaited = STREAM_ROOM.max(self.limit / 16).min(most);
            return Err(WriteError::Blocked);
        }
        let room = self.limit.min(most).saturating_sub(held);
        let taken = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.append(resend, &bytes[..taken], taken as u64);
        Ok(taken)
    }

    /// Whether `wanted` more may be held. What is held doubles while all of it is on its way and still more is wanted: it
    /// follows what the network takes.
    fn has_room(&mut self, held: u64, wanted: u64, most: u64) -> bool {
        while held + wanted > self.limit.min(most) && self.limit < most && self.next == self.written {
            self.limit *= 2;
        }
        held + wanted <= self.limit.min(most)
    }

    fn append(&mut self, resend: Resend, bytes: &[u8], span: u64) {
        let base = self.base(resend);
        self.ring.reserve(base..self.written, self.written - base + span);
        self.ring.write(self.written, bytes);
        self.written += span;
    }

    /// How much a write would take now; of a message channel, the longest message.
    pub(super) fn room(&self, cx: &Context<'_>, resend: Resend) -> u64 {
        self.limit.min(cx.config.send_buffer).saturating_sub(self.held(resend))
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
            if self.is_allowed() { Wants::Data } else { Wants::Nothing }
        } else if matches!(self.fin, Fin::Due | Fin::Again) {
            Wants::Repair
        } else {
            Wants::Nothing
        }
    }

    /// Whether the peer's window for the channel allows the next offset.
    #[inline]
    fn is_allowed(&self) -> bool {
        self.next < self.max_offset
            && self.outbox.as_ref().is_none_or(|outbox| outbox.cursor() < outbox.max_messages)
    }

    /// Whether there is something that only the peer's window for the channel holds back.
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

    /// Offsets that were used up.
    pub(super) fn sent(&self) -> u64 {
        self.next
    }

    /// Writes data of one contiguous range into `room` bytes at the end of `out`: repairs first.
    pub(super) fn fill(
        &mut self,
        cx: &Context<'_>,
        capabilities: Capabilities,
        out: &mut Vec<u8>,
        room: usize,
        credit: u64,
        fx: &mut Effects,
    ) -> Result<Option<Carried>, LossCloses> {
        let filled = if self.outbox.is_none() {
            self.fill_stream(out, room, credit, fx)
        } else {
            self.fill_messages(cx, capabilities, out, room, credit, fx)?
        };
        if self.awaited > 0 {
            self.wake_writer(cx, capabilities.resend, fx);
        }
        Ok(filled)
    }

    #[inline]
    fn fill_stream(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        credit: u64,
        fx: &mut Effects,
    ) -> Option<Carried> {
        let (start, end, tries, repair) = match self.repairs.first() {
            Some(repair) => (repair.start, repair.end, repair.tries, true),
            None => {
                let end = self.written.min(self.max_offset).min(self.next.saturating_add(credit));
                (self.next, end, 0, false)
            }
        };
        let stop = out.len() + room;
        let mut at = start;
        let mut fin = false;
        // A second time where the ring wraps.
        while at < end {
            let Some(fits) = data_room(at, stop - out.len()).filter(|&fits| fits > 0) else { break };
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(fits);
            let bytes = self.ring.slice(at, most);
            let next = at + bytes.len() as u64;
            fin = next == self.written && self.fin != Fin::Open;
            put_data_head(out, at, fin, bytes.len());
            out.extend_from_slice(bytes);
            at = next;
        }
        if at == start {
            // Nothing but the end, told when all the rest was sent once.
            let alone = self.repairs.is_empty()
                && self.next == self.written
                && matches!(self.fin, Fin::Due | Fin::Again)
                && data_room(self.written, room).is_some();
            if !alone {
                return None;
            }
            put_data_head(out, self.written, true, 0);
            fin = true;
        }
        if repair {
            self.repairs.remove(start, at);
        } else {
            fx.sent += at - self.next;
            self.next = at;
        }
        if fin && self.fin != Fin::Known {
            self.fin = Fin::Sent;
        }
        Some(Carried { start, len: (at - start) as u32, tries, fin, mirrored: false })
    }

    fn fill_messages(
        &mut self,
        cx: &Context<'_>,
        capabilities: Capabilities,
        out: &mut Vec<u8>,
        room: usize,
        credit: u64,
        fx: &mut Effects,
    ) -> Result<Option<Carried>, LossCloses> {
        let from = out.len();
        while let Some(repair) = self.repairs.first() {
            let Some(number) = self.live_message(cx, repair.start) else {
                self.give_up_repair(capabilities, repair, fx)?;
                continue;
            };
            let at = self.put_parts(cx, out, room, repair.start, repair.end, number, false);
            if at == repair.start {
                return Ok(None);
            }
            self.repairs.remove(repair.start, at);
            let len = (at - repair.start) as u32;
            return Ok(Some(Carried {
                start: repair.start,
                len,
                tries: repair.tries,
                fin: false,
                mirrored: false,
            }));
        }
        let limit = self.next.saturating_add(credit);
        self.skip_dead(cx, capabilities, limit, fx)?;
        let start = self.next;
        let end = self.written.min(self.max_offset).min(limit);
        let Some(outbox) = &self.outbox else { return Ok(None) };
        let at = self.put_parts(cx, out, room, start, end, outbox.cursor(), true);
        fx.sent += at - start;
        self.next = at;
        let mut fin = false;
        if self.next == self.written && matches!(self.fin, Fin::Due | Fin::Again) {
            let Some(outbox) = &self.outbox else { return Ok(None) };
            let messages = outbox.written();
            if room - (out.len() - from) >= super::FIN_ROOM {
                put_message_fin(out, self.written, messages);
                self.fin = Fin::Sent;
                fin = true;
            }
        }
        Ok((at > start || fin).then_some(Carried {
            start,
            len: (at - start) as u32,
            tries: 0,
            fin,
            mirrored: false,
        }))
    }

    /// The message at this offset, if it is still worth sending.
    fn live_message(&self, cx: &Context<'_>, offset: u64) -> Option<u64> {
        let outbox = self.outbox.as_ref()?;
        let number = outbox.number_at(offset);
        let (_, message) = outbox.get(number)?;
        (!message.gone && message.expires.is_none_or(|expires| cx.now < expires)).then_some(number)
    }

    /// Gives up the messages at the front of what is unsent whose time has passed, as far as the windows allow: what was
    /// given up uses offsets like what was sent.
    fn skip_dead(
        &mut self,
        cx: &Context<'_>,
        capabilities: Capabilities,
        limit: u64,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        while self.next < self.written {
            let Some(outbox) = &mut self.outbox else { return Ok(()) };
            let number = outbox.cursor();
            let Some((start, message)) = outbox.get(number) else { return Ok(()) };
            if !message.gone && message.expires.is_none_or(|expires| cx.now < expires) {
                return Ok(());
            }
            if message.end > self.max_offset.min(limit) || number >= outbox.max_messages {
                return Ok(());
            }
            outbox.advance_cursor();
            fx.sent += message.end - self.next;
            self.next = message.end;
            if message.gone {
                outbox.abandon(start, message.end, number + 1);
                self.repairs.remove(start, message.end);
                self.settle(start, message.end);
            } else {
                self.give_up(capabilities, number, fx)?;
            }
        }
        Ok(())
    }

    /// Writes parts of messages from `start` on, which is in message `number`. Gives the offset behind the last.
    #[expect(clippy::too_many_arguments, reason = "one loop for new data and repairs")]
    fn put_parts(
        &mut self,
        cx: &Context<'_>,
        out: &mut Vec<u8>,
        room: usize,
        start: u64,
        end: u64,
        mut number: u64,
        new: bool,
    ) -> u64 {
        let stop = out.len() + room;
        let mut at = start;
        let Some(outbox) = &mut self.outbox else { return at };
        while at < end {
            let Some((begins, message)) = outbox.get(number) else { break };
            let late = message.expires.is_some_and(|expires| cx.now >= expires);
            if message.gone || late || (new && number >= outbox.max_messages) {
                break;
            }
            let name = (at == begins).then_some(number);
            let left = stop - out.len();
            if message.empty {
                if part_room(name, at, left).is_none() {
                    break;
                }
                put_part_head(out, name, true, at, 0);
                at = message.end;
            } else {
                let Some(fits) = part_room(name, at, left).filter(|&fits| fits > 0) else { break };
                let whole = (message.end - at) as usize;
                let most = whole.min((end - at) as usize).min(fits);
                // What would fit into a packet of its own is not cut in two to fill this one.
                let alone = at == start;
                let next_packet = part_room(name, at, room).is_some_and(|fits| whole <= fits);
                if most < whole && !alone && (next_packet || most < LEAST_PART) {
                    break;
                }
                let bytes = self.ring.slice(at, most);
                let next = at + bytes.len() as u64;
                put_part_head(out, name, next == message.end, at, bytes.len());
                out.extend_from_slice(bytes);
                at = next;
            }
            if at == message.end {
                number += 1;
                if new {
                    outbox.advance_cursor();
                }
            }
        }
        at
    }

    // ---- what became of it

    #[inline]
    pub(super) fn on_acked(&mut self, cx: &Context<'_>, resend: Resend, content: &Carried, fx: &mut Effects) {
        if content.len > 0 {
            let (start, end) = (content.start, content.start + u64::from(content.len));
            if !self.repairs.is_empty() {
                self.repairs.remove(start, end);
            }
            if let Some(half_lost) = &mut self.half_lost {
                half_lost.remove(start, end);
            }
            self.settle(start, end);
        }
        if content.fin && self.fin != Fin::Open {
            self.fin = Fin::Known;
        }
        if self.awaited > 0 {
            self.wake_writer(cx, resend, fx);
        }
    }

    /// The bytes of `start..end` are not needed any more.
    #[inline]
    fn settle(&mut self, start: u64, end: u64) {
        if end <= self.floor {
            return;
        }
        if start > self.floor {
            self.settled.insert(start, end);
            return;
        }
        self.floor = end;
        while let Some((low, high)) = self.settled.first()
            && low <= self.floor
        {
            self.floor = self.floor.max(high);
            self.settled.pop_first();
        }
        if let Some(outbox) = &mut self.outbox {
            outbox.forget(self.floor);
        }
    }

    fn wake_writer(&mut self, cx: &Context<'_>, resend: Resend, fx: &mut Effects) {
        let most = cx.config.send_buffer;
        let held = self.held(resend);
        if held == 0 || self.has_room(held, self.awaited, most) {
            self.awaited = 0;
            fx.writable = true;
        }
    }

    /// A packet was lost. What of it matters is sent again, or its messages are given up.
    pub(super) fn on_lost(
        &mut self,
        cx: &Context<'_>,
        capabilities: Capabilities,
        content: &Carried,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        if content.fin && self.fin == Fin::Sent {
            self.fin = Fin::Again;
        }
        let (mut at, end) = (content.start, content.start + u64::from(content.len));
        at = at.max(self.floor);
        while at < end
            && let Some((low, high)) = self.settled.gap(at, end)
        {
            at = high;
            if content.mirrored && self.half(low, high) {
                continue;
            }
            self.lose(cx, capabilities, low, high, content.tries, fx)?;
            at = at.max(self.floor);
        }
        if self.awaited > 0 {
            self.wake_writer(cx, capabilities.resend, fx);
        }
        Ok(())
    }

    /// Whether this was the first of the two copies.
    fn half(&mut self, start: u64, end: u64) -> bool {
        let half_lost = self.half_lost.get_or_insert_default();
        if half_lost.contains(start, end) {
            half_lost.remove(start, end);
            return false;
        }
        half_lost.insert(start, end);
        true
    }

    /// `start..end` is neither acknowledged nor given up, and did not arrive.
    fn lose(
        &mut self,
        cx: &Context<'_>,
        capabilities: Capabilities,
        start: u64,
        end: u64,
        tries: u8,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        if capabilities.resend == Resend::Forever {
            self.repairs.insert(start, end, tries.saturating_add(1));
            return Ok(());
        }
        let mut at = start;
        while at < end {
            let Some(outbox) = &self.outbox else { return Ok(()) };
            let number = outbox.number_at(at);
            let Some((_, message)) = outbox.get(number) else { return Ok(()) };
            let stop = message.end.min(end);
            let again = match capabilities.resend {
                Resend::No => false,
                Resend::Tries(most) => tries < most,
                Resend::Until(_) => message.expires.is_none_or(|expires| cx.now < expires),
                Resend::Forever => true,
            };
            if again && !message.gone {
                self.repairs.insert(at, stop, tries.saturating_add(1));
            } else {
                self.give_up(capabilities, number, fx)?;
            }
            at = stop;
        }
        Ok(())
    }

    /// Forgets a whole message. The peer is told as soon as all of its offsets are used up.
    fn give_up(
        &mut self,
        capabilities: Capabilities,
        number: u64,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        let Some(outbox) = &mut self.outbox else { return Ok(()) };
        let Some((start, message)) = outbox.get(number) else { return Ok(()) };
        if message.gone {
            return Ok(());
        }
        fx.lost_sent += 1;
        outbox.mark_gone(number);
        self.repairs.remove(start, message.end);
        if let Some(half_lost) = &mut self.half_lost {
            half_lost.remove(start, message.end);
        }
        if message.end <= self.next {
            outbox.abandon(start, message.end, number + 1);
            self.settle(start, message.end);
        }
        if capabilities.close_on_loss { Err(LossCloses) } else { Ok(()) }
    }

    /// Forgets the message at the beginning of what waits for repair.
    fn give_up_repair(
        &mut self,
        capabilities: Capabilities,
        repair: Repair,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        let Some(outbox) = &self.outbox else { return Ok(()) };
        let number = outbox.number_at(repair.start);
        let end = outbox.get(number).map_or(repair.end, |(_, message)| message.end);
        self.repairs.remove(repair.start, end);
        self.give_up(capabilities, number, fx)
    }

    /// What a packet carried goes out once more, on another link, though nothing says that it was lost.
    pub(super) fn repeat(&mut self, resend: Resend, content: &Carried) {
        if content.fin && self.fin == Fin::Sent {
            self.fin = Fin::Again;
        }
        if resend == Resend::No {
            return;
        }
        let (mut at, end) = (content.start.max(self.floor), content.start + u64::from(content.len));
        while at < end
            && let Some((low, high)) = self.settled.gap(at, end)
        {
            self.repairs.insert(low, high, content.tries);
            at = high;
        }
    }

    /// When the first message that waits for repair is to be given up.
    pub(super) fn poll_timeout(&self) -> Option<std::time::Instant> {
        let outbox = self.outbox.as_ref()?;
        let repair = self.repairs.first()?;
        outbox.get(outbox.number_at(repair.start))?.1.expires
    }

    pub(super) fn handle_timeout(
        &mut self,
        cx: &Context<'_>,
        capabilities: Capabilities,
        fx: &mut Effects,
    ) -> Result<(), LossCloses> {
        while let Some(repair) = self.repairs.first()
            && self.poll_timeout().is_some_and(|expires| expires <= cx.now)
        {
            self.give_up_repair(capabilities, repair, fx)?;
        }
        if self.awaited > 0 {
            self.wake_writer(cx, capabilities.resend, fx);
        }
        Ok(())
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
    pub(super) fn on_stop(&mut self, code: Code, fx: &mut Effects) {
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
        self.drop_data();
        if self.awaited > 0 {
            self.awaited = 0;
            fx.writable = true;
        }
    }

    /// Nothing of what was written matters any more.
    pub(super) fn drop_data(&mut self) {
        self.floor = self.written;
        self.settled.clear();
        self.repairs.clear();
        self.half_lost = None;
        self.ring.free();
    }

    /// Nothing is sent any more, not even the end.
    pub(super) fn abort(&mut self) {
        self.written = self.next;
        self.fin = Fin::Known;
        if let Some(outbox) = &mut self.outbox {
            outbox.cut(self.next);
        }
        self.drop_data();
    }

    /// Whether the peer knows that it has everything that it will get.
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.fin == Fin::Known
            && self.floor == self.written
            && self.outbox.as_ref().is_none_or(|outbox| outbox.all_known())
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
    pub(super) fn shrink(&mut self) {
        self.ring.free();
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
        self.ring.capacity() > 0
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.ring.capacity()
            + self.settled.memory()
            + self.repairs.memory()
            + self.half_lost.as_ref().map_or(0, |ranges| size_of::<Ranges>() + ranges.memory())
            + self.outbox.as_ref().map_or(0, |outbox| outbox.memory())
    }
}
