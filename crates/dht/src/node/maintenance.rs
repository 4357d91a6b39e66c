//! Keeping what we know fresh: the routing table, our surroundings, and what others stored here (`dht.md` 2.5, 2.12).

use std::time::{Duration, Instant};

use rand::RngExt;

use super::Node;
use super::event::Status;
use super::family::Family;
use super::listen::Socket;
use super::peers::EXPIRE_TIME;
use super::request::{Open, Purpose};
use super::rtt::RoundTrip;
use super::search::{Ask, IDLE_TIME, SearchKey};
use super::timers::Timer;
use crate::{InfoHash, Request, Want};

/// After a newcomer near us, we look around us for this long.
const GROWTH_TIME: Duration = Duration::from_secs(150);
/// A bucket that was silent for this long is asked for life signs.
const STALE_TIME: Duration = EXPIRE_TIME;

impl Node {
    pub(super) fn schedule_maintenance(&mut self, now: Instant) {
        for family in self.families() {
            let first = self.rng.random_range(Duration::from_secs(3)..=Duration::from_secs(5));
            self.timers.set(Timer::Confirm(family), now + first);
        }
        self.schedule_sweep(now);
        if self.config.maintain_storage {
            self.timers.set(Timer::Maintain, now + super::storage::MAINTAIN_PERIOD);
        }
    }

    fn schedule_sweep(&mut self, now: Instant) {
        let wait = self.rng.random_range(Duration::from_mins(2)..=Duration::from_mins(6));
        self.timers.set(Timer::Sweep, now + wait);
    }

    /// The first node of a family is known: look around from there without delay.
    pub(super) fn first_node(&mut self, now: Instant, family: Family) {
        self.explore_own_id(now, family);
        self.timers.set_sooner(Timer::Confirm(family), now + Duration::from_secs(1));
    }

    /// A node came into the routing table after a time of quiet.
    pub(super) fn neighbour_found(&mut self, now: Instant, family: Family) {
        self.timers.set_sooner(Timer::Confirm(family), now + Duration::from_secs(1));
    }

    /// Looks for the nodes nearest to ourselves: they will ask us, and we them.
    fn explore_own_id(&mut self, now: Instant, family: Family) {
        let key = SearchKey { key: self.id, family };
        self.open_search(now, key, |search| search.exploring = true);
    }

    /// The regular look at the routing table of a family.
    pub(super) fn confirm(&mut self, now: Instant, family: Family) {
        self.reach.age(family, self.nets[family].table.depth(), &self.reported, now);
        let connected = self.nets[family].status == Status::Connected;
        if connected && !self.searches.keys().any(|key| key.family == family) {
            self.explore_own_id(now, family);
        }
        let mut sent = self.refresh_buckets(now, family);
        if !sent && self.nets[family].table.grew_within(GROWTH_TIME, now) {
            sent = self.explore_neighbourhood(now, family);
        }
        let wait = if sent { 5_000..=25_000 } else { 60_000..=180_000 };
        let wait = Duration::from_millis(self.rng.random_range(wait));
        let wait = self.roam(now, family).map_or(wait, |sooner| sooner.min(wait));
        self.timers.set(Timer::Confirm(family), now + wait);
    }

    /// Asks in every bucket that was silent for long.
    fn refresh_buckets(&mut self, now: Instant, family: Family) -> bool {
        let stale = |bucket: &super::table::Bucket| {
            bucket.nodes.is_empty()
                || bucket.answered.is_none_or(|at| now.saturating_duration_since(at) >= STALE_TIME)
        };
        let buckets = self.nets[family].table.buckets();
        let indexes: Vec<usize> = (0..buckets.len()).filter(|&index| stale(&buckets[index])).collect();
        let mut sent = false;
        for index in indexes {
            let target = self.nets[family].table.random_id(index, &mut self.rng);
            let count = self.nets[family].table.buckets().len();
            let asked = if self.rng.random_ratio(1, 8) { (index + 1).min(count - 1) } else { index };
            let both = self.rng.random_ratio(1, 38) || self.is_short(family.other(), &target);
            let near = self.pick(now, family, asked).or_else(|| self.pick_near(now, family, index));
            if let Some(node) = near {
                sent |= self.explore(now, family, node, target, both);
            }
        }
        sent
    }

    fn explore_neighbourhood(&mut self, now: Instant, family: Family) -> bool {
        let own = self.nets[family].table.own_bucket();
        let count = self.nets[family].table.buckets().len();
        let index = match self.rng.random_range(0..8_u8) {
            0 => (own + 1).min(count - 1),
            1 => own.saturating_sub(1),
            _ => own,
        };
        let mut target = self.id.0;
        target[19] = self.rng.random();
        let node = self.pick(now, family, index).or_else(|| self.pick(now, family, own));
        node.is_some_and(|node| self.explore(now, family, node, InfoHash(target), true))
    }

    /// Whether the other family could use nodes near an id.
    fn is_short(&self, family: Family, target: &InfoHash) -> bool {
        let net = &self.nets[family];
        net.enabled && net.table.buckets()[net.table.index_of(target)].nodes.len() < super::table::BUCKET_SIZE
    }

    /// A random node of a bucket, a live one if there is any.
    fn pick(&mut self, now: Instant, family: Family, index: usize) -> Option<InfoHash> {
        let net = &self.nets[family];
        let nodes = &net.table.buckets()[index].nodes;
        let usable = |good: bool| {
            let fit = move |id: &&InfoHash| {
                net.peers
                    .get(id)
                    .is_some_and(|peer| if good { peer.is_good(now) } else { !peer.is_expired() })
            };
            nodes.iter().filter(fit).copied().collect::<Vec<_>>()
        };
        let good = usable(true);
        let from = if good.is_empty() { usable(false) } else { good };
        if from.is_empty() { None } else { Some(from[self.rng.random_range(0..from.len())]) }
    }

    /// A node of the nearest bucket that has one.
    fn pick_near(&mut self, now: Instant, family: Family, index: usize) -> Option<InfoHash> {
        let mut indexes: Vec<usize> = (0..self.nets[family].table.buckets().len()).collect();
        indexes.sort_by_key(|&other| (other.abs_diff(index), other));
        indexes.into_iter().find_map(|other| self.pick(now, family, other))
    }

    fn explore(
        &mut self,
        now: Instant,
        family: Family,
        node: InfoHash,
        target: InfoHash,
        both: bool,
    ) -> bool {
        let Some(to) = self.nets[family].peers.get(&node).map(|peer| peer.address) else { return false };
        let want =
            if both && self.families().len() > 1 { Want { v4: true, v6: true } } else { Want::default() };
        self.request(now, (to, Some(node)), Purpose::Explore, Request::Find { target, want })
    }

    /// Sweeps out what is old.
    pub(super) fn sweep(&mut self, now: Instant) {
        for family in self.families() {
            let net = &mut self.nets[family];
            for candidate in net.table.sweep(&net.peers) {
                self.ping_known(now, family, candidate);
            }
            let net = &mut self.nets[family];
            let searches = &self.searches;
            let table = &net.table;
            net.peers.sweep(now, |id| {
                table.contains(id) || searches.iter().any(|(key, it)| key.family == family && it.contains(id))
            });
        }
        let over =
            |since: Option<Instant>| since.is_some_and(|at| now.saturating_duration_since(at) >= IDLE_TIME);
        let old: Vec<SearchKey> =
            self.searches.iter().filter(|(_, search)| over(search.idle_since)).map(|(key, _)| *key).collect();
        for key in old {
            self.drop_search(&key);
        }
        self.trust.sweep(now);
        self.schedule_sweep(now);
    }

    /// The network under us changed: nothing known about other nodes is certain any more, our address may be another,
    /// and listens and permanent puts have to be made known again.
    pub fn connectivity_changed(&mut self, now: Instant) {
        self.reported.clear();
        self.reach.reset();
        self.forget_questions();
        for family in self.families() {
            self.nets[family].peers.reset();
            self.nets[family].round_trip = RoundTrip::default();
        }
        for (key, search) in &mut self.searches {
            for member in &mut search.members {
                member.unsync();
            }
            self.dirty.insert(*key);
        }
        self.sockets.retain(|_, socket| matches!(socket, Socket::Local(_)));
        self.subscribed.note(now);
        self.timers.cancel(Timer::ListenAnew);
        for family in self.families() {
            self.timers.set(Timer::Confirm(family), now);
        }
        self.restart_bootstrap(now);
        self.settle(now);
    }

    /// Questions that others wait behind are asked anew: answers go to where we were.
    fn forget_questions(&mut self) {
        let gates = |open: &Open| match &open.purpose {
            Purpose::Bootstrap => true,
            Purpose::Search { ask, .. } => matches!(ask, Ask::Find | Ask::Look { .. }),
            _ => false,
        };
        for transaction in self.requests.matching(gates) {
            if let Some(Open { node: Some(node), to, purpose, .. }) = self.end_request(transaction) {
                self.purpose_failed(node, to, purpose);
            }
        }
    }
}
