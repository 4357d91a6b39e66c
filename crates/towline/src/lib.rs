//! Dial a device by its key and open named channels to it, through whatever network lies between.
//!
//! A [`Node`] is this device, running. It finds others through the OpenDHT network or on the local network, agrees
//! with them on a path by ICE, secures it with the certificates of both sides, and carries named two-way
//! [`Channel`]s on it. It speaks the wire of Jami; between two Towlines it speaks a better dialect.
//!
//! Everything reaches the world through one trait, [`net::Net`]; with that of the `towline-lab` crate the same node
//! runs in a simulated network in virtual time.

pub mod account;
mod alarm;
mod channel;
mod config;
mod connection;
pub mod dht;
pub mod discovery;
mod eras;
mod error;
mod event;
mod file;
mod info;
mod limits;
mod node;
mod path;
mod policy;
mod reach;
mod report;
mod revocations;
mod router;
pub mod signal;
pub mod sip;
mod tokens;

pub use channel::{Channel, IncomingChannel, ReadHalf, WriteHalf};
pub use config::Config;
pub use connection::Connection;
pub use eras::{DeviceIds, Eras};
pub use error::{ChannelError, CloseReason, ConnectError, StartError, Step};
pub use event::Event;
pub use info::{
    Carrier, ChannelInfo, ConnectionId, ConnectionInfo, ConnectionState, Dialect, EstablishedInfo, LinkInfo,
    Origin, PathInfo, PathTransport, Timeline,
};
pub use limits::Limits;
pub use node::{ConnectOptions, Node, Target};
pub use path::{HostAddresses, PathKind, Use};
pub use policy::{ConnectionPolicy, Peer};
pub use reach::{
    ListenError, PunchReport, PunchResult, Reach, Relay, RelaySecret, RelaySyntaxError, RelayTransport,
    Shortage,
};
pub use report::{CandidateReport, Cause, PairReport, Report, ServerReport, Side, StepReport};
pub use revocations::SharedRevocations;
pub use router::{Admit, Overlap, Pattern, PeerKind, Route, Router};

pub use towline_ice as ice;
pub use towline_identity as identity;
pub use towline_identity::{AccountId, DeviceId, ShortId};
pub use towline_mux as mux;
pub use towline_mux::{Capabilities, Class, Code, Priority, Reason};
pub use towline_net as net;
