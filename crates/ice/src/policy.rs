//! Which addresses of a peer's list may be tried at all (spec 9.1 no. 21).
//!
//! The list comes from an authenticated peer, yet it can name any address: without a filter a peer makes us connect to
//! third parties or to the services of our own network.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::addr::{is_broadcast, is_link_local, is_private};
use crate::candidate::{Candidate, CandidateKind, TcpType, Transport};

/// The port of the web, to which nearly every network lets TCP through: a device that listens there is reached from networks that let
/// nothing else out.
pub const WEB_PORT: u16 = 443;

/// Whose address this is, as far as addresses tell one host from another: one of IPv4 is a host, and who has one of IPv6 has a network
/// of 64 bits. Bounds for strangers count by it.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The filter on remote candidates. The default suits LAN and loopback use.
///
/// Unspecified, multicast and broadcast addresses and port 0 are always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemotePolicy {
    /// The most remote candidates of one session, whether from the description, trickled or learnt. Default 31.
    pub max_candidates: usize,
    /// The most peer-reflexive candidates learnt beside them. Default 16.
    pub max_reflexive: usize,
    /// The most TCP connections opened within [`TargetLimits::memory`](crate::TargetLimits::memory), retries included.
    /// Default 256.
    pub max_connects: u32,
    /// Loopback addresses may be tried. Default true.
    pub allow_loopback: bool,
    /// Link-local addresses may be tried. Default true.
    pub allow_link_local: bool,
    /// Private addresses (RFC 1918, RFC 4193, RFC 6598) may be tried. Default true.
    pub allow_private: bool,
    /// Ports below 1024 may be tried, and not only TCP port 443, the one at which a device can be reached from nearly every
    /// network. Default false: no device of ours or of Jami listens at another.
    pub allow_system_ports: bool,
}

impl Default for RemotePolicy {
    fn default() -> Self {
        Self {
            max_candidates: crate::blob::MAX_CANDIDATES,
            max_reflexive: 16,
            max_connects: 256,
            allow_loopback: true,
            allow_link_local: true,
            allow_private: true,
            allow_system_ports: false,
        }
    }
}

/// Why a remote candidate takes no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum CandidateRefused {
    /// The session has as many as the policy allows.
    #[error("there are too many remote candidates")]
    TooMany,
    /// It is known already.
    #[error("the candidate is known already")]
    Duplicate,
    /// Another component than the only one.
    #[error("the component is not 1")]
    Component,
    /// Port 0.
    #[error("port 0 is no address")]
    PortZero,
    /// A port below 1024 that is not [`WEB_PORT`] of TCP.
    #[error("system ports are not tried")]
    SystemPort,
    /// An unspecified, multicast or broadcast address.
    #[error("the address is not that of one host")]
    NotUnicast,
    /// A loopback address.
    #[error("loopback addresses are not allowed")]
    Loopback,
    /// A link-local address.
    #[error("link-local addresses are not allowed")]
    LinkLocal,
    /// A private address.
    #[error("private addresses are not allowed")]
    Private,
}

impl RemotePolicy {
    /// For sessions over the public internet: no loopback, link-local or private addresses.
    pub fn public_only() -> Self {
        Self { allow_loopback: false, allow_link_local: false, allow_private: false, ..Self::default() }
    }

    /// Whether `address` may be talked to.
    pub fn permits(&self, address: SocketAddr) -> Result<(), CandidateRefused> {
        let ip = address.ip().to_canonical();
        if address.port() == 0 {
            return Err(CandidateRefused::PortZero);
        }
        if ip.is_unspecified() || ip.is_multicast() || is_broadcast(ip) {
            return Err(CandidateRefused::NotUnicast);
        }
        if ip.is_loopback() && !self.allow_loopback {
            return Err(CandidateRefused::Loopback);
        }
        if is_link_local(ip) && !self.allow_link_local {
            return Err(CandidateRefused::LinkLocal);
        }
        if is_private(ip) && !self.allow_private {
            return Err(CandidateRefused::Private);
        }
        Ok(())
    }

    /// Whether `candidate` of a peer's list may take part.
    pub(crate) fn admits(&self, candidate: &Candidate) -> Result<(), CandidateRefused> {
        if candidate.component != crate::candidate::COMPONENT {
            return Err(CandidateRefused::Component);
        }
        self.permits(candidate.address)?;
        // Nobody connects to an active candidate, and the port of a learnt one was not chosen by a list.
        let dialled = candidate.transport != Transport::Tcp(TcpType::Active)
            && candidate.kind != CandidateKind::PeerReflexive;
        // Relays do live on system ports, 443 above all.
        let usual = candidate.kind == CandidateKind::Relayed
            || candidate.address.port() >= 1024
            || (candidate.is_tcp() && candidate.address.port() == WEB_PORT);
        if dialled && !usual && !self.allow_system_ports {
            return Err(CandidateRefused::SystemPort);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passive(address: &str) -> Candidate {
        Candidate::host(Transport::Tcp(TcpType::Passive), address.parse().unwrap(), 0)
    }

    #[test]
    fn the_default_works_at_home_and_refuses_what_is_nobody() {
        let policy = RemotePolicy::default();
        for good in ["127.0.0.1:5000", "10.0.0.1:5000", "[fe80::1]:5000", "[fd00::1]:5000", "192.0.2.1:5000"]
        {
            assert_eq!(policy.admits(&passive(good)), Ok(()), "{good}");
        }
        for bad in [
            "0.0.0.0:5000",
            "224.0.0.1:5000",
            "255.255.255.255:5000",
            "[::]:5000",
            "[ff02::1]:5000",
            "[::ffff:224.0.0.1]:5000",
        ] {
            assert_eq!(policy.admits(&passive(bad)), Err(CandidateRefused::NotUnicast), "{bad}");
        }
        assert_eq!(policy.admits(&passive("10.0.0.1:0")), Err(CandidateRefused::PortZero));
        assert_eq!(policy.admits(&passive("10.0.0.1:25")), Err(CandidateRefused::SystemPort));
        assert_eq!(policy.admits(&passive("192.0.2.1:443")), Ok(()));
        let datagrams = Candidate::host(Transport::Udp, "192.0.2.1:443".parse().unwrap(), 0);
        assert_eq!(policy.admits(&datagrams), Err(CandidateRefused::SystemPort));
        let relay = Candidate::new(
            CandidateKind::Relayed,
            Transport::Tcp(TcpType::Passive),
            "192.0.2.1:443".parse().unwrap(),
            0,
        );
        assert_eq!(policy.admits(&relay), Ok(()));
        let active = Candidate::host(Transport::Tcp(TcpType::Active), "10.0.0.1:9".parse().unwrap(), 0);
        assert_eq!(policy.admits(&active), Ok(()));
    }

    #[test]
    fn the_public_policy_keeps_out_of_our_networks() {
        let policy = RemotePolicy::public_only();
        for (address, reason) in [
            ("127.0.0.1:5000", CandidateRefused::Loopback),
            ("[::1]:5000", CandidateRefused::Loopback),
            ("[::ffff:127.0.0.1]:5000", CandidateRefused::Loopback),
            ("169.254.1.1:5000", CandidateRefused::LinkLocal),
            ("192.168.1.1:5000", CandidateRefused::Private),
            ("100.64.0.1:5000", CandidateRefused::Private),
            ("[fd00::1]:5000", CandidateRefused::Private),
        ] {
            assert_eq!(policy.admits(&passive(address)), Err(reason), "{address}");
        }
        assert_eq!(policy.admits(&passive("192.0.2.1:5000")), Ok(()));
    }

    #[test]
    fn one_of_ipv6_counts_as_its_network() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.2"), of("192.0.2.1"));
    }
}
