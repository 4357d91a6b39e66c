//! Networks: what hosts and routers are attached to.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use towline_net::InterfaceAddress;

use crate::{
    node::{PortId, SegmentId},
    prefix::Prefix,
};

/// A network of a [`World`](crate::World).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(pub(crate) SegmentId);

/// The addresses of a network and what kind it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// A segment of a local network: carries multicast, and its hosts share one prefix per family.
    ///
    /// The first address of a prefix is the router's.
    Lan {
        /// IPv4 addresses.
        v4: Option<Prefix>,
        /// IPv6 addresses.
        v6: Option<Prefix>,
    },
    /// The internet: no multicast, and every port gets a prefix of its own (/24 and /64) out of these.
    Internet {
        /// IPv4 addresses, /16 or larger.
        v4: Option<Prefix>,
        /// IPv6 addresses, /48 or larger.
        v6: Option<Prefix>,
    },
}

impl Plan {
    /// The usual internet: 45.0.0.0/8 and 2a0f:4500::/32.
    pub fn internet() -> Self {
        Self::Internet {
            v4: Some(Prefix::new(Ipv4Addr::new(45, 0, 0, 0), 8)),
            v6: Some(Prefix::new(Ipv6Addr::new(0x2a0f, 0x4500, 0, 0, 0, 0, 0, 0), 32)),
        }
    }

    /// The usual local network with this number: 10.number.0/24 and 2a0f:45ff:0:number::/64.
    pub fn lan(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        Self::Lan {
            v4: Some(Prefix::new(Ipv4Addr::new(10, high, low, 0), 24)),
            v6: Some(Prefix::new(Ipv6Addr::new(0x2a0f, 0x45ff, 0, number, 0, 0, 0, 0), 64)),
        }
    }

    fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        let (Self::Lan { v4, v6 } | Self::Internet { v4, v6 }) = self;
        v4.iter().chain(v6).copied()
    }

    fn is_lan(&self) -> bool {
        matches!(self, Self::Lan { .. })
    }
}

/// A network at work.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) plan: Plan,
    /// In the order of attachment.
    pub(crate) ports: Vec<PortId>,
    addresses: BTreeMap<IpAddr, PortId>,
    /// Blocks that lie behind routers.
    routes: Vec<(Prefix, PortId)>,
    /// Where everything else goes.
    pub(crate) gateway: Option<PortId>,
    hosts: u32,
}

impl Segment {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            ports: Vec::new(),
            addresses: BTreeMap::new(),
            routes: Vec::new(),
            gateway: None,
            hosts: 0,
        }
    }

    pub(crate) fn carries_multicast(&self) -> bool {
        self.plan.is_lan()
    }

    /// Fresh addresses for a port.
    pub(crate) fn allocate(&mut self, port: PortId, router: bool) -> Vec<InterfaceAddress> {
        self.hosts += 1;
        let number = self.hosts;
        let own: Vec<_> = self
            .plan
            .prefixes()
            .map(|prefix| match (&self.plan, prefix.is_ipv6()) {
                (Plan::Lan { .. }, _) => {
                    // Hosts begin at 10.
                    let addr = prefix.nth(if router { 1 } else { 9 + number });
                    assert!(prefix.contains(addr), "more hosts than the prefix of the network has addresses");
                    InterfaceAddress { addr, prefix: prefix.bits() }
                }
                (Plan::Internet { .. }, false) => {
                    InterfaceAddress { addr: prefix.nth((number << 8) | 1), prefix: 24 }
                }
                (Plan::Internet { .. }, true) => {
                    let IpAddr::V6(base) = prefix.nth(1) else { unreachable!("an IPv6 prefix") };
                    let addr = Ipv6Addr::from_bits(base.to_bits() | (u128::from(number) << 64));
                    InterfaceAddress { addr: addr.into(), prefix: 64 }
                }
            })
            .collect();
        self.claim(port, &own);
        own
    }

    pub(crate) fn claim(&mut self, port: PortId, own: &[InterfaceAddress]) {
        self.addresses.extend(own.iter().map(|own| (own.addr, port)));
    }

    pub(crate) fn release(&mut self, own: &[InterfaceAddress]) {
        for own in own {
            self.addresses.remove(&own.addr);
        }
    }

    pub(crate) fn add_route(&mut self, prefix: Prefix, port: PortId) {
        self.routes.push((prefix, port));
    }

    /// The port that has this address or leads to it, without the gateway.
    pub(crate) fn lookup(&self, addr: IpAddr) -> Option<PortId> {
        let exact = self.addresses.get(&addr).copied();
        let routes = self.routes.iter().filter(|(prefix, _)| prefix.contains(addr));
        exact.or_else(|| routes.max_by_key(|(prefix, _)| prefix.bits()).map(|(_, port)| *port))
    }

    /// Whether the address belongs here, be it in use or not.
    pub(crate) fn covers(&self, addr: IpAddr) -> bool {
        let on_link = self.plan.is_lan() && self.plan.prefixes().any(|prefix| prefix.contains(addr));
        on_link || self.lookup(addr).is_some()
    }

    /// Whether packets to anywhere can be given to this network.
    pub(crate) fn leads_out(&self, ipv6: bool) -> bool {
        self.plan.prefixes().any(|prefix| prefix.is_ipv6() == ipv6)
            && (self.gateway.is_some() || !self.plan.is_lan())
    }

    /// The blocks that a router announces for it.
    pub(crate) fn blocks(&self) -> Vec<Prefix> {
        self.plan.prefixes().chain(self.routes.iter().map(|(prefix, _)| *prefix)).collect()
    }
}
