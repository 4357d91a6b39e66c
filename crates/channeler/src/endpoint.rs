//! All connections behind one set of sockets: who a packet is for, and who may begin a new one.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use thiserror::Error;

use crate::{
    Config, ConnectionId, HandshakeError, Route, Side, Suite, Transmit,
    connection::{Birth, Connection},
    half_open::{HalfOpen, Origin},
    handshake::{Cookies, Credentials, Handshake, Peer, Settings, StaticKey, Trust},
    reset::{ResetKey, Resets},
    table::Table,
    wire,
};

/// Ids that a living connection retired last: late packets with them are not answered.
const RETIRED: usize = 16;

/// What an endpoint is made of.
#[derive(Clone)]
pub struct EndpointConfig {
    /// The key by which peers know this endpoint.
    pub key: StaticKey,
    /// What it shows of itself besides: nothing, or a certificate.
    pub credentials: Arc<dyn Credentials>,
    /// Whom it talks to.
    pub trust: Arc<dyn Trust>,
    /// Bounds and timings of its connections.
    pub config: Arc<Config>,
    /// Bounds of the endpoint itself.
    pub limits: EndpointLimits,
    /// A secret that both sides must know besides their keys. Default: none.
    pub shared_secret: Option<[u8; 32]>,
    /// The cipher of connections that begin here. Default: AES-256-GCM.
    pub suite: Suite,
    /// Tells endpoints apart that have the same key and live at the same time, such as the number of a port: resets of one are
    /// nothing to the peers of another. It should be the same when the endpoint is started again. Default: none, which here is as
    /// good as 0; who drives the endpoint may know a better one.
    pub instance: Option<u64>,
}

impl EndpointConfig {
    /// With defaults for everything else.
    pub fn new(key: StaticKey, credentials: Arc<dyn Credentials>, trust: Arc<dyn Trust>) -> Self {
        Self {
            key,
            credentials,
            trust,
            config: Arc::new(Config::default()),
            limits: EndpointLimits::default(),
            shared_secret: None,
            suite: Suite::default(),
            instance: None,
        }
    }
}

impl std::fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointConfig")
            .field("config", &self.config)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Bounds of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Connections at once, those still being made included. Default 16 384.
    pub connections: usize,
    /// Handshakes that others began and that are not complete. Further ones are dropped. Default 1024.
    pub half_open: usize,
    /// From so many of them on, a peer must first prove its address by a cookie, which costs a round trip and no state. Default 64.
    pub half_open_without_cookie: usize,
    /// Such handshakes of one address that was proved by a cookie (of one network of 64 bits with IPv6), and never more than a
    /// sixteenth of the places that are free, but one: it takes more than 80 addresses to fill 1024. Default 64.
    pub half_open_per_address: usize,
    /// Packets of connections that are not known here, such as those from before a restart, that are answered each second: their
    /// senders then need not wait for the idle timeout. Answers are shorter than what they answer. Default 1000; 0: none.
    pub resets_per_second: u32,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            half_open: 1024,
            half_open_without_cookie: 64,
            half_open_per_address: 64,
            resets_per_second: 1000,
        }
    }
}

/// A connection of one endpoint, for as long as it lives; then the number may be given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionHandle(pub(crate) u32);

impl ConnectionHandle {
    /// A small number that no other living connection of the endpoint has.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a connection tells its endpoint. From [`Connection::poll_endpoint_event`], for [`Endpoint::on_event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointEvent(pub(crate) EndpointEventKind);

/// The kinds of [`EndpointEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointEventKind {
    /// Packets with this id are for the connection, too.
    NewId(ConnectionId),
    /// They are no longer; but for now the connection lives, and its peer is not to be told otherwise.
    RetireId(ConnectionId),
    /// A packet with this in the place of an id is the peer's last word.
    NewReset(ConnectionId),
    /// No longer.
    RetireReset(ConnectionId),
    /// The peer answered: the handshake of a responder is no longer half-open.
    Confirmed,
    /// Nothing more is sent or understood: all that is known of the connection can be forgotten.
    Drained,
}

/// Why a connection could not be begun.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// [`EndpointLimits::connections`] are there already.
    #[error("as many connections as the limit allows")]
    TooMany,
    /// The peer's key is none.
    #[error("cannot dial: {0}")]
    Handshake(#[from] HandshakeError),
}

/// What became of a received packet.
#[derive(Debug)]
pub enum Handled {
    /// It belongs to nobody, or was refused; nothing is to be done.
    Dropped,
    /// This answer, in the buffer given, is to be sent. No state was kept.
    Respond(Transmit),
    /// It begins a connection: give it to [`Connection::handle`] of this one.
    New(ConnectionHandle, Box<Connection>),
    /// It is for this connection: give it to its [`Connection::handle`].
    To(ConnectionHandle),
}

/// What an endpoint counted since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EndpointCounters {
    /// Packets with the mark of nobody here.
    pub unknown: u64,
    /// Handshake packets that did not parse.
    pub malformed: u64,
    /// Handshakes turned away because a limit was reached.
    pub refused: u64,
    /// Cookies asked for.
    pub cookies: u64,
    /// Connections begun by others.
    pub accepted: u64,
    /// Connections begun here.
    pub dialled: u64,
    /// Packets of unknown connections that were answered with a reset; counted among `unknown`, too.
    pub resets: u64,
}

/// All connections behind one set of sockets.
///
/// It only sorts packets and begins connections; each [`Connection`] is then driven by itself, on another thread if wanted.
pub struct Endpoint {
    config: EndpointConfig,
    rng: StdRng,
    cookies: Option<Cookies>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// By connection ids, which are chance, and chosen here.
    ids: Table<u64>,
    /// By the names of resets. The peers chose them: they stand for nothing but themselves, and for data packets only.
    reset_names: Table<u64>,
    /// Connections that others began and that did not yet answer, by the name of the attempt.
    half_open: HalfOpen,
    resets: Resets,
    counters: EndpointCounters,
}

/// What the endpoint knows of a connection.
#[derive(Debug)]
struct Entry {
    /// What its packets have in the place of an id.
    ids: Vec<u64>,
    /// What its peer's last word may have there.
    reset_names: Vec<u64>,
    /// Own ids that it uses no more, the latest last.
    retired: VecDeque<u64>,
    attempt: Option<[u8; 16]>,
}

/// Takes what stands in the place of an id out of those of a connection, if it is there.
fn take(known: &mut Vec<u64>, id: ConnectionId) -> Option<u64> {
    let id = number(id);
    let at = known.iter().position(|known| *known == id)?;
    Some(known.swap_remove(at))
}

/// As tables have it.
fn number(id: ConnectionId) -> u64 {
    u64::from_ne_bytes(id.0)
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("config", &self.config)
            .field("connections", &self.connections())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint without connections. All its chance comes from `seed`, which must never be used again.
    pub fn new(config: EndpointConfig, seed: [u8; 32]) -> Self {
        let sound = Arc::new(config.config.sound());
        let mut rng = StdRng::from_seed(seed);
        let chance = rng.random();
        let resets = ResetKey::new(&config.key, config.instance.unwrap_or_default());
        let resets = Resets::new(resets, config.limits.resets_per_second);
        Self {
            config: EndpointConfig { config: sound, ..config },
            rng,
            cookies: None,
            entries: Vec::new(),
            free: Vec::new(),
            ids: Table::new(chance),
            reset_names: Table::new(chance),
            half_open: HalfOpen::default(),
            resets,
            counters: EndpointCounters::default(),
        }
    }

    /// Begins a connection to `peer` by `route`. `unix_time`: seconds since 1970, for certificates.
    pub fn connect(
        &mut self,
        now: Instant,
        unix_time: i64,
        peer: Peer,
        route: Route,
    ) -> Result<(ConnectionHandle, Connection), ConnectError> {
        if self.connections() >= self.config.limits.connections {
            return Err(ConnectError::TooMany);
        }
        let birth = self.birth(Side::Initiator, route);
        let settings = self.settings(unix_time, &birth);
        let handshake = Handshake::initiator(now, settings, peer, birth.ids[0], self.seed())?;
        let handle = self.insert(&birth, None);
        self.counters.dialled += 1;
        Ok((handle, Connection::new(now, birth, handshake)))
    }

    /// Looks whose `packet` is that came by `route`: a datagram, or a packet of a stream link without its length.
    ///
    /// With [`Handled::Respond`], `out` was cleared and holds the answer, on a stream behind its length.
    pub fn handle(
        &mut self,
        now: Instant,
        unix_time: i64,
        route: Route,
        packet: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Handled {
        if packet.first().is_some_and(|first| wire::header::is_data(*first)) {
            let known = packet.get(8..16).and_then(|id| self.by_id(id).or_else(|| self.by_reset(id)));
            return match known {
                Some(connection) => Handled::To(connection),
                None => self.on_strange(now, route, packet, out),
            };
        }
        if !wire::handshake::is_handshake(packet) {
            return self.unknown();
        }
        self.on_handshake(now, unix_time, route, packet, out)
    }

    fn unknown(&mut self) -> Handled {
        self.counters.unknown += 1;
        Handled::Dropped
    }

    /// A data packet of a connection that is not known.
    #[inline]
    fn on_strange(&mut self, now: Instant, route: Route, packet: &[u8], out: &mut Vec<u8>) -> Handled {
        self.counters.unknown += 1;
        out.clear();
        begin(route, out);
        if !self.resets.answer(now, packet, &mut self.rng, out) {
            return Handled::Dropped;
        }
        self.counters.resets += 1;
        respond(route, out)
    }

    fn birth(&mut self, side: Side, route: Route) -> Birth {
        let config = Arc::clone(&self.config.config);
        Birth::new(side, config, route, self.resets.key().clone(), &mut self.rng)
    }

    fn on_handshake(
        &mut self,
        now: Instant,
        unix_time: i64,
        route: Route,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Handled {
        let Ok(packet) = wire::handshake::parse(bytes) else {
            self.counters.malformed += 1;
            return Handled::Dropped;
        };
        if let Some(handle) = self.by_id(&packet.recipient[..8]) {
            return Handled::To(handle);
        }
        if let Some((known, handle)) = self.half_open.get(&packet.sender) {
            return if known.is_same(route) { Handled::To(ConnectionHandle(handle)) } else { self.unknown() };
        }
        let own = self.config.key.id();
        if (packet.recipient != own.0 && packet.recipient != [0; 16])
            || !Cookies::may_begin(&packet, route, bytes.len())
        {
            return self.unknown();
        }
        let limits = self.config.limits;
        if self.half_open.len() >= limits.half_open || self.connections() >= limits.connections {
            self.counters.refused += 1;
            return Handled::Dropped;
        }
        let cookies = self.cookies.get_or_insert_with(|| Cookies::new(self.rng.random(), now));
        let validated = cookies.check(now, route, &packet);
        if !validated && self.half_open.len() >= limits.half_open_without_cookie {
            out.clear();
            begin(route, out);
            if !cookies.retry(now, route, &packet, out) {
                return Handled::Dropped;
            }
            self.counters.cookies += 1;
            return respond(route, out);
        }
        let origin = Origin::of(route).filter(|_| validated);
        let share = ((limits.half_open - self.half_open.len()) / 16).max(1).min(limits.half_open_per_address);
        if origin.is_some_and(|origin| self.half_open.of(origin) >= share) {
            self.counters.refused += 1;
            return Handled::Dropped;
        }
        let birth = self.birth(Side::Responder, route);
        let settings = self.settings(unix_time, &birth);
        let seed = self.seed();
        let handshake = Handshake::responder(now, settings, birth.ids[0], &packet, validated, seed);
        let handle = self.insert(&birth, Some(packet.sender));
        self.half_open.insert(packet.sender, route, handle.0, origin);
        self.counters.accepted += 1;
        Handled::New(handle, Box::new(Connection::new(now, birth, handshake)))
    }

    fn settings(&self, unix_time: i64, birth: &Birth) -> Settings {
        let EndpointConfig { key, credentials, trust, config, shared_secret, suite, .. } =
            self.config.clone();
        Settings {
            key,
            credentials,
            trust,
            shared_secret,
            suite,
            timeout: config.handshake_timeout,
            unix_time,
            reliable: birth.route.is_stream(),
            parameters: birth.parameters(),
        }
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    #[inline]
    fn by_id(&self, id: &[u8]) -> Option<ConnectionHandle> {
        let id = u64::from_ne_bytes(id.try_into().ok()?);
        self.ids.get(id).map(ConnectionHandle)
    }

    #[inline]
    fn by_reset(&self, name: &[u8]) -> Option<ConnectionHandle> {
        let name = u64::from_ne_bytes(name.try_into().ok()?);
        self.reset_names.get(name).map(ConnectionHandle)
    }

    fn insert(&mut self, birth: &Birth, attempt: Option<[u8; 16]>) -> ConnectionHandle {
        let ids = birth.ids.iter().map(|id| number(*id)).collect::<Vec<_>>();
        let handle = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as u32
        });
        for id in &ids {
            self.ids.insert(*id, handle);
        }
        self.entries[handle as usize] =
            Some(Entry { ids, reset_names: Vec::new(), retired: VecDeque::new(), attempt });
        ConnectionHandle(handle)
    }

    /// Takes what a connection has to say.
    pub fn on_event(&mut self, connection: ConnectionHandle, event: EndpointEvent) {
        let Some(slot) = self.entries.get_mut(connection.index()) else { return };
        let Some(entry) = slot.as_mut() else { return };
        match event.0 {
            EndpointEventKind::NewId(id) => {
                entry.ids.push(number(id));
                self.ids.insert(number(id), connection.0);
            }
            EndpointEventKind::NewReset(name) => {
                let name = number(name);
                // None takes the place of another's.
                if self.reset_names.get(name).is_none() {
                    entry.reset_names.push(name);
                    self.reset_names.insert(name, connection.0);
                }
            }
            EndpointEventKind::RetireId(id) => {
                if let Some(id) = take(&mut entry.ids, id) {
                    entry.retired.push_back(id);
                    if entry.retired.len() > RETIRED
                        && let Some(oldest) = entry.retired.pop_front()
                    {
                        self.ids.remove(oldest);
                    }
                }
            }
            EndpointEventKind::RetireReset(name) => {
                if let Some(name) = take(&mut entry.reset_names, name) {
                    self.reset_names.remove(name);
                }
            }
            EndpointEventKind::Confirmed => {
                if let Some(attempt) = entry.attempt.take() {
                    self.half_open.remove(&attempt);
                }
            }
            EndpointEventKind::Drained => {
                for id in entry.ids.iter().chain(&entry.retired) {
                    self.ids.remove(*id);
                }
                for name in &entry.reset_names {
                    self.reset_names.remove(*name);
                }
                if let Some(attempt) = entry.attempt {
                    self.half_open.remove(&attempt);
                }
                *slot = None;
                self.free.push(connection.0);
            }
        }
    }

    /// Connections that are not drained.
    pub fn connections(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// What was counted.
    pub fn counters(&self) -> EndpointCounters {
        self.counters
    }
}

/// Makes room for the length of an answer on a stream.
fn begin(route: Route, out: &mut Vec<u8>) {
    if route.is_stream() {
        out.extend_from_slice(&[0; 2]);
    }
}

/// The answer in `out` is to be sent.
fn respond(route: Route, out: &mut [u8]) -> Handled {
    if route.is_stream() {
        let len = (out.len() - 2) as u16;
        out[..2].copy_from_slice(&len.to_be_bytes());
    }
    Handled::Respond(Transmit { route, ecn: None, segment: None })
}
