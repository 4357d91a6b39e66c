//! A device in its surroundings: its interfaces, and what stands between each of them and the world.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Error, Result};
use interop::jami::Namespace;
use interop::{HomeRouter, Miniupnpd, Peer};
use towline_emulator::towline_nat::{Config, Rules};
use towline_emulator::{Router, Running, Wire};

/// What stands between a device and the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Open,
    /// A NAT that lets everybody in where somebody was let out.
    FullCone,
    /// The usual one: in may who was sent to.
    PortRestricted,
    /// The kernel's `masquerade`.
    Kernel,
    /// The same with Debian's `miniupnpd`, which opens ports to whoever asks.
    Mapping,
    /// Another port for each destination, one after the other.
    Sequential,
    /// Another port for each destination, by chance.
    Symmetric,
    /// The usual one behind that of a carrier.
    DoubleNat,
    /// The usual one, and no UDP.
    UdpBlocked,
    /// The usual one, and nothing but TCP to port 443.
    WebOnly,
}

impl Kind {
    /// The emulators on the way out.
    fn gates(self) -> Vec<Gate> {
        let nat = |config| vec![(Some(config), None)];
        // Its NAT sees to what nobody asked for.
        let firewall =
            |rules| vec![(Some(Config::port_restricted_cone()), Some(Rules { inbound: None, ..rules }))];
        match self {
            Self::Kernel | Self::Mapping => Vec::new(),
            Self::Open => vec![(None, None)],
            Self::FullCone => nat(Config::full_cone()),
            Self::PortRestricted => nat(Config::port_restricted_cone()),
            Self::Sequential => nat(Config::sequential_symmetric()),
            Self::Symmetric => nat(Config::symmetric()),
            Self::DoubleNat => [nat(Config::port_restricted_cone()), nat(Config::carrier_grade())].concat(),
            Self::UdpBlocked => firewall(Rules::no_udp()),
            Self::WebOnly => firewall(Rules::web_only()),
        }
    }
}

/// A router with the NAT of the kernel.
const ROUTER: HomeRouter<'_> = HomeRouter { outside: "world", inside: "home", allowed: "192.168.1.0/24" };

/// Wires of this process, for names of their devices.
static WIRES: AtomicUsize = AtomicUsize::new(0);

type Gate = (Option<Config>, Option<Rules>);

/// A device in its surroundings.
pub(crate) struct Site {
    pub(crate) home: Namespace,
    /// The emulators before it, as they were built; the kernel's NAT is on a host of its own.
    pub(crate) wires: Vec<Running>,
    // Programs end before what they run in.
    upnp: Vec<Miniupnpd>,
    /// Hosts on the way.
    between: Vec<Namespace>,
    /// How each interface leads out.
    ways: Vec<String>,
}

/// How an interface gets into the world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) world: &'a Namespace,
    /// For files of namespaces.
    pub(crate) files: &'a Path,
    /// No two lines of a test have the same.
    pub(crate) number: usize,
}

impl Line<'_> {
    /// Its public address.
    fn outside(&self) -> String {
        // One that `miniupnpd` takes to be of the internet.
        format!("45.200.200.{}", self.number % 250 + 1)
    }

    /// The device in the world that leads to it.
    fn device(&self) -> String {
        format!("line{}", self.number)
    }
}

impl Site {
    /// A host without interfaces.
    pub(crate) fn new(line: Line<'_>) -> Result<Self> {
        let home = Namespace::new(&format!("home{}", line.number), line.files)?;
        Ok(Self { home, wires: Vec::new(), upnp: Vec::new(), between: Vec::new(), ways: Vec::new() })
    }

    /// Another interface, which leads to the world through this and is preferred to those before.
    pub(crate) fn attach(&mut self, kind: Kind, line: Line<'_>) -> Result<()> {
        let interface = self.ways.len();
        let private = format!("192.168.{}", interface + 1);
        let gateway = if matches!(kind, Kind::Kernel | Kind::Mapping) {
            self.behind_kernel(kind, line)?;
            format!("via {private}.1")
        } else {
            self.behind_emulators(kind, line)?;
            String::new()
        };
        self.ways.push(format!("default {gateway} dev eth{interface} metric {}", 100 - interface));
        line.world.ip(&format!("route add {}/32 dev {}", line.outside(), line.device()))?;
        if interface > 0 {
            // Its router knows the hosts of its own network and no others.
            let rules = format!(
                "nft add table ip eth{interface}; \
                 nft 'add chain ip eth{interface} in {{ type filter hook prerouting priority 0; }}'; \
                 nft add rule ip eth{interface} in iifname eth{interface} ip daddr != {private}.0/24 drop",
            );
            self.home.shell(&rules)?;
        }
        let own = if kind == Kind::Open { line.outside() } else { format!("{private}.10") };
        self.readdress(interface, &own)
    }

    /// Lets an interface have this address and no other, as a host does whose DHCP server has changed its mind.
    pub(crate) fn readdress(&self, interface: usize, address: &str) -> Result<()> {
        let device = format!("eth{interface}");
        let new = format!("ip addr flush dev {device}; ip addr add {address}/24 dev {device}");
        // The way out is forgotten with the last address.
        self.home.shell(&format!("{new}; ip route replace {}", self.ways[interface]))
    }

    /// The ports that the first router has opened to those who asked.
    pub(crate) fn opened(&self) -> Result<Vec<String>> {
        HomeRouter::opened(self.between.first().context("a router")?)
    }

    /// Takes an interface down. Its address stays.
    pub(crate) fn unplug(&self, interface: usize) -> Result<()> {
        self.home.ip(&format!("link set eth{interface} down"))
    }

    /// Puts it up again.
    pub(crate) fn plug(&self, interface: usize) -> Result<()> {
        // The way out was forgotten.
        let way = &self.ways[interface];
        self.home.shell(&format!("ip link set eth{interface} up; ip route replace {way}"))
    }

    /// Takes an interface away with all it has.
    pub(crate) fn leave(&self, interface: usize) -> Result<()> {
        self.home.ip(&format!("link del eth{interface}"))
    }

    fn behind_emulators(&mut self, kind: Kind, line: Line<'_>) -> Result<()> {
        let (gates, interface) = (kind.gates(), self.ways.len());
        let mut between = Vec::new();
        for (at, (nat, rules)) in gates.iter().enumerate() {
            let last = at + 1 == gates.len();
            // The networks between are those of a carrier (RFC 6598).
            let outside = if last { line.outside() } else { format!("100.64.{at}.2") };
            let tag = format!("{}n{}", std::process::id(), WIRES.fetch_add(1, Ordering::Relaxed));
            // Names in the namespace of the test, where others may be at work.
            let [inner, outer] = ["i", "o"].map(|side| format!("{side}{at}r{tag}"));
            let wire = Wire::new(&inner, &outer, 1500)?;
            let near = between.last().unwrap_or(&self.home);
            let name = if at == 0 { format!("eth{interface}") } else { "out".to_owned() };
            give(near, &inner, &name)?;
            if at > 0 {
                near.ip("route add default dev out")?;
            }
            if last {
                give(line.world, &outer, &line.device())?;
            } else {
                let host = Namespace::new(&format!("between{}n{at}", line.number), line.files)?;
                give(&host, &outer, "in")?;
                host.shell("echo 1 > /proc/sys/net/ipv4/ip_forward")?;
                host.ip(&format!("route add {outside}/32 dev in"))?;
                between.push(host);
            }
            let address: IpAddr = outside.parse()?;
            let router = Router::new(nat.clone(), rules.clone(), &[address], [line.number as u8; 32]);
            self.wires.push(wire.run(router)?);
        }
        self.between.extend(between);
        Ok(())
    }

    fn behind_kernel(&mut self, kind: Kind, line: Line<'_>) -> Result<()> {
        let router = Namespace::new(&format!("router{}", line.number), line.files)?;
        for (side, near, far) in [(&self.home, "eth0", "home"), (line.world, &*line.device(), "world")] {
            side.ip(&format!("link add {near} type veth peer name other"))?;
            side.ip(&format!("link set {near} up"))?;
            side.give("other", &router, far)?;
            router.ip(&format!("link set {far} up"))?;
        }
        router.ip("addr add 192.168.1.1/24 dev home")?;
        router.ip(&format!("addr add {}/32 dev world", line.outside()))?;
        router.ip("route add default via 198.51.100.254 dev world onlink")?;
        ROUTER.set_up(&router, line.files)?;
        // As home routers have it, strangers are dropped: those that are let in and find nobody count as connections, and take the
        // port from the one inside that is about to speak with them.
        let rules = "nft 'add chain inet filter input { type filter hook input priority 0; }'; \
                     nft add rule inet filter input iifname world ct state new drop";
        router.shell(rules)?;
        if kind == Kind::Mapping {
            let program = Peer::Miniupnpd.find().map_err(Error::msg)?;
            self.upnp.push(ROUTER.open(&router, &program, line.files)?);
        }
        self.between.push(router);
        Ok(())
    }
}

/// Moves a device of the test into a namespace, and puts it up by this name.
fn give(namespace: &Namespace, device: &str, name: &str) -> Result<()> {
    namespace.adopt(device)?;
    namespace.ip(&format!("link set {device} name {name} txqueuelen 5000 up"))
}
