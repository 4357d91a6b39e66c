//! Servers and routers that lie to a node: what they say costs no third party anything, and holds up no connection. Their lies to the
//! protocols alone are in `turn/tests/allocate.rs` and `portmap/tests/routers.rs`.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use common::home::set_router;
use common::meter::Meter;
use common::{Lab, accepted, bytes, connected, identity, pass, story};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::ice::stun::{Class, Encoder, Message, Seal};
use towline::net::{Group, Net as _, UdpBind, UdpSocket, now};
use towline::{Node, Reach, Relay, RelaySecret, RelayTransport};
use towline_lab::{Host, Link, Plan, Prefix};

/// A network of hosts that have nothing to do with anything, what reaches it, and an address in it.
fn bystander(lab: &Lab) -> (Meter, SocketAddr) {
    let meter = Meter::default();
    let v4 = Some(Prefix::new(Ipv4Addr::new(46, 9, 0, 0), 24));
    let inside = lab.world.network(Plan::Lan { v4, v6: None });
    let link = Link::delay(Duration::from_millis(5));
    lab.world.router("to the bystander", inside, lab.internet, link, meter.clone());
    let host = lab.world.host("bystander");
    host.attach(inside, Link::ethernet());
    (meter, SocketAddr::new(host.ipv4(), 5000))
}

const ALLOCATE: u16 = 3;
const DATA: u16 = 7;
const LIFETIME: u16 = 0x0d;
const PEER: u16 = 0x12;
const PAYLOAD: u16 = 0x13;
const REALM: u16 = 0x14;
const NONCE: u16 = 0x15;
const RELAYED: u16 = 0x16;
const MAPPED: u16 = 0x20;
/// MD5 of "ann:example.org:secret".
const KEY: [u8; 16] =
    [0x6b, 0x19, 0x37, 0x11, 0x44, 0x6b, 0xad, 0x11, 0xe3, 0x47, 0xc1, 0x01, 0xe4, 0xe9, 0x7b, 0xf4];

/// What a false TURN server does.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// Says that it relays at this address, and that the client has it, too.
    Address(SocketAddr),
    /// Sends data without end in the name of this peer.
    Flood(SocketAddr),
}

/// Grants everything, as a server that knows the password, and tells lies.
fn liar(host: &Host, lie: Lie) -> Relay {
    let address = SocketAddr::new(host.ipv4(), 3478);
    let socket: Arc<dyn UdpSocket> = host.bind_udp(&UdpBind::new(address)).unwrap().into();
    tokio::spawn(async move {
        let mut buf = [0; 2048];
        loop {
            let received = socket.recv(&mut buf).await.unwrap();
            let Ok(asked) = Message::decode(&buf[..received.len]) else { continue };
            let answer = Encoder::new(Class::Success, asked.method, asked.transaction);
            let answer = match (asked.method, lie) {
                (ALLOCATE, _) if !asked.has_integrity() => {
                    let error = Encoder::new(Class::Error, ALLOCATE, asked.transaction).error(401, "");
                    error.attribute(REALM, b"example.org").attribute(NONCE, b"once").finish(None)
                }
                (ALLOCATE, Lie::Address(claimed)) => answer
                    .xor_address(RELAYED, claimed)
                    .xor_address(MAPPED, claimed)
                    .attribute(LIFETIME, &600u32.to_be_bytes())
                    .finish_with(Seal::Sha1(&KEY)),
                (ALLOCATE, Lie::Flood(peer)) => {
                    tokio::spawn(flood(Arc::clone(&socket), received.from, peer));
                    answer
                        .xor_address(RELAYED, SocketAddr::new(address.ip(), 50_000))
                        .xor_address(MAPPED, received.from)
                        .attribute(LIFETIME, &600u32.to_be_bytes())
                        .finish_with(Seal::Sha1(&KEY))
                }
                _ => answer.finish_with(Seal::Sha1(&KEY)),
            };
            socket.send(&answer, received.from).await.unwrap();
        }
    });
    Relay {
        server: address.to_string(),
        transport: RelayTransport::Udp,
        user: "ann".to_owned(),
        secret: RelaySecret::Password("secret".to_owned()),
    }
}

/// A thousand packets per second, sealed ones by their looks and checks by turns.
async fn flood(socket: Arc<dyn UdpSocket>, to: SocketAddr, peer: SocketAddr) {
    for number in 0..60_000u32 {
        let id = towline::ice::stun::TransactionId(
            [number.to_be_bytes(), [7; 4], [7; 4]].concat().try_into().unwrap(),
        );
        let check = Encoder::new(Class::Request, 1, id).username(b"nobody:else").finish(Some(b"guessed"));
        let payload = if number % 2 == 0 { vec![0x40; 1000] } else { check.to_vec() };
        let data = Encoder::new(Class::Indication, DATA, id).xor_address(PEER, peer);
        socket.send(&data.attribute(PAYLOAD, &payload).finish(None), to).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Dials, moves a megabyte each way, and says how long it took to connect and to move.
async fn served(alice: &Node, bob: &Node) -> (Duration, Duration) {
    let mut channels = accepted(bob);
    let begun = now();
    let (mut near, mut far) = connected(alice, bob, "served all the same", &mut channels).await;
    let up = now() - begun;
    let moving = now();
    let (words, mut heard) = (bytes(9, 1_000_000), vec![0; 1_000_000]);
    for _ in 0..2 {
        let (sent, read) = tokio::join!(near.write_all(&words), far.read_exact(&mut heard));
        sent.unwrap();
        read.unwrap();
        assert!(heard == words);
        std::mem::swap(&mut near, &mut far);
    }
    (up, now() - moving)
}

#[test]
fn a_relay_that_tells_false_addresses_points_nobody_at_others() {
    story(1, async |world| {
        let lab = Lab::new(world).await;
        let (meter, victim) = bystander(&lab);
        let alice = lab.node(0).await;
        alice.registered().await;
        let claims = [
            victim,
            "127.0.0.1:6000".parse().unwrap(),
            "224.0.0.1:6000".parse().unwrap(),
            "0.0.0.0:0".parse().unwrap(),
        ];
        for (number, claimed) in claims.into_iter().enumerate() {
            let relay = liar(&lab.host(&format!("liar {number}")), Lie::Address(claimed));
            let reach = Reach { stun: vec![relay.server.clone()], relays: vec![relay], ..Reach::default() };
            let host = lab.host(&format!("bob {number}"));
            let bob = lab.node_on(&host, identity(1 + number), lab.config().with_reach(reach)).await;
            bob.registered().await;
            let (up, _) = served(&alice, &bob).await;
            assert!(up < Duration::from_secs(2), "{claimed}: {up:?}");
            for node in [(&alice, &bob), (&bob, &alice)] {
                let links = node.0.connection(node.1.device()).unwrap().links().await;
                assert!(
                    links.iter().all(|link| link.path.remote != claimed && link.path.local != claimed),
                    "{links:#?}"
                );
            }
            pass(Duration::from_secs(30)).await;
            bob.shutdown().await;
        }
        println!("the bystander got {} packets, at most {} in a second", meter.count(), meter.peak());
        assert!(meter.count() <= 512 && meter.peak() <= 72, "{} {}", meter.count(), meter.peak());
        assert!(meter.longest() <= 150, "checks only: {}", meter.longest());
    });
}

#[test]
fn a_relay_that_floods_holds_up_no_connection() {
    let calm = story(2, async |world| {
        let lab = Lab::new(world).await;
        let (alice, bob) = (lab.node(0).await, lab.node(1).await);
        alice.registered().await;
        bob.registered().await;
        served(&alice, &bob).await
    });
    story(2, async |world| {
        let lab = Lab::new(world).await;
        let at_alice = lab.host("alice");
        let relay = liar(&lab.host("liar"), Lie::Flood(SocketAddr::new(at_alice.ipv4(), 49_152)));
        let reach = Reach { relays: vec![relay], ..Reach::default() };
        let alice = lab.node_on(&at_alice, identity(0), lab.config()).await;
        let bob = lab.node_with(1, lab.config().with_reach(reach)).await;
        alice.registered().await;
        bob.registered().await;
        let flooded = served(&alice, &bob).await;
        println!("calm {calm:?}, flooded {flooded:?}");
        assert!(flooded.0 < calm.0 + Duration::from_secs(1) && flooded.1 < calm.1 * 2);
        pass(Duration::from_secs(20)).await;
        let connection = bob.connection(alice.device()).unwrap();
        assert!(
            connection.links().await.iter().all(|link| !link.kind.is_relayed()),
            "nothing proved that way"
        );
    });
}

/// Answers whatever it is asked with nonsense, and to a search with places where others live.
fn false_router(host: &Host, victim: SocketAddr) {
    let control = host.bind_udp(&UdpBind::new(SocketAddr::new(host.ipv4(), 5351))).unwrap();
    tokio::spawn(async move {
        let (mut buf, mut number) = ([0; 2048], 0u8);
        loop {
            let received = control.recv(&mut buf).await.unwrap();
            for _ in 0..20 {
                number = number.wrapping_add(37);
                // Of the right opcode and of none, too short, too long, mapped to somebody else.
                let mut nonsense = vec![number % 3, buf[1] | 0x80, 0, number % 14];
                nonsense.resize(usize::from(number) * 5, number);
                control.send(&nonsense, received.from).await.unwrap();
            }
        }
    });
    let interface = host.interfaces().unwrap().iter().find(|found| !found.loopback).unwrap().index;
    let groups = vec![Group { addr: [239, 255, 255, 250].into(), interface }];
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let search = host.bind_udp(&UdpBind { groups, ..UdpBind::new(SocketAddr::new(any, 1900)) }).unwrap();
    let own = host.ipv4();
    tokio::spawn(async move {
        let mut buf = [0; 2048];
        loop {
            let received = search.recv(&mut buf).await.unwrap();
            for place in [
                format!("http://{victim}/rootDesc.xml"),
                format!("http://{own}:5000/rootDesc.xml"),
                "http://[::1]:80/".to_owned(),
                "file:///etc/passwd".to_owned(),
                "x".repeat(1200),
            ] {
                let st = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
                let said = format!("HTTP/1.1 200 OK\r\nST: {st}\r\nEXT:\r\nLOCATION: {place}\r\n\r\n");
                search.send(said.as_bytes(), received.from).await.unwrap();
                search.send(&[0xff; 700], received.from).await.unwrap();
            }
        }
    });
    // Takes connections and never says a word.
    let mut pit = host.listen_tcp(SocketAddr::new(own, 5000)).unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(stream) = pit.accept().await {
            kept.push(stream);
        }
    });
}

#[test]
fn a_router_that_lies_delays_no_connection_and_harms_nobody() {
    let dial = |false_one: bool| {
        story(3, async |world| {
            let lab = Lab::new(world).await;
            let (meter, victim) = bystander(&lab);
            let home = lab.world.lan();
            let link = Link::delay(Duration::from_millis(5));
            lab.world.router("home", home, lab.internet, link, towline_lab::Plain);
            let (at_alice, router) = (lab.world.host("alice"), lab.world.host("control of the router"));
            at_alice.attach(home, Link::ethernet());
            router.attach(home, Link::ethernet());
            if false_one {
                false_router(&router, victim);
            }
            set_router(&at_alice, router.ipv4());
            let config = lab.config().with_reach(Reach { port_mapping: true, ..Reach::default() });
            let alice = Node::start(Arc::new(at_alice), config, identity(0)).await.unwrap();
            let bob = lab.node(1).await;
            alice.registered().await;
            bob.registered().await;
            let (up, _) = served(&alice, &bob).await;
            pass(Duration::from_mins(2)).await;
            assert_eq!(meter.count(), 0, "nobody else is spoken to");
            up
        })
    };
    let (silent, lying) = (dial(false), dial(true));
    println!("with a silent router {silent:?}, with a false one {lying:?}");
    assert!(lying <= silent + Duration::from_millis(50), "{silent:?} {lying:?}");
    assert!(silent < Duration::from_secs(1), "{silent:?}");
}
