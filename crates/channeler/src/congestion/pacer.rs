//! Spreads packets over time.

use std::time::{Duration, Instant};

use super::{nanos, volume};

/// Packets that may always leave together, so that a batch for the operating system is worth its call.
const LEAST_BURST: u64 = 10;

/// Time whose bytes may leave together after a pause. Timers count whole milliseconds and are late by up to two.
const BURST_TIME: Duration = Duration::from_millis(4);

const SECOND: u128 = 1_000_000_000;

/// A token bucket that fills at the rate given with each call.
#[derive(Clone, Debug)]
pub(crate) struct Pacer {
    /// Bytes that may leave, times 10^9.
    credit: u128,
    filled: Instant,
}

impl Pacer {
    /// With a first burst of ten packets, whatever their size.
    pub(crate) fn new(now: Instant) -> Self {
        Self { credit: u128::from(LEAST_BURST * u64::from(u16::MAX)) * SECOND, filled: now }
    }

    /// Bytes that may leave at once after a pause.
    fn burst(rate: u64, mtu: u16) -> u64 {
        volume(rate, BURST_TIME).max(LEAST_BURST * u64::from(mtu))
    }

    /// Asks to send `bytes` at `rate` bytes per second in packets of `mtu`. A yes is paid for by
    /// [`Pacer::on_sent`]. A no says when to ask again: when a quarter of a burst may leave, so that a timer serves many packets.
    pub(crate) fn allow(&mut self, now: Instant, bytes: u64, rate: u64, mtu: u16) -> Result<(), Instant> {
        let burst = Self::burst(rate, mtu);
        let passed = u128::from(nanos(now.saturating_duration_since(self.filled)));
        self.filled = self.filled.max(now);
        self.credit = (self.credit + passed * u128::from(rate)).min(u128::from(burst) * SECOND);
        if self.credit >= u128::from(bytes.min(burst)) * SECOND {
            return Ok(());
        }
        let wanted = u128::from((burst / 4).max(bytes.min(burst))) * SECOND;
        let wait = wanted.saturating_sub(self.credit).div_ceil(u128::from(rate.max(1)));
        // An hour is as good as never: the rate will be another one by then.
        let wait = u64::try_from(wait).unwrap_or(u64::MAX).min(3_600 * SECOND as u64);
        Err(self.filled + Duration::from_nanos(wait))
    }

    /// A packet left.
    pub(crate) fn on_sent(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_sub(u128::from(bytes) * SECOND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 12_500_000;
    const MTU: u16 = 1250;

    /// Sends whatever the pacer lets go until `end`; waking at most `late` after it says.
    fn run(pacer: &mut Pacer, mut now: Instant, end: Instant, rate: u64, late: Duration) -> (u64, u64) {
        let (mut sent, mut wakes) = (0, 0);
        while now < end {
            match pacer.allow(now, u64::from(MTU), rate, MTU) {
                Ok(()) => {
                    pacer.on_sent(u64::from(MTU));
                    sent += u64::from(MTU);
                }
                Err(again) => {
                    assert!(again > now);
                    now = again + late;
                    wakes += 1;
                }
            }
        }
        (sent, wakes)
    }

    #[test]
    fn keeps_the_rate_with_few_timers_that_may_be_late() {
        let start = Instant::now();
        for late in [Duration::ZERO, Duration::from_micros(2900)] {
            let mut pacer = Pacer::new(start);
            let (sent, wakes) = run(&mut pacer, start, start + Duration::from_secs(1), RATE, late);
            let (least, most) = (RATE - RATE / 100, RATE + RATE / 100);
            assert!((least..=most).contains(&sent), "{sent}");
            assert!(wakes <= 1010, "{wakes}");
        }
    }

    #[test]
    fn pause_earns_one_burst() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        let _ = run(&mut pacer, start, start + Duration::from_millis(100), RATE, Duration::ZERO);
        let now = start + Duration::from_secs(5);
        let (sent, _) = run(&mut pacer, now, now + Duration::from_nanos(1), RATE, Duration::ZERO);
        assert_eq!(sent, Pacer::burst(RATE, MTU));
    }

    #[test]
    fn slow_rate_and_no_rate() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        while pacer.allow(start, 1250, 1, MTU).is_ok() {
            pacer.on_sent(1250);
        }
        assert!(pacer.allow(start, 1250, 0, MTU).is_err());
        assert!(pacer.allow(start, u64::MAX, u64::MAX, u16::MAX).is_err());
        let later = start + Duration::from_secs(1);
        assert!(
            pacer.allow(later, u64::MAX, u64::MAX, u16::MAX).is_ok(),
            "larger than a burst: when it is full"
        );
    }
}
