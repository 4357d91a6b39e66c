//! Addresses as keys: what two spellings of one address have in common.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The form under which an address is compared: IPv4-mapped IPv6 becomes IPv4, scope and flow label are dropped.
///
/// A blob carries no scope (spec 4.1), the socket that accepts a connection does report one: both mean one peer.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `remote` as it must be given to a socket on the interface of `local`: link-local IPv6 takes the local scope.
pub(crate) fn scoped(remote: SocketAddr, local: SocketAddr) -> SocketAddr {
    match (remote, local) {
        (SocketAddr::V6(r), SocketAddr::V6(l)) if is_link_local(remote.ip()) && r.scope_id() == 0 => {
            SocketAddr::V6(SocketAddrV6::new(*r.ip(), r.port(), 0, l.scope_id()))
        }
        _ => remote,
    }
}

/// Whether the socket bound to `local` serves `base`: bound to all interfaces it knows its port only. A relayed base is no
/// interface, so that one must be named exactly.
pub(crate) fn is_socket_of(local: SocketAddr, base: SocketAddr) -> bool {
    canonical(local) == canonical(base) || (local.ip().is_unspecified() && local.port() == base.port())
}

pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        // 100.64/10 is the shared space behind carrier NATs (RFC 6598).
        IpAddr::V4(ip) => ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

pub(crate) fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

/// Whether a packet from `local` can reach `remote` at all: same family, and neither end alone on a link or in a host.
pub(crate) fn reachable(local: IpAddr, remote: IpAddr) -> bool {
    let (local, remote) = (local.to_canonical(), remote.to_canonical());
    local.is_ipv4() == remote.is_ipv4()
        && local.is_loopback() == remote.is_loopback()
        && (local.is_ipv4() || is_link_local(local) == is_link_local(remote))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn mapped_and_scoped_spellings_are_one_address() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:9".parse().unwrap();
        assert_eq!(canonical(mapped), "10.0.0.1:9".parse().unwrap());
        let scoped_v6 = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 3, 4));
        assert_eq!(canonical(scoped_v6), "[fe80::1]:7".parse().unwrap());
        assert_eq!(
            scoped(canonical(scoped_v6), scoped_v6),
            SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, 4))
        );
    }

    #[test]
    fn loopback_and_link_local_stay_among_themselves() {
        assert!(reachable(ip("127.0.0.1"), ip("127.0.0.1")));
        assert!(!reachable(ip("10.0.0.1"), ip("127.0.0.1")));
        assert!(!reachable(ip("::1"), ip("2001:db8::1")));
        assert!(!reachable(ip("fe80::1"), ip("2001:db8::1")));
        assert!(!reachable(ip("10.0.0.1"), ip("2001:db8::1")));
        assert!(reachable(ip("10.0.0.1"), ip("::ffff:10.0.0.2")));
    }
}
