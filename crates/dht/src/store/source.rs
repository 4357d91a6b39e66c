//! Whom a stored value counts against.

use std::net::{IpAddr, SocketAddr};

/// The network an address is charged to: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A whole IPv4 address.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address.
    V6([u8; 8]),
}

impl Source {
    /// The source `ip` belongs to; IPv4-mapped addresses count as IPv4.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => Self::V6(((u128::from(ip) >> 64) as u64).to_be_bytes()),
        }
    }
}

/// Where a stored value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Put by this node: never evicted, never charged.
    Local,
    /// Put by the node at this address.
    Remote(SocketAddr),
}

impl Origin {
    /// Whom the value is charged to.
    pub fn source(&self) -> Option<Source> {
        match self {
            Self::Local => None,
            Self::Remote(address) => Some(Source::of(address.ip())),
        }
    }
}
