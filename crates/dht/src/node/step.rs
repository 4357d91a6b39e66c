//! One step of a search: ask who is nearest, then do what is to be done there (`dht.md` 2.7).

use std::time::{Duration, Instant};

use super::Node;
use super::event::OpId;
use super::search::{Ask, Heads, IDLE_TIME, PARALLEL, Pace, REFILL_PAUSE, SEARCH_NODES, Search, SearchKey};
use super::timers::Timer;
use crate::{InfoHash, Request, Want};

/// What should have been sent but could not be is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

impl Node {
    /// Gives a search something to do, making it if there is none. `false` if there is no room for it.
    pub(super) fn open_search(
        &mut self,
        now: Instant,
        key: SearchKey,
        task: impl FnOnce(&mut Search),
    ) -> bool {
        if !self.searches.contains_key(&key) && self.searches.len() >= self.config.limits.searches {
            let idle =
                self.searches.iter().filter_map(|(key, search)| Some((search.idle_since?, *key))).min();
            let Some((_, oldest)) = idle else {
                tracing::warn!(key = %key.key, "too many searches");
                return false;
            };
            self.drop_search(&oldest);
        }
        let search = self.searches.entry(key).or_default();
        if search.idle_since.take().is_some_and(|since| now.saturating_duration_since(since) >= IDLE_TIME) {
            *search = Search::default();
        }
        task(search);
        self.dirty.insert(key);
        self.bootstrap_wanted(now, key.family);
        true
    }

    pub(super) fn drop_search(&mut self, key: &SearchKey) {
        self.searches.remove(key);
        self.timers.cancel(Timer::Search(*key));
    }

    /// Advances a search as far as it can go now.
    pub(super) fn step(&mut self, now: Instant, key: SearchKey) {
        if let Some(mut search) = self.searches.remove(&key) {
            self.advance(now, key, &mut search);
            self.searches.insert(key, search);
        }
    }

    fn advance(&mut self, now: Instant, key: SearchKey, search: &mut Search) {
        if search.is_idle() {
            search.idle_since.get_or_insert(now);
            self.timers.cancel(Timer::Search(key));
            return;
        }
        search.forgive(now);
        self.refill(now, key, search);
        let heads = search.heads(&self.nets[key.family].peers, now);
        if heads.nearest.is_empty() {
            if self.is_hopeless(key, search) {
                self.fail(key, search);
            }
        } else {
            if heads.synced {
                search.exploring = false;
            }
            self.advance_listens(now, key, search, &heads);
            self.advance_puts(now, key, search, &heads);
            self.advance_fetches(now, key, search);
            self.ask_nearest(now, key, search, &heads);
            self.look_again(now, key, search, &heads);
            self.complete_lookups(key, search, &heads);
        }
        let next = self.next_step(now, search, &heads);
        self.timers.set_option(Timer::Search(key), next);
    }

    /// Brings nodes we know into a search that is short of them.
    fn refill(&mut self, now: Instant, key: SearchKey, search: &mut Search) {
        let peers = &self.nets[key.family].peers;
        let live = search.live(peers);
        let rested = search.refilled.is_none_or(|at| now.saturating_duration_since(at) >= REFILL_PAUSE);
        if live >= SEARCH_NODES || (live > 0 && !rested) {
            return;
        }
        if live == 0 {
            search.members.retain(|member| !member.is_expired(peers));
        }
        search.refilled = Some(now);
        let proved = peers.closest(&key.key, SEARCH_NODES, super::peers::Peer::has_answered);
        let hearsay = peers.closest(&key.key, SEARCH_NODES, |peer| !peer.has_answered());
        for id in proved.into_iter().chain(hearsay) {
            search.offer(&key.key, id, peers);
        }
    }

    /// Whether no node of a search can be asked, and none is about to turn up.
    fn is_hopeless(&self, key: SearchKey, search: &Search) -> bool {
        let peers = &self.nets[key.family].peers;
        let waiting = search.members.iter().any(|it| it.pace != Pace::Prompt && !it.is_expired(peers));
        !waiting && !self.is_bootstrapping(key.family)
    }

    /// Ends what can end in failure. Permanent puts and listens stay: they go on when nodes turn up.
    fn fail(&mut self, key: SearchKey, search: &mut Search) {
        search.exploring = false;
        for op in std::mem::take(&mut search.lookups).into_keys() {
            self.end_lookup(op, key.family, false);
        }
        let puts: Vec<(u64, OpId, bool)> =
            search.puts.iter().map(|(id, put)| (*id, put.op, put.is_permanent())).collect();
        for (id, op, permanent) in puts {
            if !permanent {
                search.puts.remove(&id);
            }
            self.end_announce(op, key.family, Vec::new());
        }
    }

    /// Asks the nearest nodes that have not been asked yet, a few at a time. A get also serves to find nodes.
    fn ask_nearest(&mut self, now: Instant, key: SearchKey, search: &mut Search, heads: &Heads) {
        let peers = &self.nets[key.family].peers;
        let mut busy =
            search.members.iter().filter(|member| member.asking > 0 && member.is_prompt(peers)).count();
        let needs_sync = search.needs_sync();
        for &place in &heads.nearest {
            if busy >= PARALLEL {
                break;
            }
            let member = &mut search.members[place];
            if member.asking > 0 {
                continue;
            }
            let node = member.id;
            let look = search.lookups.iter_mut().find(|(_, lookup)| !lookup.asked.contains_key(&node));
            let sent = if let Some((&op, lookup)) = look {
                let Some(request) = self.look_request(op, key.key) else { continue };
                let sent = self.ask(now, key, node, Ask::Look { op }, request);
                if sent {
                    lookup.asked.insert(node, false);
                }
                sent
            } else if needs_sync && !member.is_synced(now) && !member.is_paused(now) {
                self.find(now, key, node)
            } else {
                continue;
            };
            if sent {
                member.asking += 1;
                busy += 1;
            }
        }
    }

    pub(super) fn find(&mut self, now: Instant, key: SearchKey, node: InfoHash) -> bool {
        self.ask(now, key, node, Ask::Find, Request::Find { target: key.key, want: Want::default() })
    }

    /// When a search has something to do by itself.
    fn next_step(&self, now: Instant, search: &Search, heads: &Heads) -> Option<Instant> {
        let nearest = || heads.nearest.iter().map(|&place| &search.members[place]);
        // What is due already was tried in this step: it waits for an answer, a token or room.
        let due = [Self::next_renewal(search, heads), self.next_listen(search)];
        let due = due.into_iter().flatten().map(|at| if at <= now { now + RETRY } else { at });
        let pauses = nearest().filter_map(super::search::Member::paused_until).filter(|at| *at > now);
        let lapses = nearest().filter_map(super::search::Member::synced_until).filter(|at| *at > now);
        let refill = search.refilled.map(|at| at + REFILL_PAUSE).filter(|at| *at > now);
        let again = search.again.due().filter(|at| *at > now);
        let full = self.requests.is_full().then_some(now + RETRY);
        due.chain(pauses).chain(lapses).chain(refill).chain(again).chain(full).min()
    }
}
