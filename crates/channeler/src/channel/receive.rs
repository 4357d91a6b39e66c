//! The receiving direction: what arrived, what may arrive, and how the window grows.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    effects::{Context, Effects},
    inbox::{Arrived, Inbox},
    ranges::Ranges,
    rope::{Rope, WHOLE},
};
use crate::{Capabilities, Code, Config, Read, ReadError, Violation};

/// See the module.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) rope: Rope,
    /// Everything below was read or will never be: it holds no memory.
    pub(super) floor: u64,
    /// Everything from the floor to here arrived or was given up.
    pub(super) ready: u64,
    /// What arrived or was given up above that.
    pub(super) beyond: Ranges,
    /// End of what was put into the rope.
    pub(super) stored: u64,
    /// End of all that the peer used, its gaps included.
    pub(super) highest: u64,
    /// Offsets below this were granted.
    pub(super) granted: u64,
    /// How much of the direction may be held at once.
    window: u64,
    /// Where the direction ends, if that is known.
    final_size: Option<u64>,
    /// The beginning of the round trip in which what is consumed is counted, and the low half of the floor at that
    /// time.
    pub(super) moved_at: Option<Instant>,
    moved_from: u32,
    /// A WINDOW is to be sent.
    pub(super) window_due: bool,
    /// The program heard that the direction ended.
    finished: bool,
    /// Nothing of it is wanted any more.
    pub(super) discarding: bool,
    pub(super) inbox: Option<Box<Inbox>>,
}

/// How many times the window is what is consumed in a round trip, at least.
const PER_TRIP: u64 = 8;

impl Receiver {
    pub(super) fn new(capabilities: Capabilities, config: &Config) -> Self {
        let window = first_window(capabilities, config.initial_window, config.max_message as u64);
        Self {
            rope: Rope::default(),
            floor: 0,
            ready: 0,
            beyond: Ranges::default(),
            stored: 0,
            highest: 0,
            granted: window,
            window,
            final_size: None,
            moved_at: None,
            moved_from: 0,
            window_due: false,
            finished: false,
            discarding: false,
            inbox: (!capabilities.is_stream()).then(|| Box::new(Inbox::new(config.max_messages))),
        }
    }

    /// The ranges that may be missing at once: more of them is an attack, for each costs memory.
    fn most_ranges(&self) -> usize {
        1024 + (self.window >> 8) as usize
    }

    /// Notes that the peer used offsets up to `end`, and maybe that it will use no more.
    #[inline]
    pub(super) fn use_offsets(
        &mut self,
        cx: &mut Context<'_>,
        end: u64,
        fin: bool,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        if end > self.granted {
            return Err(Violation::Window);
        }
        if let Some(size) = self.final_size {
            if end > size || (fin && end != size) {
                return Err(Violation::FinalSize);
            }
        } else if fin {
            if end < self.highest {
                return Err(Violation::FinalSize);
            }
            self.final_size = Some(end);
            self.window_due = false;
        }
        if end > self.highest {
            fx.received += end - self.highest;
            self.highest = end;
        }
        if self.discarding {
            self.drop_data(cx, fx);
        }
        Ok(())
    }

    /// Bytes of a stream. `whole`: the buffer that they lie in, if it may be kept.
    #[inline]
    pub(super) fn on_data(
        &mut self,
        cx: &mut Context<'_>,
        offset: u64,
        fin: bool,
        bytes: &[u8],
        whole: Option<&Bytes>,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        if self.inbox.is_some() {
            return Err(Violation::OutOfPlace(super::DATA));
        }
        let end = offset + bytes.len() as u64;
        self.use_offsets(cx, end, fin, fx)?;
        if self.discarding {
            return Ok(());
        }
        if end > self.ready && !bytes.is_empty() {
            let was_readable = self.ready > self.floor;
            match whole {
                Some(whole) if self.is_worth_keeping(offset, bytes, whole) => {
                    self.rope.adopt(offset, whole.slice_ref(bytes));
                    self.stored = end;
                }
                _ => self.store(cx, offset, bytes),
            }
            self.cover(offset.max(self.ready), end)?;
            if self.moved_at.is_none() {
                self.moved_at = Some(cx.now);
            }
            fx.readable |= !was_readable && self.ready > self.floor;
        }
        self.check_finished(fx);
        Ok(())
    }

    /// Whether a buffer is kept as it is: if it comes in order, and is hardly longer than what it has of this channel, so that what is
    /// held is what the window allows, whatever the peer sends.
    #[inline]
    fn is_worth_keeping(&self, offset: u64, bytes: &[u8], whole: &Bytes) -> bool {
        bytes.len() >= WHOLE.max(whole.len() - whole.len() / 64)
            && offset == self.ready
            && self.stored <= offset
    }

    /// Puts a copy of bytes; what lies below the contiguous part is there already.
    #[inline]
    pub(super) fn store(&mut self, cx: &mut Context<'_>, offset: u64, bytes: &[u8]) {
        let known = self.ready.saturating_sub(offset) as usize;
        let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) else { return };
        let (at, end) = (offset + known as u64, offset + bytes.len() as u64);
        self.stored = self.stored.max(end);
        self.rope.write(cx.pool, self.floor..self.stored, at, new);
    }

    /// `start..end`, not empty and not below the contiguous part, arrived or was given up. Gives how much of it was new.
    #[inline]
    pub(super) fn cover(&mut self, start: u64, end: u64) -> Result<u64, Violation> {
        if start > self.ready {
            let new = self.beyond.insert(start, end);
            return if self.beyond.len() > self.most_ranges() { Err(Violation::Limit) } else { Ok(new) };
        }
        let before = self.ready;
        self.ready = end;
        if self.beyond.is_empty() {
            return Ok(end - before);
        }
        let mut new = end - before;
        while let Some((low, high)) = self.beyond.first()
            && low <= self.ready
        {
            new -= self.ready.min(high) - low;
            self.ready = self.ready.max(high);
            self.beyond.pop_first();
        }
        Ok(new)
    }

    /// Whether the offset, not below the floor, arrived or was given up.
    pub(super) fn covers(&self, offset: u64) -> bool {
        offset < self.ready || self.beyond.around(offset).is_some()
    }

    /// Whether all of `start..end`, from the floor on and not empty, arrived or was given up.
    pub(super) fn covers_all(&self, start: u64, end: u64) -> bool {
        end <= self.ready || self.beyond.contains(start, end)
    }

    /// Takes bytes of a stream off the front, or one message.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        out: &mut [u8],
        fx: &mut Effects,
    ) -> Result<Read, ReadError> {
        let before = self.floor;
        let read = if self.inbox.is_some() {
            self.read_message(cx, capabilities, out, fx)?
        } else {
            let len = out.len().min(usize::try_from(self.ready - self.floor).unwrap_or(usize::MAX));
            if len > 0 {
                self.rope.read(self.floor, &mut out[..len]);
                self.release(cx, self.floor + len as u64, fx);
                Some(len)
            } else {
                (self.ready > self.floor).then_some(0)
            }
        };
        let Some(len) = read else {
            return if self.is_done() { Ok(Read::Finished) } else { Err(ReadError::Blocked) };
        };
        self.tune(cx, capabilities, before);
        self.check_finished(fx);
        Ok(Read::Data(len))
    }

    /// Takes up to `most` bytes of a stream off the front, as far as they lie in one buffer of their own.
    pub(super) fn read_whole(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        most: usize,
        fx: &mut Effects,
    ) -> Option<Bytes> {
        let before = self.floor;
        let end = self.ready.min(before.saturating_add(most as u64));
        if self.inbox.is_some() || end <= before {
            return None;
        }
        let (buffer, part) = self.rope.whole(&(before..end))?;
        let read = buffer.slice(part);
        self.release(cx, before + read.len() as u64, fx);
        self.tune(cx, capabilities, before);
        self.check_finished(fx);
        Some(read)
    }

    /// Length of what a read would give: bytes of a stream, or the next message. `None` if there is nothing.
    pub(super) fn readable(&self, capabilities: Capabilities) -> Option<usize> {
        match &self.inbox {
            Some(inbox) => inbox.next_message(capabilities, self.ready).map(Arrived::len),
            None => (self.ready > self.floor)
                .then(|| usize::try_from(self.ready - self.floor).unwrap_or(usize::MAX)),
        }
    }

    /// Moves the floor.
    #[inline]
    pub(super) fn release(&mut self, cx: &mut Context<'_>, floor: u64, fx: &mut Effects) {
        let from = std::mem::replace(&mut self.floor, floor);
        fx.consumed += floor - from;
        self.rope.release(cx.pool, from, floor..self.stored);
        if self.final_size.is_none() && self.granted.saturating_sub(floor) <= self.window / 4 * 3 {
            self.window_due = true;
        }
    }

    /// Keeps the window at eight times what is consumed in a round trip, or more: one for what is on its way, as much again
    /// for each round trip in which a sender that doubles its rate has not heard of this, and for what waits behind repairs.
    /// `before`: the floor before this read.
    #[inline]
    fn tune(&mut self, cx: &mut Context<'_>, capabilities: Capabilities, before: u64) {
        if self.final_size.is_some() {
            return;
        }
        let trip = cx.rtt.max(Duration::from_micros(100));
        if self.moved_at.is_some_and(|moved| cx.now.saturating_duration_since(moved) > trip) {
            self.moved_at = Some(cx.now);
            self.moved_from = before as u32;
        }
        let consumed = u64::from((self.floor as u32).wrapping_sub(self.moved_from));
        if self.window < consumed.saturating_mul(PER_TRIP) {
            let most = first_window(capabilities, cx.config.max_window, cx.config.max_message as u64);
            self.window = (self.window * 2).min(most).max(self.window);
        }
        if self.granted.saturating_sub(self.floor) <= self.window / 4 * 3 {
            self.grant();
        }
    }

    /// Grants what the window allows.
    pub(super) fn grant(&mut self) {
        self.granted = self.granted.max(self.floor + self.window);
        if let Some(inbox) = &mut self.inbox {
            inbox.grant();
        }
        self.window_due = true;
    }

    /// What a WINDOW says: offsets, messages.
    pub(super) fn window(&mut self) -> (u64, u64) {
        self.granted = self.granted.max(self.floor + self.window);
        self.window_due = false;
        (self.granted, self.inbox.as_mut().map_or(0, |inbox| inbox.grant()))
    }

    /// A WINDOW with these bounds was lost. Later ones say more.
    pub(super) fn window_lost(&mut self, bytes: u64, messages: u64) {
        let newest =
            bytes == self.granted && self.inbox.as_ref().is_none_or(|inbox| messages == inbox.granted());
        if newest && !self.discarding && self.final_size.is_none() {
            self.window_due = true;
        }
    }

    #[inline]
    pub(super) fn check_finished(&mut self, fx: &mut Effects) {
        if self.final_size == Some(self.floor) && !self.finished && !self.discarding {
            self.finished = true;
            fx.finished = true;
        }
    }

    /// Whether the direction ended and nothing of it is left.
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.final_size == Some(self.floor)
    }

    pub(super) fn knows_end(&self) -> bool {
        self.final_size.is_some()
    }

    pub(super) fn final_size(&self) -> Option<u64> {
        self.final_size
    }

    /// The peer ends its direction at once.
    pub(super) fn on_reset(
        &mut self,
        cx: &mut Context<'_>,
        final_size: u64,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        self.use_offsets(cx, final_size, true, fx)?;
        self.discard(cx, fx);
        Ok(())
    }

    /// Nothing is wanted any more.
    pub(super) fn discard(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        self.discarding = true;
        self.window_due = false;
        self.drop_data(cx, fx);
    }

    fn drop_data(&mut self, cx: &mut Context<'_>, fx: &mut Effects) {
        fx.consumed += self.highest - self.floor;
        self.floor = self.highest;
        self.ready = self.highest;
        self.beyond.clear();
        self.rope.free(cx.pool);
        if let Some(inbox) = &mut self.inbox {
            inbox.clear(self.floor);
        }
    }

    /// Whether nothing is held.
    pub(super) fn is_idle(&self) -> bool {
        self.floor == self.highest
    }

    /// Gives back what an idle direction does not need.
    pub(super) fn shrink(&mut self, cx: &mut Context<'_>) {
        self.rope.free(cx.pool);
        self.beyond.clear();
        self.moved_at = None;
        self.moved_from = self.floor as u32;
        if let Some(inbox) = &mut self.inbox {
            inbox.shrink();
        }
    }

    /// Whether [`Receiver::shrink`] would give something back.
    pub(super) fn holds_memory(&self) -> bool {
        self.rope.holds_memory()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.rope.memory() + self.beyond.memory() + self.inbox.as_ref().map_or(0, |inbox| inbox.memory())
    }
}

/// The window that a channel gets where the limits say `window`. More is granted when half of it was consumed, and the other half has
/// to have room for the rest of any message: it can be read only when it is whole.
pub(super) fn first_window(capabilities: Capabilities, window: u64, max_message: u64) -> u64 {
    if capabilities.is_stream() { window } else { window.max(2 * max_message.max(1)) }
}

/// A code that the peer gave for ending a channel.
pub(super) fn reason(code: Code) -> crate::Reason {
    if code == Code::LOSS { crate::Reason::Loss } else { crate::Reason::Peer(code) }
}
