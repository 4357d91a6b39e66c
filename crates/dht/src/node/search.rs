//! A search: the nodes nearest to a key, and how far each of them has been brought (`dht.md` 2.7).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::address::Prefix;
use super::again::Again;
use super::event::OpId;
use super::family::Family;
use super::get::{Lookup, Wanted};
use super::listen::{Listening, Subscription};
use super::peers::{EXPIRE_TIME, Peer, Peers};
use super::put::{Announce, Holding};
use crate::{InfoHash, Token};

/// Live nodes kept in a search.
pub(super) const SEARCH_NODES: usize = 14;
/// Nodes a value is stored on and a get asks.
pub(super) const TARGET_NODES: usize = 8;
/// Nodes a listen is kept at, beside up to [`OPEN_NODES`].
pub(super) const LISTEN_NODES: usize = 4;
/// So many of them should be nodes that everybody reaches. Where fewer are, the next such nodes are taken beside them: near neighbours
/// open their NATs to each other, and what lay on those alone would be found by nobody else.
pub(super) const OPEN_NODES: usize = 3;
/// Nodes asked at the same time.
pub(super) const PARALLEL: usize = 4;
/// Dead nodes remembered beside the live ones.
const MAX_BAD_NODES: usize = 25;
/// An answer keeps a node synced for this long.
pub(super) const SYNC_TIME: Duration = EXPIRE_TIME;
/// An idle search is kept this long.
pub(super) const IDLE_TIME: Duration = Duration::from_mins(62);
/// The records are searched for more nodes at most this often.
pub(super) const REFILL_PAUSE: Duration = Duration::from_mins(10);
/// Nodes of one /24 or /56 in a search, so that one party cannot surround a key.
const PER_PREFIX: usize = 2;
/// Slow nodes that a search may end without. Each value lies on eight nodes, so those asked instead overlap with them.
const MAX_PASSED_OVER: usize = TARGET_NODES / 2;
/// A node that refused so many tokens in a row is left alone.
const MAX_REFUSALS: u8 = 3;

/// Names a search: there is at most one for a key and family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SearchKey {
    pub(super) key: InfoHash,
    pub(super) family: Family,
}

/// What a search asks one of its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Nodes and a token.
    Find,
    /// What it has, for this get; and nodes and a token.
    Look { op: OpId },
    /// Values it said it has.
    Fetch { op: OpId, wanted: Vec<Wanted> },
    /// Whether it has our value, and with which sequence number.
    Probe { value: u64 },
    /// To store our value.
    Put { value: u64 },
    /// To keep our value.
    Refresh { value: u64 },
    /// Whether it really stored our value.
    ReadBack { value: u64 },
    /// To tell us of changes.
    Listen { subscription: u32, socket: u32 },
}

/// Whether a node answers in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As far as is known.
    Prompt,
    /// It takes longer than answers usually do: others are asked in its place, but it is not written off.
    Slow,
    /// It let a request go unanswered until it was sent again.
    Late,
}

/// A node in a search.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: InfoHash,
    pub(super) pace: Pace,
    pub(super) token: Option<Token>,
    replied: Option<Instant>,
    /// Open requests that bring nodes and a token.
    pub(super) asking: usize,
    refusals: u8,
    refused_until: Option<Instant>,
    pub(super) holdings: BTreeMap<u64, Holding>,
    pub(super) listens: BTreeMap<u32, Listening>,
}

impl Member {
    fn new(id: InfoHash) -> Self {
        Self {
            id,
            pace: Pace::Prompt,
            token: None,
            replied: None,
            asking: 0,
            refusals: 0,
            refused_until: None,
            holdings: BTreeMap::new(),
            listens: BTreeMap::new(),
        }
    }

    pub(super) fn is_bad(&self, peers: &Peers) -> bool {
        self.pace == Pace::Late || self.refusals >= MAX_REFUSALS || self.is_expired(peers)
    }

    /// Whether the search may count on it.
    pub(super) fn is_prompt(&self, peers: &Peers) -> bool {
        self.pace == Pace::Prompt && !self.is_bad(peers)
    }

    pub(super) fn is_expired(&self, peers: &Peers) -> bool {
        peers.get(&self.id).is_none_or(Peer::is_expired)
    }

    pub(super) fn is_synced(&self, now: Instant) -> bool {
        self.token.is_some() && self.replied.is_some_and(|at| now.saturating_duration_since(at) < SYNC_TIME)
    }

    pub(super) fn synced_until(&self) -> Option<Instant> {
        self.replied.filter(|_| self.token.is_some()).map(|at| at + SYNC_TIME)
    }

    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.refused_until.is_some_and(|until| now < until)
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.refused_until
    }

    /// It answered a find or get. Whether it had not done so before.
    pub(super) fn replied(&mut self, token: Token, now: Instant) -> bool {
        self.token = Some(token);
        self.asking = self.asking.saturating_sub(1);
        self.pace = Pace::Prompt;
        self.replied.replace(now).is_none()
    }

    /// It did not take the token. One retry goes out at once, then ever longer pauses follow (`dht.md` 9.3).
    pub(super) fn refused(&mut self, now: Instant) {
        self.token = None;
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > 1 {
            self.refused_until = Some(now + Duration::from_secs(1 << self.refusals));
        }
    }

    /// It took the token.
    pub(super) fn accepted(&mut self) {
        self.pace = Pace::Prompt;
        self.refusals = 0;
        self.refused_until = None;
    }

    /// Its token may be for another address than ours of now.
    pub(super) fn forget_token(&mut self) {
        (self.token, self.replied) = (None, None);
    }

    /// All we knew of it may be wrong: our address, or the way to it, has changed.
    pub(super) fn unsync(&mut self) {
        self.replied = None;
        self.listens.clear();
        self.holdings.clear();
        self.accepted();
    }

    /// The pause is over long since: it gets another chance.
    fn forgive(&mut self, now: Instant) {
        if self.refusals >= MAX_REFUSALS && self.refused_until.is_some_and(|until| until + SYNC_TIME <= now) {
            self.accepted();
        }
    }
}

/// The state of a search.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) members: Vec<Member>,
    pub(super) refilled: Option<Instant>,
    pub(super) lookups: BTreeMap<OpId, Lookup>,
    pub(super) puts: BTreeMap<u64, Announce>,
    pub(super) subscriptions: BTreeMap<u32, Subscription>,
    /// It runs to learn of nodes only.
    pub(super) exploring: bool,
    pub(super) idle_since: Option<Instant>,
    /// When it looks for nearer nodes, for what it keeps.
    pub(super) again: Again,
}

/// The best nodes of a search, as positions in its members.
#[derive(Debug)]
pub(super) struct Heads {
    /// The nearest nodes that are neither bad nor slow: eight, and those that are taken beside them.
    pub(super) nearest: Vec<usize>,
    /// Those of them that everybody may reach, at most [`OPEN_NODES`].
    pub(super) open: Vec<usize>,
    /// All of them are synced, and there is at least one.
    pub(super) synced: bool,
    /// How many of them, from the nearest on, may be stored on and listened at.
    pub(super) usable: usize,
    /// What is to be done at the nearest nodes is not over with these: slow ones among them have to be waited for,
    /// because there are not enough others or because too many are slow.
    pub(super) incomplete: bool,
}

impl Search {
    /// Takes a node in if it is near enough. `true` if it is new here.
    pub(super) fn offer(&mut self, target: &InfoHash, id: InfoHash, peers: &Peers) -> bool {
        let Err(place) = self.members.binary_search_by(|member| target.compare_distance(&member.id, &id))
        else {
            return false;
        };
        let proved = is_proved(&id, peers);
        let rival = |member: &&Member| !member.is_bad(peers) && is_proved(&member.id, peers) == proved;
        if self.members[..place].iter().filter(rival).count() >= SEARCH_NODES {
            return false;
        }
        let prefix = |id: &InfoHash| peers.get(id).and_then(|peer| Prefix::of(peer.address.ip()));
        let mut farthest = None;
        if let Some(own) = prefix(&id) {
            let same = |member: &Member| !member.is_bad(peers) && prefix(&member.id) == Some(own);
            let crowd: Vec<usize> = (0..self.members.len()).filter(|&it| same(&self.members[it])).collect();
            if crowd.len() >= PER_PREFIX {
                farthest = crowd.last().copied();
                if farthest.is_some_and(|it| it < place) {
                    return false;
                }
            }
        }
        if let Some(farthest) = farthest {
            self.members.remove(farthest);
        }
        self.members.insert(place, Member::new(id));
        self.trim(peers);
        true
    }

    /// Keeps the nearest live nodes and a bounded number of bad ones among them. Nodes that answered us before and
    /// those known by hearsay do not compete: a flood of invented nodes must not drive the real ones out.
    fn trim(&mut self, peers: &Peers) {
        let (mut proved, mut hearsay, mut bad) = (0, 0, 0);
        self.members.retain(|member| {
            if member.is_bad(peers) {
                bad += 1;
                bad <= MAX_BAD_NODES
            } else if is_proved(&member.id, peers) {
                proved += 1;
                proved <= SEARCH_NODES
            } else {
                hearsay += 1;
                hearsay <= SEARCH_NODES
            }
        });
    }

    pub(super) fn member(&mut self, id: &InfoHash) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == *id)
    }

    pub(super) fn contains(&self, id: &InfoHash) -> bool {
        self.members.iter().any(|member| member.id == *id)
    }

    pub(super) fn forgive(&mut self, now: Instant) {
        for member in &mut self.members {
            member.forgive(now);
        }
    }

    pub(super) fn live(&self, peers: &Peers) -> usize {
        self.members.iter().filter(|member| !member.is_bad(peers)).count()
    }

    pub(super) fn heads(&self, peers: &Peers, now: Instant) -> Heads {
        let live = self.members.iter().enumerate().filter(|(_, member)| !member.is_bad(peers));
        let (mut nearest, mut open, mut slow) = (Vec::with_capacity(TARGET_NODES), Vec::new(), 0);
        for (place, member) in live {
            let full = nearest.len() >= TARGET_NODES;
            let wanted = open.len() < OPEN_NODES && peers.get(&member.id).is_some_and(Peer::may_be_open);
            if full && open.len() == OPEN_NODES {
                break;
            }
            match member.pace {
                Pace::Prompt if wanted => {
                    nearest.push(place);
                    open.push(place);
                }
                Pace::Prompt if !full => nearest.push(place),
                Pace::Slow | Pace::Late if !full => slow += 1,
                Pace::Prompt | Pace::Slow | Pace::Late => {}
            }
        }
        let ready = nearest.iter().take_while(|&&place| self.members[place].is_synced(now)).count();
        let synced = ready > 0 && ready == nearest.len();
        let usable = if synced { ready } else { ready.saturating_sub(1) };
        let incomplete = slow > if nearest.len() >= TARGET_NODES { MAX_PASSED_OVER } else { 0 };
        Heads { nearest, open, synced, usable, incomplete }
    }

    /// Whether somebody waits for its nodes to be synced.
    pub(super) fn needs_sync(&self) -> bool {
        self.exploring || !self.puts.is_empty() || !self.subscriptions.is_empty()
    }

    /// Whether something is to stay near its key.
    pub(super) fn keeps(&self) -> bool {
        !self.subscriptions.is_empty() || self.puts.values().any(Announce::is_permanent)
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.needs_sync() && self.lookups.is_empty()
    }
}

fn is_proved(id: &InfoHash, peers: &Peers) -> bool {
    peers.get(id).is_some_and(Peer::has_answered)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::node::peers::Evidence;

    fn id(n: u8) -> InfoHash {
        InfoHash([n; 20])
    }

    fn network(count: u8, net: [u8; 3], now: Instant) -> Peers {
        let mut peers = Peers::new(1000);
        for n in 1..=count {
            let address = SocketAddr::from(([net[0], net[1], net[2], n], 4222));
            peers.note(id(n), address, Evidence::Answered, now);
        }
        peers
    }

    #[test]
    fn keeps_the_nearest_and_heads_skip_the_bad() {
        let now = Instant::now();
        let mut peers = network(40, [10, 0, 0], now);
        let mut search = Search::default();
        for n in (1..=40).rev() {
            search.offer(&InfoHash::ZERO, id(n), &peers);
        }
        let near: Vec<_> = search.members.iter().map(|member| member.id).collect();
        assert_eq!(near, (1..=14).map(id).collect::<Vec<_>>());
        peers.expire(&id(1));
        search.members[1].pace = Pace::Late;
        let heads = search.heads(&peers, now);
        assert_eq!(heads.nearest, (2..10).collect::<Vec<_>>());
        assert!(!heads.synced);
        for place in 2..5 {
            search.members[place].replied(Token::new([1]).unwrap(), now);
        }
        assert_eq!(search.heads(&peers, now).usable, 2, "all but the last of the synced");
        assert_eq!(search.heads(&peers, now + SYNC_TIME).usable, 0);
    }

    #[test]
    fn beside_neighbours_that_came_by_themselves_some_are_taken_that_everybody_reaches() {
        let now = Instant::now();
        let mut peers = Peers::new(1000);
        let note = |peers: &mut Peers, n: u8, evidence| {
            peers.note(id(n), SocketAddr::from(([10, 0, 0, n], 4222)), evidence, now);
        };
        for n in 1..=14 {
            // 2 and 11 were asked first, 13 is known by name only.
            if ![2, 11, 13].contains(&n) {
                note(&mut peers, n, Evidence::Heard);
            }
            note(&mut peers, n, if n == 13 { Evidence::Mentioned } else { Evidence::Answered });
        }
        let mut search = Search::default();
        for n in 1..=14 {
            search.offer(&InfoHash::ZERO, id(n), &peers);
        }
        let heads = search.heads(&peers, now);
        assert_eq!(heads.nearest, [0, 1, 2, 3, 4, 5, 6, 7, 10, 12]);
        assert_eq!(heads.open, [1, 10, 12]);
        // It does not answer: there is no other.
        peers.expire(&id(13));
        assert_eq!(search.heads(&peers, now).open, [1, 10]);
        assert_eq!(
            search.heads(&network(40, [10, 0, 0], now), now).nearest.len(),
            TARGET_NODES,
            "all are open"
        );
    }

    #[test]
    fn one_network_cannot_surround_a_key() {
        let now = Instant::now();
        let peers = network(20, [8, 8, 8], now);
        let mut search = Search::default();
        let taken = (1..=20).filter(|&n| search.offer(&InfoHash::ZERO, id(n), &peers)).count();
        assert_eq!(taken, PER_PREFIX);
    }

    #[test]
    fn refusals_pause_longer_and_longer_then_end() {
        let now = Instant::now();
        let peers = network(1, [10, 0, 0], now);
        let mut member = Member::new(id(1));
        member.refused(now);
        assert!(!member.is_paused(now), "one retry at once");
        member.refused(now);
        assert_eq!(member.paused_until(), Some(now + Duration::from_secs(4)));
        member.refused(now);
        assert!(member.is_bad(&peers));
        member.forgive(now + Duration::from_secs(8) + SYNC_TIME);
        assert!(!member.is_bad(&peers));
    }
}
