//! Shorthands of the tests.
#![allow(dead_code, reason = "each test uses some of it")]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use towline_nat::{
    Allocation, Config, Filtering, Flags, Header, Mapping, Nat, Taken, Transport, Verdict, Way,
};

pub(crate) const MAPPINGS: [Mapping; 3] =
    [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
pub(crate) const FILTERINGS: [Filtering; 3] =
    [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];
pub(crate) const ALLOCATIONS: [Allocation; 3] =
    [Allocation::Preserving { taken: Taken::Next }, Allocation::Sequential { step: 2 }, Allocation::Random];

/// All 27.
pub(crate) fn kinds() -> impl Iterator<Item = (Mapping, Filtering, Allocation)> {
    MAPPINGS.into_iter().flat_map(|mapping| {
        FILTERINGS
            .into_iter()
            .flat_map(move |filtering| ALLOCATIONS.map(|allocation| (mapping, filtering, allocation)))
    })
}

pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A host inside, by number.
pub(crate) fn inside(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new([192, 168, 1, host].into(), port)
}

/// A host outside, by number.
pub(crate) fn remote(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new([198, 51, 100, host].into(), port)
}

/// A box with one address.
pub(crate) fn nat(config: Config) -> Nat {
    Nat::new(config, &[ip("203.0.113.1")], [7; 32])
}

/// The outside end that a datagram gets.
pub(crate) fn out(nat: &mut Nat, now: Duration, from: SocketAddr, to: SocketAddr) -> SocketAddr {
    match nat.handle(now, Way::Out, &Header::udp(from, to)) {
        Verdict::Forward { from, to: same } => {
            assert_eq!(same, to, "the destination stays");
            from
        }
        other => panic!("{from} -> {to}: {other:?}"),
    }
}

/// Who inside gets a datagram.
pub(crate) fn back(nat: &mut Nat, now: Duration, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
    match nat.handle(now, Way::In, &Header::udp(from, to)) {
        Verdict::Forward { from: same, to } => {
            assert_eq!(same, from, "the source stays");
            Some(to)
        }
        _ => None,
    }
}

pub(crate) fn tcp(
    nat: &mut Nat,
    now: Duration,
    way: Way,
    from: SocketAddr,
    to: SocketAddr,
    flags: Flags,
) -> Verdict {
    nat.handle(now, way, &Header::tcp(from, to, flags))
}

/// Asks for a connection from inside, and returns the outside end.
pub(crate) fn tcp_open(nat: &mut Nat, now: Duration, from: SocketAddr, to: SocketAddr) -> SocketAddr {
    match tcp(nat, now, Way::Out, from, to, Flags::SYN) {
        Verdict::Forward { from, .. } => from,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn count(nat: &Nat, now: Duration, transport: Transport) -> usize {
    nat.mappings(now).filter(|mapped| mapped.transport == transport).count()
}
