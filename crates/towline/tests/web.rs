//! Devices that listen on TCP port 443, and those that meet them from networks where nothing but the web is reached.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::relay::Station;
use common::{Lab, accepted, connected, home, identity, link, pass, story, transfer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::ice::framing;
use towline::ice::stun::{BINDING, Class, Encoder, TransactionId};
use towline::net::{Net, TcpConnect, TcpStream, now};
use towline::{
    Cause, ConnectionPolicy, LinkInfo, ListenError, Node, PathKind, Reach, Relay, RelayTransport, StartError,
};
use towline_lab::towline_nat::Config as Nat;
use towline_lab::{Host, Place, Site, Surroundings, World};

const WEB: u16 = 443;
/// Connections that have said nothing yet: all of them, and those of one address.
const STRANGERS: usize = 64;
const OF_ONE_ADDRESS: usize = 8;
/// A stranger has so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// A network with two servers that tell addresses and relay.
struct Scene {
    lab: Lab,
    stations: [Station; 2],
}

impl Scene {
    async fn new(world: World) -> Self {
        let lab = Lab::new(world).await;
        let stations = ["station-1", "station-2"].map(|name| Station::start(&lab.host(name)));
        Self { lab, stations }
    }

    /// STUN, and a relay at the port of the web.
    fn reach(&self, tcp_ports: &[u16]) -> Reach {
        let [station, _] = &self.stations;
        let server = SocketAddr::new(station.address.ip(), WEB).to_string();
        Reach {
            stun: self.stations.iter().map(Station::stun).collect(),
            relays: vec![Relay { server, transport: RelayTransport::Tcp, ..station.relay() }],
            tcp_ports: tcp_ports.to_vec(),
            ..Reach::default()
        }
    }

    /// A device that others can find.
    async fn device(
        &self,
        number: usize,
        surroundings: impl Into<Surroundings>,
        tcp_ports: &[u16],
    ) -> (Node, Site) {
        let name = ["alice", "bob", "carol", "dave"][number];
        let site = self.lab.world.site(name, self.lab.internet, surroundings);
        let config = self.lab.config().with_reach(self.reach(tcp_ports));
        let node = self.lab.node_on(&site.host, identity(number), config).await;
        node.registered().await;
        (node, site)
    }
}

/// One dials the other, and much is sent over a direct connection. Returns how the first one sees it, and how long it took.
async fn meet(near: &Node, far: &Node) -> (LinkInfo, Duration) {
    let (mut channels, begun) = (accepted(far), now());
    let (mut here, mut there) = connected(near, far, "met", &mut channels).await;
    let link = link(&near.connection(far.device()).unwrap(), PathKind::DirectTcp).await;
    let took = now() - begun;
    transfer(&mut here, &mut there, 300_000).await;
    transfer(&mut there, &mut here, 300_000).await;
    (link, took)
}

#[test]
fn who_listens_there_is_met_from_where_only_the_web_is_reached() {
    let places = [
        Place::Open,
        Place::FullCone,
        Place::PortRestricted,
        Place::Firewalled,
        Place::UdpBlocked,
        Place::WebOnly,
    ];
    for (seed, place) in (0..).zip(places) {
        for dials in [true, false] {
            story(seed, async |world| {
                let scene = Scene::new(world).await;
                // Two of them have to leave from the port that the other lets in.
                let own: &[u16] = if place == Place::WebOnly { &[WEB] } else { &[] };
                let (alice, _) = scene.device(0, Place::WebOnly, own).await;
                let (bob, _) = scene.device(1, place, &[WEB]).await;
                let (link, took) = if dials { meet(&alice, &bob).await } else { meet(&bob, &alice).await };
                println!("{place}, it dials {dials}: {took:?}");
                assert!(took < Duration::from_secs(5), "{place}, it dials {dials}: {took:?}");
                let port = if dials { link.path.remote.port() } else { link.path.local.port() };
                assert_eq!(port, WEB, "{place}: {link:#?}");
            });
        }
    }
}

/// A relay at the port of the web says how both are seen, if it is all that they name.
#[test]
fn a_relay_alone_tells_two_of_the_web_their_addresses() {
    story(10, async |world| {
        let scene = Scene::new(world).await;
        let mut nodes = Vec::new();
        for (number, name) in ["alice", "bob"].into_iter().enumerate() {
            let site = scene.lab.world.site(name, scene.lab.internet, Place::WebOnly);
            let reach = Reach { stun: Vec::new(), ..scene.reach(&[WEB]) };
            let config = scene.lab.config().with_reach(reach);
            let node = scene.lab.node_on(&site.host, identity(number), config).await;
            node.registered().await;
            nodes.push(node);
        }
        let (link, took) = meet(&nodes[0], &nodes[1]).await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(link.path.remote.port(), WEB, "{link:#?}");
    });
}

/// A NAT that gives another port than 443 leaves no way, unless the router opens this one on request.
#[test]
fn a_nat_that_changes_ports_needs_a_router_that_opens_one() {
    for (seed, opens) in [(20, false), (21, true)] {
        story(seed, async |world| {
            let scene = Scene::new(world).await;
            let (alice, _) = scene.device(0, Place::WebOnly, &[]).await;
            let leases = opens.then_some(Duration::from_hours(1));
            let site = scene.lab.world.site("bob", scene.lab.internet, Nat { leases, ..Nat::symmetric() });
            let mut reach = scene.reach(&[WEB]);
            if opens {
                home::open_ports(&scene.lab.world, &site);
                reach.port_mapping = true;
            }
            let config = scene.lab.config().with_reach(reach);
            let bob = scene.lab.node_on(&site.host, identity(1), config).await;
            bob.registered().await;
            if opens {
                let (link, took) = meet(&alice, &bob).await;
                assert!(took < Duration::from_secs(5), "{took:?}");
                assert_eq!(link.path.remote.port(), WEB, "{link:#?}");
                return;
            }
            let mut channels = accepted(&bob);
            let _ends = connected(&alice, &bob, "relayed", &mut channels).await;
            pass(Duration::from_secs(10)).await;
            for (own, other, cause) in
                [(&alice, &bob, Cause::OnlyWebHere), (&bob, &alice, Cause::OnlyWebThere)]
            {
                let connection = own.connection(other.device()).unwrap();
                assert!(connection.links().await.iter().all(|link| link.kind.is_relayed()));
                assert_eq!(connection.report().await.cause(), Some(&cause));
            }
        });
    }
}

/// One listener for all: each connection gets to whom its first check is for.
#[test]
fn several_come_through_one_door_at_once() {
    story(30, async |world| {
        let scene = Scene::new(world).await;
        let (bob, _) = scene.device(3, Place::Open, &[WEB]).await;
        let mut others = Vec::new();
        for (number, place) in [Place::WebOnly, Place::WebOnly, Place::PortRestricted].into_iter().enumerate()
        {
            others.push(scene.device(number, place, &[]).await.0);
        }
        let mut channels = accepted(&bob);
        let mut theirs = accepted(&others[2]);
        let (a, b, (mut here, mut there)) = tokio::join!(
            others[0].connect(bob.device(), "one"),
            others[1].connect(bob.device(), "two"),
            // It dials as well.
            connected(&bob, &others[2], "three", &mut theirs),
        );
        transfer(&mut here, &mut there, 300_000).await;
        let mut ends = [a.unwrap(), b.unwrap()];
        for _ in 0..2 {
            let mut far = channels.recv().await.unwrap();
            let near = ends.iter_mut().find(|end| end.name() == far.name()).unwrap();
            transfer(near, &mut far, 300_000).await;
        }
        for node in &others[..2] {
            let link = link(&node.connection(bob.device()).unwrap(), PathKind::DirectTcp).await;
            assert_eq!(link.path.remote.port(), WEB, "{link:#?}");
        }
    });
}

/// A connection to the port of the web.
async fn knock(from: &Host, at: SocketAddr) -> Box<dyn TcpStream> {
    from.connect_tcp(at, TcpConnect::default()).await.unwrap()
}

/// Whether it is closed within this time; nothing is ever said on it.
async fn is_closed(stream: &mut dyn TcpStream, within: Duration) -> bool {
    let mut buf = [0];
    let read = tokio::time::timeout(within, stream.read(&mut buf)).await;
    assert!(!matches!(read, Ok(Ok(1..))), "strangers get no answer");
    read.is_ok()
}

/// A check for an agent that nobody has.
fn check() -> Vec<u8> {
    let check = Encoder::new(Class::Request, BINDING, TransactionId([7; 12])).username(b"nobody:here");
    framing::frame(&check.finish(Some(b"a password that is long enough"))).unwrap().to_vec()
}

#[test]
fn what_is_no_check_for_anybody_is_hung_up_on() {
    story(40, async |world| {
        let scene = Scene::new(world).await;
        let (bob, site) = scene.device(1, Place::Open, &[WEB]).await;
        let (stranger, at) = (scene.lab.host("stranger"), SocketAddr::new(site.host.ipv4(), WEB));
        let soon = Duration::from_millis(100);
        for garbage in [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 40], &check()] {
            let mut stream = knock(&stranger, at).await;
            stream.write_all(garbage).await.unwrap();
            assert!(is_closed(&mut *stream, soon).await, "{garbage:?}");
        }
        // Half a check is waited for, and not for ever.
        let mut stream = knock(&stranger, at).await;
        stream.write_all(&check()[..30]).await.unwrap();
        assert!(!is_closed(&mut *stream, PATIENCE.saturating_sub(soon)).await);
        assert!(is_closed(&mut *stream, 2 * soon).await);
        let (alice, _) = scene.device(0, Place::WebOnly, &[]).await;
        meet(&alice, &bob).await;
    });
}

#[test]
fn who_says_nothing_keeps_nobody_out() {
    story(41, async |world| {
        let scene = Scene::new(world).await;
        let (bob, site) = scene.device(1, Place::Open, &[WEB]).await;
        let (alice, _) = scene.device(0, Place::WebOnly, &[]).await;
        let at = SocketAddr::new(site.host.ipv4(), WEB);
        let mut silent = Vec::new();
        for number in 0..12 {
            let host = scene.lab.host(&format!("stranger-{number}"));
            for _ in 0..OF_ONE_ADDRESS + 2 {
                silent.push(knock(&host, at).await);
            }
            pass(Duration::from_millis(20)).await;
            let mut open = 0;
            for stream in &mut silent {
                open += usize::from(!is_closed(&mut **stream, Duration::from_millis(1)).await);
            }
            assert_eq!(open, ((number + 1) * OF_ONE_ADDRESS).min(STRANGERS));
        }
        // Each goes on as soon as it is closed, so that the places are always taken.
        let crowd: Vec<_> = (0..12)
            .map(|number| {
                let host = scene.lab.host(&format!("crowd-{number}"));
                tokio::spawn(async move {
                    loop {
                        let mut streams = Vec::new();
                        for _ in 0..OF_ONE_ADDRESS {
                            streams.push(knock(&host, at).await);
                        }
                        is_closed(&mut *streams[0], Duration::from_secs(1)).await;
                    }
                })
            })
            .collect();
        let (_, took) = meet(&alice, &bob).await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        for task in crowd {
            assert!(!task.is_finished(), "it went on until the end");
            task.abort();
        }
        pass(PATIENCE + Duration::from_millis(100)).await;
        for stream in &mut silent {
            assert!(is_closed(&mut **stream, Duration::from_millis(1)).await);
        }
    });
}

/// A connection whose path breaks comes in by the same door: by a check that is repeated, if only its NAT has another address; by
/// those of new agents with new names, if the device itself has, and both sides begin anew.
#[test]
fn who_moves_comes_in_by_the_same_door() {
    for (seed, restarts) in [(50, false), (51, true)] {
        story(seed, async |world| {
            let scene = Scene::new(world).await;
            let (bob, _) = scene.device(1, Place::Open, &[WEB]).await;
            let (alice, site) = scene.device(0, Place::WebOnly, &[]).await;
            let mut channels = accepted(&bob);
            let (mut near, mut far) = connected(&alice, &bob, "moves", &mut channels).await;
            let connection = alice.connection(bob.device()).unwrap();
            let before = link(&connection, PathKind::DirectTcp).await;
            transfer(&mut near, &mut far, 100_000).await;
            if restarts {
                let interfaces = site.host.interfaces().unwrap();
                let interface = interfaces.iter().find(|interface| !interface.loopback).unwrap().index;
                site.host.readdress(interface);
            } else {
                site.border().unwrap().router.readdress();
            }
            let moved = now();
            transfer(&mut near, &mut far, 100_000).await;
            let after = loop {
                pass(Duration::from_millis(100)).await;
                let after = link(&connection, PathKind::DirectTcp).await;
                if after.path.local != before.path.local {
                    break after;
                }
            };
            let took = now() - moved;
            println!("restarts {restarts}: {took:?}");
            // Who listens holds the old connection for alive as long as nothing is to be sent there.
            let bound = Duration::from_secs(if restarts { 5 } else { 45 });
            assert!(took < bound, "restarts {restarts}: {took:?}");
            assert_eq!(after.path.local.ip() != before.path.local.ip(), restarts);
            assert_eq!(after.path.remote.port(), WEB, "{after:#?}");
            transfer(&mut far, &mut near, 100_000).await;
            let still = alice.connection(bob.device()).unwrap();
            assert_eq!(still.id(), connection.id(), "it is still the same");
        });
    }
}

#[test]
fn a_port_that_cannot_be_had_is_named() {
    story(60, async |world| {
        let lab = Lab::new(world).await;
        let host = lab.host("device");
        let taken = host.listen_tcp("0.0.0.0:443".parse().unwrap()).unwrap();
        let start = async |ports: &[u16]| {
            let reach = Reach { tcp_ports: ports.to_vec(), ..Reach::default() };
            let config = lab.config().with_policy(ConnectionPolicy::default()).with_reach(reach);
            let host: Arc<dyn Net> = Arc::new(host.clone());
            match Node::start(host, config, identity(0)).await {
                Ok(node) => {
                    node.shutdown().await;
                    None
                }
                Err(StartError::Listen(error)) => Some(error),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(start(&[WEB]).await, Some(ListenError::InUse { port: WEB }));
        assert_eq!(start(&[80]).await, Some(ListenError::NotTried { port: 80 }));
        assert_eq!(start(&[0]).await, Some(ListenError::NotTried { port: 0 }));
        assert_eq!(start(&(2000..2009).collect::<Vec<_>>()).await, Some(ListenError::TooMany));
        drop(taken);
        assert_eq!(start(&[WEB, 8443, WEB]).await, None);
        // It was given back.
        assert_eq!(start(&[WEB]).await, None);
    });
}
