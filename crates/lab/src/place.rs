//! Where devices stand: ready-made surroundings, from a public address to two NATs, one behind the other.

use std::{fmt, net::Ipv4Addr, str::FromStr, time::Duration};

use thiserror::Error;
use towline_link::Link;
use towline_nat::{Config, Families, Filtering, Rules};

use crate::{
    host::Host,
    middlebox::{Middlebox, Plain},
    nat::{FirewallBox, FirewallHandle, NatBox, NatHandle},
    network::{Network, Plan},
    prefix::Prefix,
    shared::World,
    world::Router,
};

/// A usual place for a device, by the name it has on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A public address and nothing between.
    Open,
    /// Behind a full-cone NAT.
    FullCone,
    /// Behind an address-restricted NAT.
    RestrictedCone,
    /// Behind a port-restricted NAT, as most homes are.
    PortRestricted,
    /// Behind a NAT with a mapping for each destination, at a random port.
    Symmetric,
    /// The same, with ports in sequence.
    SequentialSymmetric,
    /// Behind the NAT of a carrier, as telephones are.
    CarrierGrade,
    /// Behind the NAT of a home behind that of a carrier.
    DoubleNat,
    /// Behind a port-restricted NAT that opens ports on request (UPnP, NAT-PMP, PCP).
    PortMapping,
    /// Behind a NAT and a firewall that lets no UDP through.
    UdpBlocked,
    /// Behind a NAT and a firewall that lets TCP to port 443 through and nothing else.
    WebOnly,
    /// A public address behind a firewall that drops what nobody inside asked for.
    Firewalled,
    /// A port-restricted NAT, and IPv6 behind a firewall.
    DualStack,
    /// IPv6 behind a firewall, and no IPv4.
    Ipv6Only,
    /// A port-restricted NAT, and IPv6 that has addresses and routes and arrives nowhere.
    BrokenIpv6,
}

/// No place has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no place has this name")]
pub struct UnknownPlace;

impl Place {
    /// Every place.
    pub const ALL: [Self; 15] = [
        Self::Open,
        Self::FullCone,
        Self::RestrictedCone,
        Self::PortRestricted,
        Self::Symmetric,
        Self::SequentialSymmetric,
        Self::CarrierGrade,
        Self::DoubleNat,
        Self::PortMapping,
        Self::UdpBlocked,
        Self::WebOnly,
        Self::Firewalled,
        Self::DualStack,
        Self::Ipv6Only,
        Self::BrokenIpv6,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::FullCone => "full-cone",
            Self::RestrictedCone => "restricted-cone",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
            Self::SequentialSymmetric => "sequential-symmetric",
            Self::CarrierGrade => "carrier-grade",
            Self::DoubleNat => "double-nat",
            Self::PortMapping => "port-mapping",
            Self::UdpBlocked => "udp-blocked",
            Self::WebOnly => "web-only",
            Self::Firewalled => "firewalled",
            Self::DualStack => "dual-stack",
            Self::Ipv6Only => "ipv6-only",
            Self::BrokenIpv6 => "broken-ipv6",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Place {
    type Err = UnknownPlace;

    fn from_str(name: &str) -> Result<Self, UnknownPlace> {
        Self::ALL.into_iter().find(|place| place.name() == name).ok_or(UnknownPlace)
    }
}

/// A router between a device and the internet.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// How it translates IPv4 addresses, if it does.
    pub nat: Option<Config>,
    /// What else it refuses.
    pub rules: Option<Rules>,
    /// Its line to the outside.
    pub link: Link,
}

impl Gate {
    /// A router with this NAT, at a line of 5 ms.
    pub fn nat(config: Config) -> Self {
        Self { nat: Some(config), rules: None, link: LINE() }
    }

    /// A router with these rules and no NAT, at such a line.
    pub fn firewall(rules: Rules) -> Self {
        Self { nat: None, rules: Some(rules), link: LINE() }
    }
}

/// The line of a place: without jitter, so that timelines are easy to read.
const LINE: fn() -> Link = || Link::delay(Duration::from_millis(5));

/// What lies between a device and the internet. Made from a [`Place`], a NAT's [`Config`] or a list of [`Gate`]s.
#[derive(Debug, Clone, PartialEq)]
pub struct Surroundings {
    /// The routers, nearest to the device first.
    pub gates: Vec<Gate>,
    /// Addresses that the device gets.
    pub families: Families,
}

impl From<Vec<Gate>> for Surroundings {
    fn from(gates: Vec<Gate>) -> Self {
        Self { gates, families: Families::V4 }
    }
}

impl From<Config> for Surroundings {
    fn from(config: Config) -> Self {
        vec![Gate::nat(config)].into()
    }
}

impl From<Place> for Surroundings {
    fn from(place: Place) -> Self {
        let home = |rules| Gate { rules: Some(rules), ..Gate::nat(Config::port_restricted_cone()) };
        let six = |families, gate: Gate| Self { gates: vec![gate], families };
        match place {
            Place::Open => Vec::new().into(),
            Place::FullCone => Config::full_cone().into(),
            Place::RestrictedCone => Config::restricted_cone().into(),
            Place::PortRestricted => Config::port_restricted_cone().into(),
            Place::Symmetric => Config::symmetric().into(),
            Place::SequentialSymmetric => Config::sequential_symmetric().into(),
            Place::CarrierGrade => Config::carrier_grade().into(),
            Place::DoubleNat => {
                vec![Gate::nat(Config::port_restricted_cone()), Gate::nat(Config::carrier_grade())].into()
            }
            Place::PortMapping => Config::home_router().into(),
            Place::UdpBlocked => vec![home(Rules { inbound: None, ..Rules::no_udp() })].into(),
            Place::WebOnly => vec![home(Rules { inbound: None, ..Rules::web_only() })].into(),
            Place::Firewalled => vec![Gate::firewall(Rules::stateful())].into(),
            Place::DualStack => six(Families::All, home(Rules::stateful_ipv6())),
            Place::Ipv6Only => six(Families::V6, Gate::firewall(Rules::stateful_ipv6())),
            Place::BrokenIpv6 => six(Families::All, home(Rules::broken_ipv6())),
        }
    }
}

/// A router that was built for a [`Gate`].
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The router itself: its outside link and addresses.
    pub router: Router,
    /// Its NAT.
    pub nat: Option<NatHandle>,
    /// Its firewall.
    pub firewall: Option<FirewallHandle>,
    /// The network inside.
    pub inside: Network,
}

/// A device in its surroundings.
#[derive(Debug, Clone)]
pub struct Site {
    /// The device.
    pub host: Host,
    /// The network that it is attached to: that of the nearest gateway, or the internet.
    pub network: Network,
    /// The routers, nearest to the device first.
    pub gateways: Vec<Gateway>,
}

/// Two devices in their surroundings, and a host on the internet that both can reach.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The internet.
    pub internet: Network,
    /// A host that everybody can reach, with two addresses of each family.
    pub rendezvous: Host,
    /// `alice`.
    pub a: Site,
    /// `bob`.
    pub b: Site,
}

impl Site {
    /// The outermost router, which the internet sees.
    pub fn border(&self) -> Option<&Gateway> {
        self.gateways.last()
    }
}

impl World {
    /// Two devices, `alice` and `bob`, each in its surroundings, and `rendezvous` on the internet between them. The internet
    /// has IPv6 if one of the devices has.
    ///
    /// Homes have the same private addresses, as they have everywhere.
    pub fn behind(&self, a: impl Into<Surroundings>, b: impl Into<Surroundings>) -> Pair {
        let (a, b) = (a.into(), b.into());
        let six = [&a, &b].iter().any(|surroundings| surroundings.families != Families::V4);
        let Plan::Internet { v4, v6 } = Plan::internet() else { unreachable!("the usual internet is one") };
        let internet = self.network(Plan::Internet { v4, v6: v6.filter(|_| six) });
        let rendezvous = self.host("rendezvous");
        for _ in 0..2 {
            rendezvous.attach(internet, LINE());
        }
        let (a, b) = (self.site("alice", internet, a), self.site("bob", internet, b));
        Pair { internet, rendezvous, a, b }
    }

    /// A device in its surroundings. Routers are called after it.
    pub fn site(&self, name: &str, internet: Network, surroundings: impl Into<Surroundings>) -> Site {
        let Surroundings { gates, families } = surroundings.into();
        let (mut network, mut gateways) = (internet, Vec::new());
        let count = gates.len();
        for (depth, gate) in gates.into_iter().enumerate().rev() {
            let router = match (depth, count) {
                (_, 1) => format!("{name}'s router"),
                (0, _) => format!("{name}'s home router"),
                _ => format!("{name}'s carrier"),
            };
            let gateway = self.gateway(router, network, gate, depth, families);
            network = gateway.inside;
            gateways.insert(0, gateway);
        }
        let host = self.host(name);
        host.attach(network, if count == 0 { LINE() } else { Link::ethernet() });
        Site { host, network, gateways }
    }

    fn gateway(
        &self,
        name: String,
        outside: Network,
        gate: Gate,
        depth: usize,
        families: Families,
    ) -> Gateway {
        let number = self.with(|state| state.segments.len() as u16);
        let [high, low] = number.to_be_bytes();
        let v4 = match (gate.nat.is_some(), depth) {
            (true, 0) => Prefix::new(Ipv4Addr::new(192, 168, 1, 0), 24),
            // Shared address space (RFC 6598).
            (true, _) => Prefix::new(Ipv4Addr::new(100, 64, low, 0), 24),
            (false, _) => Prefix::new(Ipv4Addr::new(46, high, low, 0), 24),
        };
        let Plan::Lan { v6, .. } = Plan::lan(number) else { unreachable!("a local network is one") };
        let inside = self.network(Plan::Lan {
            v4: Some(v4).filter(|_| families != Families::V6),
            v6: v6.filter(|_| families != Families::V4),
        });
        let (nat, nat_handle) = gate.nat.map(|config| NatBox::new(self, config)).unzip();
        let (wall, firewall) = gate.rules.map(FirewallBox::new).unzip();
        let middlebox: Box<dyn Middlebox> = match (wall, nat) {
            (Some(wall), Some(nat)) => Box::new((wall, nat)),
            (Some(wall), None) => Box::new(wall),
            (None, Some(nat)) => Box::new(nat),
            (None, None) => Box::new(Plain),
        };
        let router = self.router(name, inside, outside, gate.link, middlebox);
        Gateway { router, nat: nat_handle, firewall, inside }
    }
}

/// What stands there, nearest to the device first.
impl fmt::Display for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.gates.is_empty() {
            return f.write_str("a public address, nothing between");
        }
        for (depth, gate) in self.gates.iter().enumerate() {
            write!(f, "{}{gate}", if depth > 0 { "; behind that: " } else { "" })?;
        }
        if self.families == Families::V6 { f.write_str("; no IPv4") } else { Ok(()) }
    }
}

/// What makes it up.
impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.nat, &self.rules) {
            (Some(config), None) => f.write_str(&kind(config)),
            (Some(config), Some(rules)) => write!(f, "{}, {}", kind(config), about(rules)),
            (None, Some(rules)) => f.write_str(about(rules)),
            (None, None) => f.write_str("plain"),
        }
    }
}

fn kind(config: &Config) -> String {
    use towline_nat::{Allocation, Mapping};
    let mapping = match config.mapping {
        Mapping::EndpointIndependent => "one mapping for all",
        Mapping::AddressDependent => "a mapping per address",
        Mapping::AddressAndPortDependent => "a mapping per destination",
    };
    let filtering = match config.filtering {
        Filtering::EndpointIndependent => "open to all",
        Filtering::AddressDependent => "open to addresses sent to",
        Filtering::AddressAndPortDependent => "open to who was sent to",
    };
    let allocation = match config.allocation {
        Allocation::Preserving { .. } => "ports kept".to_owned(),
        Allocation::Sequential { step } => format!("ports in steps of {step}"),
        Allocation::Random => "random ports".to_owned(),
    };
    let hairpin = if config.hairpin { ", hairpins" } else { "" };
    let leases = if config.leases.is_some() { ", opens ports on request" } else { "" };
    format!("{mapping}, {filtering}, {allocation}{hairpin}{leases}")
}

fn about(rules: &Rules) -> &'static str {
    match (rules.families, rules.udp, &rules.tcp_ports, rules.inbound) {
        (_, false, Some(ports), _) if ports.is_empty() => "IPv6 vanishes",
        (_, false, Some(_), _) => "only TCP to some ports",
        (_, false, None, _) => "no UDP",
        (_, true, Some(_), _) => "TCP to some ports only",
        (_, true, None, None) => "lets everything through",
        (Families::V6, true, None, Some(_)) => "IPv6 behind a firewall",
        (_, true, None, Some(_)) => "firewall",
    }
}
