//! Whether relays are there while nobody uses them, so that the next one who needs a relay asks one that lives.
//!
//! A check is the question that any client begins with, an Allocate request that does not say who asks. Every TURN server answers it
//! (RFC 8656 section 7.2), mostly with the demand to say who, and keeps nothing: one datagram each way, or one exchange on a
//! connection that is closed after it. An allocation that is in use is refreshed, which is all the checking it needs.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use towline_turn::Failure;
use towline_turn_tokio::{AllocateError, RelaySocket};

use super::{Arc, Relay, Relays, Server, ServerError, SocketAddr};

/// Time between two rounds of checks after the relays were used, or the network has changed. It doubles with each round
const LEAST_PAUSE: Duration = Duration::from_mins(1);
/// up to this: what a check has shown counts for longer. As chance has it, a pause is shorter, by half at most.
const MOST_PAUSE: Duration = Duration::from_mins(8);
/// From one round to the next, however often the network changes.
const LEAST_APART: Duration = Duration::from_secs(5);

/// When relays are checked.
#[derive(Debug)]
pub(super) struct Rounds {
    rng: StdRng,
    begun: Instant,
    next: Instant,
    pause: Duration,
}

impl Rounds {
    /// The first round is due at once.
    pub(super) fn new(now: Instant, seed: [u8; 32]) -> Self {
        Self { rng: StdRng::from_seed(seed), begun: now, next: now, pause: LEAST_PAUSE }
    }

    /// When the next round is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// A round begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begun = now;
        self.next = now + self.shortened(self.pause);
        self.pause = (2 * self.pause).min(MOST_PAUSE);
    }

    /// Relays are in demand.
    pub(super) fn used(&mut self, now: Instant) {
        self.pause = LEAST_PAUSE;
        self.next = self.next.min(now + self.shortened(LEAST_PAUSE));
    }

    /// What was true of the network before need not be.
    pub(super) fn changed(&mut self, now: Instant) {
        self.pause = LEAST_PAUSE;
        self.next = now.max(self.begun + LEAST_APART);
    }

    /// Not all devices at the same time.
    fn shortened(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(self.rng.random_range(0.5..=1.0))
    }
}

impl Relays {
    /// Checks those that are not in use, again and again. Ends with the node.
    pub(in crate::reach) async fn keep_checked(self: Arc<Self>) {
        let mut rounds = Rounds::new(towline_net::now(), self.net.seed());
        loop {
            tokio::select! {
                biased;
                () = self.changed.notified() => rounds.changed(towline_net::now()),
                () = self.used.notified() => rounds.used(towline_net::now()),
                () = towline_net::sleep_until(rounds.next()) => {
                    rounds.begin(towline_net::now());
                    tokio::select! {
                        biased;
                        // What was asked in the network of before is not answered in this one.
                        () = self.changed.notified() => rounds.changed(towline_net::now()),
                        () = self.check_unused() => {}
                    }
                }
            }
        }
    }

    async fn check_unused(&self) {
        let mut checks: FuturesUnordered<_> = self
            .servers
            .iter()
            .filter(|server| server.is_unused())
            .map(|server| self.check_one(server))
            .collect();
        while checks.next().await.is_some() {}
    }

    async fn check_one(&self, server: &Server) {
        let begun = towline_net::now();
        let there = self.at_its_addresses(server, |at| self.is_there(&server.relay, at)).await;
        if !server.is_unused() {
            // Whoever took it into use meanwhile knows better.
            return;
        }
        let now = towline_net::now();
        tracing::debug!(relay = %server.relay, ?there, took = ?(now - begun), "a relay was checked");
        server.memory.checked(now, there.map(|()| now - begun));
    }

    /// Whether a relay answers at this address.
    async fn is_there(&self, relay: &Relay, server: SocketAddr) -> Result<(), ServerError> {
        let mut options = self.options(relay, server).await?;
        options.client.credentials = None;
        // That it sends us elsewhere is an answer.
        options.client.redirects = 0;
        match RelaySocket::allocate(Arc::clone(&self.net), &options).await {
            // One that wants to know nothing of who asks. What it gave is given back.
            Ok(_)
            | Err(AllocateError::Failed(
                Failure::CredentialsRequired | Failure::Refused(_) | Failure::TooManyRedirects(_),
            )) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Server {
    /// Nobody has an address on it, and nobody asks for one.
    fn is_unused(&self) -> bool {
        self.current.try_lock().is_ok_and(|current| current.strong_count() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_mins(minutes)
    }

    #[test]
    fn rounds_get_rarer_without_use_and_never_so_rare_that_nothing_is_known() {
        for seed in 0..50 {
            let start = towline_net::now();
            let mut rounds = Rounds::new(start, [seed; 32]);
            assert_eq!(rounds.next(), start);
            let mut pauses = Vec::new();
            while rounds.next() < start + minutes(24 * 60) {
                let at = rounds.next();
                rounds.begin(at);
                pauses.push(rounds.next() - at);
            }
            for (pause, most) in pauses.iter().zip([1, 2, 4, 8].into_iter().chain(std::iter::repeat(8))) {
                assert!((minutes(most) / 2..=minutes(most)).contains(pause), "{pause:?} of {most} min");
            }
            assert!(pauses.len() <= 24 * 60 / 4 + 4, "{} checks a day", pauses.len());
            // Of those that could be eight minutes.
            let long = &pauses[3..];
            assert!(long.iter().any(|pause| *pause < minutes(5)));
            assert!(long.iter().any(|pause| *pause > minutes(7)));
        }
    }

    #[test]
    fn use_and_other_networks_bring_the_next_round_nearer_but_no_storm() {
        let start = towline_net::now();
        let mut rounds = Rounds::new(start, [7; 32]);
        let mut at = start;
        for _ in 0..6 {
            at = rounds.next();
            rounds.begin(at);
        }
        assert!(rounds.next() >= at + minutes(4));
        rounds.used(at);
        let soon = rounds.next();
        assert!(soon >= at + LEAST_PAUSE / 2 && soon <= at + LEAST_PAUSE);
        // Whoever dials all the time puts nothing off.
        for ms in 0..1000 {
            rounds.used(at + Duration::from_millis(ms));
            assert!(rounds.next() <= soon);
        }
        assert!(rounds.next() >= at + LEAST_PAUSE / 2);
        rounds.changed(at + Duration::from_secs(1));
        assert_eq!(rounds.next(), at + LEAST_APART);
        rounds.changed(at + Duration::from_secs(9));
        assert_eq!(rounds.next(), at + Duration::from_secs(9));
        rounds.begin(at + Duration::from_secs(9));
        rounds.changed(at + Duration::from_secs(9));
        assert_eq!(rounds.next(), at + Duration::from_secs(9) + LEAST_APART);
    }
}
