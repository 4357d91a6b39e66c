//! What a node can say about its connections and channels, as plain values.

use std::net::SocketAddr;
use std::time::Duration;

use towline_identity::{AccountId, DeviceId};

use crate::path::{PathKind, Use};

/// Identifies a connection: the id of the request it came from, the same on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[doc(alias = "vid")]
pub struct ConnectionId(pub u64);

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Which side asked for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This node did. It is controlled in ICE and the server in TLS (`connection.md` 1.3).
    Dialled,
    /// The remote device did.
    Answered,
}

/// How far a connection or an attempt at one has come, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionState {
    /// Looking for the device's certificate, or waiting for its answer.
    Signalling,
    /// Checking candidate pairs.
    Path,
    /// In the handshake, of TLS or of the channeler transport.
    Securing,
    /// Channels can be opened.
    Established,
}

/// What the two ends speak on the connection.
pub use towline_mux::Dialect;

/// What carries the channels of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Carrier {
    /// A mux on TLS on one TCP connection: towards Jami, and towards Towlines that speak nothing else.
    Tls,
    /// The channeler transport: between two Towlines.
    Channeler,
}

/// How long each step towards an established connection took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Until the peer's certificate was known.
    pub certificate: Duration,
    /// From there until the candidates of both sides were known.
    pub signalling: Duration,
    /// From there until a path was selected.
    pub path: Duration,
    /// From there until the connection was secured, by TLS or by the channeler transport.
    pub tls: Duration,
}

impl Timeline {
    /// From the first step to the last.
    pub fn total(&self) -> Duration {
        self.certificate + self.signalling + self.path + self.tls
    }
}

/// The path a connection uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// Transport protocol.
    pub transport: PathTransport,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
}

impl std::fmt::Display for PathInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let transport = match self.transport {
            PathTransport::Tcp => "TCP",
            PathTransport::Udp => "UDP",
        };
        write!(f, "{transport} {} to {}", self.local, self.remote)
    }
}

/// Transport protocols that carry a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathTransport {
    /// A TCP connection found by ICE.
    Tcp,
    /// Datagrams between two addresses found by ICE. Between Towlines only.
    Udp,
}

/// A link of a connection: a path that carries data, or could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its ends.
    pub path: PathInfo,
    /// What kind of path it is.
    pub kind: PathKind,
    /// What it is used for, and why.
    pub purpose: Use,
    /// Smoothed round trip, as the transport measures it.
    pub rtt: Duration,
    /// Estimated bytes per second; 0 where nobody measures it, as on TCP.
    pub rate: u64,
    /// Bytes of packets sent on it.
    pub sent: u64,
    /// Bytes of packets received on it.
    pub received: u64,
}

/// A connection, or an attempt at one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its id.
    pub id: ConnectionId,
    /// The remote device.
    pub device: DeviceId,
    /// The account of the remote device; `None` while its certificate is not known.
    pub account: Option<AccountId>,
    /// Who asked for it.
    pub origin: Origin,
    /// How far it has come.
    pub state: ConnectionState,
    /// Present once established.
    pub established: Option<EstablishedInfo>,
}

/// What is known of an established connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EstablishedInfo {
    /// The path that it was established on. [`Connection::links`](crate::Connection::links) tells those in use.
    pub path: PathInfo,
    /// What the two ends speak.
    pub dialect: Dialect,
    /// What carries its channels.
    pub carrier: Carrier,
    /// Protocol and ciphers, for people.
    pub security: String,
    /// When it was established, since the Unix epoch.
    pub created: Duration,
    /// How long each step took.
    pub timeline: Timeline,
    /// Application bytes sent, over all channels.
    pub sent: u64,
    /// Application bytes received, over all channels.
    pub received: u64,
    /// Open channels.
    pub channels: usize,
}

/// A channel of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its number on the wire.
    pub id: u32,
    /// The name it was opened with.
    pub name: String,
    /// Whether this side opened it.
    pub opened_here: bool,
    /// Application bytes handed over for sending.
    pub sent: u64,
    /// Application bytes received from the peer.
    pub received: u64,
}
