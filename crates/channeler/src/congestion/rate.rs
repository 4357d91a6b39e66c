//! Delivery rate: how many bytes a second the path carries, measured at acknowledgements
//! (draft-cheng-iccrg-delivery-rate-estimation).

use std::time::{Duration, Instant};

use super::{LossSample, nanos, rate_of};

/// What a packet remembers from its sending until it is acknowledged or lost.
///
/// Counters are the low 32 bits and times are in units of 256 ns, for there is one of these per packet on the way:
/// less than 4 GiB and less than 18 minutes lie between sending and acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateStamp {
    delivered: u32,
    lost: u32,
    in_flight: u32,
    delivered_at: u32,
    first_sent: u32,
    app_limited: bool,
}

/// The path between two acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateSample {
    /// Bytes acknowledged in `interval`.
    pub(crate) delivered: u64,
    /// The longer of sending them and of hearing of them.
    pub(crate) interval: Duration,
    /// Whether the packet left while the application wrote less than the path takes: then the rate is a lower bound.
    pub(crate) app_limited: bool,
    /// All bytes that had been acknowledged when the packet left.
    pub(crate) prior_delivered: u64,
    /// Its round trip, the receiver's delay included.
    pub(crate) rtt: Duration,
    /// Bytes on the way when it left, itself included.
    pub(crate) in_flight_at_send: u64,
    /// Bytes declared lost since it left.
    pub(crate) lost: u64,
}

impl RateSample {
    /// Bytes per second. `None` if no time passed.
    pub(crate) fn rate(&self) -> Option<u64> {
        rate_of(self.delivered, self.interval)
    }
}

/// Counts what was delivered and what was lost on one link.
///
/// [`on_sent`](Self::on_sent) per packet; per acknowledgement [`on_acked`](Self::on_acked) for each newly acknowledged
/// packet, [`on_lost`](Self::on_lost) for each lost one, then [`loss`](Self::loss) and [`sample`](Self::sample) once.
#[derive(Clone, Debug)]
pub(crate) struct RateTracker {
    epoch: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    lost: u64,
    /// Until more than this was delivered, samples are limited by the application. 0: they are not.
    app_limited_until: u64,
    /// The latest sent of the packets that the current acknowledgement is about.
    newest: Option<(Instant, RateStamp)>,
    /// The latest sent of the packets just lost, and the bytes of all of them.
    losses: Option<(Instant, RateStamp, u64)>,
}

impl RateTracker {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            lost: 0,
            app_limited_until: 0,
            newest: None,
            losses: None,
        }
    }

    fn ticks(&self, at: Instant) -> u32 {
        (nanos(at.saturating_duration_since(self.epoch)) >> 8) as u32
    }

    fn span(from: u32, to: u32) -> Duration {
        Duration::from_nanos(u64::from(to.wrapping_sub(from)) << 8)
    }

    /// A packet leaves while `in_flight` bytes, itself not included, are on the way.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) -> RateStamp {
        if in_flight == 0 {
            self.first_sent = now;
            self.delivered_at = now;
        }
        RateStamp {
            delivered: self.delivered as u32,
            lost: self.lost as u32,
            in_flight: u32::try_from(in_flight.saturating_add(bytes)).unwrap_or(u32::MAX),
            delivered_at: self.ticks(self.delivered_at),
            first_sent: self.ticks(self.first_sent),
            app_limited: self.app_limited_until != 0,
        }
    }

    /// A packet that left at `sent` was acknowledged.
    pub(crate) fn on_acked(&mut self, now: Instant, sent: Instant, bytes: u64, stamp: &RateStamp) {
        self.delivered += bytes;
        self.delivered_at = now;
        if self.newest.is_none_or(|(newest, _)| sent >= newest) {
            self.newest = Some((sent, *stamp));
            self.first_sent = self.first_sent.max(sent);
        }
    }

    /// A packet that left at `sent` was declared lost.
    pub(crate) fn on_lost(&mut self, sent: Instant, bytes: u64, stamp: &RateStamp) {
        self.lost += bytes;
        self.losses = Some(match self.losses {
            Some((newest, of_newest, sum)) if newest > sent => (newest, of_newest, sum + bytes),
            Some((_, _, sum)) => (sent, *stamp, sum + bytes),
            None => (sent, *stamp, bytes),
        });
    }

    /// A packet that was declared lost was acknowledged after all. [`on_acked`](Self::on_acked) is called as well.
    pub(crate) fn on_spurious_loss(&mut self, bytes: u64) {
        self.lost = self.lost.saturating_sub(bytes);
    }

    /// The losses since the last call, if any.
    pub(crate) fn loss(&mut self, now: Instant, in_flight: u64, persistent: bool) -> Option<LossSample> {
        let (largest_sent, stamp, lost) = self.losses.take()?;
        Some(LossSample {
            now,
            lost,
            largest_sent,
            in_flight,
            persistent,
            in_flight_at_send: u64::from(stamp.in_flight),
            lost_since_sent: self.lost_since(&stamp),
            app_limited: stamp.app_limited,
        })
    }

    /// Ends an acknowledgement. `None` if it acknowledged nothing new.
    pub(crate) fn sample(&mut self, now: Instant) -> Option<RateSample> {
        let (sent, stamp) = self.newest.take()?;
        if self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let delivered = u64::from((self.delivered as u32).wrapping_sub(stamp.delivered)).min(self.delivered);
        let sending = Self::span(stamp.first_sent, self.ticks(sent));
        let hearing = Self::span(stamp.delivered_at, self.ticks(self.delivered_at));
        Some(RateSample {
            delivered,
            interval: sending.max(hearing),
            app_limited: stamp.app_limited,
            prior_delivered: self.delivered - delivered,
            rtt: now.saturating_duration_since(sent),
            in_flight_at_send: u64::from(stamp.in_flight),
            lost: self.lost_since(&stamp),
        })
    }

    // An undone loss may take the counter below what the stamp saw.
    fn lost_since(&self, stamp: &RateStamp) -> u64 {
        u64::try_from((self.lost as u32).wrapping_sub(stamp.lost) as i32).unwrap_or(0)
    }

    /// There is window and permission to send, and nothing to send, with `in_flight` bytes on the way.
    pub(crate) fn app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = (self.delivered + in_flight).max(1);
    }

    /// Whether packets that leave now count as limited by the application.
    pub(crate) fn is_app_limited(&self) -> bool {
        self.app_limited_until != 0
    }

    /// All bytes ever acknowledged.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn stamp_is_small() {
        assert!(size_of::<RateStamp>() <= 24);
    }

    #[test]
    fn steady_flow_has_its_rate() {
        let start = Instant::now();
        let mut tracker = RateTracker::new(start);
        // A packet of 1000 bytes each millisecond; each comes back after 10 ms.
        let mut stamps = Vec::new();
        for i in 0..40_u32 {
            let now = start + MS * i;
            if i >= 10 {
                let sent = start + MS * (i - 10);
                tracker.on_acked(now, sent, 1000, &stamps[i as usize - 10]);
                let sample = tracker.sample(now).expect("something was acknowledged");
                assert_eq!(sample.rtt, 10 * MS);
                if i >= 20 {
                    let rate = sample.rate().unwrap();
                    assert!((990_000..=1_010_000).contains(&rate), "{rate}");
                    assert_eq!(sample.in_flight_at_send, 10_000);
                }
            }
            let in_flight = u64::from(i.min(9)) * 1000;
            stamps.push(tracker.on_sent(now, 1000, in_flight));
        }
        assert!(tracker.sample(start).is_none());
    }

    #[test]
    fn burst_of_acknowledgements_is_no_rate() {
        let start = Instant::now();
        let mut tracker = RateTracker::new(start);
        let stamps: Vec<_> =
            (0..10).map(|i| tracker.on_sent(start + MS * i, 1000, u64::from(i) * 1000)).collect();
        let now = start + 20 * MS;
        for (i, stamp) in (0..10).zip(&stamps) {
            tracker.on_acked(now, start + MS * i, 1000, stamp);
        }
        let sample = tracker.sample(now).unwrap();
        assert_eq!((sample.delivered, sample.interval.as_millis()), (10_000, 20));
    }

    #[test]
    fn application_limit_ends_with_what_was_on_the_way() {
        let now = Instant::now();
        let mut tracker = RateTracker::new(now);
        let first = tracker.on_sent(now, 500, 0);
        tracker.app_limited(500);
        let second = tracker.on_sent(now, 500, 500);
        for (stamp, limited) in [(first, false), (second, true)] {
            tracker.on_acked(now + MS, now, 500, &stamp);
            assert_eq!(tracker.sample(now + MS).unwrap().app_limited, limited);
        }
        assert!(!tracker.is_app_limited());
    }

    #[test]
    fn losses_are_counted_together_and_undone() {
        let start = Instant::now();
        let mut tracker = RateTracker::new(start);
        let stamps: Vec<_> =
            (0..4).map(|i| tracker.on_sent(start + MS * i, 100, u64::from(i) * 100)).collect();
        for i in [2, 0, 1] {
            tracker.on_lost(start + MS * i, 100, &stamps[i as usize]);
        }
        let loss = tracker.loss(start, 100, false).unwrap();
        assert_eq!((loss.lost, loss.largest_sent, loss.in_flight_at_send), (300, start + 2 * MS, 300));
        assert!(tracker.loss(start, 100, false).is_none());
        tracker.on_spurious_loss(100);
        tracker.on_acked(start + 9 * MS, start + 3 * MS, 100, &stamps[3]);
        assert_eq!(tracker.sample(start + 9 * MS).unwrap().lost, 200);
    }

    #[test]
    fn counters_run_over_their_32_bits() {
        let start = Instant::now();
        let mut tracker = RateTracker::new(start);
        let chunk = 1 << 30;
        for i in 0..9 {
            let sent = start + Duration::from_mins(10) * i;
            let stamp = tracker.on_sent(sent, chunk, 0);
            tracker.on_acked(sent + 1000 * MS, sent, chunk, &stamp);
            let sample = tracker.sample(sent + 1000 * MS).unwrap();
            assert_eq!((sample.delivered, sample.prior_delivered), (chunk, u64::from(i) * chunk));
            assert!(sample.interval.abs_diff(1000 * MS) < Duration::from_micros(1));
        }
    }
}
