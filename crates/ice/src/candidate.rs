//! Candidates, their foundations and priorities (RFC 8445 section 5.1, RFC 6544 section 4.5, spec 4.3 and 4.4).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::addr::canonical;

/// The only component of a Towline or Jami session.
pub const COMPONENT: u8 = 1;

/// The port an active TCP candidate announces: nothing listens there and nobody may connect to it (RFC 6544 4.5).
pub const ACTIVE_PORT: u16 = 9;

/// Where a candidate came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// An address of a local interface.
    Host,
    /// Seen by a server, or mapped by the router.
    ServerReflexive,
    /// Learnt from a check of the peer.
    PeerReflexive,
    /// Allocated on a relay.
    Relayed,
}

impl CandidateKind {
    /// The type preference of spec 4.4.
    pub const fn preference(self) -> u8 {
        match self {
            Self::Host => 126,
            Self::PeerReflexive => 110,
            Self::ServerReflexive => 100,
            Self::Relayed => 0,
        }
    }

    /// The word after `typ` in a candidate line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relayed => "relay",
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::Host => 'H',
            Self::ServerReflexive => 'S',
            Self::PeerReflexive => 'P',
            Self::Relayed => 'R',
        }
    }
}

/// Which side opens the connection of a TCP candidate (RFC 6544 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcpType {
    /// Opens connections, accepts none.
    Active,
    /// Accepts connections.
    Passive,
    /// Both sides connect at once, each from the port it announced (RFC 6544 section 4.1). Jami peers carry such
    /// candidates and do nothing with them (spec 4.5).
    SimultaneousOpen,
}

impl TcpType {
    /// The word after `tcptype` in a candidate line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::SimultaneousOpen => "so",
        }
    }
}

/// The transport of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP, opened by the side the type says.
    Tcp(TcpType),
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp => f.write_str("udp"),
            Self::Tcp(kind) => write!(f, "tcp {}", kind.as_str()),
        }
    }
}

/// Equal for candidates that share type, base address and server; opaque otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Foundation(String);

impl Foundation {
    /// The longest foundation a peer reads (spec 4.2).
    pub const MAX_LEN: usize = 31;

    /// The foundation of a local candidate: a letter for the type and the base address in hexadecimal (spec 4.3).
    pub fn of(kind: CandidateKind, base: IpAddr) -> Self {
        let number = match base.to_canonical() {
            IpAddr::V4(ip) => u32::from(ip),
            IpAddr::V6(ip) => crc32fast::hash(&ip.octets()),
        };
        Self(format!("{}{number:x}", kind.letter()))
    }

    /// A foundation as a peer wrote it; `None` when empty, too long or not one printable word.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= Self::MAX_LEN;
        (fits && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One address a side can be reached at, or connects from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Candidate {
    /// Groups candidates of the same origin.
    pub foundation: Foundation,
    /// Always [`COMPONENT`] here; candidates of other components are carried but take no part.
    pub component: u8,
    /// UDP, or TCP and who opens.
    pub transport: Transport,
    /// Higher is tried first.
    pub priority: u32,
    /// The address announced to the peer.
    pub address: SocketAddr,
    /// Where it came from.
    pub kind: CandidateKind,
    /// For a local candidate, the local address packets leave from; equal to `address` for host and relayed ones and
    /// for every candidate of a peer. Not on the wire.
    pub base: SocketAddr,
}

impl Candidate {
    /// A candidate whose base is its own address, with foundation and priority of spec 4.3 and 4.4.
    ///
    /// `index` counts candidates of the same socket configuration, from 0: 0 is most preferred.
    pub fn new(kind: CandidateKind, transport: Transport, address: SocketAddr, index: u16) -> Self {
        let address = match transport {
            Transport::Tcp(TcpType::Active) => SocketAddr::new(address.ip(), ACTIVE_PORT),
            _ => address,
        };
        Self {
            foundation: Foundation::of(kind, address.ip()),
            component: COMPONENT,
            transport,
            priority: priority(kind, u16::MAX - index, COMPONENT),
            address,
            kind,
            base: address,
        }
    }

    /// A host candidate.
    pub fn host(transport: Transport, address: SocketAddr, index: u16) -> Self {
        Self::new(CandidateKind::Host, transport, address, index)
    }

    /// An outside address of the socket bound to `base`: seen by a server, or mapped by the router.
    pub fn reflexive(transport: Transport, address: SocketAddr, base: SocketAddr, index: u16) -> Self {
        Self::new(CandidateKind::ServerReflexive, transport, address, index).with_base(base)
    }

    /// An address allocated on a relay. Its base is itself: a driver sends what leaves from there through the relay, and
    /// says of what comes from the relay that it came there.
    pub fn relayed(transport: Transport, address: SocketAddr, index: u16) -> Self {
        Self::new(CandidateKind::Relayed, transport, address, index)
    }

    /// The same candidate sending from `base`, as reflexive and mapped candidates do.
    #[must_use]
    pub fn with_base(mut self, base: SocketAddr) -> Self {
        self.base = base;
        self.foundation = Foundation::of(self.kind, base.ip());
        self
    }

    /// Whether it is TCP of any type.
    pub const fn is_tcp(&self) -> bool {
        matches!(self.transport, Transport::Tcp(_))
    }

    /// Whether connections may be accepted at its base.
    pub(crate) fn accepts(&self) -> bool {
        matches!(self.transport, Transport::Tcp(TcpType::Passive | TcpType::SimultaneousOpen))
    }

    /// Same place on the network: a second one adds nothing.
    pub(crate) fn duplicates(&self, other: &Self) -> bool {
        self.transport == other.transport
            && self.component == other.component
            && canonical(self.address) == canonical(other.address)
            && canonical(self.base) == canonical(other.base)
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.transport, self.kind.as_str(), self.address)
    }
}

/// `type_pref × 2^24 + local_pref × 2^8 + (256 − component)` (spec 4.4, RFC 8445 section 5.1.2.1).
pub const fn priority(kind: CandidateKind, local_preference: u16, component: u8) -> u32 {
    ((kind.preference() as u32) << 24) + ((local_preference as u32) << 8) + (256 - component as u32)
}

/// The host candidates of a device in the order and with the priorities of spec 4.3 and 4.4.
///
/// `addresses` are the interface addresses, the one of the default route first. With `tcp_port` each address yields a
/// passive and an active candidate, with `udp_port` a UDP candidate after all TCP ones. Preferences count per
/// address family, as one socket listens per family.
pub fn host_candidates(addresses: &[IpAddr], tcp_port: Option<u16>, udp_port: Option<u16>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for v4 in [true, false] {
        let family = || addresses.iter().map(IpAddr::to_canonical).filter(|ip| ip.is_ipv4() == v4);
        let mut index = 0;
        let mut add = |transport, address| {
            candidates.push(Candidate::host(transport, address, index));
            index = index.saturating_add(1);
        };
        if let Some(port) = tcp_port {
            for ip in family() {
                add(Transport::Tcp(TcpType::Passive), SocketAddr::new(ip, port));
                add(Transport::Tcp(TcpType::Active), SocketAddr::new(ip, ACTIVE_PORT));
            }
        }
        if let Some(port) = udp_port {
            for ip in family() {
                add(Transport::Udp, SocketAddr::new(ip, port));
            }
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_seen_on_the_wire() {
        assert_eq!(priority(CandidateKind::Host, 65535, 1), 2_130_706_431);
        assert_eq!(priority(CandidateKind::Host, 65534, 1), 2_130_706_175);
        assert_eq!(priority(CandidateKind::ServerReflexive, 65533, 1), 1_694_498_303);
        assert_eq!(priority(CandidateKind::Relayed, 65535, 1), 16_777_215);
        assert_eq!(priority(CandidateKind::PeerReflexive, 65535, 1), 1_862_270_975);
        assert_eq!(priority(CandidateKind::PeerReflexive, 65534, 1), 1_862_270_719);
    }

    #[test]
    fn foundations_as_the_peers_write_them() {
        assert_eq!(Foundation::of(CandidateKind::Host, "10.77.0.3".parse().unwrap()).as_str(), "Ha4d0003");
        assert_eq!(Foundation::of(CandidateKind::Relayed, "10.88.9.1".parse().unwrap()).as_str(), "Ra580901");
        assert_eq!(Foundation::parse(""), None);
        assert_eq!(Foundation::parse("a b"), None);
        assert!(Foundation::parse(&"x".repeat(31)).is_some());
        assert_eq!(Foundation::parse(&"x".repeat(32)), None);
    }

    #[test]
    fn hosts_are_numbered_per_family() {
        let ips = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let list = host_candidates(&ips, Some(5000), Some(6000));
        let seen: Vec<_> = list
            .iter()
            .map(|c| (c.to_string(), u32::from(u16::MAX) - ((c.priority >> 8) & 0xffff)))
            .collect();
        let expected = [
            ("tcp passive host 10.0.0.1:5000", 0),
            ("tcp active host 10.0.0.1:9", 1),
            ("tcp passive host 10.0.0.2:5000", 2),
            ("tcp active host 10.0.0.2:9", 3),
            ("udp host 10.0.0.1:6000", 4),
            ("udp host 10.0.0.2:6000", 5),
            ("tcp passive host [fd00::1]:5000", 0),
            ("tcp active host [fd00::1]:9", 1),
            ("udp host [fd00::1]:6000", 2),
        ];
        assert_eq!(seen, expected.map(|(text, n)| (text.to_owned(), n)));
    }
}
