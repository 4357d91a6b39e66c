//! Connections whose devices change their place: Wi-Fi to Ethernet, another address, a router that restarts. Nothing is lost and
//! nothing comes twice, and how long nothing comes is bounded.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Duration;

use common::{Lab, accepted, bytes, connected, identity, pass, ping_pong, story};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use towline::net::now;
use towline::{Channel, ConnectionId, Node};
use towline_lab::{Host, World};

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
        Self::on(lab, hosts).await
    }

    async fn on(lab: Lab, hosts: [Host; 2]) -> Self {
        let alice = lab.node_on(&hosts[0], identity(0), lab.config()).await;
        let bob = lab.node_on(&hosts[1], identity(1), lab.config()).await;
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

    /// Whether the connection is of use in both directions, and how long that took to find out.
    async fn exchange(&mut self) -> Duration {
        let begun = now();
        let (mut near, mut far) = self.channel("hello").await;
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
            for host in who {
                scene.hosts[*host].readdress(WIFI);
            }
            let idle = scene.exchange().await;
            pass(Duration::from_secs(10)).await;
            // Where both move, neither can be told but by the DHT.
            let bound = Duration::from_secs(if who.len() == 2 { 3 } else { 1 });
            assert!(idle < bound, "{who:?}: {idle:?}");
            for back in [false, true] {
                let moving = async |_: &Lab, hosts: &[Host; 2]| {
                    for host in who {
                        hosts[*host].readdress(WIFI);
                    }
                };
                let stall = scene.flow_through(back, moving).await;
                println!("{who:?} move: idle {idle:?}, sending {stall:?} (back: {back})");
                assert!(stall < bound, "{who:?}: {stall:?}");
                pass(Duration::from_secs(10)).await;
            }
        });
    }
}
