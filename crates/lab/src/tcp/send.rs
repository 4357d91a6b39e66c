//! The sending half: buffer, flight, loss recovery, congestion window.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};

use super::{INITIAL_RTO, MAX_RTO, MIN_RTO, USER_TIMEOUT};
use crate::packet::Segment;

/// Segments acknowledged past one that is missing before it counts as lost.
const REORDERING: u64 = 3;
/// Segments of the initial congestion window (RFC 6928).
const INITIAL_WINDOW: usize = 10;
/// Longest burst that travels as one segment, in units of the maximum segment size.
const BURST: usize = 11;

/// How far the end of our direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The program may still write.
    Open,
    /// It will not; the end follows the last byte.
    Wanted,
    /// The end was sent.
    Sent,
}

#[derive(Debug)]
struct Flying {
    seq: u64,
    data: Bytes,
    fin: bool,
    sent: Duration,
}

impl Flying {
    /// The offset after it; the end of the stream counts as a byte.
    fn end(&self) -> u64 {
        self.seq + self.data.len() as u64 + u64::from(self.fin)
    }

    fn is_probe(&self) -> bool {
        self.data.is_empty() && !self.fin
    }
}

#[derive(Debug)]
pub(super) struct Sending {
    capacity: usize,
    mss: usize,
    /// Accepted from the program and never sent.
    unsent: BytesMut,
    next_seq: u64,
    end: End,
    /// By packet number.
    flight: BTreeMap<u64, Flying>,
    in_flight: usize,
    /// To be sent again, by offset.
    lost: BTreeMap<u64, Flying>,
    next_number: u64,
    largest_acked: u64,
    /// Everything before has arrived.
    acked: u64,
    /// The other side has room up to here.
    limit: u64,
    window: usize,
    threshold: usize,
    /// Losses of packets before this number belong to a loss already paid for.
    recovery: u64,
    /// Bytes that may be sent before the next acknowledgement. Bounded while recovering, so that what many losses free
    /// at once does not go out as a burst into a queue that is full (RFC 6937).
    budget: usize,
    smoothed: Option<(Duration, Duration)>,
    backoff: u32,
    /// When the retransmission timer was last set.
    timer_from: Duration,
    /// The last time the other side acknowledged anything while something was outstanding.
    progress: Duration,
    /// A probe of a full receiver is wanted.
    probe: bool,
}

impl Sending {
    pub(super) fn new(capacity: usize, mss: usize) -> Self {
        Self {
            capacity,
            mss,
            unsent: BytesMut::new(),
            next_seq: 0,
            end: End::Open,
            flight: BTreeMap::new(),
            in_flight: 0,
            lost: BTreeMap::new(),
            next_number: 1,
            largest_acked: 0,
            acked: 0,
            limit: 0,
            window: INITIAL_WINDOW * mss,
            threshold: usize::MAX,
            recovery: 0,
            budget: usize::MAX,
            smoothed: None,
            backoff: 0,
            timer_from: Duration::ZERO,
            progress: Duration::ZERO,
            probe: false,
        }
    }

    /// Room for the program's bytes.
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.unsent.len() + (self.next_seq - self.acked) as usize)
    }

    /// Room enough to be worth waking the program for.
    pub(super) fn is_writable(&self) -> bool {
        self.room() >= self.capacity / 4
    }

    pub(super) fn is_open(&self) -> bool {
        self.end == End::Open
    }

    /// Takes what there is room for.
    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let taken = data.len().min(self.room());
        self.unsent.extend_from_slice(&data[..taken]);
        taken
    }

    /// The program will not write any more.
    pub(super) fn finish(&mut self) {
        if self.end == End::Open {
            self.end = End::Wanted;
        }
    }

    /// Everything, with the end, has arrived.
    pub(super) fn is_done(&self) -> bool {
        self.end == End::Sent && self.acked == self.next_seq
    }

    pub(super) fn raise_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// The next segment to send now, if any.
    pub(super) fn next_segment(&mut self, now: Duration) -> Option<Segment> {
        let flying = self.next_flying(now)?;
        if self.flight.is_empty() {
            self.timer_from = now;
            if self.backoff == 0 {
                self.progress = now;
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        self.in_flight += flying.data.len();
        self.budget = self.budget.saturating_sub(flying.data.len());
        let segment = Segment::Data { number, seq: flying.seq, data: flying.data.clone(), fin: flying.fin };
        self.flight.insert(number, flying);
        Some(segment)
    }

    fn next_flying(&mut self, now: Duration) -> Option<Flying> {
        while let Some((_, mut again)) = self.lost.pop_first() {
            if again.end() <= self.acked {
                continue;
            }
            let full = self.in_flight + again.data.len() > self.window || self.budget < again.data.len();
            if self.in_flight > 0 && full {
                self.lost.insert(again.seq, again);
                return None;
            }
            again.sent = now;
            return Some(again);
        }
        let allowed = self.limit.saturating_sub(self.next_seq) as usize;
        let room = self.window.saturating_sub(self.in_flight).min(allowed).min(self.budget);
        let len = self.unsent.len().min(room).min(self.burst());
        // Rather wait for room than cut a segment short (silly windows).
        let whole = len == self.unsent.len() || len >= self.mss || self.flight.is_empty();
        let fin = self.end == End::Wanted && len == self.unsent.len();
        if (len > 0 && whole) || fin {
            let data = self.unsent.split_to(len).freeze();
            let flying = Flying { seq: self.next_seq, data, fin, sent: now };
            self.next_seq = flying.end();
            if fin {
                self.end = End::Sent;
            }
            return Some(flying);
        }
        if std::mem::take(&mut self.probe) {
            return Some(Flying { seq: self.next_seq, data: Bytes::new(), fin: false, sent: now });
        }
        None
    }

    /// As the systems do: as much at once as takes about a millisecond at the present speed.
    fn burst(&self) -> usize {
        let per_ms = self
            .smoothed
            .map_or(0, |(mean, _)| (self.window as u128 * 1_000_000 / mean.as_nanos().max(1)) as usize);
        (per_ms / self.mss).clamp(1, BURST) * self.mss
    }

    /// The other side has everything before `upto` and packet `number`, and room up to `limit`.
    pub(super) fn acknowledge(&mut self, now: Duration, number: u64, upto: u64, limit: u64) {
        self.raise_limit(limit);
        // What was never sent cannot be acknowledged, but only a fault of the lab would say so.
        debug_assert!(upto <= self.next_seq && number < self.next_number);
        self.acked = self.acked.max(upto);
        self.progress = now;
        let mut arrived = 0;
        if let Some(flying) = self.flight.remove(&number) {
            self.in_flight -= flying.data.len();
            arrived += flying.data.len();
            self.measure(now.saturating_sub(flying.sent));
            self.largest_acked = self.largest_acked.max(number);
        }
        while let Some(first) = self.flight.first_entry() {
            let late = *first.key() + REORDERING <= self.largest_acked;
            if first.get().end() <= self.acked && !first.get().is_probe() {
                let flying = first.remove();
                self.in_flight -= flying.data.len();
                arrived += flying.data.len();
            } else if late {
                let (number, flying) = first.remove_entry();
                self.lose(number, flying);
            } else {
                break;
            }
        }
        if arrived > 0 || number > 0 {
            self.backoff = 0;
            self.timer_from = now;
        }
        self.budget = match self.largest_acked < self.recovery {
            // One lost in flight is replaced by fewer, until there are no more than the window wants.
            true if self.in_flight > self.window => self.budget.saturating_add(arrived * 7 / 10),
            true => self.budget.saturating_add(arrived + self.mss),
            false => usize::MAX,
        };
        self.grow(arrived);
    }

    fn lose(&mut self, number: u64, flying: Flying) {
        self.in_flight -= flying.data.len();
        if number >= self.recovery {
            self.recovery = self.next_number;
            // The factor of CUBIC (RFC 9438), which leaves a short queue busy.
            self.window = (self.window * 7 / 10).max(2 * self.mss);
            self.threshold = self.window;
            self.budget = 0;
        }
        if flying.end() > self.acked && !flying.is_probe() {
            self.lost.insert(flying.seq, flying);
        }
    }

    fn grow(&mut self, arrived: usize) {
        // A window that is not used says nothing about the path.
        if arrived == 0 || 2 * (self.in_flight + arrived) < self.window {
            return;
        }
        if self.window < self.threshold {
            self.window += arrived;
        } else {
            self.window += (self.mss * arrived / self.window).max(1);
        }
        self.window = self.window.min(2 * self.capacity);
    }

    /// RFC 6298.
    fn measure(&mut self, sample: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (sample, sample / 2),
            Some((mean, deviation)) => {
                (mean * 7 / 8 + sample / 8, deviation * 3 / 4 + mean.abs_diff(sample) / 4)
            }
        });
    }

    fn timeout(&self) -> Duration {
        // The floor is that of the deviation, as on Linux: on a line without jitter the mean itself is no limit.
        let base = self.smoothed.map_or(INITIAL_RTO, |(mean, deviation)| mean + (4 * deviation).max(MIN_RTO));
        base.saturating_mul(1 << self.backoff.min(6)).min(MAX_RTO.max(base))
    }

    fn is_outstanding(&self) -> bool {
        !self.flight.is_empty() || !self.lost.is_empty()
    }

    /// Data waits, and only the receiver's window keeps it from going.
    fn is_blocked(&self) -> bool {
        !self.is_outstanding() && !self.unsent.is_empty()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        (self.is_outstanding() || self.is_blocked()).then(|| self.timer_from + self.timeout())
    }

    /// Nothing was acknowledged for too long.
    pub(super) fn is_given_up(&self, now: Duration) -> bool {
        self.is_outstanding() && now.saturating_sub(self.progress) >= USER_TIMEOUT
    }

    /// The timer ran out: everything in flight counts as lost, or a full receiver is probed.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if self.is_blocked() {
            self.probe = true;
        }
        if !self.flight.is_empty() {
            self.threshold = (self.window / 2).max(2 * self.mss);
            self.window = 2 * self.mss;
            self.recovery = self.next_number;
            self.budget = self.window;
            while let Some((number, flying)) = self.flight.pop_first() {
                self.lose(number, flying);
            }
        }
        // An empty probe that was lost leaves nothing behind to repeat.
        if self.lost.is_empty() && !self.is_done() {
            self.probe = true;
        }
        self.backoff += 1;
        self.timer_from = now;
    }

    /// Asks the other side for a sign of life.
    pub(super) fn probe(&mut self) {
        self.probe = true;
    }
}
