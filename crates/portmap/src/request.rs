//! What is asked for, and what came of it.

use std::{fmt, net::SocketAddr, time::Instant};

use crate::service::ServiceError;

/// What a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

impl Transport {
    /// The number of the protocol in IP headers, which PCP uses.
    pub(crate) const fn ip_number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }

    /// As UPnP writes it.
    pub(crate) const fn upnp(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// The ways to ask a router, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Port Control Protocol (RFC 6887).
    Pcp,
    /// NAT Port Mapping Protocol (RFC 6886).
    NatPmp,
    /// UPnP Internet Gateway Device 1 and 2.
    Upnp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pcp, Self::NatPmp, Self::Upnp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// A mapping that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Where the internet reaches this host, as the router says. A private address means that the router is itself behind
    /// another one, which this mapping does not open.
    pub external: SocketAddr,
    /// Who was asked.
    pub router: std::net::IpAddr,
    /// How.
    pub protocol: Protocol,
    /// When the router forgets it unless it is renewed, which happens at half of the time. `None`: it stays until it is
    /// released.
    pub until: Option<Instant>,
}

impl Granted {
    /// Whether the external address is one of the internet.
    pub fn is_global(&self) -> bool {
        is_global(self.external.ip())
    }
}

/// How far a mapping is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MappingState {
    /// Routers are being looked for, or asked.
    #[default]
    Asking,
    /// It stands.
    Granted(Granted),
    /// No router that was found granted it; it is tried again after a while and when the network changes.
    Failed(Failure),
}

/// Why there is no mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No router answers to any of the protocols.
    #[error("no router answers to PCP, NAT-PMP or UPnP")]
    NoRouter,
    /// Routers answered, and refused.
    #[error("refused: {}", Refusals(.0))]
    Refused(Vec<(Found, ServiceError)>),
}

struct Refusals<'a>(&'a [(Found, ServiceError)]);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (Found { protocol, router }, error)) in self.0.iter().enumerate() {
            let between = if number == 0 { "" } else { "; " };
            write!(f, "{between}{protocol} at {router}: {error}")?;
        }
        Ok(())
    }
}

/// A router that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// To what.
    pub protocol: Protocol,
    /// Its address.
    pub router: std::net::IpAddr,
}

/// Whether an address that a router tells can be its own on some network.
pub(crate) fn is_plausible(ip: std::net::IpAddr) -> bool {
    let ip = ip.to_canonical();
    let broadcast = matches!(ip, std::net::IpAddr::V4(v4) if v4.is_broadcast());
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || broadcast)
}

fn is_global(ip: std::net::IpAddr) -> bool {
    match ip.to_canonical() {
        std::net::IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            is_plausible(v4.into()) && !(v4.is_private() || v4.is_link_local() || shared)
        }
        std::net::IpAddr::V6(v6) => {
            is_plausible(v6.into()) && !(v6.is_unique_local() || v6.is_unicast_link_local())
        }
    }
}
