//! What a client tells its driver.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use towline_ice::stun::{DecodeError, SplitError};

use super::connection::DataConnection;
use crate::auth::ChallengeError;
use crate::refusal::Refusal;
use crate::wire::Family;

/// What was allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The server that made it; another than configured after a redirect.
    pub server: SocketAddr,
    /// Where peers reach the client: one address, or one of each family.
    pub relayed: Vec<SocketAddr>,
    /// The family that was asked for and not given, with the reason, when both were asked for.
    pub missing: Option<(Family, Refusal)>,
    /// How the server sees the client: a server-reflexive address.
    pub mapped: SocketAddr,
    /// For how long, until it is refreshed; the client does that in time.
    pub lifetime: Duration,
    /// What the server calls itself, if it does: at most 128 characters.
    pub software: Option<String>,
}

/// Something a driver should know.
#[derive(Debug)]
pub enum Event {
    /// The allocation stands: once, and first.
    Allocated(Allocation),
    /// There will be no allocation. Nothing follows.
    Failed(Failure),
    /// The allocation is gone, or counts as gone. Nothing follows.
    Lost(Failure),
    /// The allocation was given back as asked. Nothing follows.
    Closed,
    /// A redirect (300), on a stream: end the stream, open one to this address, and call
    /// [`Client::handle_connected`](super::Client::handle_connected). Over UDP the client just goes on elsewhere.
    Reconnect {
        /// The server to connect to.
        server: SocketAddr,
        /// The name in its certificate, if the first server gave one (ALTERNATE-DOMAIN).
        domain: Option<String>,
    },
    /// Datagrams from and to this address pass now.
    Permitted(IpAddr),
    /// The permission was refused, or not renewed; [`Client::permit`](super::Client::permit) may be tried again.
    NotPermitted {
        /// Whose permission.
        ip: IpAddr,
        /// Why.
        reason: Failure,
    },
    /// A peer connected, or was connected ([`Relay::Tcp`](super::Relay::Tcp)).
    PeerConnection {
        /// Who began: the peer, or [`Client::connect`](super::Client::connect).
        incoming: bool,
        /// To be driven on a new stream to the server within 30 s; then it carries the bytes of the peer.
        connection: Box<DataConnection>,
    },
    /// [`Client::connect`](super::Client::connect) came to nothing.
    NotConnected {
        /// To whom.
        peer: SocketAddr,
        /// Why.
        reason: Failure,
    },
    /// The relayed address got an ICMP message about a datagram to this peer (RFC 8656 section 18.13): a hint, anybody
    /// can send such messages.
    Unreachable {
        /// Where the datagram went.
        peer: SocketAddr,
        /// The ICMP type.
        kind: u8,
        /// The ICMP code.
        code: u8,
    },
}

/// Why there is no allocation, permission or connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing came back, or nothing that counts.
    #[error("the server does not answer")]
    NoAnswer,
    /// All that came back had a wrong integrity code: somebody forges answers, or the server has another password.
    #[error("answers have a wrong integrity code")]
    Forged,
    /// The answer was an error without an integrity code, which may be anybody's, and no other came.
    #[error("the server refused without proof of who it is: {0}")]
    Unproven(Refusal),
    /// The server refused.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// The server wants credentials and none are configured.
    #[error("the server wants credentials and there are none")]
    CredentialsRequired,
    /// The server does not accept the credentials: wrong, or expired.
    #[error("the server does not accept the credentials")]
    WrongCredentials,
    /// The challenge cannot be answered.
    #[error("{0}")]
    Challenge(#[from] ChallengeError),
    /// Every nonce was called stale at once.
    #[error("the server calls each of its own nonces stale")]
    StaleNonces,
    /// A redirect to a server that was asked already.
    #[error("the redirects go in a circle, again to {0}")]
    RedirectLoop(SocketAddr),
    /// More redirects than allowed.
    #[error("too many redirects, the last one to {0}")]
    TooManyRedirects(SocketAddr),
    /// A redirect to nowhere, or to another address family.
    #[error("a redirect without a usable address")]
    BadRedirect,
    /// A response that breaks a rule.
    #[error("a bad answer: {0}")]
    BadAnswer(#[from] BadAnswer),
    /// The stream holds something that is no message.
    #[error("{0}")]
    Stream(#[from] SplitError),
    /// The stream to the server ended.
    #[error("the connection to the server ended")]
    StreamEnded,
    /// The allocation was lost, or closed, before this was done.
    #[error("the allocation ended before")]
    AllocationEnded,
}

/// The rule that a response breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// An attribute that must be understood and is not.
    #[error("unknown attribute {0:#06x}")]
    UnknownAttribute(u16),
    /// XOR-RELAYED-ADDRESS is missing, is no address of a host, or is not of the family asked for.
    #[error("no usable relayed address")]
    Relayed,
    /// XOR-MAPPED-ADDRESS is missing.
    #[error("no mapped address")]
    Mapped,
    /// LIFETIME is missing or zero.
    #[error("no usable lifetime")]
    Lifetime,
    /// CONNECTION-ID is missing.
    #[error("no connection id")]
    ConnectionId,
    /// An error response without ERROR-CODE.
    #[error("an error without a code")]
    NoCode,
}

/// What became of an input.
#[derive(Debug, PartialEq, Eq)]
pub enum Input<'p> {
    /// A peer sent this through the server.
    Data {
        /// Who.
        from: SocketAddr,
        /// What; lent from the input.
        payload: &'p [u8],
    },
    /// It was for the client itself; poll it.
    Taken,
    /// It changed nothing.
    Dropped(DropReason),
}

/// Why an input changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// It comes from another address than the server's.
    #[error("not from the server")]
    NotFromServer,
    /// No STUN message and no ChannelData.
    #[error("neither STUN nor channel data")]
    NotTurn,
    /// A STUN message that breaks a rule.
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    /// ChannelData that is shorter than it says.
    #[error("channel data that ends too early")]
    Truncated,
    /// ChannelData on a channel that is not bound.
    #[error("channel {0:#06x} is not bound")]
    UnknownChannel(u16),
    /// Data of a peer that was not permitted.
    #[error("data of {0}, who has no permission")]
    NotPermitted(IpAddr),
    /// A response to no request that is under way.
    #[error("a response to no request")]
    UnknownTransaction,
    /// A response with a wrong integrity code, or without one.
    #[error("a response that proves nothing")]
    Unproven,
    /// An indication without what it is about.
    #[error("an indication without its attributes")]
    Incomplete,
    /// A request, or a method that a server does not send.
    #[error("not something that a server sends")]
    Unexpected,
    /// More connections at a time than configured.
    #[error("too many connections at a time")]
    TooManyConnections,
    /// The client has ended.
    #[error("the client has ended")]
    Ended,
}

/// One thing to send to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where; on streams there is one way only.
    pub to: SocketAddr,
    /// A datagram, or the next bytes of the stream.
    pub bytes: Bytes,
}

/// Why a peer is not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// As many as configured.
    #[error("as many peers as configured")]
    Full,
    /// The client has ended, or is closing.
    #[error("the client has ended")]
    Ended,
    /// The allocation has no address of the peer's family.
    #[error("no relayed address of the peer's family")]
    Family,
    /// The allocation relays the other transport.
    #[error("the allocation does not relay this transport")]
    Transport,
    /// There is no allocation yet.
    #[error("there is no allocation yet")]
    NotYet,
}

/// Why data was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no allocation, yet or any more.
    #[error("there is no allocation")]
    NoAllocation,
    /// The peer has no permission yet.
    #[error("the peer has no permission")]
    NotPermitted,
    /// More than fits a message.
    #[error("{0} bytes are too many for a message")]
    TooLong(usize),
    /// The queue is full: poll first.
    #[error("the queue is full")]
    Full,
}
