//! Mappings that a host inside asks for, as by UPnP, NAT-PMP or PCP.

use std::{net::SocketAddr, time::Duration};

use thiserror::Error;

use crate::{
    config::Mapping,
    header::{Reason, Transport},
    table::{Ended, Mapped, Nat, PAUSE, Scope},
};

/// A mapping that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What it is to carry.
    pub transport: Transport,
    /// Where it leads.
    pub inside: SocketAddr,
    /// The outside port that would be best.
    pub port: Option<u16>,
    /// No other port will do (UPnP IGD 1, `PREFER_FAILURE` of PCP).
    pub exact: bool,
    /// How long it is wanted; the box may give less. Asking again before that renews it.
    pub lifetime: Duration,
}

/// A mapping that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// What is seen from outside. Everybody may send there.
    pub outside: SocketAddr,
    /// How long it lives if it is not renewed.
    pub lifetime: Duration,
}

/// Why a mapping is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum MapError {
    /// The box makes no mappings on request.
    #[error("the box makes no mappings on request")]
    Disabled,
    /// Not an IPv4 address and port of a host inside.
    #[error("not an IPv4 address and port of a host inside")]
    NoInside,
    /// There is none that could be ended.
    #[error("there is none that could be ended")]
    Unknown,
    /// The port belongs to another mapping, and no other would do.
    #[error("the port is taken")]
    Taken,
    /// This host has as many as it may ask for.
    #[error("the host has too many mappings that were asked for")]
    Quota,
    /// There is no room for one more mapping, for this reason.
    #[error("no room: {0}")]
    NoRoom(Reason),
}

impl Nat {
    /// A host inside asks for a mapping, or renews one. It lets everybody in, and what the host sends from there afterwards to
    /// somebody new goes out by it, too. One for each transport and inside end.
    ///
    /// A lifetime of zero ends it, and gives back the outside end that it had.
    pub fn map(&mut self, now: Duration, request: &Request) -> Result<Lease, MapError> {
        let longest = self.config.leases.ok_or(MapError::Disabled)?;
        let Request { transport, inside, port, exact, lifetime } = *request;
        if !inside.is_ipv4() || inside.ip().is_unspecified() || inside.port() == 0 {
            return Err(MapError::NoInside);
        }
        let lifetime = lifetime.min(longest);
        let known = self.leases.get(&(transport, inside)).copied();
        if let Some(mapping) = known.filter(|mapping| self.is_alive(now, *mapping)) {
            let view = &mut self.mappings.get_mut(&mapping).expect("leases have mappings").view;
            let outside = view.outside;
            if lifetime.is_zero() {
                self.unmap(now, mapping);
            } else if exact && port.is_some_and(|port| port != outside.port()) {
                return Err(MapError::Taken);
            } else {
                view.lease = Some(now + lifetime);
            }
            return Ok(Lease { outside, lifetime });
        }
        if lifetime.is_zero() {
            return Err(MapError::Unknown);
        }
        if self.leases_of(inside) >= self.config.limits.leases_per_host {
            self.sweep_if_older(now, PAUSE);
            if self.leases_of(inside) >= self.config.limits.leases_per_host {
                return Err(MapError::Quota);
            }
        }
        let until = now + lifetime;
        // The mapping that is there becomes the one that was asked for (RFC 6887 11.3).
        if let Some(mapping) = self.existing(now, transport, inside)
            && (!exact || port.is_none_or(|port| port == self.mappings[&mapping].view.outside.port()))
        {
            let view = &mut self.mappings.get_mut(&mapping).expect("it exists").view;
            view.lease = Some(until);
            let outside = view.outside;
            if let Some(host) = self.hosts.get_mut(&inside.ip()) {
                host.leases += 1;
            }
            self.leases.insert((transport, inside), mapping);
            return Ok(Lease { outside, lifetime });
        }
        let outside = self.choose(now, transport, inside, port, exact)?;
        let view = Mapped { transport, inside, outside, scope: Scope::Any, lease: Some(until) };
        let mapping = self.add(now, view);
        self.leases.insert((transport, inside), mapping);
        Ok(Lease { outside, lifetime })
    }

    fn existing(&mut self, now: Duration, transport: Transport, inside: SocketAddr) -> Option<u64> {
        if self.config.mapping != Mapping::EndpointIndependent {
            return None;
        }
        self.mapping_for(now, transport, inside, inside)
    }

    fn choose(
        &mut self,
        now: Duration,
        transport: Transport,
        inside: SocketAddr,
        port: Option<u16>,
        exact: bool,
    ) -> Result<SocketAddr, MapError> {
        let outside = self.allocate(now, transport, inside).map_err(MapError::NoRoom)?;
        let Some(port) = port.filter(|port| *port > 0) else { return Ok(outside) };
        let wanted = SocketAddr::new(outside.ip(), port);
        match self.is_free(now, transport, wanted) {
            true => Ok(wanted),
            false if exact => Err(MapError::Taken),
            false => Ok(outside),
        }
    }

    fn leases_of(&self, inside: SocketAddr) -> usize {
        self.hosts.get(&inside.ip()).map_or(0, |host| host.leases)
    }

    /// Ends a lease; the mapping stays while it is used otherwise.
    fn unmap(&mut self, now: Duration, mapping: u64) {
        self.end_lease(mapping);
        if !self.lives(now, mapping) {
            self.close(now, mapping, Ended::Released);
        }
    }

    /// From now on the mapping lives by being used, if it does.
    pub(crate) fn end_lease(&mut self, mapping: u64) {
        let view = &mut self.mappings.get_mut(&mapping).expect("leases have mappings").view;
        let (key, inside) = ((view.transport, view.inside), view.inside.ip());
        view.lease = None;
        self.leases.remove(&key);
        if let Some(host) = self.hosts.get_mut(&inside) {
            host.leases -= 1;
        }
    }
}
