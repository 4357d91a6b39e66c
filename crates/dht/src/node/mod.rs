//! The node: everything OpenDHT's `Dht` does, as one state machine.
//!
//! A driver feeds it datagrams and time, and takes datagrams, events and the next deadline out:
//!
//! * after any call that changes it, drain [`Node::poll_transmit`] and [`Node::poll_event`], then sleep until
//!   [`Node::poll_timeout`] or the next datagram;
//! * when the deadline is reached, call [`Node::handle_timeout`].
//!
//! Operations ([`Node::get`], [`Node::query`], [`Node::put`], [`Node::listen`]) return an [`OpId`] at once; what they
//! find arrives as [`Event`]s. Started while the node still looks for the network, they wait for the first node that
//! answers and proceed in the same instant. Spec: `dht.md` 1, 2, 4 and 10.

mod address;
mod again;
mod bootstrap;
mod config;
mod event;
mod family;
mod get;
mod listen;
mod maintenance;
mod ops;
mod peers;
mod put;
mod reach;
mod receive;
mod reply;
mod request;
mod roam;
mod rtt;
mod search;
mod send;
mod serve;
mod state;
mod status;
mod step;
mod storage;
mod table;
mod timers;
mod trust;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub use config::{Config, Limits, Mode};
pub use event::{Event, GetOptions, NodeCounts, OpId, PutOptions, Stats, Status, Transmit};
pub use family::{Family, PerFamily};
pub use reach::Reachability;

use crate::InfoHash;
use crate::fragment::Assembler;
use crate::rate::RateLimiter;
use crate::reported::ReportedAddresses;
use crate::store::Store;
use crate::token::Tokens;
use bootstrap::Bootstrap;
use listen::Socket;
use ops::Op;
use peers::Peers;
use reach::Reach;
use request::{Due, Purpose, Requests};
use rtt::RoundTrip;
use search::{Search, SearchKey};
use table::Table;
use timers::{Timer, Timers};
use trust::Trust;

/// What exists once per address family.
#[derive(Debug)]
struct Net {
    enabled: bool,
    table: Table,
    peers: Peers,
    bootstrap: Bootstrap,
    status: Status,
    /// Looks elsewhere in a row, and when the next is due.
    roamed: u32,
    roams: Option<Instant>,
    /// Over all nodes of the family.
    round_trip: RoundTrip,
}

impl Net {
    fn new(enabled: bool, own: InfoHash, config: &Config) -> Self {
        Self {
            enabled,
            table: Table::new(own, config.is_bootstrap),
            peers: Peers::new(config.limits.peers),
            bootstrap: Bootstrap::default(),
            status: Status::Disconnected,
            roamed: 0,
            roams: None,
            round_trip: RoundTrip::default(),
        }
    }
}

/// An OpenDHT node. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Node {
    config: Config,
    id: InfoHash,
    rng: StdRng,
    /// A moment, and the time since the Unix epoch at it.
    clock: (Instant, Duration),
    timers: Timers,
    nets: PerFamily<Net>,
    reported: ReportedAddresses,
    reach: Reach,
    requests: Requests,
    searches: BTreeMap<SearchKey, Search>,
    /// Searches that have something to do before the node rests.
    dirty: BTreeSet<SearchKey>,
    ops: BTreeMap<OpId, Op>,
    next_op: u64,
    next_subscription: u32,
    sockets: BTreeMap<u32, Socket>,
    /// When all subscriptions were made anew.
    subscribed: listen::Rounds,
    store: Store,
    tokens: Tokens,
    rates: RateLimiter,
    assembler: Assembler,
    trust: Trust,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Node {
    /// A node that knows nobody yet. `unix` is the time since the Unix epoch at `now`. All its chance comes from
    /// `seed`, which must be unpredictable to others: write tokens and transaction ids depend on it.
    pub fn new(config: Config, now: Instant, unix: Duration, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let id = config.node_id.filter(|id| !id.is_zero()).unwrap_or_else(|| InfoHash(rng.random()));
        let limits = &config.limits;
        let mut node = Self {
            id,
            clock: (now, unix),
            timers: Timers::default(),
            nets: PerFamily {
                v4: Net::new(config.ipv4, id, &config),
                v6: Net::new(config.ipv6, id, &config),
            },
            reported: ReportedAddresses::new(),
            reach: Reach::new(config.mode, limits.contacts),
            requests: Requests::new(limits.requests),
            searches: BTreeMap::new(),
            dirty: BTreeSet::new(),
            ops: BTreeMap::new(),
            next_op: 1,
            next_subscription: 1,
            sockets: BTreeMap::new(),
            subscribed: listen::Rounds::default(),
            store: Store::new(limits.store),
            tokens: Tokens::new(now, rng.random()),
            rates: RateLimiter::new(limits.rates),
            assembler: Assembler::new(limits.assembly),
            trust: Trust::new(limits.addresses, limits.held_answers),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
            rng,
            config,
        };
        node.schedule_maintenance(now);
        node.timers.set(Timer::RotateToken, node.tokens.poll_timeout());
        node
    }

    /// The id of this node.
    pub fn id(&self) -> InfoHash {
        self.id
    }

    /// Tells the node that the time of day was set: it is `unix` since the Unix epoch at `now`.
    pub fn set_wall_clock(&mut self, now: Instant, unix: Duration) {
        self.clock = (now, unix);
    }

    fn unix_seconds(&self, now: Instant) -> i64 {
        let (then, unix) = self.clock;
        let at = match now.checked_duration_since(then) {
            Some(since) => unix.saturating_add(since),
            None => unix.saturating_sub(then.saturating_duration_since(now)),
        };
        at.as_secs().try_into().unwrap_or(i64::MAX)
    }

    /// The families this node uses.
    fn families(&self) -> Vec<Family> {
        Family::ALL.into_iter().filter(|&family| self.nets[family].enabled).collect()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Node::handle_timeout`] has to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Request(transaction) => self.request_due(now, transaction),
                Timer::Slow(transaction) => self.request_slow(transaction),
                Timer::Search(key) => {
                    self.dirty.insert(key);
                }
                Timer::Listen(op) => self.listen_timeout(now, op),
                Timer::ListenAnew => self.subscribe_anew(now),
                Timer::Confirm(family) => self.confirm(now, family),
                Timer::Bootstrap(family) => self.bootstrap_due(now, family),
                Timer::Sweep => self.sweep(now),
                Timer::Store => self.store.handle_timeout(now),
                Timer::RotateToken => {
                    self.tokens.handle_timeout(now);
                    self.timers.set(Timer::RotateToken, self.tokens.poll_timeout());
                }
                Timer::Assembly => self.assembler.handle_timeout(now),
                Timer::Maintain => self.maintain_storage(now),
            }
            // Steps of searches may arm timers that are due at once.
            self.settle(now);
        }
    }

    fn request_due(&mut self, now: Instant, transaction: u32) {
        match self.requests.due(now, transaction, &mut self.rng) {
            Some(Due::Resend { datagrams, again_at }) => {
                self.timers.set(Timer::Request(transaction), again_at);
                if let Some(open) = self.requests.get(transaction) {
                    let (to, node, purpose) = (open.to, open.node, open.purpose.clone());
                    let late = open.is_late();
                    for payload in datagrams {
                        self.transmit(to, payload);
                    }
                    if late && let Some(node) = node {
                        self.request_late(node, &purpose);
                    }
                    if purpose == Purpose::Bootstrap {
                        self.bootstrap_late(Family::of(&to));
                    }
                }
            }
            Some(Due::GiveUp(open)) => {
                self.stats.unanswered += 1;
                self.request_failed(now, open);
            }
            None => {}
        }
    }

    /// A datagram could not be sent. Errors that say the other end is out of reach end the requests to it at once;
    /// a full socket only means that the send does not count.
    pub fn handle_send_error(&mut self, now: Instant, to: SocketAddr, kind: io::ErrorKind) {
        use io::ErrorKind as Kind;
        match kind {
            Kind::WouldBlock | Kind::Interrupted => self.requests.discount(&to),
            Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::AddrNotAvailable
            | Kind::BrokenPipe
            | Kind::PermissionDenied
            | Kind::Unsupported
            | Kind::InvalidInput => {
                for transaction in self.requests.matching(|open| open.to == to) {
                    if let Some(open) = self.end_request(transaction) {
                        self.request_failed(now, open);
                    }
                }
            }
            _ => tracing::debug!(%to, ?kind, "send failed"),
        }
        self.settle(now);
    }

    /// Does everything that follows from what was just done, until nothing is left to do now.
    fn settle(&mut self, now: Instant) {
        loop {
            while let Some(notice) = self.store.poll_notice() {
                self.notify(now, notice);
            }
            let Some(key) = self.dirty.pop_first() else { break };
            self.step(now, key);
        }
        self.timers.set_option(Timer::Store, self.store.poll_timeout());
        self.timers.set_option(Timer::Assembly, self.assembler.poll_timeout());
        self.update_status(now);
    }

    fn push_event(&mut self, event: Event) {
        self.events.push_back(event);
    }
}
