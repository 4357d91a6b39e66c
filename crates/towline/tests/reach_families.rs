//! Networks of IPv6 only, of both families, of one that leads nowhere; two devices behind one NAT; lines that swallow large packets.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::relay::Station;
use common::{Lab, accepted, connected, identity, pass, story, transfer};
use towline::net::now;
use towline::{Channel, Connection, LinkInfo, Node, PathKind, Reach, Use};
use towline_lab::towline_nat::Config;
use towline_lab::{Link, NatBox, Network, Place, Site, Surroundings, World};

/// An internet of both families, with two servers that tell addresses and relay, each by both.
struct Scene {
    lab: Lab,
    stations: [Station; 2],
}

impl Scene {
    async fn new(world: World) -> Self {
        let lab = Lab::new(world).await;
        let stations = ["station", "other station"].map(|name| Station::dual(&lab.host(name)));
        Self { lab, stations }
    }

    /// Both addresses of both servers, as one gets them from their names.
    fn by_stun(&self) -> Reach {
        let servers = self.stations.iter().flat_map(|station| [station.stun_v6(), station.stun()]);
        Reach { stun: servers.collect(), ..Reach::default() }
    }

    /// A device in its surroundings in this network.
    async fn device_in(
        &self,
        outer: Network,
        number: usize,
        place: impl Into<Surroundings>,
        reach: Reach,
    ) -> (Node, Site) {
        let name = ["alice", "bob"][number];
        let site = self.lab.world.site(name, outer, place);
        let v6 = SocketAddr::new(self.lab.bootstrap_host.ipv6(), self.lab.bootstrap.port());
        let config = self.lab.config().with_bootstrap(v6.to_string()).with_reach(reach);
        let node = self.lab.node_on(&site.host, identity(number), config).await;
        node.registered().await;
        (node, site)
    }

    /// The same on the internet.
    async fn device(&self, number: usize, place: impl Into<Surroundings>, reach: Reach) -> Node {
        self.device_in(self.lab.internet, number, place, reach).await.0
    }
}

/// Sends so much in each direction, which is to arrive as it was sent.
async fn exchange(near: &mut Channel, far: &mut Channel, len: usize) {
    transfer(near, far, len).await;
    transfer(far, near, len + 1).await;
}

/// The link that carries data.
async fn carrying(connection: &Connection) -> LinkInfo {
    loop {
        let links = connection.links().await;
        if let Some(link) = links.into_iter().find(|link| link.purpose == Use::Data) {
            return link;
        }
        pass(Duration::from_millis(10)).await;
    }
}

/// A dial, data in both directions, and the link that carries it a second later.
async fn meet(alice: &Node, bob: &Node) -> (Duration, LinkInfo) {
    let (begun, mut channels) = (now(), accepted(bob));
    let (mut near, mut far) = connected(alice, bob, "met", &mut channels).await;
    let took = now() - begun;
    exchange(&mut near, &mut far, 200_000).await;
    pass(Duration::from_secs(1)).await;
    let link = carrying(&alice.connection(bob.device()).unwrap()).await;
    (took, link)
}

fn is_direct_v6(link: &LinkInfo) -> bool {
    !link.kind.is_relayed() && link.path.local.is_ipv6() && link.path.remote.is_ipv6()
}

#[test]
fn where_there_is_ipv6_only_devices_meet_over_it_without_any_server() {
    let places = [Place::Ipv6Only, Place::DualStack, Place::Open];
    for (seed, place) in (0..).zip(places) {
        for turned in [false, true] {
            story(seed, async |world| {
                let scene = Scene::new(world).await;
                let one = scene.device(0, Place::Ipv6Only, Reach::default()).await;
                let other = scene.device(1, place, Reach::default()).await;
                let (took, link) = if turned { meet(&other, &one).await } else { meet(&one, &other).await };
                assert!(took < Duration::from_secs(3), "{place}: {took:?}");
                assert!(is_direct_v6(&link), "{place}: {link:#?}");
            });
        }
    }
}

/// Where servers tell the two that nothing changes their addresses, they open both firewalls for TCP, too, by connecting at once.
#[test]
fn firewalls_of_ipv6_are_opened_for_tcp_as_well() {
    story(10, async |world| {
        let scene = Scene::new(world).await;
        let alice = scene.device(0, Place::Ipv6Only, scene.by_stun()).await;
        let bob = scene.device(1, Place::DualStack, scene.by_stun()).await;
        let (took, link) = meet(&alice, &bob).await;
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert!(is_direct_v6(&link) && link.kind == PathKind::DirectTcp, "{link:#?}");
    });
}

#[test]
fn ipv6_that_leads_nowhere_costs_no_time() {
    let dial = |place: Place, other: Place, seed| {
        story(seed, async |world| {
            let scene = Scene::new(world).await;
            let begun = now();
            let alice = scene.device(0, place, scene.by_stun()).await;
            let joined = now() - begun;
            let bob = scene.device(1, other, scene.by_stun()).await;
            let (took, link) = meet(&alice, &bob).await;
            assert!(!link.kind.is_relayed() && link.path.remote.is_ipv4(), "{place}, {other}: {link:#?}");
            (joined, took)
        })
    };
    for (seed, other) in
        (20..).zip([Place::Open, Place::DualStack, Place::BrokenIpv6, Place::SequentialSymmetric])
    {
        let (joined, took) = dial(Place::BrokenIpv6, other, seed);
        // The same NAT with no IPv6 behind it.
        let (usual_join, usual) = dial(Place::PortRestricted, other, seed);
        println!(
            "{other}: joined after {joined:?} (usually {usual_join:?}), met after {took:?} (usually {usual:?})"
        );
        assert!(joined < usual_join + Duration::from_millis(1500), "{other}: {joined:?}, {usual_join:?}");
        assert!(took < usual + Duration::from_millis(500), "{other}: {took:?}, {usual:?}");
    }
}

/// One has IPv6 only, the other IPv4 only: whichever of them has a relay, by whatever address it is spoken to, it gives an address of
/// the family that the other can reach.
#[test]
fn a_relay_leads_from_one_family_to_the_other() {
    for (seed, at) in (30..).zip([0, 1]) {
        for turned in [false, true] {
            story(seed, async |world| {
                let scene = Scene::new(world).await;
                let relays = [scene.stations[0].relay_v6(), scene.stations[0].relay()];
                let reach = |number: usize| {
                    let relays = relays[number..].iter().take(usize::from(number == at)).cloned().collect();
                    Reach { relays, ..scene.by_stun() }
                };
                let v6 = scene.device(0, Place::Ipv6Only, reach(0)).await;
                let v4 = scene.device(1, Place::PortRestricted, reach(1)).await;
                let (near, far) = if turned { (&v4, &v6) } else { (&v6, &v4) };
                let (took, link) = meet(near, far).await;
                assert!(took < Duration::from_secs(5), "relay at {at}: {took:?}");
                assert!(link.kind.is_relayed(), "{link:#?}");
                assert_eq!(scene.stations[0].granted(), 1, "one with both addresses");
            });
        }
    }
}

/// Two homes behind one carrier, whose NAT leads back inside or does not.
#[test]
fn behind_the_nat_of_one_carrier_a_hairpin_leads_to_the_other_and_else_a_relay() {
    for (seed, hairpin) in [(40, true), (41, false)] {
        story(seed, async |world| {
            let scene = Scene::new(world).await;
            let carrier = scene.lab.world.lan();
            let nat = Config { hairpin, ..Config::carrier_grade() };
            let (nat, _) = NatBox::new(&scene.lab.world, nat);
            let line = Link::delay(Duration::from_millis(5));
            scene.lab.world.router("carrier", carrier, scene.lab.internet, line, nat);
            let reach = || Reach { relays: vec![scene.stations[0].relay()], ..scene.by_stun() };
            let (alice, _) = scene.device_in(carrier, 0, Place::PortRestricted, reach()).await;
            let (bob, _) = scene.device_in(carrier, 1, Place::PortRestricted, reach()).await;
            let (took, link) = meet(&alice, &bob).await;
            assert!(took < Duration::from_secs(3), "hairpin {hairpin}: {took:?}");
            assert_eq!(link.kind.is_relayed(), !hairpin, "{link:#?}");
        });
    }
}

/// In one home they need nothing of that: their own addresses lead to each other.
#[test]
fn two_devices_of_one_home_meet_in_it() {
    story(45, async |world| {
        let scene = Scene::new(world).await;
        let (alice, site) =
            scene.device_in(scene.lab.internet, 0, Place::PortRestricted, scene.by_stun()).await;
        let (bob, _) = scene.device_in(site.network, 1, Place::Open, scene.by_stun()).await;
        let (took, link) = meet(&alice, &bob).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(link.kind, PathKind::DirectTcp);
        assert!(link.path.remote.to_string().starts_with("192.168.1."), "{link:#?}");
    });
}

/// Nothing but datagrams leads from the one to the other, and the large ones vanish: from the beginning, or from some time on.
#[test]
fn data_flows_over_a_line_that_swallows_large_packets() {
    for (seed, at_once) in [(50, true), (51, false)] {
        story(seed, async |world| {
            let scene = Scene::new(world).await;
            let reach = scene.by_stun();
            let narrow = Link { mtu: 1280, ..Link::delay(Duration::from_millis(5)) };
            let (alice, _) = scene.device_in(scene.lab.internet, 0, Place::Symmetric, reach.clone()).await;
            let (bob, site) = scene.device_in(scene.lab.internet, 1, Place::PortRestricted, reach).await;
            let router = &site.border().unwrap().router;
            if at_once {
                router.set_link(narrow.clone(), narrow.clone());
            }
            let mut channels = accepted(&bob);
            let (mut near, mut far) = connected(&alice, &bob, "narrow", &mut channels).await;
            exchange(&mut near, &mut far, 500_000).await;
            router.set_link(narrow.clone(), narrow);
            let begun = now();
            exchange(&mut near, &mut far, 500_000).await;
            let took = now() - begun;
            let link = carrying(&alice.connection(bob.device()).unwrap()).await;
            println!("narrow at once {at_once}: {took:?}");
            assert_eq!(link.kind, PathKind::DirectUdp);
            assert!(took < Duration::from_secs(5), "{took:?}");
        });
    }
}
