//! Before and after a packet leaves.

use std::time::{Duration, Instant};

use super::{Class, Content, Link, MAX_SENT, MAX_SENT_ACKS, Permit, sent::Sent};
use crate::{
    Ecn, LinkStatus,
    congestion::{Control, Ledbat},
};

/// Packets beyond the window that channels with nothing in flight may have on their way together.
const SPARSE_PACKETS: u64 = 64;
/// Unacknowledged bytes on a stream, which the kernels hold: at most.
const STREAM_WINDOW: u64 = 64 << 20;
/// What it may always have: what its peer acknowledges together, many times.
const LEAST_STREAM_WINDOW: u64 = 1 << 20;
/// As many round trips of the shortest kind: enough for a rate that doubles, and little waits in buffers where nothing can overtake it.
const STREAM_TRIPS: u64 = 4;

impl Link {
    /// Bytes that may be on the way.
    #[inline]
    pub(super) fn window(&self) -> u64 {
        if self.stream { self.stream_window() } else { self.control.window() }
    }

    fn stream_window(&self) -> u64 {
        let trip = self.rtt.min().as_micros() as u64;
        let flight = self.delivery_rate.saturating_mul(trip) / 1_000_000;
        (STREAM_TRIPS * flight + LEAST_STREAM_WINDOW).min(STREAM_WINDOW)
    }

    /// Bytes per second at which it sends, or would.
    pub(crate) fn send_rate(&self) -> u64 {
        let by_window = || {
            let rtt = self.rtt.smoothed().as_micros().max(1) as u64;
            self.window().saturating_mul(1_000_000) / rtt
        };
        if self.stream {
            return if self.delivery_rate > 0 { self.delivery_rate } else { 12_500_000 };
        }
        self.control.pacing_rate().unwrap_or_else(by_window)
    }

    /// Whether a packet of this class and length may leave now.
    #[inline]
    pub(crate) fn can_send(&mut self, now: Instant, bytes: u32, class: Class) -> Permit {
        let bytes = u64::from(bytes);
        match (self.status, class) {
            (LinkStatus::Closed, _)
            | (
                LinkStatus::Validating | LinkStatus::Dead,
                Class::Normal | Class::Background | Class::Sparse,
            ) => {
                return Permit::Unusable;
            }
            _ => {}
        }
        if !self.ready {
            return Permit::NotReady;
        }
        if !self.validation.allows(bytes) {
            return Permit::Amplification;
        }
        if class == Class::Probe {
            return Permit::Yes;
        }
        if class == Class::Ack {
            return if self.sent.len() < MAX_SENT_ACKS { Permit::Yes } else { Permit::Window };
        }
        if self.sent.len() >= MAX_SENT {
            return Permit::Window;
        }
        let window = match class {
            Class::Sparse => self.window() + SPARSE_PACKETS * u64::from(self.mtu.current()),
            _ => self.window(),
        };
        if self.in_flight + bytes > window {
            return Permit::Window;
        }
        if class == Class::Background && !self.stream && !self.background_allows(now, bytes) {
            return Permit::Window;
        }
        if self.stream || class == Class::Sparse {
            return Permit::Yes;
        }
        let Some(rate) = self.control.pacing_rate() else { return Permit::Yes };
        match self.pacer.allow(now, bytes, rate, self.mtu.current()) {
            Ok(()) => Permit::Yes,
            Err(again) => {
                self.pace_at = Some(again);
                Permit::Paced(again)
            }
        }
    }

    fn background_allows(&mut self, now: Instant, bytes: u64) -> bool {
        let mtu = self.mtu.current();
        let background = self.background.get_or_insert_with(|| Box::new(Ledbat::new(now, mtu)));
        self.background_in_flight + bytes <= background.window()
    }

    /// The number that the next packet has. Stays until [`Link::on_sent`].
    #[inline]
    pub(crate) fn next_pn(&self) -> u64 {
        self.sent.next()
    }

    /// The largest packet. Smallest while probes are due: what is too large for a path that changed must not hide that it lives.
    #[inline]
    pub(crate) fn mtu(&self) -> u16 {
        if self.pto_count > 0 && !self.stream { self.mtu.base() } else { self.mtu.current() }
    }

    /// The mark of the next packet. Only acknowledgements and timers change it.
    #[inline]
    pub(crate) fn ecn(&self) -> Option<Ecn> {
        self.ecn.marks().then_some(Ecn::Ect0)
    }

    /// The packet [`Link::next_pn`] leaves, with this many bytes on the wire.
    #[inline]
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: u32, eliciting: bool, content: Content) {
        let length = u64::from(bytes);
        let pn = self.sent.next();
        self.bytes_sent += length;
        self.validation.on_sent(length);
        self.keepalive.on_sent(now);
        let stamp = self.rate.on_sent(now, length, self.in_flight);
        let ack = self.ack_written.take().filter(|&(carrier, _)| carrier == pn);
        let marked = self.ecn.marks();
        if marked {
            self.ecn.on_sent();
        }
        let sent = Sent {
            time: now,
            stamp,
            content,
            ack: ack.map_or(0, |(_, told)| told as u32),
            bytes: bytes as u16,
            eliciting,
            carries_ack: ack.is_some(),
            marked,
        };
        self.sent.push(sent);
        if eliciting {
            self.in_flight += length;
            self.eliciting += 1;
            if content.background {
                self.background_in_flight += length;
                if let Some(background) = &mut self.background {
                    background.on_sent(now, length, self.background_in_flight, self.rate.is_app_limited());
                }
            }
            if content.mtu_probe {
                // Its loss is no sign that the link is silent.
                self.mtu.on_probe_sent();
                self.mtu_probe = Some((pn, now + 2 * self.pto()));
            } else {
                self.wait_since.get_or_insert(now);
                self.probes_due = self.probes_due.saturating_sub(1);
            }
            if !self.stream {
                self.pacer.on_sent(length);
                self.control.on_sent(now, length, self.in_flight, self.rate.is_app_limited());
            }
        } else {
            self.trim(now);
        }
        if pn + 1 == self.skip_at {
            self.skip(sent);
        }
    }

    /// Passes a number over, so that a peer that acknowledges what it cannot have seen gives itself away (RFC 9000,
    /// section 21.4).
    #[cold]
    fn skip(&mut self, like: Sent) {
        use rand::RngExt;
        self.skipped = Some(self.sent.next());
        self.sent.skip(like);
        // Ever rarer: each costs its receiver an acknowledgement.
        self.skip_step = (self.skip_step * 2).min(1 << 20);
        self.skip_at = self.sent.next() + self.rng.random_range(self.skip_step / 2..self.skip_step);
    }

    /// There is permission to send, and nothing to send: what is measured now says little about the path.
    pub(crate) fn on_idle(&mut self) {
        if !self.stream && self.in_flight < self.window() {
            self.rate.app_limited(self.in_flight);
        }
    }

    /// How long until so many bytes, sent next, are at the peer.
    pub(crate) fn estimate_delivery(&self, now: Instant, bytes: u64) -> Duration {
        let rtt = self.rtt.smoothed();
        let rate = self.send_rate().max(1);
        let transmit = |bytes: u64| {
            Duration::from_micros((u128::from(bytes) * 1_000_000 / u128::from(rate)).min(60_000_000) as u64)
        };
        if self.stream {
            // What is ahead of it lies in buffers, in order.
            return self.rtt.min() / 2 + transmit(self.in_flight + bytes);
        }
        let paced = self.pace_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let over = (self.in_flight + bytes).saturating_sub(self.window());
        // What the window has no room for leaves at the rate at which acknowledgements make room.
        rtt / 2 + paced.max(transmit(over)) + transmit(bytes)
    }

    /// What is on its way and was not declared lost, oldest first.
    pub(crate) fn unacked(&self) -> impl DoubleEndedIterator<Item = &Content> {
        use super::sent::State;
        (self.first_flying.max(self.sent.base())..self.sent.next())
            .filter(|&pn| self.sent.is(State::Flying, pn))
            .map(|pn| &self.sent.get(pn).content)
            .filter(|content| content.is_tracked())
    }
}
