//! Two devices, each behind a box that can be tampered with, servers that help them, and what the devices say is wrong.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use towline::identity::Identity;
use towline::{
    Cause, Config, ConnectionState, Node, Reach, Relay, RelaySecret, RelayTransport, Report, Side,
};
use towline_lab::towline_nat::Config as Nat;
use towline_lab::{Host, Link, NatBox, NatHandle, Network, Plan, Prefix, World};
use towline_turn::{PeerPolicy, ServerConfig, Users};
use towline_turn_tokio::{RelayServer, ServerOptions};

use crate::common::{Lab, accepted, identity, pass, story};
use crate::tamper::Tamper;

/// Within this a fault is named.
pub(crate) const SOON: Duration = Duration::from_secs(3);

/// Which of the two devices a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Dialler,
    Answerer,
}

impl At {
    /// The one that it does not befall.
    pub(crate) fn other(self) -> Self {
        if self == Self::Dialler { Self::Answerer } else { Self::Dialler }
    }
}

/// What one device is like.
pub(crate) struct Spec {
    /// The NAT before it, if there is one.
    pub(crate) nat: Option<Nat>,
    /// It has IPv6 and no IPv4.
    pub(crate) six: bool,
    pub(crate) reach: Reach,
    pub(crate) identity: Option<Identity>,
    /// What is done to its host before it starts.
    pub(crate) prepare: fn(&Host),
    pub(crate) configure: fn(Config) -> Config,
}

/// A device at a public address with two STUN servers.
pub(crate) fn public() -> Spec {
    Spec { nat: None, six: false, reach: stun(), identity: None, prepare: |_| {}, configure: |config| config }
}

/// The same behind such a NAT.
pub(crate) fn behind(nat: Nat) -> Spec {
    Spec { nat: Some(nat), ..public() }
}

/// Behind the NAT of a home.
pub(crate) fn home() -> Spec {
    behind(Nat::port_restricted_cone())
}

/// Where only a relay helps, and with this one.
pub(crate) fn relayed(relay: Relay) -> Spec {
    Spec { reach: Reach { relays: vec![relay], ..stun() }, ..behind(Nat::symmetric()) }
}

/// Addresses of the servers: the internet gives each host a network of its own, in the order in which they are attached.
const STATIONS: [Ipv4Addr; 2] = [Ipv4Addr::new(45, 0, 2, 1), Ipv4Addr::new(45, 0, 3, 1)];

/// The address of a host where nothing runs.
pub(crate) const NOBODY: Ipv4Addr = Ipv4Addr::new(45, 0, 4, 1);

pub(crate) fn stun() -> Reach {
    Reach { stun: STATIONS.map(|ip| format!("{ip}:3478")).to_vec(), ..Reach::default() }
}

pub(crate) fn relay() -> Relay {
    Relay {
        server: format!("{}:3478", STATIONS[0]),
        transport: RelayTransport::Udp,
        user: "ann".to_owned(),
        secret: RelaySecret::Password("secret".to_owned()),
    }
}

/// A device in the lab.
pub(crate) struct End {
    pub(crate) host: Host,
    pub(crate) interface: u32,
    pub(crate) inside: Network,
    pub(crate) tamper: Tamper,
    pub(crate) nat: Option<NatHandle>,
    pub(crate) node: Node,
    spec: Spec,
}

pub(crate) struct Rig {
    pub(crate) lab: Lab,
    /// Servers of STUN and TURN run until they are dropped.
    pub(crate) stations: Vec<(Host, RelayServer)>,
    /// Where nothing runs.
    pub(crate) nobody: Host,
    pub(crate) dialler: End,
    pub(crate) answerer: End,
}

/// A STUN and TURN server, over UDP and TCP at its usual port, and over TCP at that of the web.
pub(crate) fn station(host: &Host, change: impl FnOnce(&mut ServerConfig)) -> RelayServer {
    let fixed = BTreeMap::from([("ann".to_owned(), "secret".to_owned())]);
    let mut config = ServerConfig {
        users: Users { fixed, secret: None },
        peers: PeerPolicy::Public,
        ..ServerConfig::default()
    };
    change(&mut config);
    let IpAddr::V4(own) = host.ipv4() else { unreachable!("it was asked for IPv4") };
    let options = ServerOptions {
        config,
        listen: vec![SocketAddr::new(own.into(), 3478), SocketAddr::new(own.into(), 443)],
        tls: None,
        relay_v4: Some(own),
        relay_v6: None,
        external_v4: None,
    };
    RelayServer::start(Arc::new(host.clone()), options).unwrap()
}

async fn end(lab: &Lab, number: usize, spec: Spec) -> End {
    let name = ["alice", "bob"][number];
    let world = &lab.world;
    let outer = u8::try_from(number).unwrap() + 1;
    let v4 = match spec.nat {
        Some(_) => Prefix::new(Ipv4Addr::new(192, 168, 1, 0), 24),
        None => Prefix::new(Ipv4Addr::new(46, outer, 0, 0), 24),
    };
    let Plan::Lan { v6, .. } = Plan::lan(u16::from(outer)) else { unreachable!("a local network is one") };
    let inside = world.network(Plan::Lan { v4: Some(v4).filter(|_| !spec.six), v6: v6.filter(|_| spec.six) });
    let (tamper, link) = (Tamper::default(), Link::delay(Duration::from_millis(5)));
    let nat = match spec.nat.clone() {
        Some(config) => {
            let (nat, handle) = NatBox::new(world, config);
            world.router(format!("{name}'s router"), inside, lab.internet, link, (tamper.clone(), nat));
            Some(handle)
        }
        None => {
            world.router(format!("{name}'s router"), inside, lab.internet, link, tamper.clone());
            None
        }
    };
    let host = world.host(name);
    let interface = host.attach(inside, Link::ethernet());
    (spec.prepare)(&host);
    let mut config = lab.config();
    if spec.six {
        config = config.with_bootstrap(SocketAddr::new(lab.bootstrap_host.ipv6(), 4222).to_string());
    }
    let config = (spec.configure)(config.with_reach(spec.reach.clone()));
    let who = spec.identity.clone().unwrap_or_else(|| identity(number));
    let node = lab.node_on(&host, who, config).await;
    node.registered().await;
    End { host, interface, inside, tamper, nat, node, spec }
}

impl Rig {
    pub(crate) async fn new(world: World, dialler: Spec, answerer: Spec) -> Self {
        Self::with(world, dialler, answerer, |_| {}).await
    }

    /// The same, where the servers are like this.
    pub(crate) async fn with(
        world: World,
        dialler: Spec,
        answerer: Spec,
        change: impl Fn(&mut ServerConfig),
    ) -> Self {
        let lab = Lab::new(world).await;
        let stations = ["station", "other station"].map(|name| {
            let host = lab.host(name);
            let server = station(&host, &change);
            (host, server)
        });
        for ((host, _), ip) in stations.iter().zip(STATIONS) {
            assert_eq!(host.ipv4(), ip);
        }
        let nobody = lab.host("nobody");
        assert_eq!(nobody.ipv4(), NOBODY);
        let (dialler, answerer) = (end(&lab, 0, dialler).await, end(&lab, 1, answerer).await);
        // Their first searches are over, as those of any device that has run for a while.
        pass(Duration::from_secs(2)).await;
        Self { lab, stations: stations.into(), nobody, dialler, answerer }
    }

    pub(crate) fn end(&self, at: At) -> &End {
        match at {
            At::Dialler => &self.dialler,
            At::Answerer => &self.answerer,
        }
    }

    /// Addresses by which a device is seen and spoken to.
    pub(crate) fn addresses(&self, at: At) -> Vec<IpAddr> {
        let end = self.end(at);
        let own = if end.spec.six { end.host.ipv6() } else { end.host.ipv4() };
        let outside = end.nat.iter().flat_map(NatHandle::outside);
        std::iter::once(own).chain(outside).collect()
    }

    /// Dials, and gives what both sides say when the time is up within which they are to know.
    pub(crate) async fn dial(&self) -> Said {
        let (node, device) = (self.dialler.node.clone(), self.answerer.node.device());
        let _channels = accepted(&self.answerer.node);
        let dial = tokio::spawn(async move { node.connect(device, "one fault").await.map(drop) });
        pass(SOON).await;
        let said = self.said().await;
        dial.abort();
        said
    }

    /// What both sides say now.
    pub(crate) async fn said(&self) -> Said {
        let (dialler, answerer) = (&self.dialler.node, &self.answerer.node);
        Said {
            dialler: dialler.report(answerer.device()).await,
            answerer: answerer.report(dialler.device()).await,
        }
    }
}

/// What both sides say of the way to the other.
#[derive(Debug)]
pub(crate) struct Said {
    dialler: Option<Report>,
    answerer: Option<Report>,
}

impl Said {
    fn by(&self, at: At) -> Option<&Report> {
        match at {
            At::Dialler => self.dialler.as_ref(),
            At::Answerer => self.answerer.as_ref(),
        }
    }

    fn report(&self, at: At) -> &Report {
        self.by(at).unwrap_or_else(|| panic!("{at:?} has nothing to say"))
    }

    /// This side, which the fault befalls or neither side alone, decides on this cause, and does not blame the other for anything.
    pub(crate) fn names(&self, at: At, cause: &Cause) {
        self.says(at, cause, Side::There);
    }

    /// This side, which is well, decides on this cause, and takes nothing for a fault of its own.
    pub(crate) fn blames(&self, at: At, cause: &Cause) {
        self.says(at, cause, Side::Here);
    }

    fn says(&self, at: At, cause: &Cause, innocent: Side) {
        let report = self.report(at);
        assert_eq!(report.cause(), Some(cause), "{at:?}\n{report}");
        let blamed = report.causes.iter().find(|cause| cause.side() == innocent);
        assert_eq!(blamed, None, "{at:?}\n{report}");
    }

    /// The connection stands, and this is all that this side finds wrong.
    pub(crate) fn stands(&self, at: At, causes: &[Cause]) {
        let report = self.report(at);
        assert_eq!(
            (report.state, report.causes.as_slice()),
            (ConnectionState::Established, causes),
            "{report}"
        );
    }

    /// A device that the world does not reach: if it dials, it names this; if it is dialled, it does not hear of it.
    pub(crate) fn cut_off(&self, at: At, cause: &Cause) {
        match at {
            At::Dialler => self.names(at, cause),
            At::Answerer => self.knows_nothing(at),
        }
        self.is_not_told(at);
    }

    /// A device that cannot even ask, or answer: the other has not heard of it, or hears nothing.
    pub(crate) fn is_not_told(&self, at: At) {
        match at {
            At::Dialler => self.knows_nothing(at.other()),
            At::Answerer => self.blames(at.other(), &Cause::OfflineThere),
        }
    }

    /// This side has not heard of the attempt, so it blames nobody.
    pub(crate) fn knows_nothing(&self, at: At) {
        assert!(self.by(at).is_none(), "{at:?}\n{}", self.report(at));
    }
}

/// Tells the story with the fault on the dialling side, then with the fault on the other.
#[expect(clippy::print_stdout, reason = "says which of the two stories failed")]
pub(crate) fn on_either_side<F: Future<Output = ()>>(seed: u64, tell: impl Fn(World, At) -> F) {
    for at in [At::Dialler, At::Answerer] {
        println!("the fault is at the {at:?}");
        story(seed, |world| tell(world, at));
    }
}

/// What is said of the two, in the order dialler, answerer.
pub(crate) fn placed(at: At, faulty: Spec, well: Spec) -> [Spec; 2] {
    match at {
        At::Dialler => [faulty, well],
        At::Answerer => [well, faulty],
    }
}
