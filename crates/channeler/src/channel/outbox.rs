//! The messages of a direction at their sender: where they begin, which were given up, and what of that was told.

use std::{collections::VecDeque, time::Instant};

use crate::wire::message::AbandonedRange;

/// One written message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    /// Where the next one begins.
    pub(super) end: u64,
    /// When it is given up, if it has a deadline.
    pub(super) expires: Option<Instant>,
    /// It has no bytes, and one offset all the same.
    pub(super) empty: bool,
    /// It was given up.
    pub(super) gone: bool,
}

/// Given up, not yet known to be known.
#[derive(Clone, Copy, Debug)]
struct Abandoned {
    start: u64,
    end: u64,
    /// Number of the message that begins at `end`.
    next: u64,
}

/// Sorted, and found by a binary search: there may be as many as messages in a window.
#[derive(Debug, Default)]
struct Row(VecDeque<Abandoned>);

impl Row {
    /// Where ranges from this offset on begin.
    fn position(&self, start: u64) -> usize {
        match self.0.back() {
            Some(last) if last.start >= start => self.0.partition_point(|range| range.start < start),
            _ => self.0.len(),
        }
    }

    fn insert(&mut self, range: Abandoned) -> usize {
        let at = self.position(range.start);
        self.0.insert(at, range);
        at
    }

    /// Adds a range, as one with those that it touches.
    fn join(&mut self, range: Abandoned) {
        let at = self.insert(range);
        self.merge(at + 1);
        self.merge(at);
    }

    /// Joins range `at` to the one before it if they touch.
    fn merge(&mut self, at: usize) {
        let Some(before) = at.checked_sub(1) else { return };
        if let (Some(&low), Some(&high)) = (self.0.get(before), self.0.get(at))
            && low.end == high.start
        {
            self.0[before] = Abandoned { start: low.start, ..high };
            self.0.remove(at);
        }
    }

    /// Takes out the first range within `start..end`.
    fn take_within(&mut self, start: u64, end: u64) -> Option<Abandoned> {
        let at = self.position(start);
        self.0.get(at).filter(|range| range.end <= end)?;
        self.0.remove(at)
    }
}

/// Ranges that one ABANDON tells. More follow in the next.
pub(super) const RANGES: usize = 4;

/// The messages that were not yet acknowledged or given up whole, and what was given up.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: VecDeque<Outgoing>,
    /// Where the first of them begins.
    origin: u64,
    /// Its number.
    first: u64,
    /// Number of the message that the first unsent offset belongs to.
    cursor: u64,
    /// Messages with numbers below this may be sent.
    pub(super) max_messages: u64,
    /// Longest that the peer takes.
    max_message: u64,
    /// Given up, and to be told.
    untold: Row,
    /// Given up, and on its way to the peer.
    told: Row,
}

impl Outbox {
    /// Memory that a message takes beside its bytes, with what a growing queue wastes.
    pub(super) const COST: u64 = 2 * size_of::<Outgoing>() as u64;

    pub(super) fn new(max_messages: u64, max_message: u64) -> Self {
        Self { max_messages, max_message, ..Self::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.messages.len() as u64
    }

    pub(super) fn set_max_message(&mut self, max_message: u64) {
        self.max_message = max_message;
    }

    pub(super) fn max_message(&self) -> u64 {
        self.max_message
    }

    pub(super) fn push(&mut self, message: Outgoing) {
        self.messages.push_back(message);
    }

    /// How many were written, from the beginning of the channel.
    pub(super) fn written(&self) -> u64 {
        self.first + self.len()
    }

    #[inline]
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    #[inline]
    pub(super) fn advance_cursor(&mut self) {
        self.cursor += 1;
    }

    /// The message with this number, if it is still here: where it begins, and it.
    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<(u64, Outgoing)> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let message = *self.messages.get(at)?;
        let start = if at == 0 { self.origin } else { self.messages[at - 1].end };
        Some((start, message))
    }

    /// The number of the message that has this offset; one that is no longer here counts as the first that is.
    pub(super) fn number_at(&self, offset: u64) -> u64 {
        self.first + self.messages.partition_point(|message| message.end <= offset) as u64
    }

    pub(super) fn mark_gone(&mut self, number: u64) {
        if let Some(at) = number.checked_sub(self.first)
            && let Some(message) = self.messages.get_mut(at as usize)
        {
            message.gone = true;
        }
    }

    /// Forgets the messages that end at or before `floor`.
    #[inline]
    pub(super) fn forget(&mut self, floor: u64) {
        while let Some(message) = self.messages.front()
            && message.end <= floor
        {
            self.origin = message.end;
            self.first += 1;
            self.messages.pop_front();
        }
    }

    /// Notes that `start..end`, whole messages up to number `next`, were given up and that the peer must hear of it.
    pub(super) fn abandon(&mut self, start: u64, end: u64, next: u64) {
        self.untold.join(Abandoned { start, end, next });
    }

    pub(super) fn has_untold(&self) -> bool {
        !self.untold.0.is_empty()
    }

    /// Whether the peer knows of all that was given up.
    pub(super) fn all_known(&self) -> bool {
        self.untold.0.is_empty() && self.told.0.is_empty()
    }

    /// What the next ABANDON says, if it has room.
    pub(super) fn untold(&self) -> impl Iterator<Item = AbandonedRange> + Clone {
        self.untold.0.iter().take(RANGES).map(|range| AbandonedRange {
            start: range.start,
            length: range.end - range.start,
            messages: range.next,
        })
    }

    /// The first `count` of [`Outbox::untold`] are on their way: these.
    pub(super) fn told(&mut self, count: usize) -> [(u64, u64); RANGES] {
        let mut ranges = [(0, 0); RANGES];
        for (slot, range) in ranges.iter_mut().zip(self.untold.0.drain(..count)) {
            *slot = (range.start, range.end);
            self.told.insert(range);
        }
        ranges
    }

    /// The peer knows of these.
    pub(super) fn known(&mut self, ranges: &[(u64, u64)]) {
        for &(start, end) in ranges {
            for row in [&mut self.told, &mut self.untold] {
                while row.take_within(start, end).is_some() {}
            }
        }
    }

    /// What told of these was lost: they are told again, unless they are known meanwhile.
    pub(super) fn forgotten(&mut self, ranges: &[(u64, u64)]) {
        for &(start, end) in ranges {
            while let Some(range) = self.told.take_within(start, end) {
                self.untold.join(range);
            }
        }
    }

    /// Nothing of it matters any more, for the peer does not read. What was sent ends at `end`.
    pub(super) fn cut(&mut self, end: u64) {
        // A message that was cut has used its number.
        let begun = self.get(self.cursor).is_some_and(|(start, _)| start < end);
        self.first = self.cursor + u64::from(begun);
        self.cursor = self.first;
        self.origin = end;
        self.messages = VecDeque::new();
        (self.untold, self.told) = Default::default();
    }

    /// Gives back what it does not need.
    pub(super) fn shrink(&mut self) {
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        for row in [&mut self.untold, &mut self.told] {
            if row.0.is_empty() {
                row.0 = VecDeque::new();
            }
        }
    }

    /// Bytes on the heap, its own box included.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.messages.capacity() * size_of::<Outgoing>()
            + (self.untold.0.capacity() + self.told.0.capacity()) * size_of::<Abandoned>()
    }
}
