//! How much may be on the way at once, and how fast it leaves.
//!
//! A link owns one of each: [`RttEstimator`], [`RateTracker`], [`Controller`], [`Pacer`], and a [`Ledbat`] for what it
//! sends in the background. None of them allocates after its construction; every event costs constant time.

mod bbr;
mod cubic;
mod hystart;
mod ledbat;
mod pacer;
mod rate;
mod rounds;
mod rtt;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::{bbr::Bbr, cubic::Cubic};
pub(crate) use self::{
    ledbat::Ledbat,
    pacer::Pacer,
    rate::{RateSample, RateStamp, RateTracker},
    rtt::RttEstimator,
};

/// Congestion control of a datagram link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// A model of the path's rate and round trip (draft-ietf-ccwg-bbr, BBRv3): random loss does not slow it.
    #[default]
    Bbr,
    /// Loss as the sign of congestion (RFC 9438).
    Cubic,
}

/// Packets that may be sent before anything is known about the path. RFC 9002 (7.2) has ten, sent at once; these are paced
/// over the round trip that the handshake measured, so that a short queue takes them.
const INITIAL_PACKETS: u64 = 32;

/// The least window, in packets: one on the way and one that keeps acknowledgements coming.
const LEAST_PACKETS: u64 = 2;

/// No window grows beyond this, in bytes: 10 Gbit/s at 800 ms. It keeps every sum in range.
const MOST_BYTES: u64 = 1 << 30;

/// What one acknowledgement told, after the link took the acknowledged and the lost packets out of `in_flight`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckSample<'a> {
    /// When it came.
    pub(crate) now: Instant,
    /// Bytes newly acknowledged.
    pub(crate) acked: u64,
    /// Bytes on the way after it.
    pub(crate) in_flight: u64,
    /// Bytes on the way before it.
    pub(crate) prior_in_flight: u64,
    /// The round trips, this one included.
    pub(crate) rtt: &'a RttEstimator,
    /// From [`RateTracker::sample`].
    pub(crate) rate: Option<RateSample>,
    /// From [`RateTracker::delivered`]: all bytes ever acknowledged.
    pub(crate) delivered: u64,
    /// When the latest sent of the newly acknowledged packets left.
    pub(crate) largest_sent: Instant,
    /// Packets newly reported with a CE mark.
    pub(crate) ecn_ce: u64,
}

/// Packets that were declared lost at once. [`RateTracker::loss`] makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LossSample {
    /// When that was found.
    pub(crate) now: Instant,
    /// Their bytes.
    pub(crate) lost: u64,
    /// When the last of them left.
    pub(crate) largest_sent: Instant,
    /// Bytes on the way without them.
    pub(crate) in_flight: u64,
    /// Persistent congestion (RFC 9002, 7.6): nothing came through for three probe timeouts.
    pub(crate) persistent: bool,
    /// Bytes that were on the way when the last of them left, itself included.
    pub(crate) in_flight_at_send: u64,
    /// Bytes declared lost since the last of them left.
    pub(crate) lost_since_sent: u64,
    /// Whether the last of them left while the application wrote less than the path takes.
    pub(crate) app_limited: bool,
}

/// A congestion controller. Bytes are those of UDP payloads of ack-eliciting packets.
pub(crate) trait Control: std::fmt::Debug {
    /// A packet left. `in_flight` includes it.
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64, app_limited: bool);

    /// Something was acknowledged. Comes after [`Control::on_loss`] of the same event.
    fn on_ack(&mut self, ack: &AckSample<'_>);

    /// Packets were declared lost, through an acknowledgement or by time.
    fn on_loss(&mut self, loss: &LossSample);

    /// A packet of `bytes` that had been declared lost was acknowledged after all; it left at `sent`.
    fn on_spurious_loss(&mut self, now: Instant, bytes: u64, sent: Instant);

    /// A round trip that was measured before the first packet: that of the handshake.
    fn on_first_rtt(&mut self, rtt: Duration) {
        let _ = rtt;
    }

    /// Packets have another size now.
    fn on_mtu(&mut self, mtu: u16);

    /// Bytes that may be on the way.
    fn window(&self) -> u64;

    /// Bytes per second at which to send; `None`: at once, nothing is known yet.
    fn pacing_rate(&self) -> Option<u64>;
}

/// The congestion controller of a datagram link.
#[derive(Clone, Debug)]
pub(crate) enum Controller {
    Bbr(Box<Bbr>),
    Cubic(Box<Cubic>),
}

impl Controller {
    /// `seed` decides when BBR probes, so that flows do not all probe at once.
    pub(crate) fn new(algorithm: Algorithm, now: Instant, mtu: u16, seed: u64) -> Self {
        match algorithm {
            Algorithm::Bbr => Self::Bbr(Box::new(Bbr::new(now, mtu, seed))),
            Algorithm::Cubic => Self::Cubic(Box::new(Cubic::new(mtu))),
        }
    }

    fn control(&self) -> &dyn Control {
        match self {
            Self::Bbr(bbr) => &**bbr,
            Self::Cubic(cubic) => &**cubic,
        }
    }

    fn control_mut(&mut self) -> &mut dyn Control {
        match self {
            Self::Bbr(bbr) => &mut **bbr,
            Self::Cubic(cubic) => &mut **cubic,
        }
    }
}

impl Control for Controller {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64, app_limited: bool) {
        self.control_mut().on_sent(now, bytes, in_flight, app_limited);
    }

    fn on_ack(&mut self, ack: &AckSample<'_>) {
        self.control_mut().on_ack(ack);
    }

    fn on_loss(&mut self, loss: &LossSample) {
        self.control_mut().on_loss(loss);
    }

    fn on_spurious_loss(&mut self, now: Instant, bytes: u64, sent: Instant) {
        self.control_mut().on_spurious_loss(now, bytes, sent);
    }

    fn on_first_rtt(&mut self, rtt: Duration) {
        self.control_mut().on_first_rtt(rtt);
    }

    fn on_mtu(&mut self, mtu: u16) {
        self.control_mut().on_mtu(mtu);
    }

    fn window(&self) -> u64 {
        self.control().window()
    }

    fn pacing_rate(&self) -> Option<u64> {
        self.control().pacing_rate()
    }
}

/// `value * num / den` without overflow, saturating.
fn scale(value: u64, num: u64, den: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(num) / u128::from(den.max(1))).unwrap_or(u64::MAX)
}

/// Nanoseconds of a duration, saturating after 584 years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Bytes that a rate in bytes per second moves in a time.
fn volume(rate: u64, time: Duration) -> u64 {
    scale(rate, nanos(time), 1_000_000_000)
}

/// Bytes per second of so many bytes in a time; `None` if no time passed.
fn rate_of(bytes: u64, time: Duration) -> Option<u64> {
    match nanos(time) {
        0 => None,
        time => Some(scale(bytes, 1_000_000_000, time)),
    }
}
