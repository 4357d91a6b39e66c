#![doc = include_str!("../README.md")]

mod capabilities;
mod channel;
#[cfg(feature = "codecs")]
#[doc(hidden)]
pub mod codecs;
mod config;
mod congestion;
mod connection;
mod crypto;
mod endpoint;
mod error;
mod event;
mod half_open;
mod handshake;
mod ids;
mod link;
mod parameters;
mod ranges;
mod reset;
mod table;
pub mod v0;
mod varint;
mod wire;

pub use capabilities::{Capabilities, Resend};
pub use config::Config;
pub use congestion::Algorithm;
pub use connection::{AddLinkError, Connection, ConnectionStats, NoChannel};
pub use crypto::Suite;
pub use endpoint::{
    ConnectError, ConnectionHandle, Endpoint, EndpointConfig, EndpointCounters, EndpointEvent,
    EndpointLimits, Handled,
};
pub use error::{Code, ConnectionError, OpenError, ReadError, Reason, Violation, WriteError};
pub use event::{Event, LinkReport, LinkStatus, OpenOptions, Placement, Priority, Read};
pub use handshake::{
    Certified, CertifiedPeers, Credentials, HandshakeError, KeyOnly, Peer, PeerIdentity, Refused, StaticKey,
    Trust, VERSION,
};
pub use ids::{ChannelId, ConnectionId, Ecn, LinkId, PeerId, Route, Side, Transmit};
