//! What a client is told before it begins.

use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::MAX_USERNAME;
use crate::credentials::Credentials;
use crate::wire::Family;

/// How client and server speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerTransport {
    /// Datagrams.
    Udp,
    /// A TCP connection.
    Tcp,
    /// TLS on a TCP connection; encryption is the driver's, the client sees the bytes inside.
    Tls,
}

impl ServerTransport {
    /// Whether it is a stream of bytes.
    pub fn is_stream(self) -> bool {
        self != Self::Udp
    }
}

/// What the server is asked to relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relay {
    /// Datagrams, at an address of one family.
    Udp(Family),
    /// Datagrams, at an address of each family (ADDITIONAL-ADDRESS-FAMILY, RFC 8656 section 18.11). A server that has
    /// only IPv4 gives that.
    UdpBoth,
    /// TCP connections, at an address of one family (RFC 6062). Needs a stream to the server.
    Tcp(Family),
}

/// What a [`Client`](super::Client) does, and its bounds.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the server is.
    pub server: SocketAddr,
    /// How it is spoken to.
    pub transport: ServerTransport,
    /// Who asks. Default: nobody, which hardly any server accepts.
    pub credentials: Option<Credentials>,
    /// What is asked for. Default: datagrams, at an IPv4 address.
    pub relay: Relay,
    /// How long the allocation is to live without being refreshed; the server may decide otherwise. Default: 600 s.
    pub lifetime: Duration,
    /// Until an allocation stands, redirects included. Default: 10 s.
    pub allocate_within: Duration,
    /// Wait for an answer before a request is repeated for the first time; it doubles each time (RFC 8489 section
    /// 6.2.1). Streams repeat nothing, and wait as long in all. Default: 500 ms.
    pub rto: Duration,
    /// How often a request is sent before its server counts as silent. Default: 4, so silence is known after 7.5 s and not
    /// after the 39.5 s of the RFC: who waits for a relay has others to ask.
    pub tries: u8,
    /// How long the server may take to connect to a peer ([`Relay::Tcp`]). Default: 15 s.
    pub connect_within: Duration,
    /// How many times in a row a server may call a nonce stale. Default: 3.
    pub stale_nonces: u8,
    /// How many redirects to other servers are followed. Default: 3.
    pub redirects: u8,
    /// Addresses of peers with a permission at one time. Default: 256.
    pub permissions: usize,
    /// Channels, those that wait until their number is free again included. Default: 256; there are 4,096 numbers.
    pub channels: usize,
    /// Requests under way at one time; further ones wait. Default: 16.
    pub requests: usize,
    /// Connections through the server that are being made at one time ([`Relay::Tcp`]). Default: 32.
    pub connections: usize,
    /// The longest message on a stream, in bytes. Default: 65,556, what the format can say.
    pub max_message: usize,
    /// Data that [`send`](super::Client::send) holds until it is polled, in bytes. Default: 256 KiB.
    pub send_queue: usize,
    /// Over UDP, a NAT before the client forgets it unless something is sent this often. Default: 15 s.
    pub keep_alive: Duration,
    /// The content of SOFTWARE. Default: none.
    pub software: Option<String>,
}

impl Config {
    /// The defaults, for a server.
    pub fn new(server: SocketAddr, transport: ServerTransport) -> Self {
        Self {
            server,
            transport,
            credentials: None,
            relay: Relay::Udp(Family::V4),
            lifetime: Duration::from_mins(10),
            allocate_within: Duration::from_secs(10),
            rto: Duration::from_millis(500),
            tries: 4,
            connect_within: Duration::from_secs(15),
            stale_nonces: 3,
            redirects: 3,
            permissions: 256,
            channels: 256,
            requests: 16,
            connections: 32,
            max_message: 65_556,
            send_queue: 256 << 10,
            keep_alive: Duration::from_secs(15),
            software: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if matches!(self.relay, Relay::Tcp(_)) && !self.transport.is_stream() {
            return Err(ConfigError::TcpRelayNeedsStream);
        }
        let username = self.credentials.as_ref().map_or("", Credentials::username);
        if username.len() > MAX_USERNAME {
            return Err(ConfigError::UsernameTooLong);
        }
        Ok(())
    }

    // How long a request waits for its answer in all.
    pub(super) fn patience(&self) -> Duration {
        let tries = u32::from(self.tries.clamp(1, 16));
        self.rto.saturating_mul((1 << tries) - 1)
    }
}

/// What cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// RFC 6062 section 4.1: TCP relaying works over TCP or TLS only.
    #[error("TCP can only be relayed over a stream to the server")]
    TcpRelayNeedsStream,
    /// More than 508 bytes.
    #[error("a username has at most {MAX_USERNAME} bytes")]
    UsernameTooLong,
}
