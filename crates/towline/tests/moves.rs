//! Connections whose devices change their place: Wi-Fi to Ethernet, another address, a router that restarts. Nothing is lost and
//! nothing comes twice, and how long nothing comes is bounded.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use common::relay::Station;
use common::rogue::Rogue;
use common::{Lab, accepted, bytes, connected, identity, pass, ping_pong, story};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use towline::ice::{Trickle, host_candidates};
use towline::net::now;
use towline::signal::{LaterCandidates, Restart};
use towline::{Channel, Config, ConnectionId, Node, Reach};
use towline_lab::{Host, Link, Place, World};

/// Length of the blocks of a flow.
const BLOCK: usize = 10_000;
/// The first interface of a host.
const WIFI: u32 = 2;

/// Two devices that are connected.
struct Scene {
    lab: Lab,
    nodes: [Node; 2],
    hosts: [Host; 2],
    channels: mpsc::Receiver<Channel>,
    connection: ConnectionId,
}

impl Scene {
    async fn new(world: World) -> Self {
        let lab = Lab::new(world).await;
        let hosts = [lab.host("alice"), lab.host("bob")];
        let configs = [lab.config(), lab.config()];
        Self::with(lab, hosts, configs).await
    }

    async fn with(lab: Lab, hosts: [Host; 2], [first, second]: [Config; 2]) -> Self {
        let alice = lab.node_on(&hosts[0], identity(0), first).await;
        let bob = lab.node_on(&hosts[1], identity(1), second).await;
        alice.registered().await;
        bob.registered().await;
        let channels = accepted(&bob);
        let connection = alice.dial(bob.device()).await.unwrap().id();
        // Until all paths are there.
        pass(Duration::from_secs(3)).await;
        Self { lab, nodes: [alice, bob], hosts, channels, connection }
    }

    async fn channel(&mut self, name: &str) -> (Channel, Channel) {
        let Self { nodes: [alice, bob], channels, connection, .. } = self;
        let (near, far) = connected(alice, bob, name, channels).await;
        assert_eq!(near.connection(), *connection, "it is still the same");
        (near, far)
    }

    /// Sends from one device to the other while `act` goes on, and on for a while; every byte is looked at. Returns the longest
    /// time in which nothing arrived.
    async fn flow_through(&mut self, back: bool, act: impl AsyncFnOnce(&Lab, &[Host; 2])) -> Duration {
        let (near, far) = self.channel("flow").await;
        let (mut from, mut to) = if back { (far, near) } else { (near, far) };
        let (done, finished) = watch::channel(false);
        let send = async {
            let mut sent = 0;
            while !*finished.borrow() {
                from.write_all(&bytes(sent, BLOCK)).await.unwrap();
                sent += 1;
                pass(Duration::from_millis(20)).await;
            }
            from.shutdown().await.unwrap();
            sent
        };
        let receive = async {
            let (mut heard, mut block) = (0, vec![0; BLOCK]);
            let (mut last, mut stall) = (now(), Duration::ZERO);
            while to.read_exact(&mut block).await.is_ok() {
                assert!(block == bytes(heard, BLOCK), "block {heard} is not what was sent");
                (stall, last) = (stall.max(now() - last), now());
                heard += 1;
            }
            (heard, stall)
        };
        let steer = async {
            pass(Duration::from_secs(1)).await;
            act(&self.lab, &self.hosts).await;
            pass(Duration::from_secs(5)).await;
            done.send_replace(true);
        };
        let (sent, (heard, stall), ()) = tokio::join!(send, receive, steer);
        assert_eq!(sent, heard);
        stall
    }

    /// How long it takes after `act`, in which nothing is said, until the connection is of use in both directions.
    async fn idle_through(&mut self, act: impl AsyncFnOnce(&Lab, &[Host; 2])) -> Duration {
        let (mut near, mut far) = self.channel("idle").await;
        act(&self.lab, &self.hosts).await;
        let begun = now();
        let answer = async {
            let mut word = [0; 5];
            far.read_exact(&mut word).await.unwrap();
            far.write_all(&word).await.unwrap();
        };
        let (asked, ()) = tokio::join!(ping_pong(&mut near, b"there"), answer);
        asked.unwrap();
        now() - begun
    }
}

/// Who moves.
const WHO: [&[usize]; 3] = [&[0], &[1], &[0, 1]];

#[test]
fn a_device_whose_address_changes_keeps_its_connections() {
    for (seed, who) in (0..).zip(WHO) {
        story(seed, async |world| {
            let mut scene = Scene::new(world).await;
            let moving = async |_: &Lab, hosts: &[Host; 2]| {
                for host in who {
                    hosts[*host].readdress(WIFI);
                }
            };
            let idle = scene.idle_through(&moving).await;
            pass(Duration::from_secs(10)).await;
            // Where both move, neither can be told but by the DHT.
            let bound = Duration::from_secs(if who.len() == 2 { 3 } else { 1 });
            assert!(idle < bound, "{who:?}: {idle:?}");
            for back in [false, true] {
                let stall = scene.flow_through(back, &moving).await;
                println!("{who:?} move: idle {idle:?}, sending {stall:?} (back: {back})");
                assert!(stall < bound, "{who:?}: {stall:?}");
                pass(Duration::from_secs(10)).await;
            }
        });
    }
}

/// From Wi-Fi to Ethernet. `gap`: the old address goes first, and for a second there is none.
async fn to_ethernet(lab: &Lab, host: &Host, interface: &Cell<u32>, gap: bool) {
    let before = interface.replace(interface.get() + 1);
    if gap {
        host.unplug(before);
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(host.attach(lab.internet, Link::delay(Duration::from_millis(5))), interface.get());
    if !gap {
        pass(Duration::from_secs(2)).await;
        host.unplug(before);
    }
}

#[test]
fn another_interface_takes_over_with_and_without_overlap() {
    for (seed, (who, gap)) in (10..).zip(WHO.iter().flat_map(|who| [(*who, false), (*who, true)])) {
        story(seed, async |world| {
            let mut scene = Scene::new(world).await;
            let interfaces = [Cell::new(WIFI), Cell::new(WIFI)];
            let moving = async |lab: &Lab, hosts: &[Host; 2]| {
                let [alice, bob] = &interfaces;
                let moves = |at: &usize| who.contains(at);
                tokio::join!(
                    async {
                        if moves(&0) {
                            to_ethernet(lab, &hosts[0], alice, gap).await;
                        }
                    },
                    async {
                        if moves(&1) {
                            to_ethernet(lab, &hosts[1], bob, gap).await;
                        }
                    },
                );
            };
            let stall = scene.flow_through(false, &moving).await;
            pass(Duration::from_secs(5)).await;
            let idle = scene.idle_through(&moving).await;
            println!("{who:?} to another interface, gap: {gap}: sending {stall:?}, idle {idle:?}");
            // Nothing can come in the gap; where both leave at once, each may learn of the other by the DHT only.
            let bound = Duration::from_secs(if who.len() == 2 { 3 } else { 1 } + u64::from(gap));
            assert!(stall < bound && idle < bound, "{who:?}, gap: {gap}: {stall:?}, {idle:?}");
        });
    }
}

#[test]
fn devices_behind_routers_that_move_at_once_hear_of_each_other_soon() {
    for (seed, delay) in (40..).zip([5, 40, 80]) {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let station = Station::start(&lab.host("station"));
            let sites =
                ["alice", "bob"].map(|name| lab.world.site(name, lab.internet, Place::PortRestricted));
            // What the one says is at the DHT before the other is heard from its new place, which has all at once then, in any order.
            let far = Link::delay(Duration::from_millis(delay));
            sites[1].host.set_link(WIFI, far.clone(), far);
            let reach = Reach { stun: vec![station.stun()], ..Reach::default() };
            let configs = [(); 2].map(|()| lab.config().with_reach(reach.clone()));
            let mut scene = Scene::with(lab, sites.each_ref().map(|site| site.host.clone()), configs).await;
            for back in [false, true] {
                let moving =
                    async |_: &Lab, hosts: &[Host; 2]| hosts.iter().for_each(|host| host.readdress(WIFI));
                let stall = scene.flow_through(back, &moving).await;
                println!("both move, {delay} ms away: sending {stall:?} (back: {back})");
                assert!(stall < Duration::from_millis(1500), "{delay} ms: {stall:?}");
                pass(Duration::from_secs(10)).await;
            }
        });
    }
}

#[test]
fn routers_that_restart_with_other_addresses_cost_seconds_and_no_byte() {
    for (seed, who) in (20..).zip(WHO) {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let station = Station::start(&lab.host("station"));
            let sites =
                ["alice", "bob"].map(|name| lab.world.site(name, lab.internet, Place::PortRestricted));
            let reach = Reach { stun: vec![station.stun()], ..Reach::default() };
            let configs = [(); 2].map(|()| lab.config().with_reach(reach.clone()));
            let mut scene = Scene::with(lab, sites.each_ref().map(|site| site.host.clone()), configs).await;
            let reboot = async |_: &Lab, _: &[Host; 2]| {
                for at in who {
                    let gateway = sites[*at].border().unwrap();
                    gateway.nat.as_ref().unwrap().forget();
                    gateway.router.readdress();
                }
            };
            // Their hosts are not told: silence shows it, and each hears where the other is by the DHT, which has to find out
            // as well that they are elsewhere.
            let bound = Duration::from_secs(3);
            let idle = scene.idle_through(&reboot).await;
            assert!(idle < bound, "{who:?}: {idle:?}");
            for back in [false, true] {
                pass(Duration::from_secs(10)).await;
                let stall = scene.flow_through(back, &reboot).await;
                println!("routers of {who:?} restart: idle {idle:?}, sending {stall:?} (back: {back})");
                assert!(stall < bound, "{who:?}: {stall:?}");
            }
        });
    }
}

#[test]
fn a_flood_of_restarts_is_followed_a_few_times_and_moves_nothing() {
    story(30, async |world| {
        let mut scene = Scene::new(world).await;
        let rogue = Rogue::unpublished(&scene.lab, identity(1)).await;
        let id = scene.connection.0;
        let to = identity(0).key().public().clone();
        for round in 1..200 {
            let trickle = Trickle { ufrag: format!("flood{round}"), candidates: Vec::new(), end: true };
            let restart = Some(Restart { round, password: "secret".to_owned() });
            rogue
                .put_later(
                    &to,
                    &LaterCandidates { id, by_dialler: false, trickle, restart, party: None, plight: None },
                )
                .await;
        }
        for _ in 0..2 {
            let answer = scene.idle_through(async |_, _| pass(Duration::from_secs(30)).await).await;
            assert!(answer < Duration::from_secs(1), "{answer:?}");
        }
    });
}

#[test]
fn what_comes_before_the_restart_that_it_belongs_to_is_kept_for_it() {
    story(31, async |world| {
        let scene = Scene::new(world).await;
        let rogue = Rogue::unpublished(&scene.lab, identity(1)).await;
        let place = scene.lab.host("another place").ipv4();
        let say = async |candidates, restart| {
            let trickle = Trickle { ufrag: "moved".to_owned(), candidates, end: false };
            let (id, to) = (scene.connection.0, identity(0));
            let later =
                LaterCandidates { id, by_dialler: false, trickle, restart, party: None, plight: None };
            rogue.put_later(to.key().public(), &later).await;
            pass(Duration::from_secs(1)).await;
        };
        // Nodes of the DHT tell what they have in any order.
        say(host_candidates(&[place], Some(7007), None), None).await;
        assert!(scene.lab.tried_ports(place).is_empty());
        say(Vec::new(), Some(Restart { round: 1, password: "ofAtLeast22Characters".to_owned() })).await;
        assert_eq!(scene.lab.tried_ports(place), [SocketAddr::new(place, 7007)]);
    });
}
