//! What a pair in use needs: keep-alives (RFC 8445 section 11, spec 4.8) or consent (RFC 7675), and a second chance.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use super::check::Purpose;
use super::pair::{Link, Pair, State, Upkeep};
use super::{Agent, Event, LossReason, PairId, Phase};
use crate::config::Paths;
use crate::report::PairError;
use crate::stun::{BINDING, Class, Encoder, TransactionId};

/// Failures after which the wait for the next try does not grow any more: 8 times the first one.
const MAX_DOUBLINGS: u32 = 3;

impl Agent {
    /// Begins or renews the upkeep of a pair that has just answered.
    pub(super) fn keep_up(&mut self, now: Instant, id: PairId) {
        let pair = self.pair(id);
        let asks = pair.link == Link::Udp || self.is_relayed(pair);
        let upkeep = match (self.config.consent, pair.upkeep) {
            (Some(consent), Some(Upkeep::Consent { next, .. })) => {
                Upkeep::Consent { next, expires: now + consent.expiry }
            }
            (_, Some(same)) => same,
            (Some(consent), None) if asks => Upkeep::Consent {
                next: self.next_question(now, consent.interval),
                expires: now + consent.expiry,
            },
            (_, None) => Upkeep::KeepAlive { next: self.next_keepalive(now) },
        };
        self.pair_mut(id).upkeep = Some(upkeep);
    }

    pub(super) fn next_upkeep(&self) -> Option<Instant> {
        self.pairs().filter_map(|p| Some(p.upkeep?.due())).min()
    }

    /// When the next failed pair is tried again: once there is a path, or was one. The first attempt ends when every pair has
    /// had its turn.
    pub(super) fn next_recheck(&self) -> Option<Instant> {
        let tries = self.connected || self.pairs().any(Pair::is_valid);
        tries.then(|| self.pairs().filter_map(|p| p.again).min()).flatten()
    }

    pub(super) fn upkeep_due(&mut self, now: Instant) {
        let due: Vec<_> = self.pairs().filter_map(|p| Some((p.id, p.upkeep?))).collect();
        for (id, upkeep) in due.into_iter().filter(|(_, upkeep)| upkeep.due() <= now) {
            match upkeep {
                Upkeep::KeepAlive { .. } => {
                    self.keep_alive(id);
                    let next = self.next_keepalive(now);
                    self.pair_mut(id).upkeep = Some(Upkeep::KeepAlive { next });
                }
                Upkeep::Consent { expires, .. } if expires <= now => self.lose_consent(now, id),
                Upkeep::Consent { expires, .. } => {
                    self.send_check(now, id, Purpose::Consent);
                    let interval = self.config.consent.unwrap_or_default().interval;
                    let next = self.next_question(now, interval);
                    self.pair_mut(id).upkeep = Some(Upkeep::Consent { next, expires });
                }
            }
        }
    }

    fn lose_consent(&mut self, now: Instant, id: PairId) {
        let selected = matches!(&self.phase, Phase::Selected(selected) if selected.pair == id);
        if selected {
            self.events.push_back(Event::ConsentLost { pair: id });
        }
        self.fail_pair(now, id, PairError::ConsentLost);
        if selected && self.ends_with_its_path() {
            self.lose(LossReason::ConsentLost);
        }
    }

    /// A Binding indication with FINGERPRINT alone: never answered.
    fn keep_alive(&mut self, id: PairId) {
        let mut transaction = TransactionId([0; 12]);
        self.rng.fill_bytes(&mut transaction.0);
        self.send_on(id, Encoder::new(Class::Indication, BINDING, transaction).finish(None));
    }

    fn next_keepalive(&mut self, now: Instant) -> Instant {
        let jitter = self.config.keepalive_jitter.as_millis() as u64;
        now + self.config.keepalive + Duration::from_millis(self.rng.random_range(0..=jitter))
    }

    /// 0.8 to 1.2 times the interval (RFC 7675 section 5.1).
    fn next_question(&mut self, now: Instant, interval: Duration) -> Instant {
        now + interval * self.rng.random_range(800..=1200) / 1000
    }

    /// Plans the next try of a pair that failed, if it deserves one.
    pub(super) fn plan_recheck(&mut self, now: Instant, id: PairId, error: PairError) {
        let hopeless = matches!(error, PairError::Rejected(_) | PairError::Superseded | PairError::LocalGone);
        let (recheck, limit) = (self.config.recheck, self.config.rechecks);
        let many = self.config.paths == Paths::Many;
        // An address that nobody announced is tried again only if it has worked.
        let announced = !self.remotes[self.pair(id).remote].learnt;
        let limit = if announced { limit } else { 0 };
        let pair = self.pair_mut(id);
        let ours = !matches!(pair.link, Link::Accepted(_));
        if many && ours && !hopeless && (pair.was_valid || pair.rechecks < limit) {
            pair.again = Some(now + recheck * (1 << pair.rechecks.min(MAX_DOUBLINGS)));
            // What was not sent was no try: the allowance of an address is renewed later than the tries are over.
            pair.rechecks += u32::from(error != PairError::NotTried);
        }
    }

    pub(super) fn rechecks_due(&mut self, now: Instant) {
        if self.next_recheck().is_none_or(|at| at > now) {
            return;
        }
        let due: Vec<_> =
            self.pairs().filter(|p| p.again.is_some_and(|at| at <= now)).map(|p| p.id).collect();
        for id in due {
            self.pair_mut(id).again = None;
            self.set_state(id, State::Waiting);
        }
    }
}
