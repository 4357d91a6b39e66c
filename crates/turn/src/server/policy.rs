//! Which peers a relay may be used to reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which peers may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerPolicy {
    /// Addresses of the public Internet only: nobody can use the relay to look at what is behind it.
    #[default]
    Public,
    /// Also private networks, the host of the relay itself included. For laboratories, and for networks in which every
    /// user may reach everything anyway.
    DangerouslyAll,
}

impl PeerPolicy {
    /// Whether an address may be reached.
    pub fn admits(self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Self::Public, IpAddr::V4(ip)) => is_public_v4(ip),
            (Self::Public, IpAddr::V6(ip)) => is_public_v6(ip),
            (Self::DangerouslyAll, ip) => {
                !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
            }
        }
    }
}

// The special-purpose registry of IANA (RFC 6890 and its updates), without what is reachable from everywhere.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || a == 127
        || a >= 224
        || ip.is_private()
        || ip.is_link_local()
        || (a, b & 0xc0) == (100, 64)
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a, b & 0xfe) == (198, 18)
        || ip.is_documentation())
}

// Global unicast is 2000::/3; of that, not what carries IPv4 addresses inside (6to4, Teredo), and not documentation.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    a & 0xe000 == 0x2000
        && a != 0x2002
        && !(a == 0x2001 && (b < 0x0200 || b == 0x0db8))
        && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet() {
        for ip in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "192.0.1.1", "2a00:1450::1", "2606:4700::1111"] {
            assert!(PeerPolicy::Public.admits(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:a00:1::1",
            "3fff::1",
            "100::1",
        ] {
            assert!(!PeerPolicy::Public.admits(ip.parse().unwrap()), "{ip}");
        }
        for (ip, admitted) in [("127.0.0.1", true), ("::1", true), ("224.0.0.1", false), ("0.0.0.0", false)] {
            assert_eq!(PeerPolicy::DangerouslyAll.admits(ip.parse().unwrap()), admitted, "{ip}");
        }
    }
}
