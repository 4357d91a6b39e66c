//! The server: allocations of its users, between the ways by which they come and the addresses at which it relays.

mod allocation;
mod auth;
mod config;
mod policy;
mod quota;
mod relaying;
mod requests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use towline_ice::network;
use towline_ice::stun::{Framed, Splitter};

use allocation::{Allocation, AllocationId, Relay};
use auth::Nonces;
pub use config::{ServerConfig, Users};
pub use policy::PeerPolicy;
use quota::Quotas;

use crate::timers::Timers;
use crate::wire::Family;

/// A stream of a client, numbered by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

/// A relayed address, numbered by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayId(u64);

/// The way by which a client comes; it has one allocation at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// Datagrams from an address, to one of the driver's sockets by the driver's number.
    Datagram {
        /// Which socket.
        listener: u16,
        /// The client.
        from: SocketAddr,
    },
    /// A stream.
    Stream(StreamId),
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAction {
    /// Send a message to a client: a datagram, or bytes of its stream.
    Send {
        /// By which way.
        via: Via,
        /// What.
        bytes: Bytes,
    },
    /// Bind a UDP socket of a family and tell by [`Server::relay_bound`].
    Bind {
        /// What to call it.
        relay: RelayId,
        /// At an address of which family.
        family: Family,
        /// Whether its port should be an even number, for the sake of an RTP of old; any other is better than none.
        even_port: bool,
    },
    /// Close the socket of a relay, also one that is being bound.
    Unbind(RelayId),
    /// Close a stream; nothing more comes of it.
    CloseStream(StreamId),
}

/// Something that the log of a server should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEvent {
    /// A user has an allocation.
    Allocated {
        /// Who.
        user: String,
        /// From where.
        client: SocketAddr,
        /// The relayed addresses.
        relayed: Vec<SocketAddr>,
    },
    /// It ended: given back, not refreshed, or its stream was closed.
    Released {
        /// Whose.
        user: String,
        /// From where.
        client: SocketAddr,
    },
}

/// What is to be sent to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToPeer<'p> {
    /// From the socket of this relay.
    pub relay: RelayId,
    /// To whom.
    pub peer: SocketAddr,
    /// What; lent from the input.
    pub payload: &'p [u8],
}

/// A TURN server for datagrams (RFC 8656), which also answers Binding requests.
///
/// After any call the driver drains [`poll_action`](Self::poll_action) and [`poll_event`](Self::poll_event), and calls
/// [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) has come.
#[derive(Debug)]
pub struct Server {
    streams: BTreeMap<StreamId, Splitter>,
    core: Core,
}

#[derive(Debug)]
struct Core {
    config: ServerConfig,
    nonces: Nonces,
    // The wall clock at an instant.
    wall: (Instant, u64),
    next_id: u64,
    stream_clients: BTreeMap<StreamId, SocketAddr>,
    allocations: BTreeMap<AllocationId, Allocation>,
    by_via: BTreeMap<Via, AllocationId>,
    by_relay: BTreeMap<RelayId, AllocationId>,
    // The addresses of all relays: to these its own addresses may be reached.
    relayed: BTreeSet<SocketAddr>,
    quotas: Quotas,
    timers: Timers<Timer>,
    rng: StdRng,
    actions: VecDeque<ServerAction>,
    events: VecDeque<ServerEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// It was not refreshed.
    Allocation(AllocationId),
    /// It has no allocation.
    Stream(StreamId),
}

impl Server {
    /// A server without clients. `unix` is the wall clock at `now`, in seconds since 1970: time-limited credentials
    /// end by it. `seed` is the source of the secret in nonces.
    pub fn new(config: ServerConfig, now: Instant, unix: u64, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let core = Core {
            nonces: Nonces::new(secret, now),
            wall: (now, unix),
            next_id: 0,
            stream_clients: BTreeMap::new(),
            allocations: BTreeMap::new(),
            by_via: BTreeMap::new(),
            by_relay: BTreeMap::new(),
            relayed: BTreeSet::new(),
            quotas: Quotas::new(config.bytes_per_second),
            timers: Timers::default(),
            rng,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            config,
        };
        Self { streams: BTreeMap::new(), core }
    }

    /// Says again what the wall clock shows: it may have been set.
    pub fn set_wall_clock(&mut self, now: Instant, unix: u64) {
        self.core.wall = (now, unix);
    }

    /// Allocations at this time.
    pub fn allocations(&self) -> usize {
        self.core.allocations.len()
    }

    /// A datagram came to a listening socket. What it has for a peer is to be sent at once.
    pub fn handle_datagram<'p>(
        &mut self,
        now: Instant,
        listener: u16,
        from: SocketAddr,
        packet: &'p [u8],
    ) -> Option<ToPeer<'p>> {
        let framed = match packet.first()? >> 6 {
            0 => Framed::Stun(packet),
            1 => {
                let (head, rest) = packet.split_first_chunk::<4>()?;
                let payload = rest.get(..usize::from(u16::from_be_bytes([head[2], head[3]])))?;
                Framed::Channel { number: u16::from_be_bytes([head[0], head[1]]), payload }
            }
            _ => return None,
        };
        self.core.message(now, Via::Datagram { listener, from }, from, framed)
    }

    /// A client connected. If there are too many, one that has no allocation gives way; nothing, if all have one: then close the
    /// stream.
    pub fn handle_accepted(&mut self, now: Instant, from: SocketAddr) -> Option<StreamId> {
        if self.streams.len() >= self.core.config.streams {
            let other = self.core.gives_way()?;
            self.streams.remove(&other);
            self.core.close_stream(other);
        }
        let id = StreamId(self.core.next_id());
        self.streams.insert(id, Splitter::with_limit(self.core.config.max_message));
        self.core.stream_clients.insert(id, from);
        self.core.timers.set(Timer::Stream(id), now + self.core.config.stream_patience);
        Some(id)
    }

    /// Bytes came from a stream: to be called again, with what is left of `input`, until that is empty. What there is for
    /// a peer is to be sent at once.
    pub fn handle_stream<'s, 'i: 's>(
        &'s mut self,
        now: Instant,
        stream: StreamId,
        input: &mut &'i [u8],
    ) -> Option<ToPeer<'s>> {
        let (Some(splitter), Some(from)) =
            (self.streams.get_mut(&stream), self.core.stream_clients.get(&stream).copied())
        else {
            *input = &[];
            return None;
        };
        match splitter.split(input) {
            Ok(None) => None,
            Ok(Some(framed)) => self.core.message(now, Via::Stream(stream), from, framed),
            Err(_) => {
                *input = &[];
                // Its splitter goes when the driver says that the stream is closed.
                self.core.close_stream(stream);
                None
            }
        }
    }

    /// A stream was closed, by the client or as the server asked.
    pub fn handle_stream_end(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
        self.core.forget_stream(stream);
    }

    /// The driver has bound a socket for a relay, which peers reach at `address`; or it could not.
    pub fn relay_bound(&mut self, now: Instant, relay: RelayId, address: Option<SocketAddr>) {
        self.core.relay_bound(now, relay, address);
    }

    /// A peer sent a datagram to a relay. If it is to be relayed, `out` holds the message for the client that is
    /// returned.
    pub fn handle_peer(
        &mut self,
        now: Instant,
        relay: RelayId,
        from: SocketAddr,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Via> {
        self.core.relay_back(now, relay, from, payload, out)
    }

    /// When [`Server::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.core.timers.next()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.core.timers.pop(now) {
            match timer {
                Timer::Allocation(id) => self.core.expire(id),
                Timer::Stream(id) => self.core.close_stream(id),
            }
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<ServerAction> {
        self.core.actions.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.core.events.pop_front()
    }
}

impl Core {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn unix(&self, now: Instant) -> u64 {
        self.wall.1 + now.saturating_duration_since(self.wall.0).as_secs()
    }

    fn client_of(&self, via: Via) -> Option<SocketAddr> {
        match via {
            Via::Datagram { from, .. } => Some(from),
            Via::Stream(stream) => self.stream_clients.get(&stream).copied(),
        }
    }

    // Among the streams without an allocation: of the network that has most of them, the one that has waited longest. So whoever
    // takes all places by himself keeps nobody out.
    fn gives_way(&self) -> Option<StreamId> {
        let mut crowds = BTreeMap::new();
        for (id, from) in &self.stream_clients {
            if !self.by_via.contains_key(&Via::Stream(*id)) {
                // They are numbered as they come.
                crowds.entry(network(from.ip())).or_insert((0_usize, Reverse(*id))).0 += 1;
            }
        }
        crowds.into_values().max().map(|(_, Reverse(oldest))| oldest)
    }

    fn close_stream(&mut self, stream: StreamId) {
        self.forget_stream(stream);
        self.actions.push_back(ServerAction::CloseStream(stream));
    }

    fn forget_stream(&mut self, stream: StreamId) {
        if let Some(id) = self.by_via.get(&Via::Stream(stream)).copied() {
            self.release(id);
        }
        self.stream_clients.remove(&stream);
        self.timers.clear(Timer::Stream(stream));
    }

    // Ends an allocation, with everything that belongs to it.
    fn release(&mut self, id: AllocationId) {
        let Some(allocation) = self.allocations.remove(&id) else { return };
        self.timers.clear(Timer::Allocation(id));
        self.by_via.remove(&allocation.via);
        for relay in allocation.relays.values() {
            if let Relay::Bound(_, address) = relay {
                self.relayed.remove(address);
            }
            if let Some(relay) = relay.id() {
                self.by_relay.remove(&relay);
                self.actions.push_back(ServerAction::Unbind(relay));
            }
        }
        self.quotas.remove(&allocation.user.account);
        if let Some(client) = self.client_of(allocation.via)
            && allocation.answer.is_some()
        {
            self.events.push_back(ServerEvent::Released { user: allocation.user.name, client });
        }
    }

    // It was not refreshed: whoever holds its stream is gone.
    fn expire(&mut self, id: AllocationId) {
        let via = self.allocations.get(&id).map(|allocation| allocation.via);
        self.release(id);
        if let Some(Via::Stream(stream)) = via {
            self.close_stream(stream);
        }
    }

    fn keep(&mut self, now: Instant, id: AllocationId, lifetime: Duration) {
        self.timers.set(Timer::Allocation(id), now + lifetime);
    }
}
