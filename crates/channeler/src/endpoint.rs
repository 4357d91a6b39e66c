//! All connections behind one set of sockets: who a packet is for, and who may begin a new one.

use std::{sync::Arc, time::Instant};

use thiserror::Error;

use crate::{
    Config, Route, Transmit,
    connection::Connection,
    handshake::{Credentials, Peer, StaticKey, Trust},
};

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
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self { connections: 16_384, half_open: 1024, half_open_without_cookie: 64 }
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
    /// Nothing more is sent or understood: all that is known of the connection can be forgotten.
    Drained,
}

/// Why a connection could not be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// [`EndpointLimits::connections`] are there already.
    #[error("as many connections as the limit allows")]
    TooMany,
    /// The peer is this endpoint itself.
    #[error("own key dialled")]
    OwnKey,
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
}

/// All connections behind one set of sockets.
///
/// It only sorts packets and begins connections; each [`Connection`] is then driven by itself, on another thread if wanted.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    counters: EndpointCounters,
}

impl Endpoint {
    /// An endpoint without connections. All its chance comes from `seed`, which must never be used again.
    pub fn new(config: EndpointConfig, seed: [u8; 32]) -> Self {
        let _ = seed;
        Self { config, counters: EndpointCounters::default() }
    }

    /// Begins a connection to `peer` by `route`. `unix_time`: seconds since 1970, for certificates.
    pub fn connect(
        &mut self,
        now: Instant,
        unix_time: i64,
        peer: Peer,
        route: Route,
    ) -> Result<(ConnectionHandle, Connection), ConnectError> {
        let _ = (now, unix_time, peer, route);
        Err(ConnectError::TooMany)
    }

    /// Looks whose `packet` is that came by `route`: a datagram, or a packet of a stream link without its length.
    ///
    /// With [`Handled::Respond`], `out` was cleared and holds the answer.
    pub fn handle(
        &mut self,
        now: Instant,
        unix_time: i64,
        route: Route,
        packet: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Handled {
        let _ = (now, unix_time, route, packet, out);
        Handled::Dropped
    }

    /// Takes what a connection has to say.
    pub fn on_event(&mut self, connection: ConnectionHandle, event: EndpointEvent) {
        let _ = (connection, event);
    }

    /// Connections that are not drained.
    pub fn connections(&self) -> usize {
        0
    }

    /// What was counted.
    pub fn counters(&self) -> EndpointCounters {
        self.counters
    }
}
