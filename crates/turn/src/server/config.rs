//! What a server is told before it begins.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::server::policy::PeerPolicy;

/// Who may use a server.
#[derive(Clone, Default)]
pub struct Users {
    /// Names with their passwords.
    pub fixed: BTreeMap<String, String>,
    /// The secret of time-limited credentials ([`crate::Credentials::time_limited`]).
    pub secret: Option<Vec<u8>>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users")
            .field("fixed", &self.fixed.keys())
            .field("secret", &self.secret.is_some())
            .finish()
    }
}

/// What a [`Server`](super::Server) does, and its bounds.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The realm of the passwords. Default: `towline`.
    pub realm: String,
    /// Who may use it. Default: nobody.
    pub users: Users,
    /// Which peers may be reached. Default: those on the Internet.
    pub peers: PeerPolicy,
    /// Whether there are IPv4 addresses to relay at. Default: yes.
    pub ipv4: bool,
    /// Whether there are IPv6 addresses to relay at. Default: no.
    pub ipv6: bool,
    /// What an allocation lives without being refreshed, if its client does not say. Default: 10 minutes.
    pub lifetime: Duration,
    /// The most that it may ask for. Default: 1 hour.
    pub max_lifetime: Duration,
    /// How long a nonce is good for. Default: 10 minutes.
    pub nonce_lifetime: Duration,
    /// Allocations at one time. Default: 1,000.
    pub allocations: usize,
    /// Those of one user. Default: 20.
    pub allocations_per_user: usize,
    /// Addresses of peers that one allocation may permit. Default: 256.
    pub permissions: usize,
    /// Channels of one allocation. Default: 256.
    pub channels: usize,
    /// What one user may send and receive together, in bytes per second; more is lost. Default: 12.5 MB/s (100 Mbit/s).
    pub bytes_per_second: u64,
    /// Streams (TCP, TLS) at one time; one more takes the place of one without an allocation. Default: 1,000.
    pub streams: usize,
    /// A stream without an allocation is closed after this. Default: 30 s.
    pub stream_patience: Duration,
    /// The longest message on a stream, in bytes. Default: 65,556, what the format can say.
    pub max_message: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            realm: "towline".into(),
            users: Users::default(),
            peers: PeerPolicy::Public,
            ipv4: true,
            ipv6: false,
            lifetime: Duration::from_mins(10),
            max_lifetime: Duration::from_hours(1),
            nonce_lifetime: Duration::from_mins(10),
            allocations: 1000,
            allocations_per_user: 20,
            permissions: 256,
            channels: 256,
            bytes_per_second: 12_500_000,
            streams: 1000,
            stream_patience: Duration::from_secs(30),
            max_message: 65_556,
        }
    }
}
