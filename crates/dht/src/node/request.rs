//! Requests of ours on the way: sent up to three times with the same bytes (`dht.md` 2.3).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use super::search::{Ask, SearchKey};
use crate::InfoHash;

/// Sends before a node counts as dead.
const MAX_SENDS: u8 = 3;
/// Half the wait after the first send: each wait doubles and gets a little longer by chance.
const FIRST_STEP: Duration = Duration::from_millis(500);
/// What chance adds to a wait.
const JITTER_MS: u64 = 250;

/// Why a request was sent: decides what its answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Find out who is at an address we were given to start from.
    Bootstrap,
    /// See whether a node is alive, and where.
    Ping,
    /// Prove that whoever asked for much receives at its address.
    Prove,
    /// Learn of more nodes for the routing table.
    Explore,
    /// A step of a search.
    Search {
        /// The search.
        key: SearchKey,
        /// What was asked.
        ask: Ask,
    },
    /// Tell a listener of ours what changed.
    Update {
        /// What it listens to.
        key: InfoHash,
        /// Its socket id.
        socket: u32,
    },
}

/// A request waiting for its answer.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) to: SocketAddr,
    /// The node asked, where its id is known.
    pub(super) node: Option<InfoHash>,
    pub(super) purpose: Purpose,
    entered: Instant,
    datagrams: Vec<Bytes>,
    sends: u8,
    wait: Duration,
}

impl Open {
    /// How long the answer took that comes now; unknown if the request was sent more than once.
    pub(super) fn round_trip(&self, now: Instant) -> Option<Duration> {
        (self.sends == 1).then(|| now.saturating_duration_since(self.entered))
    }

    /// Whether it was sent more than once already.
    pub(super) fn is_late(&self) -> bool {
        self.sends > 1
    }
}

/// What a request does when its time has come.
#[derive(Debug)]
pub(super) enum Due {
    /// Send these bytes again, and come back at this time.
    Resend { datagrams: Vec<Bytes>, again_at: Instant },
    /// Nobody answered.
    GiveUp(Open),
}

/// The open requests, by transaction id.
#[derive(Debug)]
pub(super) struct Requests {
    open: BTreeMap<u32, Open>,
    limit: usize,
}

impl Requests {
    pub(super) fn new(limit: usize) -> Self {
        Self { open: BTreeMap::new(), limit }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= self.limit
    }

    /// A transaction id that nobody can guess and nothing uses.
    pub(super) fn draw_transaction(&self, rng: &mut impl Rng) -> u32 {
        loop {
            let id = rng.random_range(1..=u32::MAX);
            if !self.open.contains_key(&id) {
                return id;
            }
        }
    }

    /// Enters a request that goes out now; returns when to look at it again.
    pub(super) fn enter(
        &mut self,
        now: Instant,
        transaction: u32,
        (to, node): (SocketAddr, Option<InfoHash>),
        purpose: Purpose,
        datagrams: Vec<Bytes>,
        rng: &mut StdRng,
    ) -> Instant {
        let wait = next_wait(FIRST_STEP, rng);
        self.open.insert(transaction, Open { to, node, purpose, entered: now, datagrams, sends: 1, wait });
        now + wait
    }

    pub(super) fn get(&self, transaction: u32) -> Option<&Open> {
        self.open.get(&transaction)
    }

    pub(super) fn remove(&mut self, transaction: u32) -> Option<Open> {
        self.open.remove(&transaction)
    }

    pub(super) fn due(&mut self, now: Instant, transaction: u32, rng: &mut StdRng) -> Option<Due> {
        let request = self.open.get_mut(&transaction)?;
        if request.sends >= MAX_SENDS {
            return self.open.remove(&transaction).map(Due::GiveUp);
        }
        request.sends += 1;
        request.wait = next_wait(request.wait, rng);
        Some(Due::Resend { datagrams: request.datagrams.clone(), again_at: now + request.wait })
    }

    /// The system could not take a datagram to `to` right now: that send does not count.
    pub(super) fn discount(&mut self, to: &SocketAddr) {
        for request in self.open.values_mut().filter(|request| request.to == *to) {
            request.sends = request.sends.saturating_sub(1);
        }
    }

    /// The transactions of requests for which `which` holds.
    pub(super) fn matching(&self, mut which: impl FnMut(&Open) -> bool) -> Vec<u32> {
        self.open.iter().filter(|(_, request)| which(request)).map(|(id, _)| *id).collect()
    }

    pub(super) fn any(&self, which: impl FnMut(&Open) -> bool) -> bool {
        self.open.values().any(which)
    }
}

fn next_wait(last: Duration, rng: &mut StdRng) -> Duration {
    last * 2 + Duration::from_millis(rng.random_range(0..=JITTER_MS))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn three_sends_of_the_same_bytes_on_the_schedule() {
        let mut rng = StdRng::from_seed([1; 32]);
        let mut requests = Requests::new(10);
        let start = Instant::now();
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        let id = requests.draw_transaction(&mut rng);
        let bytes = vec![Bytes::from_static(b"x")];
        let first = requests.enter(start, id, (to, None), Purpose::Ping, bytes.clone(), &mut rng);
        assert!((1000..=1250).contains(&(first - start).as_millis()));
        let Some(Due::Resend { datagrams, again_at: second }) = requests.due(first, id, &mut rng) else {
            panic!()
        };
        assert_eq!(datagrams, bytes);
        assert!((2000..=2750).contains(&(second - first).as_millis()));
        let Some(Due::Resend { datagrams, again_at: third }) = requests.due(second, id, &mut rng) else {
            panic!()
        };
        assert_eq!(datagrams, bytes);
        assert!((4000..=5750).contains(&(third - second).as_millis()));
        assert!(matches!(requests.due(third, id, &mut rng), Some(Due::GiveUp(_))));
        assert_eq!(requests.len(), 0);
    }
}
