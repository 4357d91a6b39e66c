//! Putting what was written into packets: repairs first, then what is new and allowed, then the end.

use super::{
    effects::{Context, Effects, Room},
    rope::{PIECE, WHOLE},
    send::{Carried, Fin, LossCloses, Sender},
};
use crate::{
    Capabilities,
    wire::message::{data_room, part_room, put_data_head, put_message_fin, put_part_head},
};

/// A part that neither begins a packet nor ends its message is not made smaller than this.
const LEAST_PART: usize = 64;

impl Sender {
    /// Writes data of one contiguous range at the end of `out`: repairs first.
    pub(super) fn fill(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        out: &mut Vec<u8>,
        room: Room,
        fx: &mut Effects,
    ) -> Result<Option<Carried>, LossCloses> {
        let filled = if self.outbox.is_none() {
            self.fill_stream(out, room, fx)
        } else {
            self.fill_messages(cx, capabilities, out, room, fx)?
        };
        if self.awaited > 0 {
            self.wake_writer(cx, capabilities.resend, fx);
        }
        Ok(filled)
    }

    #[inline]
    fn fill_stream(&mut self, out: &mut Vec<u8>, room: Room, fx: &mut Effects) -> Option<Carried> {
        let Room { bytes: room, credit, may_leave } = room;
        let (start, end, tries, repair) = match self.repairs.first() {
            Some(repair) => (repair.start, repair.end, repair.tries, true),
            None => {
                let end = self.written.min(self.max_offset).min(self.next.saturating_add(credit));
                (self.next, end, 0, false)
            }
        };
        let mut at = start;
        let mut fin = false;
        if let Some(fits) = data_room(start, room).filter(|&fits| fits > 0 && start < end) {
            self.packet = fits as u32;
            at = end.min(start + fits as u64);
            let apart = if may_leave { self.rope.whole(&(start..at)) } else { None };
            let apart = apart.map(|(_, part)| part.len().min(PIECE)).filter(|&len| len >= WHOLE);
            if let Some(len) = apart {
                at = start + len as u64;
            }
            fin = at == self.written && self.fin != Fin::Open;
            put_data_head(out, start, fin, (at - start) as usize);
            match apart {
                Some(len) => fx.left_out = len,
                None => self.rope.append(start..at, out),
            }
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
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        out: &mut Vec<u8>,
        room: Room,
        fx: &mut Effects,
    ) -> Result<Option<Carried>, LossCloses> {
        let Room { bytes: room, credit, .. } = room;
        let from = out.len();
        while let Some(repair) = self.repairs.first() {
            let Some(number) = self.live_message(cx, repair.start) else {
                self.give_up_repair(cx, capabilities, repair, fx)?;
                continue;
            };
            let at = self.put_parts(cx, out, room, repair.start, repair.end, number, None);
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
        let at = self.put_parts(cx, out, room, start, end, outbox.cursor(), Some(limit));
        fx.sent += at - start;
        self.advance(cx, capabilities.resend, at);
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
    fn live_message(&self, cx: &mut Context<'_>, offset: u64) -> Option<u64> {
        let outbox = self.outbox.as_ref()?;
        let number = outbox.number_at(offset);
        let (_, message) = outbox.get(number)?;
        (!message.gone && message.expires.is_none_or(|expires| cx.now < expires)).then_some(number)
    }

    /// Gives up the messages at the front of what is unsent whose time has passed, as far as the windows allow: what was
    /// given up uses offsets like what was sent.
    fn skip_dead(
        &mut self,
        cx: &mut Context<'_>,
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
            if message.gone {
                outbox.abandon(start, message.end, number + 1);
            }
            self.advance(cx, capabilities.resend, message.end);
            if message.gone {
                self.repairs.remove(start, message.end);
                self.settle(cx, capabilities.resend, start, message.end);
            } else {
                self.give_up(cx, capabilities, number, fx)?;
            }
        }
        Ok(())
    }

    /// Writes parts of messages from `start` on, which is in message `number`; new ones within the connection's `limit`. Gives the offset behind the last.
    #[expect(clippy::too_many_arguments, reason = "one loop for new data and repairs")]
    fn put_parts(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        room: usize,
        start: u64,
        end: u64,
        mut number: u64,
        limit: Option<u64>,
    ) -> u64 {
        let stop = out.len() + room;
        let mut at = start;
        let new = limit.is_some();
        let Some(outbox) = &mut self.outbox else { return at };
        while at < end {
            let Some((begins, message)) = outbox.get(number) else { break };
            let late = message.expires.is_some_and(|expires| cx.now >= expires);
            if message.gone || late || (new && number >= outbox.max_messages) {
                break;
            }
            // A message is begun only if the connection's window has room for all of it: the peer cannot read, and so make room,
            // before it is whole.
            if at == begins && limit.is_some_and(|limit| message.end > limit) {
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
                let next = at + most as u64;
                put_part_head(out, name, next == message.end, at, most);
                self.rope.append(at..next, out);
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
}
