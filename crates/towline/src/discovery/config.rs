//! How discovery is set up.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use towline_dht::discovery::{GROUP_V4, GROUP_V6, PORT};

/// Set-up of [`Discovery`](crate::discovery::Discovery). `Default` is [`DiscoveryConfig::listen_only`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryConfig {
    /// What is done at all.
    pub mode: DiscoveryMode,
    /// On which interfaces.
    pub reach: DiscoveryReach,
    /// IPv4 group; `None`: no IPv4. Default: 239.192.0.1, OpenDHT's.
    pub group_v4: Option<Ipv4Addr>,
    /// IPv6 group; `None`: no IPv6. Default: ff08::101, OpenDHT's.
    pub group_v6: Option<Ipv6Addr>,
    /// UDP port of both groups. Default: 8888, OpenDHT's.
    pub port: u16,
    /// Bounds.
    pub limits: DiscoveryLimits,
}

/// What discovery does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiscoveryMode {
    /// Nothing: no socket is opened.
    Off,
    /// Ask who is there and hear what others announce, but say nothing about ourselves.
    #[default]
    ListenOnly,
    /// Also announce our DHT node and our device: everybody on the local network learns that this device is there.
    Full,
}

/// Interfaces that discovery uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiscoveryReach {
    /// All that are up and carry multicast, without loopback.
    #[default]
    LocalNetwork,
    /// Loopback only: programs of this host find each other, and nobody else hears of it.
    ThisHost,
}

/// Bounds of discovery. Nothing on the local network is authenticated, so all of this may be filled by anybody on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryLimits {
    /// Devices and addresses remembered. Default: 1024.
    pub peers: usize,
    /// Of those, from one sending address. Default: 8.
    pub peers_per_source: usize,
    /// How long a device is remembered after it was last heard of. Default: 15 min, three rounds of asking.
    pub peer_life: Duration,
    /// Datagrams read per second, all and from one address. Default: 512 and 16.
    pub datagrams: PerSecond,
    /// Queries answered per second, all and from one address. An answer is one datagram of about 100 bytes.
    /// Default: 64 and 2.
    pub answers: PerSecond,
    /// Interfaces used. Default: 32.
    pub interfaces: usize,
}

/// How often something may happen in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerSecond {
    /// Because of everybody together.
    pub all: usize,
    /// Because of one IP address.
    pub one: usize,
}

impl Default for DiscoveryLimits {
    fn default() -> Self {
        Self {
            peers: 1024,
            peers_per_source: 8,
            peer_life: Duration::from_mins(15),
            datagrams: PerSecond { all: 512, one: 16 },
            answers: PerSecond { all: 64, one: 2 },
            interfaces: 32,
        }
    }
}

impl DiscoveryConfig {
    /// No discovery.
    pub fn off() -> Self {
        Self { mode: DiscoveryMode::Off, ..Self::listen_only() }
    }

    /// Hear what others announce, and announce nothing.
    pub fn listen_only() -> Self {
        Self {
            mode: DiscoveryMode::ListenOnly,
            reach: DiscoveryReach::LocalNetwork,
            group_v4: Some(GROUP_V4),
            group_v6: Some(GROUP_V6),
            port: PORT,
            limits: DiscoveryLimits::default(),
        }
    }

    /// Both directions.
    pub fn full() -> Self {
        Self { mode: DiscoveryMode::Full, ..Self::listen_only() }
    }

    /// Both directions, inside this host, on a port of the caller's choice: for tests and demonstrations.
    pub fn on_loopback(port: u16) -> Self {
        Self { reach: DiscoveryReach::ThisHost, port, ..Self::full() }
    }

    /// The groups in use.
    pub(super) fn groups(&self) -> impl Iterator<Item = SocketAddr> {
        let ips = [self.group_v4.map(IpAddr::from), self.group_v6.map(IpAddr::from)];
        let port = self.port;
        ips.into_iter().flatten().map(move |ip| SocketAddr::new(ip, port))
    }
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self::listen_only()
    }
}

/// Discovery could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// A group is no multicast address, or the port is 0.
    #[error("{0} is no multicast group with a port")]
    NotAGroup(SocketAddr),
    /// The system does not tell its interfaces.
    #[error("the interfaces of this host cannot be listed: {0}")]
    Interfaces(io::ErrorKind),
    /// No interface could be used, though there are some: the port is taken, or multicast is not allowed. Only in
    /// [`DiscoveryMode::Full`]; who only listens can do without, and tries again when interfaces change.
    #[error("multicast to {group} is not possible on any interface: {kind}")]
    Bind {
        /// The group.
        group: SocketAddr,
        /// What the system said about the first interface.
        kind: io::ErrorKind,
    },
}
