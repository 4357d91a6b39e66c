//! How a DHT node is set up.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::{fmt, io};

use towline_dht::WireError;

/// Set-up of a [`Dht`](crate::dht::Dht). `Default` is a full node on free ports that knows nobody yet.
#[derive(Debug, Clone, PartialEq)]
pub struct DhtConfig {
    /// IPv4 address to bind; port 0 takes the port of the last run if a state file names it and it is free,
    /// otherwise any. `None`: no IPv4. Default: any address, port 0.
    pub bind_v4: Option<SocketAddrV4>,
    /// IPv6 address to bind; port 0 takes the port of the last run, the IPv4 port, or any, whichever is free
    /// first. `None`: no IPv6; a host without IPv6 is treated as if it said so. Default: any address, port 0.
    pub bind_v6: Option<SocketAddrV6>,
    /// Hosts to start from, as for [`Dht::bootstrap`](crate::dht::Dht::bootstrap). Default: none.
    pub bootstrap: Vec<String>,
    /// File that keeps node id, known nodes and stored values between runs. It is read at the start, and
    /// written by [`Dht::shutdown`](crate::dht::Dht::shutdown) and every ten minutes. Default: none.
    pub state_path: Option<PathBuf>,
    /// The protocol engine: network id, node id, whether this is only a client, and its bounds. The id in a state
    /// file takes the place of the one here, and the families used follow from what is bound.
    pub node: towline_dht::node::Config,
    /// Bounds of what programs may ask of the node.
    pub limits: DhtLimits,
}

impl DhtConfig {
    /// The UDP port that OpenDHT nodes use unless told otherwise.
    pub const DEFAULT_PORT: u16 = 4222;

    /// A node on one port of both families.
    pub fn on_port(port: u16) -> Self {
        Self {
            bind_v4: Some(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)),
            bind_v6: Some(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0)),
            ..Self::default()
        }
    }

    /// A node that only this host can reach, over IPv4: for tests and demonstrations.
    pub fn on_loopback() -> Self {
        Self { bind_v4: Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)), bind_v6: None, ..Self::default() }
    }

    /// This set-up with one more host to start from.
    #[must_use]
    pub fn with_bootstrap(mut self, host: impl Into<String>) -> Self {
        self.bootstrap.push(host.into());
        self
    }
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            bind_v4: Some(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
            bind_v6: Some(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0)),
            bootstrap: Vec::new(),
            state_path: None,
            node: towline_dht::node::Config::default(),
            limits: DhtLimits::default(),
        }
    }
}

/// Bounds of what the programs of this process may ask of a [`Dht`](crate::dht::Dht).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhtLimits {
    /// Operations at once: gets, queries, puts, announcements and listens whose handle is alive. One more is
    /// refused. Default: 4096.
    pub operations: usize,
    /// Bytes of values one get may hold for a program that does not take them; more ends the get. Default:
    /// 16 MiB.
    pub get_backlog: usize,
    /// Bytes of values one listen may hold for a program that does not take them; then the oldest are dropped
    /// and counted. Default: 16 MiB.
    pub listen_backlog: usize,
    /// Hosts to bootstrap from; more are not added. Default: 256.
    pub bootstrap_hosts: usize,
    /// Longest state file that is read, in bytes. Default: 256 MiB.
    pub state_file: u64,
}

impl Default for DhtLimits {
    fn default() -> Self {
        Self {
            operations: 4096,
            get_backlog: 16 << 20,
            listen_backlog: 16 << 20,
            bootstrap_hosts: 256,
            state_file: 256 << 20,
        }
    }
}

/// A [`Dht`](crate::dht::Dht) could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Neither `bind_v4` nor `bind_v6` is given.
    #[error("no address to bind is configured")]
    NothingToBind,
    /// A socket could not be bound.
    #[error("cannot bind UDP {addr}: {kind}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The state file exists and cannot be read.
    #[error("cannot read the state file {}: {kind}", .path.display())]
    StateUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The file is no state file. It is not overwritten: it may be something else that was named by mistake.
    #[error("{} is not a state file: {why}", .path.display())]
    NotAStateFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: StateFault,
    },
}

/// Why a file is not a state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateFault {
    /// It is longer than [`DhtLimits::state_file`].
    TooLong,
    /// Its content is malformed.
    Malformed(WireError),
}

impl fmt::Display for StateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("it is too long"),
            Self::Malformed(why) => why.fmt(f),
        }
    }
}
