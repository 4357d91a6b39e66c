//! Looking around far from home, where a node was sent to others that do not answer (`dht.md` 2.5).
//!
//! Those whom a newcomer asks first may name the same few nodes for every key of half the network, and a node behind a NAT that those
//! who name it reach, and we do not, looks to them like any other. Who finds only such nodes near himself, and near whatever he looks
//! for, would stay alone with those whom he began with, and so would what he stores. Elsewhere they know others, each of whom
//! knows some in every part of the network: so ids drawn at random are searched for, until enough nodes have answered.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::Node;
use super::family::Family;
use super::peers::{Peer, Peers};
use super::search::SearchKey;
use super::table::BUCKET_SIZE;
use crate::InfoHash;

/// Who knows so many nodes that answer finds his way.
const ENOUGH: usize = 2 * BUCKET_SIZE;
/// From the first look to the second; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The pause grows so often: to 64 s.
const MAX_DOUBLINGS: u32 = 6;

impl Node {
    /// Looks somewhere, if that seems to be needed. Gives the time until the next look.
    pub(super) fn roam(&mut self, now: Instant, family: Family) -> Option<Duration> {
        let net = &mut self.nets[family];
        if !is_lost(&net.peers, now) {
            (net.roamed, net.roams) = (0, None);
            return None;
        }
        // The table has reasons of its own to be looked at, and sooner.
        if let Some(due) = net.roams.filter(|due| *due > now) {
            return Some(due - now);
        }
        let pause = FIRST_PAUSE * (1 << net.roamed.min(MAX_DOUBLINGS));
        net.roamed = net.roamed.saturating_add(1);
        net.roams = Some(now + pause);
        let key = SearchKey { key: InfoHash(self.rng.random()), family };
        tracing::debug!(%family, "few of the nodes that were named answer: looking elsewhere");
        self.open_search(now, key, |search| search.exploring = true);
        Some(pause)
    }
}

/// Whether few nodes answer, and no fewer than those never did. Those that did and left since are no sign of anything: searches
/// that live long remember them for as long.
fn is_lost(peers: &Peers, now: Instant) -> bool {
    let good = peers.count(|peer| peer.is_good(now));
    let unreachable = |peer: &Peer| peer.is_expired() && !peer.has_answered();
    (1..ENOUGH).contains(&good) && peers.count(unreachable) >= good
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::peers::Evidence;
    use super::*;

    #[test]
    fn who_knows_few_that_answer_and_more_that_do_not_is_lost() {
        let now = Instant::now();
        let mut peers = Peers::new(100);
        let note = |n: u8, answers: bool, peers: &mut Peers| {
            let address = SocketAddr::from(([10, 0, 0, n], 4222));
            peers.note(
                InfoHash([n; 20]),
                address,
                if answers { Evidence::Answered } else { Evidence::Mentioned },
                now,
            );
            if !answers {
                peers.expire(&InfoHash([n; 20]));
            }
        };
        for n in 1..=8 {
            note(n, false, &mut peers);
        }
        assert!(!is_lost(&peers, now), "nobody can be asked");
        for n in 9..=11 {
            note(n, true, &mut peers);
        }
        assert!(is_lost(&peers, now));
        for n in 12..=17 {
            note(n, true, &mut peers);
        }
        assert!(!is_lost(&peers, now), "more answer than do not");
        for n in 18..=40 {
            note(n, n > 30, &mut peers);
        }
        assert!(!is_lost(&peers, now), "enough answer");
    }
}
