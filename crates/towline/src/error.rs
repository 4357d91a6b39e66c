//! What goes wrong, one enum per operation, each naming the step that failed and its evidence.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use towline_identity::{DeviceId, Revoked};
use towline_mux::{PeerFault, Reason};
use towline_tls::TlsError;

use crate::dht::FindCertificateError;
use crate::eras::Eras;
use crate::signal::RefusalReason;

/// The steps of a connection, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The arguments of the call.
    Arguments,
    /// Finding the device's certificate.
    Certificate,
    /// Exchanging candidates.
    Signalling,
    /// Finding a path.
    Path,
    /// Securing it.
    Tls,
    /// Opening the channel.
    Channel,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Arguments => "arguments",
            Self::Certificate => "certificate",
            Self::Signalling => "signalling",
            Self::Path => "path",
            Self::Tls => "tls",
            Self::Channel => "channel",
        })
    }
}

/// Why a device could not be connected to, or a channel to it not opened.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The device dialled is this one.
    #[error("{0} is this device itself")]
    OwnDevice(DeviceId),
    /// The channel name is empty or too long.
    #[error("a channel name has 1 to {max} bytes, this one has {len}")]
    BadName {
        /// Its length in bytes.
        len: usize,
        /// The longest allowed.
        max: usize,
    },
    /// A bound of this node is reached.
    #[error("this node is at its limit of {limit} {what}")]
    Busy {
        /// What there is too much of.
        what: &'static str,
        /// The bound, from [`Limits`](crate::Limits).
        limit: usize,
    },
    /// The node was shut down.
    #[error("this node is shut down")]
    NodeClosed,
    /// There is no connection to the device, and none was to be made.
    #[error("there is no connection to the device")]
    NotConnected,
    /// The attempt was given up by [`close_with`](crate::Node::close_with).
    #[error("the attempt was cancelled here")]
    Cancelled,
    /// No certificate of the device could be found, so nothing can be said to it.
    #[error("the device's certificate was not found: {0}")]
    Certificate(FindCertificateError),
    /// A certificate of the device was revoked by whoever issued it.
    #[error("the device is revoked: {0}")]
    Revoked(Revoked),
    /// The certificate found is not usable (no issuer, or links that do not verify).
    #[error("the device's certificate chain is not valid: {0}")]
    BadChain(&'static str),
    /// The connection request could not be stored on any node of the DHT.
    #[error("the connection request could not be stored on the DHT")]
    RequestNotStored,
    /// The device did not answer the connection request: it is not there, or it is a Jami peer that refuses, which
    /// it can only do by silence.
    #[error(
        "no answer within {waited:?}: the device is away, or refuses in silence; \
         the request was stored on {stored_on} DHT nodes at {asked}"
    )]
    NoAnswer {
        /// How long was waited.
        waited: Duration,
        /// How many nodes of the DHT confirmed that they hold the request, added up over the keys.
        stored_on: usize,
        /// At which of the device's keys the request was put.
        asked: Eras,
    },
    /// The device refused the connection request.
    #[error("the device refused: {0}")]
    Refused(RefusalReason),
    /// This node's policy does not admit the device.
    #[error("the policy of this node does not admit the device")]
    NotAdmitted,
    /// The candidates in the request or answer could not be read.
    #[error("the device's candidates are malformed: {0}")]
    BadCandidates(towline_ice::BlobError),
    /// No socket could be opened for the connection.
    #[error("no socket could be opened: {0}")]
    NoSocket(io::ErrorKind),
    /// No candidate pair worked.
    #[error("no path: {0}")]
    NoPath(Arc<towline_ice::FailureReport>),
    /// The TLS handshake failed.
    #[error("TLS failed: {0}")]
    Tls(TlsError),
    /// The handshake of the channeler transport failed.
    #[error("the handshake failed: {0}")]
    Handshake(towline_channeler::HandshakeError),
    /// The path failed during the handshake, of TLS or of the channeler transport.
    #[error("the path failed during the handshake: {0}")]
    TlsTransport(io::ErrorKind),
    /// A step took longer than [`Limits`](crate::Limits) allows.
    #[error("the step \"{step}\" took longer than {waited:?}")]
    TimedOut {
        /// The step.
        step: Step,
        /// The bound.
        waited: Duration,
    },
    /// The connection stands, but the channel does not.
    #[error("{0}")]
    Channel(ChannelError),
}

impl ConnectError {
    /// The step that failed.
    pub fn step(&self) -> Step {
        match self {
            Self::OwnDevice(_)
            | Self::BadName { .. }
            | Self::Busy { .. }
            | Self::NodeClosed
            | Self::NotConnected
            | Self::Cancelled => Step::Arguments,
            Self::Certificate(_) | Self::Revoked(_) | Self::BadChain(_) => Step::Certificate,
            Self::RequestNotStored
            | Self::NoAnswer { .. }
            | Self::Refused(_)
            | Self::NotAdmitted
            | Self::BadCandidates(_) => Step::Signalling,
            Self::NoSocket(_) | Self::NoPath(_) => Step::Path,
            Self::Tls(_) | Self::Handshake(_) | Self::TlsTransport(_) => Step::Tls,
            Self::TimedOut { step, .. } => *step,
            Self::Channel(_) => Step::Channel,
        }
    }
}

/// Why a channel could not be opened or ended early. Reaches readers and writers inside an [`io::Error`].
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The peer's program refused the channel.
    #[error("the peer refused the channel ({0})")]
    Refused(Reason),
    /// The peer's program did not answer in time.
    #[error("the peer did not answer the channel request within {0:?}")]
    TimedOut(Duration),
    /// The peer gave the channel up.
    #[error("the peer gave the channel up ({0})")]
    Reset(Reason),
    /// The peer wants no more data on this channel.
    #[error("the peer stopped reading ({0})")]
    Stopped(Reason),
    /// This side gave the channel up, or ended its direction before.
    #[error("the channel was ended by this side")]
    EndedHere,
    /// The channel could not be requested.
    #[error("the channel could not be requested: {0}")]
    NotOpened(towline_mux::OpenError),
    /// The connection under the channel is gone.
    #[error("the connection is gone: {0}")]
    Connection(CloseReason),
}

impl ChannelError {
    /// Whether the request was not looked at, as one of the two sides leaves the connection.
    pub(crate) fn not_considered(&self) -> bool {
        match self {
            Self::NotOpened(error) => {
                matches!(error, towline_mux::OpenError::Closed | towline_mux::OpenError::GoingAway)
            }
            Self::Refused(reason) => reason.code == towline_mux::Code::GoingAway,
            _ => false,
        }
    }

    /// Whether the connection was lost under the request.
    pub(crate) fn connection_lost(&self) -> bool {
        matches!(self, Self::Connection(_))
    }
}

impl From<ChannelError> for io::Error {
    fn from(error: ChannelError) -> Self {
        let kind = match &error {
            ChannelError::Refused(_) | ChannelError::NotOpened(_) => io::ErrorKind::ConnectionRefused,
            ChannelError::TimedOut(_) => io::ErrorKind::TimedOut,
            ChannelError::Reset(_) => io::ErrorKind::ConnectionReset,
            ChannelError::Stopped(_) | ChannelError::EndedHere => io::ErrorKind::BrokenPipe,
            ChannelError::Connection(_) => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it.
    #[error("closed by this side")]
    Here,
    /// The peer closed it properly.
    #[error("closed by the peer")]
    Peer,
    /// The peer said why it leaves.
    #[error("closed by the peer ({0})")]
    GoAway(Reason),
    /// Nobody used it any more, and another connection to the same device stands.
    #[error("another connection to the device took its place")]
    Replaced,
    /// The policy of this node does not admit the peer any more.
    #[error("the policy of this node does not admit the device any more")]
    NotAdmitted,
    /// A certificate of the peer was revoked.
    #[error("the device is revoked: {0}")]
    Revoked(Revoked),
    /// The peer gave no sign of life in time.
    #[error("the peer gave no sign of life")]
    Dead,
    /// The peer broke a rule of the dialect.
    #[error("the peer broke a rule: {0}")]
    Fault(PeerFault),
    /// The peer broke a rule of the channeler transport.
    #[error("the peer broke a rule: {0}")]
    Violation(towline_channeler::Violation),
    /// The peer began to look for new paths again and again.
    #[error("the peer restarted the search for paths too often")]
    TooManyRestarts,
    /// TLS failed.
    #[error("TLS failed: {0}")]
    Tls(TlsError),
    /// The task of the connection failed. This is a fault of this program.
    #[error("a failure inside this program")]
    Internal,
    /// The transport failed.
    #[error("the transport failed: {0}")]
    Transport(io::ErrorKind),
    /// The peer's end vanished without closing TLS, so that data may be missing.
    #[error("the transport ended without the peer closing the session")]
    Truncated,
}

/// Why a node could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The device's certificate has no issuer: a device needs an account.
    #[error("the device's certificate was not signed by an account")]
    NoAccount,
    /// Discovery on the local network could not be started.
    #[error("discovery on the local network could not be started: {0}")]
    Discovery(#[from] crate::discovery::DiscoveryError),
    /// The DHT node could not be started.
    #[error("the DHT node could not be started: {0}")]
    Dht(#[from] crate::dht::StartError),
    /// A TCP port that was asked for by [`Reach::tcp_ports`](crate::Reach::tcp_ports) cannot be had.
    #[error(transparent)]
    Listen(#[from] crate::reach::ListenError),
    /// The identity cannot be used for TLS.
    #[error("the identity cannot be used for TLS: {0}")]
    Tls(#[from] towline_tls::ConfigError),
}
