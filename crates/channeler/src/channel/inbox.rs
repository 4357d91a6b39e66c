//! The messages of a direction at their receiver: where they begin and end, which are whole, which will never come.
//!
//! A boundary is an offset at which one message ends and the next begins. The end of a part says whether there is one, and so
//! does its beginning; wherever a byte is known, it is known, too, whether there is a boundary before it and behind it. So
//! a part that says otherwise later breaks the protocol, and a message is whole when all between two neighbours arrived.

use std::{collections::VecDeque, time::Instant};

use super::{
    effects::{Context, Effects},
    ranges::Ranges,
    receive::Receiver,
};
use crate::{Capabilities, ReadError, Resend, Violation, wire::message::AbandonedRange};

/// No message has this number.
const UNKNOWN: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct Boundary {
    offset: u64,
    /// Number of the message that begins here.
    number: u64,
    /// The message that ends here has no bytes.
    after_empty: bool,
}

/// A message that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    start: u64,
    end: u64,
    empty: bool,
}

impl Arrived {
    /// Its bytes.
    pub(super) fn len(self) -> usize {
        if self.empty { 0 } else { (self.end - self.start) as usize }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Sorted. The first is always that of the floor.
    boundaries: VecDeque<Boundary>,
    /// What will never come: from boundary to boundary, above the floor.
    gone: Ranges,
    /// What was read above the floor, on a channel without order.
    released: Ranges,
    /// What can be read, on a channel without order: in the order of arrival.
    arrived: VecDeque<Arrived>,
    /// When something that was overtaken counts as lost, on an ordered channel without repair.
    hole: Option<Instant>,
    /// Messages with numbers below this were granted.
    granted: u64,
    /// Messages that may be held at once.
    window: u64,
}

impl Inbox {
    pub(super) fn new(window: u64) -> Self {
        let window = window.max(1);
        Self {
            boundaries: VecDeque::from([Boundary { offset: 0, number: 0, after_empty: false }]),
            gone: Ranges::default(),
            released: Ranges::default(),
            arrived: VecDeque::new(),
            hole: None,
            granted: window,
            window,
        }
    }

    /// Number of the message at the floor.
    fn floor_number(&self) -> u64 {
        self.boundaries.front().map_or(0, |boundary| boundary.number)
    }

    /// Bound of the numbers that may be sent.
    pub(super) fn granted(&self) -> u64 {
        self.granted
    }

    /// Grants what the window allows; gives the bound.
    pub(super) fn grant(&mut self) -> u64 {
        if self.floor_number() != UNKNOWN {
            self.granted = self.granted.max(self.floor_number() + self.window);
        }
        self.granted
    }

    /// Whether half of the window was used up.
    fn is_window_due(&self) -> bool {
        self.floor_number() != UNKNOWN && self.granted.saturating_sub(self.floor_number()) <= self.window / 2
    }

    /// What a read would give.
    pub(super) fn next_message(&self, capabilities: Capabilities, ready: u64) -> Option<Arrived> {
        if !capabilities.ordered {
            return self.arrived.front().copied();
        }
        let (start, end) = (self.boundaries.front()?, self.boundaries.get(1)?);
        (end.offset <= ready).then_some(Arrived {
            start: start.offset,
            end: end.offset,
            empty: end.after_empty,
        })
    }

    /// Index of the first boundary at or above the offset.
    fn position(&self, offset: u64) -> usize {
        match self.boundaries.back() {
            Some(last) if last.offset < offset => self.boundaries.len(),
            Some(last) if last.offset == offset => self.boundaries.len() - 1,
            _ => self.boundaries.partition_point(|boundary| boundary.offset < offset),
        }
    }

    /// Gives boundary `at` its number, which has to lie between those around it.
    fn number(&mut self, at: usize, number: u64) -> Result<(), Violation> {
        let known = |boundary: &&Boundary| boundary.number != UNKNOWN;
        let below = self.boundaries.range(..at).rev().find(known);
        let above = self.boundaries.range(at + 1..).find(known);
        let boundary = self.boundaries[at];
        if (boundary.number != UNKNOWN && boundary.number != number)
            || below.is_some_and(|below| below.number >= number)
            || above.is_some_and(|above| above.number <= number)
        {
            return Err(Violation::Boundary);
        }
        self.boundaries[at].number = number;
        Ok(())
    }

    /// Forgets boundaries below the new floor.
    fn forget(&mut self, floor: u64) {
        while self.boundaries.front().is_some_and(|boundary| boundary.offset < floor) {
            self.boundaries.pop_front();
        }
    }

    /// Forgets everything: nothing of the direction is wanted any more.
    pub(super) fn clear(&mut self, floor: u64) {
        self.boundaries = VecDeque::from([Boundary { offset: floor, number: UNKNOWN, after_empty: false }]);
        self.gone.clear();
        self.released.clear();
        self.arrived = VecDeque::new();
        self.hole = None;
    }

    /// Gives back what it does not need.
    pub(super) fn shrink(&mut self) {
        self.boundaries.shrink_to_fit();
        if self.arrived.is_empty() {
            self.arrived = VecDeque::new();
        }
        if self.gone.is_empty() {
            self.gone.clear();
        }
        if self.released.is_empty() {
            self.released.clear();
        }
    }

    /// Bytes on the heap, its own box included.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.boundaries.capacity() * size_of::<Boundary>()
            + self.arrived.capacity() * size_of::<Arrived>()
            + self.gone.memory()
            + self.released.memory()
    }
}

/// A part of a message, as a packet brought it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// The message's index, in the part that begins it.
    pub(crate) number: Option<u64>,
    /// Whether it ends the message.
    pub(crate) end: bool,
    /// Where it belongs.
    pub(crate) offset: u64,
    /// What it has; may be empty if it is a message of its own.
    pub(crate) bytes: &'a [u8],
}

impl Receiver {
    /// A part of a message.
    pub(super) fn on_part(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        part: Part<'_>,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        let Part { number, end, offset, bytes } = part;
        let Some(inbox) = &self.inbox else { return Err(Violation::OutOfPlace(super::PART)) };
        let empty = bytes.is_empty();
        if empty && !(number.is_some() && end) {
            return Err(Violation::Boundary);
        }
        if bytes.len() > cx.config.max_message {
            return Err(Violation::Limit);
        }
        if number.is_some_and(|number| number >= inbox.granted) {
            return Err(Violation::Window);
        }
        let stop = offset + (bytes.len() as u64).max(1);
        self.use_offsets(cx, stop, false, fx)?;
        if self.discarding || stop <= self.floor {
            return Ok(());
        }
        if offset < self.floor {
            return Err(Violation::Boundary);
        }
        let Some(inbox) = &self.inbox else { return Ok(()) };
        if !inbox.gone.is_empty() {
            if inbox.gone.contains(offset, stop) {
                return Ok(());
            }
            if inbox.gone.gap(offset, stop) != Some((offset, stop)) {
                return Err(Violation::Boundary);
            }
        }
        let was_readable = inbox.next_message(capabilities, self.ready).is_some();
        let before = self.ready;
        self.bound_part(number, end, offset, stop)?;
        if stop > self.ready {
            if !empty {
                self.store(cx, offset, bytes);
            }
            let new = self.cover(offset.max(self.ready), stop)?;
            if new > 0 {
                self.complete(cx, capabilities, offset, stop, empty)?;
            }
            if self.moved_at.is_none() {
                self.moved_at = Some(cx.now);
            }
        }
        self.watch_hole(cx, capabilities, before);
        self.tell_readable(capabilities, was_readable, fx);
        Ok(())
    }

    /// Takes what a part says about boundaries, and checks it against what is known.
    fn bound_part(
        &mut self,
        number: Option<u64>,
        end: bool,
        offset: u64,
        stop: u64,
    ) -> Result<(), Violation> {
        if number.is_some() {
            self.bound(offset, number)?;
        }
        if end {
            self.bound(stop, None)?;
        }
        let Some(inbox) = &self.inbox else { return Ok(()) };
        let mut at = inbox.position(offset);
        let begins = inbox.boundaries.get(at).is_some_and(|boundary| boundary.offset == offset);
        at += usize::from(begins);
        let next = inbox.boundaries.get(at).map(|boundary| boundary.offset);
        let contradicts =
            begins != number.is_some() || next.is_some_and(|next| next < stop) || (next == Some(stop)) != end;
        if contradicts { Err(Violation::Boundary) } else { Ok(()) }
    }

    /// There is a boundary at this offset, not below the floor.
    fn bound(&mut self, offset: u64, number: Option<u64>) -> Result<(), Violation> {
        let known = offset > 0 && (self.covers(offset) || self.covers(offset - 1));
        let Some(inbox) = &mut self.inbox else { return Ok(()) };
        let at = inbox.position(offset);
        if inbox.boundaries.get(at).is_none_or(|boundary| boundary.offset != offset) {
            if inbox.gone.around(offset).is_some() {
                // Nothing is known of the inside of what will never come.
                return Ok(());
            }
            if known {
                return Err(Violation::Boundary);
            }
            // Every boundary begins a message, or ends the last one.
            if inbox.boundaries.len() as u64 > inbox.window + 1 {
                return Err(Violation::Window);
            }
            inbox.boundaries.insert(at, Boundary { offset, number: UNKNOWN, after_empty: false });
        }
        number.map_or(Ok(()), |number| inbox.number(at, number))
    }

    /// Looks whether the message around `offset..stop`, of which something arrived, is whole.
    fn complete(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        offset: u64,
        stop: u64,
        empty: bool,
    ) -> Result<(), Violation> {
        let Some(inbox) = &self.inbox else { return Ok(()) };
        let end = inbox.position(stop);
        let Some(begin) = end.checked_sub(1) else { return Ok(()) };
        let start = inbox.boundaries[begin];
        debug_assert!(start.offset <= offset, "no boundary is inside a part");
        if stop - start.offset > cx.config.max_message as u64
            && (stop - start.offset > 1)
            && self.covers_all(start.offset, stop)
        {
            return Err(Violation::Limit);
        }
        let Some(next) = inbox.boundaries.get(end).map(|boundary| boundary.offset) else { return Ok(()) };
        if !self.covers_all(start.offset, next) {
            return Ok(());
        }
        if start.number == UNKNOWN {
            return Err(Violation::Boundary);
        }
        if next - start.offset > (cx.config.max_message as u64).max(1) {
            return Err(Violation::Limit);
        }
        let Some(inbox) = &mut self.inbox else { return Ok(()) };
        inbox.number(end, start.number + 1)?;
        inbox.boundaries[end].after_empty = empty;
        if !capabilities.ordered {
            inbox.arrived.push_back(Arrived { start: start.offset, end: next, empty });
        }
        Ok(())
    }

    /// A range of whole messages that will never come. Gives whether something of it was still missed.
    pub(super) fn on_abandon(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        range: AbandonedRange,
        fx: &mut Effects,
    ) -> Result<bool, Violation> {
        let Some(inbox) = self.inbox.as_ref().filter(|_| capabilities.resend != Resend::Forever) else {
            return Err(Violation::OutOfPlace(super::ABANDON));
        };
        if range.length == 0 {
            return Err(Violation::Boundary);
        }
        if range.messages > inbox.granted {
            return Err(Violation::Window);
        }
        let end = range.start + range.length;
        self.use_offsets(cx, end, false, fx)?;
        if self.discarding {
            return Ok(false);
        }
        self.forsake(cx, capabilities, range.start, end, Some(range.messages), fx)
    }

    /// Marks what is missing of `start..end` as gone. Gives whether there was anything.
    fn forsake(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        start: u64,
        end: u64,
        next: Option<u64>,
        fx: &mut Effects,
    ) -> Result<bool, Violation> {
        let start = start.max(self.floor);
        let Some(inbox) = &self.inbox else { return Ok(false) };
        if end <= self.floor || inbox.gone.contains(start, end) {
            return Ok(false);
        }
        let was_readable = inbox.next_message(capabilities, self.ready).is_some();
        let before = self.ready;
        self.bound(start, None)?;
        self.bound(end, next)?;
        let mut lost = false;
        let Some(inbox) = &self.inbox else { return Ok(false) };
        let mut at = inbox.position(start);
        // What lies between two neighbours is one message that arrived, or gone already, or missing.
        while let Some(inbox) = &mut self.inbox
            && let (Some(low), Some(high)) = (inbox.boundaries.get(at), inbox.boundaries.get(at + 1))
            && high.offset <= end
        {
            let (low, high) = (low.offset, high.offset);
            at += 1;
            if !self.covers_all(low, high) {
                if let Some(inbox) = &mut self.inbox {
                    inbox.gone.insert(low, high);
                }
                self.cover(low.max(self.ready), high)?;
                lost = true;
            }
        }
        self.advance(cx, capabilities, fx);
        self.watch_hole(cx, capabilities, before);
        self.tell_readable(capabilities, was_readable, fx);
        self.check_finished(fx);
        Ok(lost)
    }

    /// Moves the floor over what was read and what will never come.
    fn advance(&mut self, cx: &mut Context<'_>, capabilities: Capabilities, fx: &mut Effects) {
        while let Some(inbox) = &mut self.inbox {
            let number = inbox.floor_number();
            let floor = if !capabilities.ordered && inbox.released.first().is_some_and(|r| r.0 == self.floor)
            {
                let end = inbox.released.pop_first().map_or(self.floor, |range| range.1);
                inbox.forget(end);
                end
            } else if inbox.gone.first().is_some_and(|range| range.0 == self.floor) {
                let end = inbox.gone.pop_first().map_or(self.floor, |range| range.1);
                inbox.forget(end);
                if let Some(first) = inbox.boundaries.front_mut() {
                    if first.number == UNKNOWN {
                        first.number = number;
                    }
                    fx.lost_received += first.number.saturating_sub(number);
                }
                end
            } else {
                break;
            };
            self.release(cx, floor, fx);
        }
        if let Some(inbox) = &self.inbox
            && inbox.is_window_due()
            && !self.knows_end()
        {
            self.window_due = true;
        }
    }

    /// Takes the next message. `None` if there is none.
    pub(super) fn read_message(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        out: &mut [u8],
        fx: &mut Effects,
    ) -> Result<Option<usize>, ReadError> {
        let Some(inbox) = &mut self.inbox else { return Ok(None) };
        let Some(message) = inbox.next_message(capabilities, self.ready) else { return Ok(None) };
        let len = message.len();
        let out = out.get_mut(..len).ok_or(ReadError::TooShort(len))?;
        if len > 0 {
            self.rope.read(message.start, out);
        }
        if capabilities.ordered {
            inbox.boundaries.pop_front();
            self.release(cx, message.end, fx);
        } else {
            inbox.arrived.pop_front();
            inbox.released.insert(message.start, message.end);
        }
        let before = self.ready;
        self.advance(cx, capabilities, fx);
        self.watch_hole(cx, capabilities, before);
        Ok(Some(len))
    }

    /// The end of the direction.
    pub(super) fn on_message_fin(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        final_offset: u64,
        messages: u64,
        fx: &mut Effects,
    ) -> Result<(), Violation> {
        let Some(inbox) = &self.inbox else { return Err(Violation::OutOfPlace(super::MESSAGE_FIN)) };
        if !self.discarding && messages > inbox.granted {
            return Err(Violation::Window);
        }
        self.use_offsets(cx, final_offset, true, fx)?;
        if !self.discarding {
            self.bound(final_offset, Some(messages))?;
            self.watch_hole(cx, capabilities, self.ready);
            self.check_finished(fx);
        }
        Ok(())
    }

    /// Without repair, what was overtaken has so long to come.
    fn watch_hole(&mut self, cx: &mut Context<'_>, capabilities: Capabilities, ready_before: u64) {
        if !capabilities.ordered || capabilities.resend != Resend::No {
            return;
        }
        let open = !self.beyond.is_empty() || self.final_size().is_some_and(|size| self.ready < size);
        let moved = self.ready > ready_before;
        let Some(inbox) = &mut self.inbox else { return };
        if !open {
            inbox.hole = None;
        } else if inbox.hole.is_none() || moved {
            inbox.hole = cx.now.checked_add(cx.reorder_wait());
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.inbox.as_ref().and_then(|inbox| inbox.hole)
    }

    /// Skips what was waited for long enough. Gives whether something was lost.
    pub(super) fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        capabilities: Capabilities,
        fx: &mut Effects,
    ) -> bool {
        let Some(inbox) = &mut self.inbox else { return false };
        if inbox.hole.is_none_or(|hole| hole > cx.now) {
            return false;
        }
        inbox.hole = None;
        let first = inbox.boundaries.partition_point(|boundary| boundary.offset <= self.ready);
        let Some(from) = first.checked_sub(1).map(|at| inbox.boundaries[at].offset) else { return false };
        let Some(inbox) = &self.inbox else { return false };
        // Up to the first that is whole; without one, up to the end.
        let whole = (first..inbox.boundaries.len().saturating_sub(1))
            .map(|at| (inbox.boundaries[at].offset, inbox.boundaries[at + 1].offset))
            .find(|&(low, high)| self.covers_all(low, high))
            .map(|(low, _)| low);
        let Some(to) = whole.or(self.final_size()).filter(|&to| to > from) else {
            self.watch_hole(cx, capabilities, self.ready);
            return false;
        };
        // Both ends are boundaries that are known, so nothing can contradict it.
        self.forsake(cx, capabilities, from, to, None, fx).unwrap_or(false)
    }

    fn tell_readable(&self, capabilities: Capabilities, before: bool, fx: &mut Effects) {
        let Some(inbox) = &self.inbox else { return };
        fx.readable |= !before && inbox.next_message(capabilities, self.ready).is_some();
    }
}
