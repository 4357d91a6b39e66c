//! The client: one allocation on one server.

mod answer;
mod config;
mod connection;
mod data;
mod event;
mod peers;
mod request;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use towline_ice::stun::{BINDING, Class, Encoder, Splitter, TransactionId};

pub use config::{Config, ConfigError, Relay, ServerTransport};
pub use connection::{DataConnection, DataConnectionError, Progress};
pub use event::{Allocation, BadAnswer, DropReason, Event, Failure, Input, PeerError, SendError, Transmit};
use peers::{ChannelState, Peers, Permission};
use request::{Purpose, Request};

use crate::auth::Auth;
use crate::timers::Timers;
use crate::wire::Family;

/// One allocation on a TURN server, from the first request until it is given back (RFC 8656, RFC 6062).
///
/// The driver gives it what comes from the server, sends what [`poll_transmit`](Self::poll_transmit) returns, takes
/// events, and calls [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) has come. After
/// any call it drains the polls. Over TCP and TLS a client is made when the stream stands.
#[derive(Debug)]
pub struct Client {
    core: Core,
    splitter: Splitter,
}

#[derive(Debug)]
struct Core {
    config: Config,
    rng: StdRng,
    server: SocketAddr,
    // All servers asked so far, the present one last.
    asked: Vec<SocketAddr>,
    phase: Phase,
    auth: Option<Auth>,
    requests: BTreeMap<TransactionId, Request>,
    // Requests for which there is no room yet.
    waiting: VecDeque<Purpose>,
    timers: Timers<Timer>,
    peers: Peers,
    connecting: BTreeSet<SocketAddr>,
    // When peers connected that have had no time yet to be driven.
    incoming: VecDeque<Instant>,
    transmits: VecDeque<Bytes>,
    // Bytes of data among `transmits`.
    queued: usize,
    last_sent: Instant,
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum Phase {
    Allocating,
    /// Waits for the driver to connect to another server.
    Reconnecting,
    Allocated(Allocation),
    Closing,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// No allocation within the time allowed.
    Deadline,
    /// The allocation is to be refreshed.
    Refresh,
    Request(TransactionId),
    /// A permission is to be renewed.
    Permission(IpAddr),
    /// A channel is to be renewed, or its number has rested.
    Channel(SocketAddr),
    /// Nothing may have been sent for as long as a NAT remembers.
    KeepAlive,
}

/// How long a peer that connected may wait to be driven (RFC 6062 section 5.3).
const INCOMING: Duration = Duration::from_secs(30);

impl Client {
    /// A client that begins at once; `seed` is the source of its transaction ids.
    pub fn new(config: Config, now: Instant, seed: [u8; 32]) -> Result<Self, ConfigError> {
        config.check()?;
        let splitter = Splitter::with_limit(config.max_message);
        let server = config.server;
        let mut core = Core {
            rng: StdRng::from_seed(seed),
            server,
            asked: vec![server],
            phase: Phase::Allocating,
            auth: None,
            requests: BTreeMap::new(),
            waiting: VecDeque::new(),
            timers: Timers::default(),
            peers: Peers::new(),
            connecting: BTreeSet::new(),
            incoming: VecDeque::new(),
            transmits: VecDeque::new(),
            queued: 0,
            last_sent: now,
            events: VecDeque::new(),
            config,
        };
        core.timers.set(Timer::Deadline, now + core.config.allocate_within);
        core.request(now, Purpose::Allocate, 0);
        Ok(Self { core, splitter })
    }

    /// The server that is asked now.
    pub fn server(&self) -> SocketAddr {
        self.core.server
    }

    /// What was allocated, while it lives.
    pub fn allocation(&self) -> Option<&Allocation> {
        match &self.core.phase {
            Phase::Allocated(allocation) => Some(allocation),
            _ => None,
        }
    }

    /// A datagram came. Those of other addresses than the server's are dropped.
    pub fn handle_datagram<'p>(&mut self, now: Instant, from: SocketAddr, packet: &'p [u8]) -> Input<'p> {
        if from != self.core.server {
            return Input::Dropped(DropReason::NotFromServer);
        }
        self.core.datagram(now, packet)
    }

    /// Bytes came from the stream: to be called again, with what is left of `input`, until it returns `None`.
    pub fn handle_stream<'s, 'i: 's>(&'s mut self, now: Instant, input: &mut &'i [u8]) -> Option<Input<'s>> {
        if matches!(self.core.phase, Phase::Ended | Phase::Reconnecting) {
            *input = &[];
            return None;
        }
        match self.splitter.split(input) {
            Ok(framed) => Some(self.core.framed(now, framed?)),
            Err(error) => {
                *input = &[];
                self.core.end(Failure::Stream(error));
                None
            }
        }
    }

    /// The stream to the server ended, or could not be made after [`Event::Reconnect`].
    pub fn handle_stream_end(&mut self) {
        match self.core.phase {
            Phase::Closing => self.core.finish(Event::Closed),
            _ => self.core.end(Failure::StreamEnded),
        }
    }

    /// The stream that [`Event::Reconnect`] asked for stands.
    pub fn handle_connected(&mut self, now: Instant) {
        if matches!(self.core.phase, Phase::Reconnecting) {
            self.splitter = Splitter::with_limit(self.core.config.max_message);
            self.core.phase = Phase::Allocating;
            self.core.request(now, Purpose::Allocate, 0);
        }
    }

    /// When [`Client::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.core.timers.next()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.core.timers.pop(now) {
            self.core.timeout(now, timer);
        }
    }

    /// The next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.core.poll_transmit()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.core.events.pop_front()
    }

    /// Lets datagrams from and to an address pass, whatever the port, until [`Client::forget`]; renewed in time.
    ///
    /// May be called before there is an allocation. The answer is [`Event::Permitted`] or [`Event::NotPermitted`].
    pub fn permit(&mut self, now: Instant, ip: IpAddr) -> Result<(), PeerError> {
        self.core.permit(now, ip)
    }

    /// Binds a channel to a peer, so that each datagram has 4 bytes of overhead and not 36 (IPv6: 48), and permits it.
    /// For peers that will get more than a few; renewed until [`Client::forget`].
    pub fn bind(&mut self, now: Instant, peer: SocketAddr) -> Result<(), PeerError> {
        self.core.bind(now, peer)
    }

    /// Renews the permission of an address and the channels to it no more, and drops what it sends from now on.
    pub fn forget(&mut self, now: Instant, ip: IpAddr) {
        self.core.forget(now, ip);
    }

    /// Asks the server to connect to a peer ([`Relay::Tcp`]): answered by [`Event::PeerConnection`] or
    /// [`Event::NotConnected`].
    pub fn connect(&mut self, now: Instant, peer: SocketAddr) -> Result<(), PeerError> {
        self.core.connect(now, peer)
    }

    /// Refreshes the allocation now, which tells whether the server still has it: if not, [`Event::Lost`] follows.
    pub fn check(&mut self, now: Instant) {
        self.core.refresh(now);
    }

    /// Gives the allocation back; [`Event::Closed`] follows, at the latest after one and a half seconds.
    pub fn close(&mut self, now: Instant) {
        self.core.close(now);
    }
}

impl Core {
    fn poll_transmit(&mut self) -> Option<Transmit> {
        let bytes = self.transmits.pop_front()?;
        // Messages are far shorter than data may be, and an error on this side only lets in less of it.
        self.queued = self.queued.saturating_sub(bytes.len());
        Some(Transmit { to: self.server, bytes })
    }

    fn transaction(&mut self) -> TransactionId {
        let mut id = [0; 12];
        self.rng.fill_bytes(&mut id);
        TransactionId(id)
    }

    fn transmit(&mut self, now: Instant, packet: Bytes) {
        self.last_sent = now;
        self.transmits.push_back(packet);
    }

    // Sends a request; `stale` nonces were used for it in vain.
    fn request(&mut self, now: Instant, purpose: Purpose, stale: u8) {
        let id = self.transaction();
        let mut request = Request::new(&self.config, self.auth.as_ref(), id, purpose, stale);
        if purpose == Purpose::Release {
            // Nobody wants to wait for the end: the server forgets the allocation by itself.
            request.tries_left = request.tries_left.min(1);
            request.wait = request.wait.min(Duration::from_millis(500));
        }
        self.timers.set(Timer::Request(id), now + request.wait);
        self.transmit(now, request.packet.clone());
        self.requests.insert(id, request);
    }

    // Sends a request when there is an allocation and room.
    fn enqueue(&mut self, now: Instant, purpose: Purpose) {
        self.waiting.push_back(purpose);
        self.start_waiting(now);
    }

    fn start_waiting(&mut self, now: Instant) {
        while matches!(self.phase, Phase::Allocated(_)) && self.requests.len() < self.config.requests.max(1) {
            let Some(purpose) = self.waiting.pop_front() else { return };
            self.request(now, purpose, 0);
        }
    }

    fn timeout(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Deadline => {
                let hint = self.requests.values().find_map(|request| request.hint);
                self.end(hint.unwrap_or(Failure::NoAnswer));
            }
            Timer::Refresh => self.refresh(now),
            Timer::Request(id) => self.request_timeout(now, id),
            Timer::Permission(ip) => self.enqueue(now, Purpose::Permission(ip)),
            Timer::Channel(peer) => match self.peers.channel(peer) {
                Some(channel) if matches!(channel.state, ChannelState::Bound { .. }) => {
                    self.enqueue(now, Purpose::Channel(peer, channel.number));
                }
                _ => self.peers.remove_channel(peer),
            },
            Timer::KeepAlive => {
                let quiet_until = self.last_sent + self.config.keep_alive;
                if quiet_until <= now {
                    let id = self.transaction();
                    self.transmit(now, Encoder::new(Class::Indication, BINDING, id).finish(None));
                    self.timers.set(Timer::KeepAlive, now + self.config.keep_alive);
                } else {
                    self.timers.set(Timer::KeepAlive, quiet_until);
                }
            }
        }
    }

    fn request_timeout(&mut self, now: Instant, id: TransactionId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if let Some(until) = request.repeat(now) {
            let packet = request.packet.clone();
            self.timers.set(Timer::Request(id), until);
            self.transmit(now, packet);
            return;
        }
        let (purpose, reason) = (request.purpose, request.hint.unwrap_or(Failure::NoAnswer));
        self.requests.remove(&id);
        self.failed(now, purpose, reason);
        self.start_waiting(now);
    }

    fn refresh(&mut self, now: Instant) {
        let running = self.requests.values().any(|request| request.purpose == Purpose::Refresh);
        if matches!(self.phase, Phase::Allocated(_)) && !running {
            self.timers.clear(Timer::Refresh);
            self.request(now, Purpose::Refresh, 0);
        }
    }

    fn admit(&self, ip: IpAddr) -> Result<(), PeerError> {
        match &self.phase {
            Phase::Ended | Phase::Closing => Err(PeerError::Ended),
            Phase::Allocated(allocation)
                if !allocation.relayed.iter().any(|relayed| Family::of(relayed.ip()) == Family::of(ip)) =>
            {
                Err(PeerError::Family)
            }
            _ => Ok(()),
        }
    }

    fn permit(&mut self, now: Instant, ip: IpAddr) -> Result<(), PeerError> {
        self.admit(ip)?;
        if self.peers.permissions.contains_key(&ip) {
            return Ok(());
        }
        if self.peers.permissions.len() >= self.config.permissions {
            return Err(PeerError::Full);
        }
        self.peers.permissions.insert(ip, Permission::Asked);
        self.enqueue(now, Purpose::Permission(ip));
        Ok(())
    }

    fn bind(&mut self, now: Instant, peer: SocketAddr) -> Result<(), PeerError> {
        if matches!(self.config.relay, Relay::Tcp(_)) {
            return Err(PeerError::Transport);
        }
        self.permit(now, peer.ip())?;
        let number = match self.peers.channel(peer) {
            Some(channel) if channel.state == ChannelState::Resting => {
                self.peers.set_channel(peer, ChannelState::Asked);
                channel.number
            }
            Some(_) => return Ok(()),
            None if self.peers.channel_count() >= self.config.channels => return Err(PeerError::Full),
            None => self.peers.add_channel(peer).ok_or(PeerError::Full)?,
        };
        self.timers.clear(Timer::Channel(peer));
        self.enqueue(now, Purpose::Channel(peer, number));
        Ok(())
    }

    fn forget(&mut self, now: Instant, ip: IpAddr) {
        self.peers.permissions.remove(&ip);
        self.timers.clear(Timer::Permission(ip));
        let channels = self.peers.channels_of(ip);
        self.waiting.retain(|purpose| match purpose {
            Purpose::Permission(asked) => *asked != ip,
            Purpose::Channel(peer, _) => peer.ip() != ip,
            _ => true,
        });
        for peer in channels {
            self.rest(now, peer);
        }
    }

    // The number of a channel is not used until the server has surely forgotten it.
    fn rest(&mut self, now: Instant, peer: SocketAddr) {
        self.peers.set_channel(peer, ChannelState::Resting);
        self.timers.set(Timer::Channel(peer), now + peers::CHANNEL_REUSE);
    }

    fn connect(&mut self, now: Instant, peer: SocketAddr) -> Result<(), PeerError> {
        if !matches!(self.config.relay, Relay::Tcp(_)) {
            return Err(PeerError::Transport);
        }
        if matches!(self.phase, Phase::Allocating | Phase::Reconnecting) {
            return Err(PeerError::NotYet);
        }
        self.admit(peer.ip())?;
        if self.connecting.contains(&peer) {
            return Ok(());
        }
        if self.connecting.len() >= self.config.connections {
            return Err(PeerError::Full);
        }
        self.connecting.insert(peer);
        self.enqueue(now, Purpose::Connect(peer));
        Ok(())
    }

    fn close(&mut self, now: Instant) {
        match self.phase {
            Phase::Allocated(_) => {
                self.phase = Phase::Closing;
                self.requests.clear();
                self.waiting.clear();
                self.timers.clear_all();
                self.peers.clear();
                self.request(now, Purpose::Release, 0);
            }
            // What the server may have allocated meanwhile it forgets by itself; its answer did not come.
            Phase::Allocating | Phase::Reconnecting => self.finish(Event::Closed),
            Phase::Closing | Phase::Ended => {}
        }
    }

    // A request came to nothing.
    fn failed(&mut self, now: Instant, purpose: Purpose, reason: Failure) {
        if reason == Failure::Refused(crate::Refusal::AllocationMismatch) && purpose != Purpose::Release {
            return self.end(reason);
        }
        match purpose {
            Purpose::Allocate | Purpose::Refresh => self.end(reason),
            Purpose::Release => self.finish(Event::Closed),
            Purpose::Permission(ip) => {
                if self.peers.permissions.remove(&ip).is_some() {
                    self.events.push_back(Event::NotPermitted { ip, reason });
                }
            }
            // Until its number has rested, data goes in Send indications.
            Purpose::Channel(peer, _) => {
                if self.peers.channel(peer).is_some_and(|channel| channel.state != ChannelState::Resting) {
                    self.peers.set_channel(peer, ChannelState::Refused);
                    self.timers.set(Timer::Channel(peer), now + peers::CHANNEL_REUSE);
                }
            }
            Purpose::Connect(peer) => {
                self.connecting.remove(&peer);
                self.events.push_back(Event::NotConnected { peer, reason });
            }
        }
    }

    // The end that was not asked for.
    fn end(&mut self, reason: Failure) {
        let event = match self.phase {
            Phase::Allocating | Phase::Reconnecting => Event::Failed(reason),
            Phase::Allocated(_) => Event::Lost(reason),
            Phase::Closing => Event::Closed,
            Phase::Ended => return,
        };
        self.finish(event);
    }

    fn finish(&mut self, event: Event) {
        self.phase = Phase::Ended;
        self.requests.clear();
        self.waiting.clear();
        self.timers.clear_all();
        self.peers.clear();
        self.connecting.clear();
        self.incoming.clear();
        self.events.push_back(event);
    }
}
