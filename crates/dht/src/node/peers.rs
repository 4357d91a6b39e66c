//! What we know of other nodes: one record per id and family (`dht.md` 2.2).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::address::same_endpoint;
use super::rtt::RoundTrip;
use crate::InfoHash;

/// A node that answered us within this time may be good.
pub(super) const GOOD_TIME: Duration = Duration::from_hours(2);
/// A node not heard of for this long is not good any more; an expired one is forgotten.
pub(super) const EXPIRE_TIME: Duration = Duration::from_mins(10);
/// So many refused tokens in a row make a node useless.
const MAX_REFUSALS: u8 = 3;
/// A claim to a node's id from another address is looked into at most this often.
const RIVAL_PAUSE: Duration = Duration::from_secs(10);

/// How a node came to our attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// Another node, a file or the program named it.
    Mentioned,
    /// It sent us a message by itself.
    Heard,
    /// It answered a request, from the address the request went to.
    Answered,
}

/// Somebody who uses a node's id from another address.
#[derive(Debug, Clone, Copy)]
struct Rival {
    address: SocketAddr,
    since: Instant,
    answered: bool,
}

/// One other node.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    heard: Option<Instant>,
    answered: Option<Instant>,
    expired: bool,
    /// We had heard nothing from it when it first answered: strangers reach it, or so it seems.
    open: bool,
    refusals: u8,
    rival: Option<Rival>,
    pub(super) round_trip: RoundTrip,
}

/// What [`Peers::note`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// The record is new.
    New,
    /// The record existed.
    Known,
    /// The id is claimed from an address that is not the recorded one. Nothing was changed; ping both.
    Disputed {
        /// Where the id is known to be.
        incumbent: SocketAddr,
    },
    /// The id is claimed from another address, and that is already being looked into or not worth it.
    Ignored,
    /// There is no room for one more record.
    Full,
}

impl Peer {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            heard: None,
            answered: None,
            expired: false,
            open: false,
            refusals: 0,
            rival: None,
            round_trip: RoundTrip::default(),
        }
    }

    fn touch(&mut self, evidence: Evidence, now: Instant) {
        self.open |= evidence == Evidence::Answered && self.heard.is_none();
        if self.expired && evidence == Evidence::Heard {
            // It did not answer, and then came by itself: its NAT had only been open to us at first.
            self.open = false;
        }
        if evidence >= Evidence::Heard {
            self.heard = Some(now);
            // Only an answer proves the address, and with it that the node can be reached again.
            if evidence == Evidence::Answered || self.answered.is_some() {
                self.expired = false;
            }
        }
        if evidence == Evidence::Answered {
            self.answered = Some(now);
            self.rival = None;
        }
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expired
    }

    pub(super) fn is_good(&self, now: Instant) -> bool {
        let within =
            |at: Option<Instant>, time| at.is_some_and(|at| now.saturating_duration_since(at) < time);
        !self.expired && within(self.answered, GOOD_TIME) && within(self.heard, EXPIRE_TIME)
    }

    /// Whether it ever answered us.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// Whether everybody may reach it, as it seems, or as it will turn out when it is asked. Of a node that came to us by itself nothing
    /// is known: its NAT lets us in since.
    pub(super) fn may_be_open(&self) -> bool {
        !self.expired && (self.open || self.heard.is_none())
    }

    fn is_removable(&self, now: Instant) -> bool {
        self.expired && self.is_silent(now)
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.heard.is_none_or(|at| now.saturating_duration_since(at) >= EXPIRE_TIME)
    }
}

/// The records of one family.
#[derive(Debug)]
pub(super) struct Peers {
    records: BTreeMap<InfoHash, Peer>,
    limit: usize,
    purged: Option<Instant>,
}

impl Peers {
    pub(super) fn new(limit: usize) -> Self {
        Self { records: BTreeMap::new(), limit, purged: None }
    }

    pub(super) fn get(&self, id: &InfoHash) -> Option<&Peer> {
        self.records.get(id)
    }

    /// How many of them are like this.
    pub(super) fn count(&self, like: impl Fn(&Peer) -> bool) -> usize {
        self.records.values().filter(|peer| like(peer)).count()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Enters what was learned about `id` at `address`. A record's address changes only by [`Peers::settle`]
    /// or when the old one is known to be dead.
    pub(super) fn note(
        &mut self,
        id: InfoHash,
        address: SocketAddr,
        evidence: Evidence,
        now: Instant,
    ) -> Noted {
        let Some(peer) = self.records.get_mut(&id) else {
            if self.records.len() >= self.limit && !self.purge(now) {
                return Noted::Full;
            }
            let mut peer = Peer::new(address);
            peer.touch(evidence, now);
            self.records.insert(id, peer);
            return Noted::New;
        };
        if same_endpoint(&peer.address, &address) {
            peer.touch(evidence, now);
            return Noted::Known;
        }
        match evidence {
            // The caller has checked that the answer came from where the request went: the address is proved.
            Evidence::Answered if peer.expired || peer.heard.is_none() => {
                peer.address = address;
                peer.touch(evidence, now);
                Noted::Known
            }
            Evidence::Answered => {
                if let Some(rival) =
                    peer.rival.as_mut().filter(|rival| same_endpoint(&rival.address, &address))
                {
                    rival.answered = true;
                }
                Noted::Ignored
            }
            // What others say counts only about a node we have not heard for long.
            Evidence::Mentioned if peer.is_silent(now) && (peer.expired || peer.answered.is_none()) => {
                peer.address = address;
                peer.expired = false;
                Noted::Known
            }
            Evidence::Mentioned => Noted::Ignored,
            Evidence::Heard => {
                if peer.rival.is_some_and(|rival| now.saturating_duration_since(rival.since) < RIVAL_PAUSE) {
                    return Noted::Ignored;
                }
                peer.rival = Some(Rival { address, since: now, answered: false });
                Noted::Disputed { incumbent: peer.address }
            }
        }
    }

    /// The node did not answer any attempt. If a rival proved itself meanwhile, it takes the place and `true` comes
    /// back; else the node is expired.
    pub(super) fn fail(&mut self, id: &InfoHash, address: &SocketAddr, now: Instant) -> bool {
        let Some(peer) = self.records.get_mut(id) else { return false };
        if !same_endpoint(&peer.address, address) {
            return false;
        }
        if let Some(rival) = peer.rival.take().filter(|rival| rival.answered) {
            peer.address = rival.address;
            peer.touch(Evidence::Answered, now);
            return true;
        }
        peer.expired = true;
        false
    }

    /// The node refused a token. `true` if it did so too often and is expired now.
    pub(super) fn refused(&mut self, id: &InfoHash) -> bool {
        let Some(peer) = self.records.get_mut(id) else { return false };
        peer.refusals = peer.refusals.saturating_add(1);
        if peer.refusals > MAX_REFUSALS {
            peer.expired = true;
        }
        peer.expired
    }

    /// The node took this long to answer.
    pub(super) fn measured(&mut self, id: &InfoHash, round_trip: Duration) {
        if let Some(peer) = self.records.get_mut(id) {
            peer.round_trip.measured(round_trip);
        }
    }

    /// The node accepted a token.
    pub(super) fn accepted(&mut self, id: &InfoHash) {
        if let Some(peer) = self.records.get_mut(id) {
            peer.refusals = 0;
        }
    }

    /// Marks a node as not worth asking.
    pub(super) fn expire(&mut self, id: &InfoHash) {
        if let Some(peer) = self.records.get_mut(id) {
            peer.expired = true;
        }
    }

    /// All nodes become dubious: we may be in another network now (`dht.md` 2.12).
    pub(super) fn reset(&mut self) {
        for peer in self.records.values_mut() {
            peer.heard = None;
            peer.answered = None;
            peer.open = false;
            peer.expired = false;
            peer.refusals = 0;
            peer.rival = None;
            peer.round_trip = RoundTrip::default();
        }
    }

    /// Forgets nodes that are expired and silent.
    pub(super) fn sweep(&mut self, now: Instant, in_use: impl Fn(&InfoHash) -> bool) {
        self.records.retain(|id, peer| !peer.is_removable(now) || in_use(id));
    }

    /// Makes room by forgetting the expired and the never heard; at most once a second, because it walks them all.
    fn purge(&mut self, now: Instant) -> bool {
        if self.purged.is_some_and(|at| now.saturating_duration_since(at) < Duration::from_secs(1)) {
            return false;
        }
        self.purged = Some(now);
        self.records.retain(|_, peer| !peer.expired && peer.heard.is_some());
        self.records.len() < self.limit
    }

    /// The nearest to `target` of the not expired nodes that are `fit`, at most `count`.
    pub(super) fn closest(
        &self,
        target: &InfoHash,
        count: usize,
        fit: impl Fn(&Peer) -> bool,
    ) -> Vec<InfoHash> {
        let fitting = self.records.iter().filter(|(_, peer)| !peer.expired && fit(peer));
        let mut ids: Vec<InfoHash> = fitting.map(|(id, _)| *id).collect();
        if ids.len() > count {
            ids.select_nth_unstable_by(count, |a, b| target.compare_distance(a, b));
            ids.truncate(count);
        }
        ids.sort_unstable_by(|a, b| target.compare_distance(a, b));
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: InfoHash = InfoHash([7; 20]);

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn an_address_moves_only_when_the_new_one_answers_and_the_old_is_silent() {
        let mut now = Instant::now();
        let mut peers = Peers::new(10);
        assert_eq!(peers.note(ID, at(1), Evidence::Answered, now), Noted::New);
        assert_eq!(peers.note(ID, at(2), Evidence::Heard, now), Noted::Disputed { incumbent: at(1) });
        assert_eq!(peers.note(ID, at(2), Evidence::Heard, now), Noted::Ignored, "once is enough");
        assert_eq!(
            peers.note(ID, at(2), Evidence::Answered, now),
            Noted::Ignored,
            "the old one may be alive"
        );
        assert_eq!(peers.note(ID, at(1), Evidence::Answered, now), Noted::Known, "and it is");
        assert_eq!(peers.get(&ID).unwrap().address, at(1));

        now += RIVAL_PAUSE;
        assert_eq!(peers.note(ID, at(2), Evidence::Heard, now), Noted::Disputed { incumbent: at(1) });
        assert_eq!(peers.note(ID, at(2), Evidence::Answered, now), Noted::Ignored);
        assert!(peers.fail(&ID, &at(1), now), "the old one is silent");
        assert_eq!(peers.get(&ID).unwrap().address, at(2));
        assert!(peers.get(&ID).unwrap().is_good(now));
    }

    #[test]
    fn a_mention_moves_only_a_node_that_was_silent_for_long() {
        let mut now = Instant::now();
        let mut peers = Peers::new(10);
        peers.note(ID, at(1), Evidence::Answered, now);
        peers.fail(&ID, &at(1), now);
        assert_eq!(peers.note(ID, at(2), Evidence::Mentioned, now), Noted::Ignored);
        now += EXPIRE_TIME;
        assert_eq!(peers.note(ID, at(2), Evidence::Mentioned, now), Noted::Known);
        assert_eq!(peers.get(&ID).unwrap().address, at(2));
    }

    #[test]
    fn full_of_rumours_makes_room_for_more() {
        let now = Instant::now();
        let mut peers = Peers::new(2);
        peers.note(InfoHash([1; 20]), at(1), Evidence::Answered, now);
        peers.note(InfoHash([2; 20]), at(2), Evidence::Mentioned, now);
        assert_eq!(peers.note(InfoHash([3; 20]), at(3), Evidence::Heard, now), Noted::New);
        assert!(peers.get(&InfoHash([2; 20])).is_none());
        assert_eq!(peers.note(InfoHash([4; 20]), at(4), Evidence::Heard, now), Noted::Full);
    }
}
