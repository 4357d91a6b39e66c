//! The routing table of a family: buckets over the id space, finest around our own id (`dht.md` 2.4).

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use super::address::Prefix;
use super::peers::{Evidence, Peer, Peers};
use crate::InfoHash;

/// Nodes in a bucket, and in an answer.
pub(super) const BUCKET_SIZE: usize = 8;
/// Nodes of one /24 or /56 in a bucket, so that one party cannot fill it.
const PER_PREFIX: usize = 2;
/// Our own bucket is quiet when nobody new came for this long.
const QUIET_TIME: Duration = Duration::from_mins(5);
/// A bootstrap node splits every bucket down to this depth.
const BOOTSTRAP_DEPTH: u32 = 6;

/// The nodes whose ids begin with the same `depth` bits.
#[derive(Debug)]
pub(super) struct Bucket {
    first: InfoHash,
    depth: u32,
    pub(super) nodes: Vec<InfoHash>,
    candidate: Option<InfoHash>,
    pub(super) answered: Option<Instant>,
}

/// What became of a node offered to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// It stands in a bucket since before.
    Known,
    /// It was put into a bucket.
    Inserted,
    /// The bucket is full; this dubious member should be pinged, to see whether it leaves its place.
    Full {
        /// The member to ping.
        doubtful: Option<InfoHash>,
    },
}

#[derive(Debug)]
pub(super) struct Table {
    own: InfoHash,
    bootstrap: bool,
    buckets: Vec<Bucket>,
    grown: Option<Instant>,
}

impl Table {
    pub(super) fn new(own: InfoHash, bootstrap: bool) -> Self {
        let all =
            Bucket { first: InfoHash::ZERO, depth: 0, nodes: Vec::new(), candidate: None, answered: None };
        Self { own, bootstrap, buckets: vec![all], grown: None }
    }

    pub(super) fn index_of(&self, id: &InfoHash) -> usize {
        self.buckets.partition_point(|bucket| bucket.first <= *id).saturating_sub(1)
    }

    pub(super) fn contains(&self, id: &InfoHash) -> bool {
        self.buckets[self.index_of(id)].nodes.contains(id)
    }

    pub(super) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &InfoHash> {
        self.buckets.iter().flat_map(|bucket| &bucket.nodes)
    }

    /// The index of the bucket our own id belongs to.
    pub(super) fn own_bucket(&self) -> usize {
        self.index_of(&self.own)
    }

    /// Depth of our own bucket; the network has about `8 · 2^depth` nodes.
    pub(super) fn depth(&self) -> u32 {
        self.buckets[self.own_bucket()].depth
    }

    /// Whether our own bucket took a node in within `time`.
    pub(super) fn grew_within(&self, time: Duration, now: Instant) -> bool {
        self.grown.is_some_and(|at| now.saturating_duration_since(at) < time)
    }

    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        !self.grew_within(QUIET_TIME, now)
    }

    /// Offers a node. It must have a record in `peers`.
    pub(super) fn offer(&mut self, id: InfoHash, evidence: Evidence, peers: &Peers, now: Instant) -> Placed {
        loop {
            let index = self.index_of(&id);
            let mine = index == self.own_bucket();
            let single = self.buckets.len() == 1;
            let bucket = &mut self.buckets[index];
            if evidence == Evidence::Answered {
                bucket.answered = Some(now);
            }
            if bucket.nodes.contains(&id) {
                return Placed::Known;
            }
            if bucket.is_crowded(&id, peers) {
                return Placed::Full { doubtful: None };
            }
            if bucket.nodes.len() < BUCKET_SIZE {
                bucket.nodes.push(id);
                if mine {
                    self.grown = Some(now);
                }
                return Placed::Inserted;
            }
            // The dead give way, and rumours to nodes that are known to live.
            let gives_way = |id: &InfoHash| {
                let rumour = |peer: &Peer| evidence == Evidence::Answered && !peer.has_answered();
                peers.get(id).is_none_or(|peer| peer.is_expired() || rumour(peer))
            };
            if let Some(place) = bucket.nodes.iter_mut().find(|member| gives_way(member)) {
                *place = id;
                if mine {
                    self.grown = Some(now);
                }
                return Placed::Inserted;
            }
            let doubtful =
                bucket.nodes.iter().find(|id| peers.get(id).is_some_and(|peer| !peer.is_good(now))).copied();
            let deepen =
                (mine && doubtful.is_none()) || (self.bootstrap && bucket.depth < BOOTSTRAP_DEPTH) || single;
            if deepen && bucket.depth < 159 {
                self.split(index);
                continue;
            }
            if evidence > Evidence::Mentioned || bucket.candidate.is_none() {
                bucket.candidate = Some(id);
            }
            return Placed::Full { doubtful };
        }
    }

    fn split(&mut self, index: usize) {
        let low = &mut self.buckets[index];
        let depth = low.depth;
        low.depth += 1;
        let nodes = std::mem::take(&mut low.nodes);
        let (high_nodes, low_nodes) = nodes.into_iter().partition(|id| id.bit(depth));
        low.nodes = low_nodes;
        let mut high = Bucket {
            first: low.first.with_bit(depth, true),
            depth: depth + 1,
            nodes: high_nodes,
            candidate: None,
            answered: low.answered,
        };
        if low.candidate.is_some_and(|id| id.bit(depth)) {
            high.candidate = low.candidate.take();
        }
        self.buckets.insert(index + 1, high);
    }

    /// Removes expired nodes; the candidates of their buckets come back, to be pinged.
    pub(super) fn sweep(&mut self, peers: &Peers) -> Vec<InfoHash> {
        let mut candidates = Vec::new();
        for bucket in &mut self.buckets {
            let before = bucket.nodes.len();
            bucket.nodes.retain(|id| peers.get(id).is_some_and(|peer| !peer.is_expired()));
            if bucket.nodes.len() < before {
                candidates.extend(bucket.candidate.take());
            }
        }
        candidates
    }

    /// The member of the node's bucket waiting for a place, now that `expired` will leave its.
    pub(super) fn take_candidate(&mut self, expired: &InfoHash) -> Option<InfoHash> {
        let index = self.index_of(expired);
        self.buckets[index].candidate.take()
    }

    /// The good nodes to name in an answer about `target`: nearest first, at most eight, of different networks
    /// where there is a choice.
    pub(super) fn closest_good(&self, target: &InfoHash, peers: &Peers, now: Instant) -> Vec<InfoHash> {
        let mut good: Vec<InfoHash> =
            self.nodes().filter(|id| peers.get(id).is_some_and(|peer| peer.is_good(now))).copied().collect();
        good.sort_unstable_by(|a, b| target.compare_distance(a, b));
        let mut seen: Vec<Prefix> = Vec::new();
        let (mut chosen, crowd): (Vec<_>, Vec<_>) = good.into_iter().partition(|id| {
            match peers.get(id).and_then(|peer| Prefix::of(peer.address.ip())) {
                Some(prefix) if seen.contains(&prefix) => false,
                Some(prefix) => {
                    seen.push(prefix);
                    true
                }
                None => true,
            }
        });
        chosen.truncate(BUCKET_SIZE);
        let room = BUCKET_SIZE - chosen.len();
        chosen.extend(crowd.into_iter().take(room));
        chosen.sort_unstable_by(|a, b| target.compare_distance(a, b));
        chosen
    }

    /// A random id inside the bucket at `index`.
    pub(super) fn random_id(&self, index: usize, rng: &mut impl Rng) -> InfoHash {
        let bucket = &self.buckets[index];
        let random = InfoHash(rng.random());
        (0..bucket.depth).fold(random, |id, bit| id.with_bit(bit, bucket.first.bit(bit)))
    }
}

impl Bucket {
    /// Whether the node's network has its share of this bucket already.
    fn is_crowded(&self, id: &InfoHash, peers: &Peers) -> bool {
        let prefix = |id: &InfoHash| peers.get(id).and_then(|peer| Prefix::of(peer.address.ip()));
        let Some(own) = prefix(id) else { return false };
        self.nodes.iter().filter(|member| prefix(member) == Some(own)).count() >= PER_PREFIX
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn filled(own: InfoHash, count: u16, now: Instant, net: [u8; 3]) -> (Table, Peers) {
        let mut rng = StdRng::from_seed([3; 32]);
        let mut table = Table::new(own, false);
        let mut peers = Peers::new(10_000);
        for n in 0..count {
            let id = InfoHash(rng.random());
            let address = SocketAddr::from(([net[0], net[1], net[2], (n % 250) as u8], 1000 + n));
            peers.note(id, address, Evidence::Answered, now);
            table.offer(id, Evidence::Answered, &peers, now);
        }
        (table, peers)
    }

    #[test]
    fn splits_around_the_own_id_and_finds_the_nearest_there() {
        let now = Instant::now();
        let own = InfoHash([0x55; 20]);
        let (table, peers) = filled(own, 500, now, [127, 0, 0]);
        assert!((4..=9).contains(&table.depth()), "depth {}", table.depth());
        let nearest = peers.closest(&own, 8, |_| true);
        assert_eq!(table.closest_good(&own, &peers, now), nearest);
        for (index, bucket) in table.buckets().iter().enumerate() {
            assert!(bucket.nodes.len() <= BUCKET_SIZE);
            assert!(bucket.nodes.iter().all(|id| table.index_of(id) == index));
            let id = table.random_id(index, &mut StdRng::from_seed([9; 32]));
            assert_eq!(table.index_of(&id), index);
        }
    }

    #[test]
    fn one_network_gets_two_places_in_a_bucket() {
        let now = Instant::now();
        let (table, _) = filled(InfoHash([0x55; 20]), 500, now, [8, 8, 8]);
        assert_eq!(table.nodes().count(), 2, "and so no bucket ever splits");
    }

    #[test]
    fn expired_members_give_way() {
        let now = Instant::now();
        let own = InfoHash([0x55; 20]);
        let (mut table, mut peers) = filled(own, 200, now, [10, 0, 0]);
        let victim = *table.nodes().next().unwrap();
        let address = peers.get(&victim).unwrap().address;
        peers.fail(&victim, &address, now);
        table.sweep(&peers);
        assert!(!table.contains(&victim));
    }
}
