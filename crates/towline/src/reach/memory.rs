//! What became of the servers that a node has asked: for people, and for the next time.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use towline_ice::gather::{self, Via};
use towline_turn::Failure;
use towline_turn_tokio::AllocateError;

use super::RelayTransport;

/// For so long a server is taken for as fast, or as dead, as it was.
const COUNTS: Duration = Duration::from_mins(10);
/// A server that failed is left alone for this time, and for twice as long with each further failure,
const LEAST_PAUSE: Duration = Duration::from_millis(250);
/// but not longer than this.
const MOST_PAUSE: Duration = Duration::from_secs(30);

/// Who has not answered after this time is silent, also if nobody waits any longer.
const SILENT: Duration = Duration::from_millis(1500);

/// A server and how it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerKind {
    /// It tells our address.
    Stun(Via),
    /// It relays.
    Relay(RelayTransport),
}

impl ServerKind {
    /// How long it takes to get an address of a relay, if it takes so long until it asks who we are: one round trip more, on top of
    /// those that it takes to be connected, and that first one.
    fn for_an_address(self, took: Duration) -> Duration {
        let round_trips = match self {
            Self::Relay(RelayTransport::Udp) | Self::Stun(_) => 1,
            Self::Relay(RelayTransport::Tcp) => 2,
            Self::Relay(RelayTransport::Tls) => 3,
        };
        took + took / round_trips
    }
}

/// What is known of a server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerReport {
    /// As it was configured, without the secret.
    pub(crate) server: String,
    pub(crate) kind: ServerKind,
    /// When it was asked last, if that is not long ago.
    pub(crate) asked: Option<Instant>,
    /// What came of it, if that still counts; of the time before, as long as there is no answer to the last question. What a relay
    /// gave counts until it is lost or given back.
    pub(crate) outcome: Option<Outcome>,
    /// How long ago that was.
    pub(crate) age: Option<Duration>,
    /// The addresses that it relays for us, or did last.
    pub(crate) relayed: Vec<SocketAddr>,
}

/// What came of asking a server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// It does what it is for.
    Answered {
        /// How long it took: one round trip with a STUN server over UDP, two or more with others.
        took: Duration,
        /// How it sees us.
        mapped: SocketAddr,
    },
    /// It answered when it was checked, a relay that nobody used: it is there.
    Present {
        /// How long it took: one round trip over UDP, two on TCP, three on TLS.
        took: Duration,
    },
    /// It does not.
    Failed(ServerError),
}

/// Why a server is of no use.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ServerError {
    /// Its name has no address.
    #[error("its name was not found: {0}")]
    NotFound(io::ErrorKind),
    /// A STUN server.
    #[error(transparent)]
    Stun(#[from] gather::ServerError),
    /// A relay.
    #[error(transparent)]
    Relay(#[from] AllocateError),
    /// A relay, after the time that the user's name states for its end.
    #[error("the credentials expired")]
    Expired,
    /// A relay names an address as its own that it cannot have.
    #[error("says that it relays at {0}, which cannot be")]
    ImpossibleAddress(SocketAddr),
    /// A relay that had given us an address.
    #[error("the address on the relay was lost: {0}")]
    Lost(Failure),
}

impl ServerError {
    /// That the server is there shows that this is over.
    fn is_absence(&self) -> bool {
        match self {
            Self::NotFound(_)
            | Self::Lost(_)
            | Self::Relay(AllocateError::Unreachable(_) | AllocateError::Tls(_)) => true,
            Self::Relay(AllocateError::Failed(failure)) => {
                matches!(failure, Failure::NoAnswer | Failure::StreamEnded)
            }
            Self::Relay(_) | Self::Stun(_) | Self::Expired | Self::ImpossibleAddress(_) => false,
        }
    }
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ServerKind::Stun(Via::Udp) => write!(f, "stun:{} by datagrams ", self.server)?,
            ServerKind::Stun(Via::Tcp) => write!(f, "stun:{} on TCP ", self.server)?,
            ServerKind::Relay(_) => write!(f, "{} ", self.server)?,
        }
        match (&self.outcome, self.asked) {
            (Some(outcome), _) => {
                write!(f, "({outcome}")?;
                if matches!(outcome, Outcome::Answered { .. }) {
                    self.relayed.iter().try_for_each(|address| write!(f, ", relays at {address}"))?;
                }
                let age = self.age.unwrap_or_default().as_secs();
                match (age / 60, age) {
                    (0, 0) => f.write_str(")"),
                    (0, seconds) => write!(f, "; {seconds} s ago)"),
                    (minutes, _) => write!(f, "; {minutes} min ago)"),
                }
            }
            (None, Some(_)) => f.write_str("(no answer yet)"),
            (None, None) => f.write_str("(not asked)"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { took, mapped } => write!(f, "answered within {took:?}, sees us at {mapped}"),
            Self::Present { took } => write!(f, "is there, answered a check within {took:?}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// One server's part of the memory.
#[derive(Debug)]
pub(super) struct Memory {
    server: String,
    kind: ServerKind,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// When a question was put that had its time, answered or not.
    asked: Option<Instant>,
    /// Questions that may be given up, and when the newest of them was put.
    open: usize,
    begun: Option<Instant>,
    outcome: Option<(Instant, Outcome)>,
    /// The addresses that it gave last.
    relayed: Vec<SocketAddr>,
    /// What it gave is in use.
    held: bool,
    /// In a row.
    failures: u32,
}

/// How promising a server is: the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// It worked, and took so long.
    Good(Duration),
    /// Nothing is known.
    Unknown,
    /// It failed, and may be asked again.
    Doubtful,
    /// It failed a moment ago, and rests until then.
    Rests(Instant),
}

impl Memory {
    pub(super) fn new(server: String, kind: ServerKind) -> Self {
        Self { server, kind, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is being asked.
    pub(super) fn asked(&self, now: Instant) {
        self.lock().asked = Some(now);
    }

    /// It is being asked by somebody who may lose interest.
    pub(super) fn asks(&self, now: Instant) -> Asking<'_> {
        let mut known = self.lock();
        known.open += 1;
        known.begun = Some(now);
        Asking { memory: self, begun: now, ended: false }
    }

    pub(super) fn answered(
        &self,
        now: Instant,
        took: Duration,
        mapped: SocketAddr,
        relayed: Vec<SocketAddr>,
    ) {
        let mut known = self.lock();
        known.failures = 0;
        known.outcome = Some((now, Outcome::Answered { took, mapped }));
        known.relayed = relayed;
    }

    pub(super) fn failed(&self, now: Instant, error: ServerError) {
        tracing::debug!(server = %self.server, %error, "a server is of no use");
        let mut known = self.lock();
        known.failures = known.failures.saturating_add(1);
        known.outcome = Some((now, Outcome::Failed(error)));
    }

    /// What it gave is in use, until it is lost or given back.
    pub(super) fn held(&self) {
        self.lock().held = true;
    }

    /// What it gave is given back.
    pub(super) fn given_back(&self) {
        self.lock().held = false;
    }

    /// What it had given is gone. It may be asked for the same at once.
    pub(super) fn lost(&self, now: Instant, reason: Failure) {
        let mut known = self.lock();
        known.held = false;
        known.failures = 0;
        known.outcome = Some((now, Outcome::Failed(ServerError::Lost(reason))));
    }

    /// It was checked, and took so long to answer, or did not. That it is there does not mean that it does what it refused to do.
    pub(super) fn checked(&self, now: Instant, there: Result<Duration, ServerError>) {
        let mut known = self.lock();
        let outcome = match there {
            Ok(took) => match &known.outcome {
                Some((at, Outcome::Failed(error))) if counts(now, *at) && !error.is_absence() => return,
                _ => Outcome::Present { took },
            },
            Err(error) => Outcome::Failed(error),
        };
        // Checks are rare: nobody has to rest because of them.
        known.failures = 0;
        known.outcome = Some((now, outcome));
    }

    pub(super) fn promise(&self, now: Instant) -> Promise {
        let known = self.lock();
        match known.outcome.as_ref().filter(|(at, _)| counts(now, *at)) {
            None => Promise::Unknown,
            Some((_, Outcome::Answered { took, .. })) => Promise::Good(*took),
            Some((_, Outcome::Present { took })) => Promise::Good(self.kind.for_an_address(*took)),
            Some((at, Outcome::Failed(_))) => {
                let pause = match known.failures {
                    0 => Duration::ZERO,
                    failures => (LEAST_PAUSE * (1 << (failures - 1).min(10))).min(MOST_PAUSE),
                };
                let until = *at + pause;
                if until <= now { Promise::Doubtful } else { Promise::Rests(until) }
            }
        }
    }

    pub(super) fn report(&self, now: Instant) -> ServerReport {
        let known = self.lock();
        let gives = |outcome: &Outcome| known.held && matches!(outcome, Outcome::Answered { .. });
        let open = known.begun.filter(|_| known.open > 0);
        // What a check has shown says nothing any more once there is a question.
        let answers = |at: Instant, outcome: &Outcome| {
            !matches!(outcome, Outcome::Present { .. }) || open.is_none_or(|asked| asked < at)
        };
        let outcome = known
            .outcome
            .as_ref()
            .filter(|(at, outcome)| (counts(now, *at) || gives(outcome)) && answers(*at, outcome));
        ServerReport {
            server: self.server.clone(),
            kind: self.kind,
            asked: open.or(known.asked).filter(|at| counts(now, *at)),
            outcome: outcome.map(|(_, outcome)| outcome.clone()),
            age: outcome.map(|(at, _)| now.saturating_duration_since(*at)),
            relayed: known.relayed.clone(),
        }
    }
}

/// Whether what was then still counts.
fn counts(now: Instant, at: Instant) -> bool {
    now.saturating_duration_since(at) < COUNTS
}

/// A question that is given up when this is dropped, as when somebody else has answered first.
#[derive(Debug)]
pub(super) struct Asking<'m> {
    memory: &'m Memory,
    begun: Instant,
    /// There is an answer, or a failure.
    ended: bool,
}

impl Asking<'_> {
    /// There is an answer, or a failure.
    pub(super) fn ends(mut self) {
        self.ended = true;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let now = towline_net::now();
        // One that had no time to answer leaves nothing behind.
        let silent = !self.ended && now.saturating_duration_since(self.begun) >= SILENT;
        {
            let mut known = self.memory.lock();
            known.open -= 1;
            if self.ended || silent {
                known.asked = Some(self.begun);
            }
        }
        if silent {
            self.memory.failed(now, ServerError::Relay(Failure::NoAnswer.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_again_and_again_rests_ever_longer_and_is_forgiven() {
        let memory = Memory::new("relay".to_owned(), ServerKind::Relay(RelayTransport::Udp));
        let start = towline_net::now();
        assert_eq!(memory.promise(start), Promise::Unknown);
        let silent = || ServerError::Relay(AllocateError::Failed(Failure::NoAnswer));
        let mut pauses = Vec::new();
        for _ in 0..10 {
            memory.failed(start, silent());
            let Promise::Rests(until) = memory.promise(start) else { panic!("it failed just now") };
            assert_eq!(memory.promise(until), Promise::Doubtful);
            pauses.push(until - start);
        }
        assert_eq!((pauses[0], pauses[1], pauses[9]), (LEAST_PAUSE, 2 * LEAST_PAUSE, MOST_PAUSE));
        assert_eq!(memory.promise(start + COUNTS), Promise::Unknown);
        let took = Duration::from_millis(40);
        memory.answered(start, took, "192.0.2.1:1".parse().unwrap(), Vec::new());
        assert_eq!(memory.promise(start), Promise::Good(took));
        memory.failed(start, silent());
        assert_eq!(memory.promise(start + LEAST_PAUSE), Promise::Doubtful);
        memory.lost(start, Failure::StreamEnded);
        assert_eq!(memory.promise(start), Promise::Doubtful);
    }

    #[test]
    fn what_was_long_ago_is_not_told_but_what_a_relay_gave() {
        let (start, took) = (towline_net::now(), Duration::from_millis(40));
        let stun = Memory::new("stun".to_owned(), ServerKind::Stun(Via::Udp));
        let relay = Memory::new("relay".to_owned(), ServerKind::Relay(RelayTransport::Udp));
        for memory in [&stun, &relay] {
            memory.asked(start);
            memory.answered(start + took, took, "192.0.2.1:1".parse().unwrap(), Vec::new());
            assert!(memory.report(start + COUNTS / 2).outcome.is_some());
        }
        let told = |memory: &Memory, at: Instant| {
            let report = memory.report(at);
            (report.asked.is_some(), report.outcome.is_some())
        };
        let later = start + took + COUNTS;
        relay.held();
        assert_eq!((told(&stun, later), told(&relay, later)), ((false, false), (false, true)));
        relay.given_back();
        assert_eq!(told(&relay, later), (false, false), "that it lived then says nothing of now");
        relay.lost(later, Failure::StreamEnded);
        assert_eq!(told(&relay, later), (false, true));
        assert_eq!(told(&relay, later + COUNTS), (false, false));
        stun.asked(later);
        assert_eq!(told(&stun, later), (true, false), "it is being asked, and has time to answer");
    }

    #[test]
    fn the_fast_come_before_the_slow_the_unknown_and_those_that_failed() {
        let ms = Duration::from_millis;
        let at = towline_net::now();
        let order = [
            Promise::Good(ms(10)),
            Promise::Good(ms(90)),
            Promise::Unknown,
            Promise::Doubtful,
            Promise::Rests(at),
            Promise::Rests(at + ms(1)),
        ];
        assert!(order.is_sorted());
    }

    #[test]
    fn a_check_shows_whether_a_relay_is_there_and_no_more() {
        let ms = Duration::from_millis;
        let start = towline_net::now();
        let relay = |transport| Memory::new("relay".to_owned(), ServerKind::Relay(transport));
        // What an address will take is told apart by how often one has to wait for an answer.
        for (transport, expected) in
            [(RelayTransport::Udp, 60), (RelayTransport::Tcp, 45), (RelayTransport::Tls, 40)]
        {
            let memory = relay(transport);
            memory.checked(start, Ok(ms(30)));
            assert_eq!(memory.promise(start), Promise::Good(ms(expected)));
            assert_eq!(memory.promise(start + COUNTS), Promise::Unknown);
        }
        let memory = relay(RelayTransport::Udp);
        let silent = || ServerError::Relay(Failure::NoAnswer.into());
        for _ in 0..5 {
            memory.failed(start, silent());
        }
        memory.checked(start, Err(silent()));
        assert_eq!(memory.promise(start), Promise::Doubtful, "whoever needs it may ask at once");
        memory.checked(start, Ok(ms(30)));
        assert_eq!(memory.promise(start), Promise::Good(ms(60)), "it came back");
        let shown = |ms: u64| memory.report(start + Duration::from_millis(ms)).to_string();
        assert_eq!(shown(0), "relay (is there, answered a check within 30ms)");
        assert_eq!(shown(59_000), "relay (is there, answered a check within 30ms; 59 s ago)");
        assert_eq!(shown(400_000), "relay (is there, answered a check within 30ms; 6 min ago)");
        // A question that is under way decides, and not what was before.
        let asking = memory.asks(start + ms(1));
        assert_eq!(shown(1), "relay (no answer yet)");
        asking.ends();
        let refuses = ServerError::Relay(Failure::WrongCredentials.into());
        memory.failed(start + ms(2), refuses.clone());
        memory.checked(start + ms(3), Ok(ms(30)));
        assert_eq!(memory.report(start + ms(3)).outcome, Some(Outcome::Failed(refuses)));
        memory.checked(start + ms(2) + COUNTS, Ok(ms(30)));
        assert!(matches!(memory.promise(start + ms(2) + COUNTS), Promise::Good(_)));
    }

    #[test]
    fn who_lost_a_race_is_not_blamed_and_who_was_silent_is() {
        towline_lab::run(1, async |_: towline_lab::World| {
            let memory = Memory::new("relay".to_owned(), ServerKind::Relay(RelayTransport::Udp));
            let report = || memory.report(towline_net::now());
            // Two attempts ask at once, and lose interest one after the other.
            let asking = [memory.asks(towline_net::now()), memory.asks(towline_net::now())];
            for asking in asking {
                assert!(report().asked.is_some());
                drop(asking);
            }
            assert_eq!((report().asked, report().outcome), (None, None));
            let asking = memory.asks(towline_net::now());
            tokio::time::sleep(SILENT).await;
            drop(asking);
            let silent = ServerError::Relay(Failure::NoAnswer.into());
            assert_eq!(report().outcome, Some(Outcome::Failed(silent)));
            memory.asks(towline_net::now()).ends();
            assert!(report().asked.is_some());
        });
    }
}
