//! What is known about an address from its bits alone (`dht.md` 1.8, 1.11).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Turns an IPv4-mapped IPv6 address into the IPv4 address it stands for.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Addresses no node can have: never answered, never contacted.
pub(super) fn is_martian(address: &SocketAddr) -> bool {
    if address.port() == 0 {
        return true;
    }
    match address.ip() {
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.octets()[0] >= 224,
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unspecified() || ip.to_ipv4_mapped().is_some(),
    }
}

/// The address of a node named in an answer. A loopback address means "the host that answered".
pub(super) fn listed(address: SocketAddr, answered_from: &SocketAddr) -> SocketAddr {
    if address.ip().is_loopback() { SocketAddr::new(answered_from.ip(), address.port()) } else { address }
}

/// Whether an answer from `from` can belong to what was sent to `to`. All loopback addresses are one host, which may
/// answer from another of them.
pub(super) fn same_endpoint(to: &SocketAddr, from: &SocketAddr) -> bool {
    to.port() == from.port() && (to.ip() == from.ip() || (to.ip().is_loopback() && from.ip().is_loopback()))
}

/// A network that one party is likely to hold alone: a /24 of IPv4, a /56 of IPv6. `None` for private and local
/// addresses, where crowding is normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix([u8; 8]);

impl Prefix {
    pub(super) fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Option<Self> {
        let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
        if ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared {
            return None;
        }
        let [a, b, c, _] = ip.octets();
        Some(Self([4, a, b, c, 0, 0, 0, 0]))
    }

    fn of_v6(ip: Ipv6Addr) -> Option<Self> {
        if ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() {
            return None;
        }
        let o = ip.octets();
        Some(Self([6, o[0], o[1], o[2], o[3], o[4], o[5], o[6]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn martians() {
        for bad in [
            "1.2.3.4:0",
            "0.1.2.3:5",
            "224.0.0.1:5",
            "255.255.255.255:5",
            "[ff02::1]:5",
            "[::]:5",
            "[::ffff:1.2.3.4]:5",
        ] {
            assert!(is_martian(&at(bad)), "{bad}");
        }
        for good in
            ["127.0.0.1:1", "10.0.0.1:9", "192.168.1.1:4222", "[::1]:5", "[fe80::1]:5", "223.255.255.255:5"]
        {
            assert!(!is_martian(&at(good)), "{good}");
        }
        assert_eq!(canonical(at("[::ffff:1.2.3.4]:5")), at("1.2.3.4:5"));
    }

    #[test]
    fn loopback_in_a_list_is_the_host_that_answered() {
        assert_eq!(listed(at("127.0.0.3:9"), &at("127.0.0.2:7")), at("127.0.0.2:9"));
        assert_eq!(listed(at("[::1]:9"), &at("[2001:db8::1]:7")), at("[2001:db8::1]:9"));
        assert_eq!(listed(at("8.8.8.8:9"), &at("127.0.0.2:7")), at("8.8.8.8:9"));
    }

    #[test]
    fn prefixes_leave_local_networks_alone() {
        let of = |text: &str| Prefix::of(text.parse().unwrap());
        assert_eq!(of("127.0.0.1"), None);
        assert_eq!(of("192.168.3.4"), None);
        assert_eq!(of("100.64.1.1"), None);
        assert_eq!(of("::1"), None);
        assert_eq!(of("fd00::1"), None);
        assert_eq!(of("8.8.8.8"), of("8.8.8.9"));
        assert_ne!(of("8.8.8.8"), of("8.8.9.8"));
        assert_eq!(of("2001:db8:0:ff::1"), of("2001:db8:0:1::2"));
        assert_ne!(of("2001:db8:0:100::1"), of("2001:db8::1"));
    }
}
