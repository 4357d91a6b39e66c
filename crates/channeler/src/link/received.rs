//! Which packets arrived: a bitmap of the newest numbers, and the decision when to say so.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use super::Arrival;
use crate::Ecn;

/// Numbers that are told apart, newest first: 1 KiB of bits, a third of a second at 300 Mbit/s.
const WINDOW: u64 = 8192;
const WORDS: usize = (WINDOW / 64) as usize;
/// Of these the oldest that are still taken: bits are cleared by the word.
const SPAN: u64 = WINDOW - 64;

/// Packets per acknowledgement: at least (RFC 9000, section 13.2.2) and at most.
const MIN_BATCH: u32 = 2;
const MAX_BATCH: u32 = 32;
/// Shortest time that an acknowledgement waits for company.
const MIN_DELAY: Duration = Duration::from_millis(1);
/// A stream loses nothing, and its acknowledgements only free memory.
const STREAM_DELAY: Duration = Duration::from_millis(25);
const STREAM_BATCH: u64 = 64 << 10;

/// Marks that arrived, for the peer's congestion control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) ect0: u64,
    pub(super) ce: u64,
}

#[derive(Debug)]
pub(super) struct Received {
    /// Bit `pn % WINDOW` of every number in `end - SPAN..end`.
    bits: Box<[u64; WORDS]>,
    /// One more than the largest number that arrived.
    end: u64,
    /// Numbers below were told and the peer knows that we told them; later arrivals lower it again.
    floor: u64,
    /// The smallest number that came late, and `end` at that time: an acknowledgement of a larger one told of it.
    late: Option<(u64, u64)>,
    /// When the largest arrived.
    largest_time: Option<Instant>,
    marks: Marks,
    /// Packets since the last acknowledgement that want one.
    pending: u32,
    /// Their bytes.
    pending_bytes: u64,
    /// One of them cannot wait: there is a gap, or a mark.
    at_once: bool,
    /// When the oldest of them has waited long enough.
    deadline: Option<Instant>,
    /// Packets per acknowledgement at the present rate.
    batch: u32,
    /// Start of the interval in which packets are counted for it.
    interval: Option<Instant>,
    counted: u32,
    stream: bool,
}

impl Received {
    pub(super) fn new(stream: bool) -> Self {
        Self {
            bits: Box::new([0; WORDS]),
            end: 0,
            floor: 0,
            late: None,
            largest_time: None,
            marks: Marks::default(),
            pending: 0,
            pending_bytes: 0,
            at_once: false,
            deadline: None,
            batch: MIN_BATCH,
            interval: None,
            counted: 0,
            stream,
        }
    }

    /// The number after the largest that arrived: what a shortened number is expanded against.
    #[inline]
    pub(super) fn expected(&self) -> u64 {
        self.end
    }

    /// Whether it could be the first with this number. Changes nothing.
    #[inline]
    pub(super) fn is_fresh(&self, pn: u64) -> bool {
        pn >= self.end || (pn + SPAN >= self.end && !self.has(pn))
    }

    #[inline]
    fn has(&self, pn: u64) -> bool {
        self.bits[(pn % WINDOW / 64) as usize] >> (pn % 64) & 1 == 1
    }

    /// `delay`: how long an acknowledgement may be held back at the present round trip.
    #[inline]
    pub(super) fn on_packet(
        &mut self,
        now: Instant,
        pn: u64,
        eliciting: bool,
        ecn: Option<Ecn>,
        bytes: u64,
        delay: Duration,
    ) -> Arrival {
        if !self.is_fresh(pn) {
            return Arrival::Duplicate;
        }
        let in_order = pn == self.end;
        if pn >= self.end {
            if pn > self.end {
                self.clear(self.end, pn);
            } else if pn.is_multiple_of(64) {
                self.bits[(pn % WINDOW / 64) as usize] = 0;
            }
            self.end = pn + 1;
            self.largest_time = Some(now);
        } else {
            self.floor = self.floor.min(pn);
            self.late = Some((self.late.map_or(pn, |(low, _)| low.min(pn)), self.end));
        }
        let bit = 1 << (pn % 64);
        self.bits[(pn % WINDOW / 64) as usize] |= bit;
        match ecn {
            Some(Ecn::Ect0) => self.marks.ect0 += 1,
            Some(Ecn::Ce) => {
                self.marks.ce += 1;
                self.at_once |= !self.stream;
            }
            Some(Ecn::Ect1) | None => {}
        }
        if eliciting {
            self.pending += 1;
            self.pending_bytes += bytes;
            self.at_once |= !in_order;
            if self.deadline.is_none() {
                self.deadline = Some(now + self.delay(delay));
            }
            if !self.stream {
                self.measure(now, delay);
            }
        }
        Arrival::Fresh
    }

    fn delay(&self, delay: Duration) -> Duration {
        if self.stream { STREAM_DELAY } else { delay.max(MIN_DELAY) }
    }

    /// As many packets per acknowledgement as come in the time that one may be held back, so that the peer hears at least
    /// four times per round trip however fast it is.
    #[inline]
    fn measure(&mut self, now: Instant, delay: Duration) {
        self.counted += 1;
        let Some(start) = self.interval else {
            self.interval = Some(now);
            return;
        };
        let elapsed = now.saturating_duration_since(start);
        let interval = delay.clamp(Duration::from_micros(50), MIN_DELAY);
        if elapsed >= interval {
            // Time without packets is no rate: then a burst begins as if nothing were known.
            let per_interval = f64::from(self.counted) * interval.as_secs_f64() / elapsed.as_secs_f64();
            self.batch = (per_interval as u32).clamp(MIN_BATCH, MAX_BATCH);
            self.interval = Some(now);
            self.counted = 0;
        }
    }

    /// Clears the bits of the numbers from `from` to `to`, both included: nobody saw them.
    fn clear(&mut self, from: u64, to: u64) {
        if to - from >= SPAN {
            self.bits.fill(0);
            return;
        }
        // Numbers below `from` share its word; those from `to` on do not matter, but the words between are whole.
        let keep = (1_u64 << (from % 64)) - 1;
        self.bits[(from % WINDOW / 64) as usize] &= keep;
        for word in from / 64 + 1..=to / 64 {
            self.bits[word as usize % WORDS] = 0;
        }
    }

    /// Whether there is anything to acknowledge that was not.
    #[inline]
    pub(super) fn pending(&self) -> bool {
        self.pending > 0
    }

    /// Whether an acknowledgement should leave without waiting for company.
    #[inline]
    pub(super) fn wanted(&self, now: Instant) -> bool {
        self.pending > 0
            && (self.at_once
                || if self.stream { self.pending_bytes >= STREAM_BATCH } else { self.pending >= self.batch }
                || self.deadline.is_some_and(|deadline| now >= deadline))
    }

    /// When a pending acknowledgement is due.
    #[inline]
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Largest number, or nothing to acknowledge at all.
    pub(super) fn largest(&self) -> Option<u64> {
        self.end.checked_sub(1).filter(|_| self.largest_time.is_some())
    }

    /// How long the largest has waited.
    pub(super) fn held(&self, now: Instant) -> Duration {
        self.largest_time.map_or(Duration::ZERO, |time| now.saturating_duration_since(time))
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks
    }

    /// The deadline came: there is no more waiting.
    pub(super) fn on_due(&mut self) {
        self.deadline = None;
        self.at_once = true;
    }

    /// An acknowledgement was written.
    pub(super) fn on_told(&mut self) {
        self.pending = 0;
        self.pending_bytes = 0;
        self.at_once = false;
        self.deadline = None;
    }

    /// The peer acknowledged a packet with an acknowledgement that told everything up to the number with this low half.
    pub(super) fn on_heard(&mut self, largest: u32) {
        let back = (self.end.wrapping_sub(1) as u32).wrapping_sub(largest);
        // The largest stays: an acknowledgement without ranges has no form.
        let told = (self.end.saturating_sub(1)).saturating_sub(u64::from(back));
        match self.late {
            Some((low, end)) if told < end => self.floor = self.floor.max(told.min(low)),
            _ => {
                self.late = None;
                self.floor = self.floor.max(told);
            }
        }
    }

    /// What arrived, newest first, as far back as the peer may not know it yet.
    pub(super) fn ranges(&self) -> Ranges<'_> {
        Ranges { received: self, end: self.end, low: self.floor.max(self.end.saturating_sub(SPAN)) }
    }
}

/// Runs of numbers that arrived, newest first.
#[derive(Clone, Debug)]
pub(super) struct Ranges<'a> {
    received: &'a Received,
    /// One more than the next number to look at.
    end: u64,
    low: u64,
}

impl Ranges<'_> {
    /// Moves `end` down over numbers whose bit is `over`, until one differs or the low end is reached.
    #[inline]
    fn descend(&mut self, over: bool) {
        while self.end > self.low {
            let pn = self.end - 1;
            let word = self.received.bits[(pn % WINDOW / 64) as usize];
            let word = if over { !word } else { word };
            // Bits above `pn` in its word are shifted out; zeros come in from below.
            let ahead = word << (63 - pn % 64);
            let run = u64::from(ahead.leading_zeros()).min(pn % 64 + 1);
            self.end = self.end.saturating_sub(run).max(self.low);
            if run <= pn % 64 {
                return;
            }
        }
    }
}

impl Iterator for Ranges<'_> {
    type Item = RangeInclusive<u64>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.descend(false);
        if self.end <= self.low {
            return None;
        }
        let last = self.end - 1;
        self.descend(true);
        Some(self.end..=last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const DELAY: Duration = Duration::from_millis(5);

    fn take(received: &mut Received, now: Instant, pn: u64) -> Arrival {
        received.on_packet(now, pn, true, None, 1200, DELAY)
    }

    fn runs(model: &BTreeSet<u64>, low: u64) -> Vec<RangeInclusive<u64>> {
        let mut runs: Vec<RangeInclusive<u64>> = Vec::new();
        for &pn in model.range(low..).rev() {
            match runs.last_mut() {
                Some(run) if *run.start() == pn + 1 => *run = pn..=*run.end(),
                _ => runs.push(pn..=pn),
            }
        }
        runs
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// The next one, so far ahead.
        Ahead(u64),
        /// One so far back.
        Back(u64),
        Tell,
        /// The peer hears of the acknowledgement so far back among those told.
        Heard(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => Just(Step::Ahead(0)),
            4 => (0..6_u64).prop_map(Step::Ahead),
            1 => (0..10_000_u64).prop_map(Step::Ahead),
            1 => Just(Step::Ahead(SPAN - 1)),
            4 => (0..8_u64).prop_map(Step::Back),
            1 => (0..10_000_u64).prop_map(Step::Back),
            2 => Just(Step::Tell),
            2 => (0..4_u8).prop_map(Step::Heard),
        ]
    }

    proptest! {
        /// Against a set of numbers: what is new, what is told, and that nothing that the peer has not heard of is left out.
        #[test]
        fn behaves_as_a_set(steps in proptest::collection::vec(step(), 1..300)) {
            let now = Instant::now();
            let mut received = Received::new(false);
            let mut model = BTreeSet::new();
            let mut unheard = BTreeSet::new();
            let mut told: Vec<(u64, BTreeSet<u64>)> = Vec::new();
            for step in steps {
                let end = received.expected();
                let pn = match step {
                    Step::Ahead(by) => end + by,
                    Step::Back(by) if by < end => end - 1 - by,
                    Step::Back(_) => continue,
                    Step::Tell => {
                        let list: Vec<_> = received.ranges().collect();
                        if let Some(largest) = received.largest() {
                            let all = list.into_iter().flatten().collect();
                            told.push((largest, all));
                            received.on_told();
                        }
                        continue;
                    }
                    Step::Heard(back) => {
                        if let Some((largest, all)) = told.iter().rev().nth(usize::from(back)) {
                            received.on_heard(*largest as u32);
                            unheard.retain(|pn| !all.contains(pn));
                        }
                        continue;
                    }
                };
                let fresh = pn + SPAN >= end && !model.contains(&pn);
                prop_assert_eq!(take(&mut received, now, pn) == Arrival::Fresh, fresh);
                if fresh {
                    model.insert(pn);
                    unheard.insert(pn);
                }
                let end = received.expected();
                let list: Vec<_> = received.ranges().collect();
                let low = list.last().map_or(0, |range| *range.start());
                prop_assert_eq!(&list, &runs(&model, low));
                for pn in unheard.range(end.saturating_sub(SPAN)..) {
                    prop_assert!(list.iter().any(|range| range.contains(pn)), "{} was never heard of", pn);
                }
            }
        }
    }

    #[test]
    fn every_second_packet_at_a_low_rate_and_fewer_at_a_high_one() {
        let start = Instant::now();
        for (gap_us, expected) in [(2000, 500..=500), (100, 99..=120), (12, 60..=75)] {
            let mut received = Received::new(false);
            let mut acks = 0;
            for pn in 0..1000 {
                let now = start + Duration::from_micros(gap_us) * pn as u32;
                take(&mut received, now, pn);
                if received.wanted(now) {
                    acks += 1;
                    received.on_told();
                }
            }
            assert!(expected.contains(&acks), "{gap_us} us: {acks}");
        }
    }

    #[test]
    fn gaps_and_marks_are_told_at_once_and_the_rest_in_time() {
        let now = Instant::now();
        let mut received = Received::new(false);
        take(&mut received, now, 0);
        assert!(!received.wanted(now));
        assert_eq!(received.deadline(), Some(now + DELAY));
        assert!(received.wanted(now + DELAY));
        take(&mut received, now, 2);
        assert!(received.wanted(now), "a gap");
        received.on_told();
        assert_eq!((received.deadline(), received.pending()), (None, false));
        take(&mut received, now, 3);
        assert!(!received.wanted(now), "told already");
        take(&mut received, now, 1);
        assert!(received.wanted(now), "late");
        received.on_told();
        received.on_packet(now, 4, true, Some(Ecn::Ce), 1200, DELAY);
        assert!(received.wanted(now), "congestion");
        received.on_told();
        received.on_packet(now, 5, false, None, 40, DELAY);
        assert!(!received.pending(), "acknowledgements are not acknowledged");
    }

    #[test]
    fn streams_are_acknowledged_rarely() {
        let now = Instant::now();
        let mut received = Received::new(true);
        for pn in 0..4 {
            assert!(!received.wanted(now));
            received.on_packet(now, pn, true, None, 16_384, DELAY);
        }
        assert!(received.wanted(now));
        received.on_told();
        received.on_packet(now, 4, true, None, 100, DELAY);
        assert_eq!(received.deadline(), Some(now + STREAM_DELAY));
    }
}
