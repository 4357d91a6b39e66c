//! Outside addresses and ports for new mappings.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rand::RngExt as _;

use crate::{
    config::{Allocation, Exhausted, Pooling, Taken},
    header::{Reason, Transport},
    table::{Ended, Mapped, Nat, PAUSE},
};

/// Lots that are drawn before the ports are searched in order.
const DRAWS: usize = 16;

/// What the choice of ports remembers.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// Where a sequence goes on, by transport and outside address.
    next: BTreeMap<(Transport, IpAddr), u16>,
    /// Ends that are not given out before a time.
    resting: BTreeMap<(Transport, SocketAddr), Duration>,
    /// Where a search found nothing, by transport, address and parity, and when to search again: a search costs as much as
    /// there are ports.
    none: BTreeMap<(Transport, IpAddr, bool), Duration>,
}

impl Ports {
    /// A mapping is gone, and its port rests for this long.
    pub(crate) fn closed(&mut self, end: (Transport, SocketAddr), now: Duration, rest: Duration) {
        if rest.is_zero() {
            self.none.clear();
        } else {
            self.resting.insert(end, now + rest);
        }
    }

    pub(crate) fn sweep(&mut self, now: Duration) {
        self.resting.retain(|_, until| now < *until);
        self.none.retain(|_, until| now < *until);
    }
}

impl Nat {
    /// An outside address and port for a host inside.
    pub(crate) fn allocate(
        &mut self,
        now: Duration,
        transport: Transport,
        inside: SocketAddr,
    ) -> Result<SocketAddr, Reason> {
        if self.outside.is_empty() {
            return Err(Reason::NoAddress);
        }
        let (evicts, quota) =
            (self.config.exhausted == Exhausted::Evict, self.config.limits.mappings_per_host);
        if self.mappings_of(inside.ip()) >= quota {
            self.sweep_if_older(now, PAUSE);
        }
        if self.mappings_of(inside.ip()) >= quota
            && !(evicts && self.evict(now, |view| view.inside.ip() == inside.ip()))
        {
            return Err(Reason::HostQuota);
        }
        let addresses = self.addresses_for(inside.ip());
        if let Some(found) = self.search(now, transport, inside, &addresses) {
            return Ok(found);
        }
        self.sweep_if_older(now, PAUSE);
        if let Some(found) = self.search(now, transport, inside, &addresses) {
            return Ok(found);
        }
        let fits = |view: &Mapped| view.transport == transport && addresses.contains(&view.outside.ip());
        if evicts && self.evict(now, fits) {
            // Its port may have to rest, or have the wrong parity; then this did not help.
            return self.search(now, transport, inside, &addresses).ok_or(Reason::NoPort);
        }
        Err(Reason::NoPort)
    }

    fn mappings_of(&self, inside: IpAddr) -> usize {
        self.hosts.get(&inside).map_or(0, |host| host.mappings)
    }

    /// The outside addresses that a host may get ports of, in the order they are tried.
    fn addresses_for(&mut self, inside: IpAddr) -> Vec<IpAddr> {
        let count = self.outside.len();
        let start = if count > 1 { self.chance.random_range(0..count) } else { 0 };
        match self.config.pooling {
            Pooling::Paired => {
                let paired = self.hosts.get(&inside).map(|host| host.address);
                vec![paired.filter(|address| self.outside.contains(address)).unwrap_or(self.outside[start])]
            }
            Pooling::Arbitrary => (0..count).map(|at| self.outside[(start + at) % count]).collect(),
        }
    }

    fn search(
        &mut self,
        now: Duration,
        transport: Transport,
        inside: SocketAddr,
        addresses: &[IpAddr],
    ) -> Option<SocketAddr> {
        addresses.iter().find_map(|address| {
            self.search_port(now, transport, inside.port(), *address)
                .map(|port| SocketAddr::new(*address, port))
        })
    }

    fn search_port(
        &mut self,
        now: Duration,
        transport: Transport,
        inside: u16,
        address: IpAddr,
    ) -> Option<u16> {
        let (first, last) = (*self.config.ports.start(), *self.config.ports.end());
        let fits = |port: u16| !self.config.parity || port % 2 == inside % 2;
        match self.config.allocation {
            Allocation::Preserving { taken } => {
                if inside > 0 && self.is_free(now, transport, SocketAddr::new(address, inside)) {
                    return Some(inside);
                }
                match taken {
                    Taken::Next => {
                        let start = inside.saturating_add(1).clamp(first, last);
                        self.in_order(now, transport, inside, address, start, 1)
                    }
                    Taken::Random => self.at_random(now, transport, inside, address),
                }
            }
            Allocation::Random => self.at_random(now, transport, inside, address),
            Allocation::Sequential { step } => {
                let step = if step == 0 { 1 } else { step };
                let first = (first..=last).find(|port| fits(*port)).unwrap_or(first);
                let start = self.ports.next.get(&(transport, address)).copied().unwrap_or(first);
                let found = self.in_order(now, transport, inside, address, start, step)?;
                let next = self.step(found, step);
                self.ports.next.insert((transport, address), next);
                Some(found)
            }
        }
    }

    /// The port this many further, round the range.
    fn step(&self, port: u16, step: i16) -> u16 {
        let first = i64::from(*self.config.ports.start());
        let count = i64::from(*self.config.ports.end()) - first + 1;
        let at = i64::from(port) - first + i64::from(step);
        (first + at.rem_euclid(count.max(1))) as u16
    }

    fn at_random(
        &mut self,
        now: Duration,
        transport: Transport,
        inside: u16,
        address: IpAddr,
    ) -> Option<u16> {
        for _ in 0..DRAWS {
            let mut port = self.chance.random_range(self.config.ports.clone());
            if self.config.parity && port % 2 != inside % 2 {
                port ^= 1;
            }
            if self.config.ports.contains(&port)
                && self.is_free(now, transport, SocketAddr::new(address, port))
            {
                return Some(port);
            }
        }
        let start = self.chance.random_range(self.config.ports.clone());
        self.in_order(now, transport, inside, address, start, 1)
    }

    /// The first free port from `start` on: in these steps, and if they miss it, one by one.
    fn in_order(
        &mut self,
        now: Duration,
        transport: Transport,
        inside: u16,
        address: IpAddr,
        start: u16,
        step: i16,
    ) -> Option<u16> {
        let place = (transport, address, self.config.parity && inside % 2 == 1);
        if self.ports.none.get(&place).is_some_and(|until| now < *until) {
            return None;
        }
        let steps: &[i16] = if step == 1 { &[1] } else { &[step, 1] };
        for step in steps {
            let mut port = start;
            for _ in self.config.ports.clone() {
                let fits = !self.config.parity || port % 2 == inside % 2;
                if fits && self.is_free(now, transport, SocketAddr::new(address, port)) {
                    return Some(port);
                }
                port = self.step(port, *step);
            }
        }
        self.ports.none.insert(place, now + PAUSE);
        None
    }

    pub(crate) fn is_free(&mut self, now: Duration, transport: Transport, end: SocketAddr) -> bool {
        let rests = self.ports.resting.get(&(transport, end)).is_some_and(|until| now < *until);
        !rests && self.live_mapping(now, transport, end).is_none()
    }

    /// Ends the mapping that was not used for the longest time, of those that were not asked for and fit. Returns whether
    /// there was one.
    fn evict(&mut self, now: Duration, fits: impl Fn(&Mapped) -> bool) -> bool {
        let all = self.mappings.iter().filter(|(_, entry)| entry.view.lease.is_none() && fits(&entry.view));
        let oldest = all.min_by_key(|(_, entry)| entry.used).map(|(mapping, _)| *mapping);
        if let Some(mapping) = oldest {
            self.close(now, mapping, Ended::Evicted);
        }
        oldest.is_some()
    }
}
