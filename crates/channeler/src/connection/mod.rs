//! One connection: a peer, its channels, and the links to it.

mod begin;
mod channels;
mod close;
mod control;
mod credit;
mod deadlines;
mod events;
#[cfg(any(test, feature = "codecs"))]
mod forge;
mod idle;
mod links;
mod messages;
mod outcome;
mod packet;
mod paths;
mod phase;
mod receive;
mod records;
mod schedule;
mod serials;
mod shares;
mod slots;
mod stats;
#[cfg(test)]
mod tests;
mod timers;
mod transmit;
mod turns;
mod warm;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use thiserror::Error;

pub(crate) use self::begin::Birth;
pub use self::stats::ConnectionStats;
use self::{
    begin::Beginning,
    credit::Credit,
    deadlines::Deadlines,
    events::Events,
    idle::Idle,
    links::Links,
    phase::{Early, Phase},
    records::{Item, Records},
    schedule::Schedule,
    serials::Serials,
    shares::Shares,
    slots::Slots,
    warm::Warm,
};
use crate::{
    ChannelId, Config, ConnectionError, Ecn, Event, Route, Side, Transmit, Violation,
    channel::Pool,
    crypto::{ChannelOpen, ChannelSeal, Opener, Sealer},
    endpoint::EndpointEvent,
    handshake::{Handshake, PeerIdentity},
    link::{Content, Outcome},
    parameters::Parameters,
    reset::ResetKey,
};

/// A channel was named that does not exist, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no such channel")]
pub struct NoChannel;

/// Why a link could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddLinkError {
    /// The handshake is not complete.
    #[error("not connected yet")]
    NotConnected,
    /// The connection has ended.
    #[error("connection closed")]
    Closed,
    /// As many links as this side or the peer allows.
    #[error("as many links as the limits allow")]
    TooMany,
    /// A link takes this route already.
    #[error("a link takes this route already")]
    RouteTaken,
    /// The peer has not given out a further connection id yet: try again a round trip later.
    #[error("no connection id of the peer left")]
    NoId,
}

/// One connection. Made by [`Endpoint::connect`](crate::Endpoint::connect) and [`Endpoint::handle`](crate::Endpoint::handle).
///
/// # Driving it
///
/// * Packets for it go to [`handle`](Self::handle): all that are there, before anything else.
/// * After anything was called, call [`poll_event`](Self::poll_event), [`poll_endpoint_event`](Self::poll_endpoint_event) and
///   [`poll_transmit`](Self::poll_transmit) until they return `None`, in this order, then
///   [`poll_timeout`](Self::poll_timeout), and [`handle_timeout`](Self::handle_timeout) when that has come.
/// * If a route takes no more packets, tell [`set_ready`](Self::set_ready).
#[derive(Debug)]
pub struct Connection {
    side: Side,
    config: Arc<Config>,
    rng: StdRng,
    phase: Phase,
    error: Option<ConnectionError>,
    /// A rule that the peer was found to have broken where nothing could be returned.
    fault: Option<Violation>,
    beginning: Option<Beginning>,
    was_connected: bool,
    peer: Option<PeerIdentity>,
    /// The peer's limits; those that every peer has at least, before they are known.
    theirs: Parameters,
    protection: Option<Box<Protection>>,
    idle: Idle,
    events: Events,
    stats: ConnectionStats,

    // Channels.
    slots: Slots,
    schedule: Schedule,
    deadlines: Deadlines,
    warm: Warm,
    /// Memory for what they hold.
    pool: Pool,
    credit: Credit,
    shares: Shares,
    /// Bytes that a channel writes in a turn, where many write.
    turn: u32,
    /// Channels that wait for the connection's window.
    waiting: VecDeque<u32>,
    next_serial: u32,
    /// Serial numbers below this may be opened here.
    serials_allowed: u64,
    /// Those that the peer used, and below which it may; how many of its channels are forgotten.
    serials: Serials,
    serials_told: u64,
    serials_over: u64,
    /// The last channels that were forgotten after the peer changed their keys, and how often it had: what it repeats of
    /// them is still to be acknowledged.
    gone: VecDeque<(ChannelId, u32)>,

    // Links.
    links: Links,
    resets: ResetKey,
    /// Smoothed round trip of the best.
    rtt: Duration,
    /// The link of the last batch of data.
    last_place: usize,
    twin: Twin,

    // Control messages.
    due: VecDeque<Item>,
    /// Channels that have some.
    control: VecDeque<u32>,
    control_in_flight: u32,
    control_had_turn: bool,
    records: Records,

    // Memory that is used again.
    outcome: Outcome,
    items: Vec<Item>,
    settled: Vec<Item>,
    repeated: Vec<Content>,
    scratch: Vec<u8>,
}

/// What protects packets, and the keys of the control channel.
#[derive(Debug)]
struct Protection {
    sealer: Sealer,
    opener: Opener,
    seal: ChannelSeal,
    open: ChannelOpen,
}

/// A packet that goes out once more, by another link.
#[derive(Debug)]
struct Twin {
    /// By which; `None` if there is no such packet.
    place: Option<usize>,
    /// What is in it, before it is sealed.
    bytes: Vec<u8>,
    content: Content,
}

impl Connection {
    pub(crate) fn new(now: Instant, birth: Birth, handshake: Handshake) -> Self {
        let Birth { side, config, route, seed, ids, resets } = birth;
        let mut rng = StdRng::from_seed(seed);
        let own = Parameters::of(&config, Vec::new(), Vec::new());
        Self {
            side,
            phase: Phase::Handshake { early: Early::default() },
            error: None,
            fault: None,
            beginning: Some(Beginning::new(handshake, route)),
            was_connected: false,
            peer: None,
            theirs: Parameters::least(),
            protection: None,
            idle: Idle::new(now, config.idle_timeout),
            events: Events::default(),
            stats: ConnectionStats::default(),
            slots: Slots::new(rng.random()),
            rng,
            schedule: Schedule::default(),
            deadlines: Deadlines::default(),
            warm: Warm::new(now),
            pool: Pool::default(),
            credit: Credit::new(own.connection_window),
            shares: Shares::default(),
            turn: schedule::turn(0) as u32,
            waiting: VecDeque::new(),
            next_serial: 0,
            serials_allowed: crate::parameters::EARLY_CHANNELS,
            serials: Serials::default(),
            serials_told: own.channels,
            serials_over: 0,
            gone: VecDeque::new(),
            links: Links::new(side, &ids),
            resets,
            rtt: Duration::from_millis(100),
            last_place: 0,
            twin: Twin { place: None, bytes: Vec::new(), content: Content::EMPTY },
            due: VecDeque::new(),
            control: VecDeque::new(),
            control_in_flight: 0,
            control_had_turn: false,
            records: Records::default(),
            outcome: Outcome::default(),
            items: Vec::new(),
            settled: Vec::new(),
            repeated: Vec::new(),
            scratch: Vec::new(),
            config,
        }
    }

    /// Takes a packet that [`Endpoint::handle`](crate::Endpoint::handle) assigned to this connection: a datagram, or a packet of
    /// a stream without its length. It is decrypted in place. One that does not authenticate is counted and dropped.
    pub fn handle(&mut self, now: Instant, route: Route, ecn: Option<Ecn>, packet: &mut [u8]) {
        self.on_datagram(now, route, ecn, packet);
    }

    /// Does what time brought about.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.on_time(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if nothing else happens before.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.next_timeout()
    }

    /// Appends to `buf` the next packets to send, at most `max_segments` datagrams of one route and one length (the last one may be
    /// shorter), or for a stream 32 to 128 KiB of packets, each behind its length. `buf` should be empty.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.next_transmit(now, max_segments, buf)
    }

    /// Whether there is something to send that may wait until the program has dealt with what came, and then goes out with its
    /// answer: control messages, but no data and no acknowledgement that is due.
    pub fn may_gather(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Open)
            && self.control_due()
            && self.schedule.is_empty()
            && !self.links.iter().any(|(_, entry)| entry.link.ack_wanted(now))
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.next_event()
    }

    /// What the endpoint must know.
    pub fn poll_endpoint_event(&mut self) -> Option<EndpointEvent> {
        self.events.next_for_endpoint()
    }

    /// What was counted.
    pub fn stats(&self) -> ConnectionStats {
        self.stats
    }

    /// Who the peer proved to be; `None` before [`Event::Connected`].
    pub fn peer(&self) -> Option<&PeerIdentity> {
        self.peer.as_ref()
    }

    /// Which end this is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Why the connection ended, if it did.
    pub fn closed(&self) -> Option<&ConnectionError> {
        self.error.as_ref()
    }

    /// Whether everything is said: it can be forgotten.
    pub fn is_drained(&self) -> bool {
        matches!(self.phase, Phase::Drained)
    }
}
