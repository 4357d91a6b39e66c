//! Handshakes that others began and that are not complete.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use crate::Route;

/// Where somebody is who proved an address: IPv4 addresses one by one, those of IPv6 by their network of 64 bits, in which a
/// host may have as many as it likes. Streams are bounded by who accepts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin(Ipv6Addr);

impl Origin {
    pub(crate) fn of(route: Route) -> Option<Self> {
        let address = match route.remote()?.ip().to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64),
        };
        Some(Self(address))
    }
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    route: Route,
    connection: u32,
    /// Where its initiator is, if that was proved by a cookie.
    origin: Option<Origin>,
}

/// All of them, by the name of the attempt.
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    attempts: BTreeMap<[u8; 16], Attempt>,
    /// How many are from where: without the unproved, or whoever forges addresses could shut their owners out.
    origins: BTreeMap<Origin, usize>,
}

impl HalfOpen {
    pub(crate) fn len(&self) -> usize {
        self.attempts.len()
    }

    /// How many there are of one origin.
    pub(crate) fn of(&self, origin: Origin) -> usize {
        self.origins.get(&origin).copied().unwrap_or_default()
    }

    /// The route and the connection of an attempt.
    pub(crate) fn get(&self, name: &[u8; 16]) -> Option<(Route, u32)> {
        self.attempts.get(name).map(|attempt| (attempt.route, attempt.connection))
    }

    /// `name` is not there yet.
    pub(crate) fn insert(&mut self, name: [u8; 16], route: Route, connection: u32, origin: Option<Origin>) {
        if let Some(origin) = origin {
            *self.origins.entry(origin).or_default() += 1;
        }
        self.attempts.insert(name, Attempt { route, connection, origin });
    }

    pub(crate) fn remove(&mut self, name: &[u8; 16]) {
        let Some(Attempt { origin: Some(origin), .. }) = self.attempts.remove(name) else { return };
        if let Some(count) = self.origins.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.origins.remove(&origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(address: &str) -> Route {
        Route::datagram(address.parse().unwrap())
    }

    #[test]
    fn origins_are_hosts() {
        let origin = |address| Origin::of(route(address)).unwrap();
        assert_eq!(origin("192.0.2.1:1"), origin("192.0.2.1:2"));
        assert_eq!(origin("192.0.2.1:1"), origin("[::ffff:192.0.2.1]:1"));
        assert_ne!(origin("192.0.2.1:1"), origin("192.0.2.2:1"));
        assert_eq!(origin("[2001:db8::1]:1"), origin("[2001:db8::ffff:1:2:3]:9"));
        assert_ne!(origin("[2001:db8::1]:1"), origin("[2001:db8:0:1::1]:1"));
        assert_eq!(Origin::of(Route::Stream(1)), None);
    }

    #[test]
    fn counts_end_with_what_they_count() {
        let (mut half_open, route) = (HalfOpen::default(), route("192.0.2.1:1"));
        let origin = Origin::of(route);
        half_open.insert([1; 16], route, 1, origin);
        half_open.insert([2; 16], route, 2, origin);
        half_open.insert([3; 16], route, 3, None);
        assert_eq!((half_open.len(), half_open.of(origin.unwrap())), (3, 2));
        assert_eq!(half_open.get(&[2; 16]), Some((route, 2)));
        for name in [1, 1, 2, 3] {
            half_open.remove(&[name; 16]);
        }
        assert_eq!((half_open.len(), half_open.of(origin.unwrap()), half_open.origins.len()), (0, 0, 0));
    }
}
