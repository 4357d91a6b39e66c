//! Acknowledgements of what this side sent, and what they say about the rest.

use std::time::{Duration, Instant};

use super::{Link, Outcome, sent::State};
use crate::{
    LinkStatus, Violation,
    congestion::{AckSample, Control, LossSample},
    wire::message::Ack,
};

/// Bytes whose delivery tells how fast a stream is.
const TELLING_BYTES: u64 = 64 << 10;

/// What one acknowledgement acknowledged.
#[derive(Default)]
struct Newly {
    bytes: u64,
    /// Of these, in the background.
    background: u64,
    eliciting: bool,
    marked: u64,
    unmarked: u64,
    /// The largest number, and when it left.
    largest: Option<(u64, Instant)>,
}

impl Link {
    /// The peer acknowledged packets of this link. If the message came by another one (not `own`), the time that it took
    /// is half of another round trip and says little about this.
    pub(crate) fn on_ack(
        &mut self,
        now: Instant,
        ack: &Ack<'_>,
        own: bool,
        out: &mut Outcome,
    ) -> Result<(), Violation> {
        if ack.largest >= self.sent.next() {
            return Err(Violation::Acknowledgement);
        }
        let (prior_in_flight, prior_background) = (self.in_flight, self.background_in_flight);
        let mut newly = Newly::default();
        for range in ack.ranges() {
            if self.skipped.is_some_and(|skipped| range.contains(&skipped)) {
                return Err(Violation::Acknowledgement);
            }
            let (low, high) = range.into_inner();
            if high < self.sent.base() {
                break;
            }
            let mut from = low.max(self.first_flying);
            while let Some(pn) = self.sent.first(State::Flying, from, high) {
                self.on_acked(now, pn, &mut newly, out);
                from = pn + 1;
            }
            from = low;
            while self.lost_remembered > 0 {
                let Some(pn) = self.sent.first(State::Lost, from, high) else { break };
                self.on_late(now, pn, &mut newly, out);
                from = pn + 1;
            }
        }
        let Some((largest, sent_at)) = newly.largest else {
            self.trim(now);
            return Ok(());
        };
        let own = own || !self.rtt.is_measured();
        if largest == ack.largest && newly.eliciting && own {
            let delay = Duration::from_micros(ack.delay_us).min(self.peer_max_ack_delay());
            self.rtt.update(now, now.saturating_duration_since(sent_at), delay);
        }
        let mut ecn_ce = 0;
        if self.largest_acked.is_none_or(|known| largest > known) {
            self.largest_acked = Some(largest);
            ecn_ce = self.ecn.on_ack(newly.marked, newly.unmarked, ack.ecn);
        }
        if newly.eliciting {
            self.on_progress(now, out);
        }
        self.detect_lost(now, out);
        let mut rate = self.rate.sample(now);
        if let Some(rate) = rate.as_mut().filter(|_| !own) {
            rate.rtt = rate.rtt.max(self.rtt.min());
        }
        // A few pings tell nothing of what a stream carries.
        let telling = rate.as_ref().filter(|rate| !self.stream || rate.delivered >= TELLING_BYTES);
        if let Some(rate) = telling.and_then(crate::congestion::RateSample::rate) {
            self.delivery_rate =
                if self.delivery_rate == 0 { rate } else { self.delivery_rate / 8 * 7 + rate / 8 };
        }
        if !self.stream && newly.bytes > 0 {
            let sample = AckSample {
                now,
                acked: newly.bytes,
                in_flight: self.in_flight,
                prior_in_flight,
                rtt: &self.rtt,
                rate,
                delivered: self.rate.delivered(),
                largest_sent: sent_at,
                ecn_ce,
            };
            self.control.on_ack(&sample);
            if let Some(background) = self.background.as_mut().filter(|_| newly.background > 0) {
                background.on_ack(&AckSample {
                    acked: newly.background,
                    in_flight: self.background_in_flight,
                    prior_in_flight: prior_background,
                    ..sample
                });
            }
        }
        if self.mtu.found_hole() {
            self.on_mtu(out);
        }
        self.trim(now);
        Ok(())
    }

    /// A packet in flight arrived.
    #[inline]
    fn on_acked(&mut self, now: Instant, pn: u64, newly: &mut Newly, out: &mut Outcome) {
        self.sent.clear(State::Flying, pn);
        let sent = *self.sent.get(pn);
        if newly.largest.is_none_or(|(largest, _)| pn > largest) {
            newly.largest = Some((pn, sent.time));
        }
        if sent.marked {
            newly.marked += 1;
        } else {
            newly.unmarked += 1;
        }
        if sent.carries_ack {
            self.received.on_heard(sent.ack);
        }
        if !sent.eliciting {
            return;
        }
        let bytes = u64::from(sent.bytes);
        newly.eliciting = true;
        newly.bytes += bytes;
        newly.background += if sent.content.background { bytes } else { 0 };
        self.leaves_flight(bytes, sent.content.background);
        self.rate.on_acked(now, sent.time, bytes, &sent.stamp);
        self.loss_rate.on_acked();
        if sent.content.mtu_probe {
            if self.mtu.on_probe_acked(pn, sent.bytes) {
                self.on_mtu(out);
            }
        } else {
            self.mtu.on_acked(pn, sent.bytes);
        }
        if sent.content.is_tracked() {
            out.acked.push(sent.content);
        }
    }

    /// A packet that was declared lost arrived after all.
    #[cold]
    fn on_late(&mut self, now: Instant, pn: u64, newly: &mut Newly, out: &mut Outcome) {
        self.sent.clear(State::Lost, pn);
        self.lost_remembered -= 1;
        let sent = *self.sent.get(pn);
        if newly.largest.is_none_or(|(largest, _)| pn > largest) {
            newly.largest = Some((pn, sent.time));
        }
        if sent.marked {
            newly.marked += 1;
        }
        if sent.carries_ack {
            self.received.on_heard(sent.ack);
        }
        if !sent.eliciting {
            return;
        }
        let bytes = u64::from(sent.bytes);
        newly.eliciting = true;
        newly.bytes += bytes;
        self.rate.on_acked(now, sent.time, bytes, &sent.stamp);
        self.rate.on_spurious_loss(bytes);
        self.loss_rate.on_spurious();
        self.mtu.on_acked(pn, sent.bytes);
        if pn >= self.abandoned_below {
            let newest = self.largest_acked.unwrap_or(pn);
            let age = now.saturating_duration_since(sent.time);
            self.reorder.on_spurious(newest.saturating_sub(pn), age, self.rtt.smoothed());
        }
        if !self.stream {
            self.control.on_spurious_loss(now, bytes, sent.time);
            if let Some(background) = self.background.as_mut().filter(|_| sent.content.background) {
                background.on_spurious_loss(now, bytes, sent.time);
            }
        }
        out.spurious += 1;
        if sent.content.is_tracked() {
            out.late.push(sent.content);
        }
    }

    #[inline]
    fn leaves_flight(&mut self, bytes: u64, background: bool) {
        self.in_flight -= bytes;
        self.eliciting -= 1;
        if background {
            self.background_in_flight -= bytes;
        }
    }

    /// The peer heard something: the link works.
    fn on_progress(&mut self, now: Instant, out: &mut Outcome) {
        out.progress = true;
        self.progress_at = Some(now);
        self.pto_count = 0;
        self.probes_due = 0;
        self.dead_since = None;
        if matches!(self.status, LinkStatus::Suspect | LinkStatus::Dead) && !self.validation.is_first() {
            self.set_status(LinkStatus::Active, out);
        }
    }

    /// Declares lost what was overtaken too far or too long ago (RFC 9002, section 6.1). Gives the sum.
    pub(super) fn detect_lost(&mut self, now: Instant, out: &mut Outcome) {
        self.loss_time = None;
        let Some(largest) = self.largest_acked else { return };
        let patience = self.reorder.time(self.rtt.smoothed().max(self.rtt.latest()));
        let mut losses = Losses::default();
        let mut from = self.first_flying;
        while let Some(pn) = self.sent.first(State::Flying, from, largest) {
            let deadline = self.sent.get(pn).time + patience;
            // A stream overtakes nothing: its order of arrival is the order of sending.
            if self.stream || (now < deadline && largest - pn < self.reorder.packets()) {
                // Those behind it left later and were overtaken less.
                self.loss_time = (!self.stream).then_some(deadline);
                break;
            }
            self.on_lost(pn, &mut losses, out);
            from = pn + 1;
        }
        self.first_flying = self.sent.first(State::Flying, from, u64::MAX - 1).unwrap_or(self.sent.next());
        self.update_wait(largest);
        if losses.bytes > 0 {
            let span = 3 * (self.rtt.pto_base() + self.peer_max_ack_delay);
            let persistent = losses.longest >= span && self.rtt.is_measured();
            self.congested(now, persistent, losses.background);
        }
    }

    fn congested(&mut self, now: Instant, persistent: bool, lost_background: u64) {
        self.reorder.on_loss();
        if self.rate.is_app_limited() {
            // The phase ends when what is on its way has arrived, and that is less now.
            self.rate.app_limited(self.in_flight);
        }
        if let Some(loss) = self.rate.loss(now, self.in_flight, persistent) {
            self.control.on_loss(&loss);
            if let Some(background) = self.background.as_mut().filter(|_| lost_background > 0) {
                let in_flight = self.background_in_flight;
                background.on_loss(&LossSample { lost: lost_background, in_flight, ..loss });
            }
        }
    }

    fn on_lost(&mut self, pn: u64, losses: &mut Losses, out: &mut Outcome) {
        self.sent.lose(pn);
        self.lost_remembered += 1;
        let sent = *self.sent.get(pn);
        if !sent.eliciting {
            return;
        }
        let bytes = u64::from(sent.bytes);
        self.leaves_flight(bytes, sent.content.background);
        if sent.content.mtu_probe {
            self.mtu.on_probe_lost(sent.bytes);
        } else {
            self.mtu.on_lost(pn, sent.bytes);
            self.rate.on_lost(sent.time, bytes, &sent.stamp);
            // What a stream that died took with it says nothing about how much it loses.
            if !self.stream {
                self.loss_rate.on_lost();
            }
            losses.add(pn, sent.time, bytes);
            losses.background += if sent.content.background { bytes } else { 0 };
        }
        if sent.content.is_tracked() {
            out.lost.push(sent.content);
        }
    }

    /// The probe of a packet size was not acknowledged in time.
    pub(super) fn on_mtu_probe_timeout(&mut self, out: &mut Outcome) {
        if let Some((pn, _)) = self.mtu_probe.take()
            && self.sent.is(State::Flying, pn)
        {
            self.on_lost(pn, &mut Losses::default(), out);
            // Of a side that only acknowledges it may be all that tells whether marks arrive.
            self.ecn.on_probe_timeout();
        }
    }

    /// From when on the next acknowledgement is missed.
    fn update_wait(&mut self, largest: u64) {
        let mut from = largest + 1;
        // The probes of a dead link keep their rhythm without anything in flight.
        self.wait_since = self.wait_since.filter(|_| self.status == LinkStatus::Dead);
        while self.eliciting > 0
            && let Some(pn) = self.sent.first(State::Flying, from, u64::MAX - 1)
        {
            let sent = self.sent.get(pn);
            if sent.eliciting && !sent.content.mtu_probe {
                self.wait_since = Some(sent.time);
                return;
            }
            from = pn + 1;
        }
    }

    /// Declares everything lost that is on its way: the link is dead or closed, and others carry on.
    pub(crate) fn abandon(&mut self, now: Instant, out: &mut Outcome) {
        let mut losses = Losses::default();
        let mut from = self.first_flying;
        while let Some(pn) = self.sent.first(State::Flying, from, u64::MAX - 1) {
            self.on_lost(pn, &mut losses, out);
            from = pn + 1;
        }
        self.first_flying = self.sent.next();
        self.abandoned_below = self.sent.next();
        self.loss_time = None;
        self.wait_since = self.wait_since.filter(|_| self.status == LinkStatus::Dead);
        if losses.bytes > 0 {
            self.congested(now, true, losses.background);
        }
    }

    /// Forgets packets whose fate will not change any more.
    #[inline]
    pub(super) fn trim(&mut self, now: Instant) {
        let keep = 2 * self.rtt.smoothed();
        let lost_remembered = &mut self.lost_remembered;
        self.sent.trim(|state, sent| {
            let forget = now.saturating_duration_since(sent.time) > keep;
            match state {
                State::Flying => forget && !sent.eliciting,
                State::Lost => {
                    *lost_remembered -= u32::from(forget);
                    forget
                }
            }
        });
    }
}

/// Losses found at once.
#[derive(Default)]
pub(super) struct Losses {
    bytes: u64,
    /// Of these, in the background.
    background: u64,
    /// The run of numbers without a gap that is being followed: its last, and when its first left.
    run: Option<(u64, Instant)>,
    /// The longest time between first and last of a run: nothing came through in it.
    longest: Duration,
}

impl Losses {
    fn add(&mut self, pn: u64, time: Instant, bytes: u64) {
        self.bytes += bytes;
        let start = match self.run {
            Some((last, start)) if last + 1 == pn => start,
            _ => time,
        };
        self.run = Some((pn, start));
        self.longest = self.longest.max(time.saturating_duration_since(start));
    }
}
