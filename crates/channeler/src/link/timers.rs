//! What a link does when nothing comes.

use std::time::{Duration, Instant};

use super::{Link, LinkTimeout, Outcome, validation::Expiry};
use crate::LinkStatus;

/// Probes per timeout (RFC 9002, section 6.2.4).
const PROBES: u8 = 2;
/// Longest time between two probes of a link that died less than [`RECENTLY`] ago: one that comes back is noticed within this.
const SHORT_BACKOFF: Duration = Duration::from_secs(1);
/// Longest time between two probes of others. The specification allows 60 s, which is longer than connections live in silence.
const LONG_BACKOFF: Duration = Duration::from_secs(5);
/// Most outages are shorter.
const RECENTLY: Duration = Duration::from_secs(30);
/// On shorter paths the scheduling of busy systems is most of a round trip, and no sign of death.
const MIN_PTO: Duration = Duration::from_millis(25);
/// A kernel repeats on a stream what was lost, and that takes as long as its own timers.
const STREAM_PTO: Duration = Duration::from_millis(500);
/// An acknowledgement of a stream waits that long.
const STREAM_ACK_DELAY: Duration = Duration::from_millis(25);

impl Link {
    pub(super) fn peer_max_ack_delay(&self) -> Duration {
        if self.stream { STREAM_ACK_DELAY } else { self.peer_max_ack_delay }
    }

    /// How long an acknowledgement is waited for: `srtt + max(4 var, 1 ms)` and what the peer may hold it back.
    pub(crate) fn pto(&self) -> Duration {
        let pto = self.rtt.pto_base() + self.peer_max_ack_delay();
        pto.max(if self.stream { STREAM_PTO } else { MIN_PTO })
    }

    /// Probes to send now: packets of class `Probe` that elicit acknowledgements.
    #[inline]
    pub(crate) fn probes_due(&self) -> u8 {
        self.probes_due
    }

    fn pto_deadline(&self) -> Option<Instant> {
        let since = self.wait_since?;
        if self.validation.is_first() || self.status == LinkStatus::Closed {
            return None;
        }
        let pto = self.pto();
        if let (1.., Some(probed)) = (self.pto_count, self.probed_at) {
            let longest = match self.dead_since {
                None => Duration::MAX,
                Some(dead) if probed < dead + RECENTLY => SHORT_BACKOFF,
                Some(_) => LONG_BACKOFF,
            };
            return Some(probed + (pto * (1 << self.pto_count.min(16))).min(longest.max(pto)));
        }
        // The oldest is overdue, and nothing else came in the time that the peer holds acknowledgements back.
        let silence = self.progress_at.map(|at| at + pto / 4);
        Some(silence.map_or(since + pto, |silence| silence.max(since + pto)))
    }

    /// Gives back what nothing that is on its way needs.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.trim(now);
        self.sent.release();
    }

    /// When [`Link::on_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.status == LinkStatus::Closed {
            return None;
        }
        [
            self.loss_time,
            self.pto_deadline(),
            self.received.deadline(),
            self.pace_at,
            self.validation.deadline(),
            self.keepalive_deadline(),
            self.mtu_deadline(),
            self.mtu_probe.map(|(_, at)| at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn keepalive_deadline(&self) -> Option<Instant> {
        (!self.stream && self.status == LinkStatus::Active).then(|| self.keepalive.deadline()).flatten()
    }

    fn mtu_deadline(&self) -> Option<Instant> {
        (self.status == LinkStatus::Active).then(|| self.mtu.deadline()).flatten()
    }

    /// One thing whose time has come; to be called until there is none.
    pub(crate) fn on_timeout(&mut self, now: Instant, out: &mut Outcome) -> Option<LinkTimeout> {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| now >= deadline);
        if self.status == LinkStatus::Closed {
            return None;
        }
        if due(self.loss_time) {
            self.detect_lost(now, out);
            if self.mtu.found_hole() {
                self.on_mtu(out);
            }
            self.trim(now);
            return Some(LinkTimeout::Loss);
        }
        if due(self.pto_deadline()) {
            return Some(self.on_probe_timeout(now, out));
        }
        if due(self.pace_at) {
            self.pace_at = None;
            return Some(LinkTimeout::PaceReady);
        }
        if due(self.received.deadline()) {
            self.received.on_due();
            return Some(LinkTimeout::AckDue);
        }
        if due(self.validation.deadline())
            && let Some(expiry) = self.validation.on_timeout(now, 3 * self.pto())
        {
            return Some(match expiry {
                Expiry::Again => LinkTimeout::Challenge,
                Expiry::Failed(back) => {
                    match back {
                        Some(route) => {
                            self.route = route;
                            self.ready = true;
                        }
                        None => self.set_status(LinkStatus::Dead, out),
                    }
                    LinkTimeout::ValidationFailed
                }
            });
        }
        if due(self.keepalive_deadline()) {
            self.keepalive.on_ping(now);
            self.rest(now);
            return Some(LinkTimeout::KeepAlive);
        }
        if due(self.mtu_probe.map(|(_, at)| at)) {
            self.on_mtu_probe_timeout(out);
            return Some(LinkTimeout::MtuProbe);
        }
        if due(self.mtu_deadline()) {
            self.mtu.start_over();
            return Some(LinkTimeout::MtuProbe);
        }
        None
    }

    fn on_probe_timeout(&mut self, now: Instant, out: &mut Outcome) -> LinkTimeout {
        self.pto_count += 1;
        self.probed_at = Some(now);
        self.probes_due = PROBES;
        self.ecn.on_probe_timeout();
        self.mtu.on_probe_timeout();
        out.mtu_changed |= self.mtu.current() != self.mtu();
        match self.pto_count {
            1 => {
                self.set_status(LinkStatus::Suspect, out);
                LinkTimeout::Suspect
            }
            2 => {
                self.set_status(LinkStatus::Dead, out);
                self.dead_since = Some(now);
                LinkTimeout::Dead
            }
            _ => LinkTimeout::Probe,
        }
    }
    /// Something changed that may have brought the link back: it is tried at once, and as often as if it had just died. False if it
    /// is not silent.
    pub(crate) fn try_again(&mut self, now: Instant) -> bool {
        let silent = self.pto_count > 0;
        if silent {
            self.pto_count = self.pto_count.min(2);
            self.dead_since = self.dead_since.map(|_| now);
            self.probed_at = Some(now);
            self.probes_due = PROBES;
        }
        silent
    }

    /// A packet came by a link that is dead in this direction: perhaps it is no longer.
    #[cold]
    pub(super) fn on_sign_of_life(&mut self, now: Instant) {
        if self.probed_at.is_none_or(|at| now >= at + self.pto()) {
            self.probed_at = Some(now);
            self.probes_due = self.probes_due.max(1);
        }
    }
}
