//! Strangers and false friends around the paths of a node: lists that point at others, forged and replayed checks, floods of
//! candidates. What the pieces do by themselves is proven beside them (`ice/tests/third_parties.rs`, `ice/tests/hostile.rs`); here
//! whole nodes are attacked, and what a bystander gets is counted where it stands.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::meter::Meter;
use common::rogue::{NOWHERE, Rogue, public, request};
use common::{Lab, accepted, bytes, connected, echo, exchange, identity, pass, story};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::ice::stun::{Class, Encoder, Message};
use towline::ice::{Description, Trickle};
use towline::net::{Net as _, UdpBind, now};
use towline::signal::{Extension, LaterCandidates, PeerRequest, StaticKey};
use towline::{Channel, CloseReason, Connection, Event, Node};
use towline_lab::{Host, Link, Middlebox, Packet, Plan, Prefix, Verdict, Way, World};

/// The user name fragment and password of those who lie.
const CREDENTIALS: &str = "13e86381\naaaaaaaaaaaaaaaaaaaaaaaa\n";

/// A network of hosts that have nothing to do with anything, and what reaches it.
fn bystanders(lab: &Lab) -> Meter {
    let meter = Meter::default();
    let v4 = Some(Prefix::new(Ipv4Addr::new(46, 9, 0, 0), 24));
    let inside = lab.world.network(Plan::Lan { v4, v6: None });
    let link = Link::delay(Duration::from_millis(5));
    lab.world.router("to the bystanders", inside, lab.internet, link, meter.clone());
    for number in 1..=3 {
        lab.world.host(format!("bystander {number}")).attach(inside, Link::ethernet());
    }
    meter
}

/// One of their addresses.
fn bystander(last: u8) -> IpAddr {
    Ipv4Addr::new(46, 9, 0, last).into()
}

fn datagrams(addresses: impl IntoIterator<Item = SocketAddr>) -> String {
    let mut text = CREDENTIALS.to_owned();
    for (number, address) in addresses.into_iter().enumerate() {
        let (priority, ip, port) = (2_130_706_431 - number, address.ip(), address.port());
        writeln!(text, "H{number} 1 UDP {priority} {ip} {port} typ host").unwrap();
    }
    text
}

/// What a Towline would ask that has these candidates.
fn offer(id: u64, datagrams: String) -> PeerRequest {
    let channeler = Some(StaticKey([9; 32]));
    let extension = Extension { channeler, datagrams: Some(datagrams), more: true, ..Extension::default() };
    PeerRequest { extension: Some(extension), ..request(id, NOWHERE) }
}

/// Two nodes that can be dialled, of which the second answers, and what reaches the bystanders.
async fn scene(world: World) -> (Lab, Meter, Node, Node) {
    let lab = Lab::new(world).await;
    let meter = bystanders(&lab);
    let (bob, alice) = (lab.node(1).await, lab.node(0).await);
    bob.registered().await;
    alice.registered().await;
    tokio::spawn(echo(bob.clone()));
    (lab, meter, alice, bob)
}

/// A channel of others, which is to work as ever.
async fn undisturbed(from: &Node, to: &Node) {
    let begun = now();
    let mut channel = from.connect(to.device(), "not disturbed").await.unwrap();
    assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
    assert!(now() - begun < Duration::from_secs(3), "{:?}", now() - begun);
}

#[test]
fn lists_of_datagram_candidates_cost_a_third_party_little_however_many_ask() {
    story(1, async |world| {
        let (lab, meter, alice, bob) = scene(world).await;
        let rogues = [Rogue::new(&lab, identity(2)).await, Rogue::new(&lab, identity(3)).await];
        // All ports of one host, and more requests than one device may have under way; again when those are over.
        let list = || datagrams((0..31).map(|n| SocketAddr::new(bystander(2), 2000 + n)));
        for wave in 0..3 {
            for id in 1..=6 {
                for rogue in &rogues {
                    rogue.put(&public(&bob), offer(100 * wave + id, list()).encode()).await;
                }
            }
            undisturbed(&alice, &bob).await;
            pass(Duration::from_mins(1)).await;
        }
        println!("{} packets, at most {} in a second", meter.count(), meter.peak());
        assert!(meter.count() > 0, "the attack is one");
        // `TargetLimits::of_program`: 200 at once, 100 per second, so much in all.
        assert!(meter.count() <= 2048, "{}", meter.count());
        assert!(meter.peak() <= 300, "{} in a second", meter.peak());
        assert!(meter.longest() <= 150, "nothing but checks: {}", meter.longest());
        pass(Duration::from_mins(2)).await;
        let after = meter.count();
        pass(Duration::from_mins(3)).await;
        assert_eq!(meter.count(), after, "when nobody asks any more nothing goes there");
        assert!(bob.connections().await.iter().all(|info| info.device == alice.device()));
    });
}

#[test]
fn floods_of_later_candidates_reach_few_and_hold_up_nobody() {
    story(2, async |world| {
        let (lab, meter, alice, bob) = scene(world).await;
        let rogue = Rogue::new(&lab, identity(2)).await;
        rogue.put(&public(&bob), offer(7, datagrams([SocketAddr::new(bystander(2), 2000)])).encode()).await;
        let (ufrag, _) = CREDENTIALS.split_once('\n').unwrap();
        // Each of them as long as may be, at other addresses, of this request and of some that never were.
        for number in 0..120u8 {
            let addresses = (0..31).map(|n| SocketAddr::new(bystander(4 + number), 2000 + n));
            let list = Description::from_blob(datagrams(addresses).as_bytes()).unwrap().description;
            let trickle = Trickle { ufrag: ufrag.to_owned(), candidates: list.candidates, end: false };
            let id = if number % 4 == 3 { 1000 + u64::from(number) } else { 7 };
            let later =
                LaterCandidates { id, by_dialler: true, trickle, restart: None, party: None, plight: None };
            rogue.put_later(&public(&bob), &later).await;
            if number % 40 == 20 {
                undisturbed(&alice, &bob).await;
            }
        }
        pass(Duration::from_mins(2)).await;
        let reached: BTreeSet<SocketAddr> = meter.packets().iter().map(|packet| packet.to).collect();
        println!("{} packets to {} addresses", meter.count(), reached.len());
        assert!((1..=31).contains(&reached.len()), "{reached:?}");
        assert!(meter.peak() <= 72 && meter.count() <= 512, "{} {}", meter.peak(), meter.count());
        undisturbed(&alice, &bob).await;
    });
}

#[test]
fn ten_thousand_candidates_are_not_looked_at() {
    story(3, async |world| {
        let (lab, meter, alice, bob) = scene(world).await;
        let rogue = Rogue::new(&lab, identity(2)).await;
        let all = datagrams((0..10_000).map(|n| SocketAddr::new(bystander(2), 2000 + n)));
        // Longer than a value of the DHT may be, then as long as one may be: neither is a request.
        let value = towline::dht::Value::new(0, 0, offer(1, all.clone()).encode());
        let key = towline::dht::InfoHash::of_peer_requests(&bob.device());
        assert!(rogue.dht.put_encrypted(key, &public(&bob), value).await.is_err());
        let most = all[..56_000].to_owned();
        rogue.put(&public(&bob), offer(2, most.clone()).encode()).await;
        rogue.put(&public(&bob), PeerRequest { ice_message: most, ..offer(3, String::new()) }.encode()).await;
        undisturbed(&alice, &bob).await;
        pass(Duration::from_mins(1)).await;
        assert_eq!(meter.count(), 0);
    });
}

/// Our own network is no third party, yet not everybody in it takes part.
#[test]
fn a_neighbour_that_is_named_gets_checks_and_nothing_else() {
    story(4, async |world| {
        let lab = Lab::new(world).await;
        let (home, meter) = (lab.world.lan(), Meter::default());
        let link = Link::delay(Duration::from_millis(5));
        lab.world.router("home", home, lab.internet, link, towline_lab::Plain);
        let at_home = lab.world.host("bob");
        at_home.attach(home, Link::ethernet());
        // Counted by a box in front of it, in a network of its own that only the home reaches.
        let v4 = Some(Prefix::new(Ipv4Addr::new(192, 168, 77, 0), 24));
        let behind = lab.world.network(Plan::Lan { v4, v6: None });
        lab.world.router("printer's box", behind, home, Link::ethernet(), meter.clone());
        let printer = lab.world.host("printer");
        printer.attach(behind, Link::ethernet());
        let mut door = printer.listen_tcp(SocketAddr::new(printer.ipv4(), 9100)).unwrap();
        let words = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&words);
        tokio::spawn(async move {
            while let Ok(mut stream) = door.accept().await {
                let heard = Arc::clone(&heard);
                tokio::spawn(async move {
                    let mut said = Vec::new();
                    let _ = stream.read_to_end(&mut said).await;
                    heard.lock().unwrap().push(said);
                });
            }
        });
        let bob = lab.node_on(&at_home, identity(1), lab.config()).await;
        bob.registered().await;
        let rogue = Rogue::new(&lab, identity(2)).await;
        let ports = [9100, 631, 22, 80, 445, 2000].map(|port| SocketAddr::new(printer.ipv4(), port));
        let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 6379);
        let mut named = offer(1, datagrams(ports.into_iter().chain([loopback])));
        named.ice_message =
            datagrams(ports).replace(" UDP ", " TCP ").replace("typ host", "typ host tcptype passive");
        rogue.put(&public(&bob), named.encode()).await;
        pass(Duration::from_mins(2)).await;
        println!("{} packets, at most {} in a second", meter.count(), meter.peak());
        let ports: BTreeSet<u16> = meter.packets().iter().map(|packet| packet.to.port()).collect();
        assert_eq!(ports, BTreeSet::from([2000, 9100]), "no services of a system");
        assert!(meter.count() <= 512 && meter.peak() <= 72, "{} {}", meter.count(), meter.peak());
        for said in words.lock().unwrap().iter() {
            assert!(said.len() <= 3 * 150, "{} bytes", said.len());
            for framed in framed(said) {
                assert_eq!(Message::decode(framed).unwrap().class, Class::Request, "a check");
            }
        }
        assert!(!words.lock().unwrap().is_empty());
    });
}

/// The messages of a stream, each behind its length (RFC 4571).
fn framed(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((len, rest)) = stream.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)));
        messages.push(message);
        stream = rest;
    }
    messages
}

/// A datagram as it passed.
#[derive(Debug, Clone)]
struct Seen {
    way: Way,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// Somebody on the way who reads along and lets no TCP through.
#[derive(Debug, Clone, Default)]
struct Tap(Arc<Mutex<Vec<Seen>>>);

impl Middlebox for Tap {
    fn pass(&mut self, _: Duration, way: Way, packet: &mut Packet) -> Verdict {
        if packet.kind().is_tcp() {
            return Verdict::Refuse;
        }
        if let Some(bytes) = packet.datagram() {
            let seen = Seen { way, from: packet.from, to: packet.to, bytes: bytes.to_vec() };
            self.0.lock().unwrap().push(seen);
        }
        Verdict::Forward
    }
}

impl Tap {
    /// What was said between these two.
    fn between(&self, one: IpAddr, other: IpAddr) -> Vec<Seen> {
        let seen = self.0.lock().unwrap();
        let both = |seen: &&Seen| {
            let ends = (seen.from.ip(), seen.to.ip());
            ends == (one, other) || ends == (other, one)
        };
        seen.iter().filter(both).cloned().collect()
    }
}

/// Throws at `victim` whatever can be had from what passed: the checks of its peer again, the same with another integrity code,
/// answers to its own checks that nobody gave, sealed packets, answers of a STUN server that was never asked.
fn thrown(seen: &[Seen], liar: SocketAddr) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut thrown = Vec::new();
    for Seen { way, from, to, bytes } in seen {
        let message = Message::decode(bytes).ok();
        match (way, message) {
            (Way::In, Some(message)) if message.class == Class::Request => {
                let mut forged = bytes.clone();
                let at = forged.len() - 12;
                forged[at] ^= 0x40;
                thrown.extend([(*to, bytes.clone()), (*to, forged)]);
            }
            (Way::Out, Some(message)) if message.class == Class::Request => {
                let success = |to| Encoder::new(Class::Success, 1, message.transaction).mapped_address(to);
                thrown.push((*from, success(liar).finish(Some(b"guessed")).to_vec()));
                thrown.push((*from, success(liar).finish(None).to_vec()));
            }
            (Way::In, _) => thrown.push((*to, bytes.clone())),
            (Way::Out, _) => {}
        }
    }
    thrown
}

/// Moves so much and says how long it took.
async fn transfer(near: &mut Channel, far: &mut Channel, len: usize) -> Duration {
    let (words, begun) = (bytes(5, len), now());
    let mut heard = vec![0; len];
    let (sent, read) = tokio::join!(near.write_all(&words), far.read_exact(&mut heard));
    sent.unwrap();
    read.unwrap();
    assert!(heard == words, "what was sent is not what arrived");
    now() - begun
}

async fn remotes(connection: &Connection) -> BTreeSet<IpAddr> {
    connection.links().await.iter().map(|link| link.path.remote.ip()).collect()
}

#[test]
fn whoever_reads_along_moves_no_path_and_gets_no_data() {
    story(5, async |world| {
        let lab = Lab::new(world).await;
        let (inside, tap) = (lab.world.lan(), Tap::default());
        let link = Link { rate: Some(1_000_000), queue: 100_000, ..Link::delay(Duration::from_millis(10)) };
        lab.world.router("tapped", inside, lab.internet, link, tap.clone());
        let at_alice = lab.world.host("alice");
        at_alice.attach(inside, Link::ethernet());
        let at_bob = lab.host("bob");
        // The liar, and what it gets.
        let (meter, den) = (Meter::default(), Some(Prefix::new(Ipv4Addr::new(46, 66, 0, 0), 24)));
        let den = lab.world.network(Plan::Lan { v4: den, v6: None });
        let link = Link::delay(Duration::from_millis(5));
        lab.world.router("to the liar", den, lab.internet, link, meter.clone());
        let liar: Host = lab.world.host("liar");
        liar.attach(den, Link::ethernet());

        let alice = lab.node_on(&at_alice, identity(0), lab.config()).await;
        let bob = lab.node_on(&at_bob, identity(1), lab.config()).await;
        alice.registered().await;
        bob.registered().await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "tapped", &mut channels).await;
        let (to_bob, to_alice) =
            (alice.connection(bob.device()).unwrap(), bob.connection(alice.device()).unwrap());
        let quiet = transfer(&mut near, &mut far, 3_000_000).await;

        let socket = liar.bind_udp(&UdpBind::new(SocketAddr::new(liar.ipv4(), 4000))).unwrap();
        let seen = tap.between(at_alice.ipv4(), at_bob.ipv4());
        let ammunition = thrown(&seen, socket.local_addr());
        let kinds = seen.iter().filter(|seen| Message::decode(&seen.bytes).is_ok()).count();
        assert!(kinds > 4 && ammunition.len() > 1000, "{kinds} of {}", ammunition.len());
        let attack = tokio::spawn(async move {
            loop {
                for (to, bytes) in &ammunition {
                    socket.send(bytes, *to).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
        let attacked = transfer(&mut near, &mut far, 3_000_000).await;
        let back = transfer(&mut far, &mut near, 3_000_000).await;
        println!("{quiet:?}, attacked {attacked:?} and back {back:?}");
        for _ in 0..10 {
            pass(Duration::from_secs(1)).await;
            for (connection, host) in [(&to_bob, &at_bob), (&to_alice, &at_alice)] {
                let (remotes, own) = (remotes(connection).await, BTreeSet::from([host.ipv4(), host.ipv6()]));
                assert!(remotes.is_subset(&own) && remotes.contains(&host.ipv4()), "{remotes:?}");
            }
        }
        attack.abort();
        assert!(attacked < quiet * 2, "{quiet:?}, attacked {attacked:?}");
        println!("the liar got {} packets, at most {} in a second", meter.count(), meter.peak());
        // A check that is right is answered to where it came from, and a few of ours follow: no more than was thrown.
        assert!(meter.peak() <= 72, "{}", meter.peak());
        assert!(meter.longest() < 200, "no data: {}", meter.longest());
        transfer(&mut near, &mut far, 100_000).await;
        assert_eq!(alice.connection(bob.device()).unwrap().id(), near.connection());
    });
}

#[test]
fn a_peer_that_looks_for_new_paths_without_end_is_let_go() {
    story(40, async |world| {
        let lab = Lab::new(world).await;
        let (host, alice) = lab.housed("alice", 0).await;
        let (bob, carol) = (lab.node(1).await, lab.node(2).await);
        for node in [&alice, &bob, &carol] {
            node.registered().await;
        }
        tokio::spawn(echo(bob.clone()));
        let mut events = bob.events();
        let mut channel = alice.connect(bob.device(), "restless").await.unwrap();
        // Another address each second, as no network gives them, and a restart with each.
        let mut moves = 0;
        let reason = loop {
            host.readdress(2);
            moves += 1;
            pass(Duration::from_secs(1)).await;
            let ended = std::iter::from_fn(|| events.try_recv().ok()).find_map(|event| match event {
                Event::Disconnected { device, reason, .. } if device == alice.device() => Some(reason),
                _ => None,
            });
            if let Some(reason) = ended {
                break reason;
            }
            assert!(moves < 60, "nobody puts an end to it");
        };
        assert_eq!(reason, CloseReason::TooManyRestarts);
        // Sixteen at once and one every five seconds are followed.
        assert!((16..=24).contains(&moves), "{moves}");
        assert!(channel.write_all(&[0; 100]).await.is_err() || channel.read(&mut [0]).await.is_err());
        undisturbed(&carol, &bob).await;
    });
}
