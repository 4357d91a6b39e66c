//! Ways between two devices: one-sided ones, none at all, and strangers who knock.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Lab, accepted, bytes, connected, echo, event, exchange, identity, ping_pong, story};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::ice::PairState;
use towline::net::{Net, TcpConnect, UdpBind, now};
use towline::{ConnectError, ConnectionState, Event, Node, Step};
use towline_lab::{Host, Kind, Link, Middlebox, Packet, Record, Verdict, Way};

/// Lets no TCP connection in from outside, and datagrams of the DHT only.
#[derive(Debug)]
struct NoIncoming {
    dht: SocketAddr,
}

impl Middlebox for NoIncoming {
    fn pass(&mut self, _: Duration, way: Way, packet: &mut Packet) -> Verdict {
        match (way, packet.kind()) {
            (Way::In, Kind::Syn) => Verdict::Refuse,
            (Way::In, Kind::Udp) if packet.from != self.dht => Verdict::Refuse,
            _ => Verdict::Forward,
        }
    }
}

/// A host behind a router that lets nobody in.
fn sheltered(lab: &Lab, name: &str) -> Host {
    let home = lab.world.lan();
    let host = lab.world.host(name);
    host.attach(home, Link::ethernet());
    let wall = NoIncoming { dht: lab.bootstrap };
    lab.world.router(format!("router of {name}"), home, lab.internet, Link::fibre(), wall);
    host
}

#[test]
fn a_side_that_cannot_be_reached_connects_outwards() {
    for (seed, shelter_dialler) in [(1, true), (2, false)] {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let hosts = [sheltered(&lab, "inside"), lab.host("outside")];
            let inside = lab.node_on(&hosts[0], identity(0), lab.config()).await;
            let outside = lab.node_on(&hosts[1], identity(1), lab.config()).await;
            inside.registered().await;
            outside.registered().await;
            let (from, to) = if shelter_dialler { (&inside, &outside) } else { (&outside, &inside) };
            tokio::spawn(echo(to.clone()));
            let begun = now();
            let mut channel = from.connect(to.device(), "one way").await.unwrap();
            assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
            assert!(now() - begun < Duration::from_secs(5), "{:?}", now() - begun);
        });
    }
}

#[test]
fn two_sides_that_cannot_be_reached_learn_what_was_tried() {
    story(3, async |world| {
        let lab = Lab::new(world).await;
        let hosts = [sheltered(&lab, "one"), sheltered(&lab, "other")];
        let one = lab.node_on(&hosts[0], identity(0), lab.config()).await;
        let other = lab.node_on(&hosts[1], identity(1), lab.config()).await;
        one.registered().await;
        other.registered().await;
        no_path(&one, &other, async || {}).await;
    });
}

#[test]
fn a_partition_behind_the_signalling_is_reported_with_evidence() {
    story(4, async |world| {
        let lab = Lab::new(world).await;
        let hosts = [lab.host("one"), lab.host("other")];
        let one = lab.node_on(&hosts[0], identity(0), lab.config()).await;
        let other = lab.node_on(&hosts[1], identity(1), lab.config()).await;
        one.registered().await;
        other.registered().await;
        let (world, internet) = (lab.world.clone(), lab.internet);
        no_path(&one, &other, async || world.partition(internet, &[hosts[0].node()])).await;
        // Once it is over they find each other again.
        world.heal(internet);
        tokio::spawn(echo(other.clone()));
        let mut channel = one.connect(other.device(), "healed").await.unwrap();
        assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
    });
}

/// Dials, does something when the candidates of both sides are known to the dialler, and expects no path.
async fn no_path(one: &Node, other: &Node, then: impl AsyncFnOnce()) {
    let (mut events, mut other_events) = (one.events(), other.events());
    let dial = tokio::spawn({
        let (one, device) = (one.clone(), other.device());
        async move { one.connect(device, "nowhere").await }
    });
    event(&mut events, |event| {
        matches!(event, Event::Progress { state: ConnectionState::Path, .. }).then_some(())
    })
    .await;
    then().await;
    let begun = now();
    let error = dial.await.unwrap().unwrap_err();
    let took = now() - begun;
    let ConnectError::NoPath(report) = &error else { panic!("{error:?} after {took:?}") };
    assert_eq!(error.step(), Step::Path);
    assert!(took <= Duration::from_secs(30), "{took:?}");
    assert!(!report.pairs.is_empty());
    assert!(report.pairs.iter().any(|pair| matches!(pair.state, PairState::Failed(_))), "{report:?}");
    // The other side hears of it by itself, in bounded time.
    let told = event(&mut other_events, |event| match event {
        Event::IncomingFailed { error, .. } => Some(error.step()),
        _ => None,
    });
    assert_eq!(told.await, Step::Path);
    assert!(now() - begun <= Duration::from_secs(32), "{:?}", now() - begun);
    assert!(one.connections().await.is_empty() && other.connections().await.is_empty());
}

/// A stranger connects and sends `junk` until it is thrown out; says how much it could send.
async fn knock(stranger: &Host, at: SocketAddr, junk: &[u8]) -> usize {
    let Ok(stream) = stranger.connect_tcp(at, TcpConnect::default()).await else { return 0 };
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut sent = 0;
    let mut answer = [0; 512];
    for _ in 0..1000 {
        let step = tokio::time::timeout(Duration::from_millis(200), async {
            tokio::select! {
                biased;
                read = reader.read(&mut answer) => read.is_ok_and(|read| read > 0),
                write = writer.write(junk) => write.inspect(|len| sent += len).is_ok_and(|len| len > 0),
            }
        });
        if !step.await.unwrap_or(true) {
            break;
        }
    }
    sent
}

#[test]
fn strangers_at_the_listener_do_not_prevent_a_path() {
    story(5, async |world| {
        let lab = Lab::new(world).await;
        // So slow that the negotiation is still under way when the strangers come.
        let far = lab.world.host("far");
        far.attach(lab.internet, Link::delay(Duration::from_millis(700)));
        let bob = lab.node_on(&far, identity(1), lab.config()).await;
        let (host, alice) = lab.housed("alice", 0).await;
        bob.registered().await;
        alice.registered().await;
        tokio::spawn(echo(bob.clone()));
        let mut events = alice.events();
        let dialling = tokio::spawn({
            let (alice, device) = (alice.clone(), bob.device());
            async move { alice.connect(device, "disturbed").await }
        });
        event(&mut events, |event| {
            matches!(event, Event::Progress { state: ConnectionState::Path, .. }).then_some(())
        })
        .await;
        // Listening ports are handed out in order; the stranger tries those that come into question.
        let stranger = lab.host("stranger");
        let ports = 49152..49160;
        let junk: [Vec<u8>; 5] = [
            // What looks like TLS in frames: peers of 2023 hand it to the session.
            [&[0, 10][..], &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]].concat().repeat(100),
            vec![0xff; 3000],
            vec![0; 3000],
            b"GET / HTTP/1.1\r\n\r\n".repeat(100),
            [&[0, 20][..], &[0; 20]].concat(),
        ];
        let mut knocking = Vec::new();
        for port in ports {
            for at in [SocketAddr::new(host.ipv4(), port), SocketAddr::new(host.ipv6(), port)] {
                for junk in &junk {
                    for _ in 0..30 {
                        let (stranger, junk) = (stranger.clone(), junk.clone());
                        knocking.push(tokio::spawn(async move { knock(&stranger, at, &junk).await }));
                    }
                }
            }
        }
        let mut channel = dialling.await.unwrap().unwrap();
        assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
        let mut met = 0;
        for knock in knocking {
            met += usize::from(knock.await.unwrap() > 0);
        }
        assert!(met > 0, "no stranger met the listener");
    });
}

#[test]
fn after_the_path_is_chosen_nobody_listens_any_more() {
    story(6, async |world| {
        let (lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "chosen", &mut channels).await;
        let stranger = lab.host("stranger");
        let path = alice.connections().await.remove(0).established.unwrap().path;
        let mut ports = vec![path.local, path.remote];
        for ip in [path.local.ip(), path.remote.ip()] {
            ports.extend(lab.tried_ports(ip));
        }
        for at in ports {
            let refused = stranger.connect_tcp(at, TcpConnect::default()).await;
            assert!(refused.is_err(), "somebody still listens at {at}");
        }
        let sent = bytes(6, 100_000);
        near.write_all(&sent).await.unwrap();
        let mut received = vec![0; sent.len()];
        far.read_exact(&mut received).await.unwrap();
        assert!(received == sent);
    });
}

#[test]
fn rubbish_at_the_dht_ports_disturbs_nobody() {
    story(7, async |world| {
        let (lab, alice, bob) = Lab::pair(world).await;
        tokio::spawn(echo(bob.clone()));
        let stranger = lab.host("stranger");
        let socket = stranger.bind_udp(&UdpBind::any_v4()).unwrap();
        let mut at = vec![lab.bootstrap];
        for record in lab.world.trace().timeline() {
            if let Record::Packet { kind: Kind::Udp, to, .. } = record
                && to.is_ipv4()
                && !at.contains(to)
            {
                at.push(*to);
            }
        }
        assert!(at.len() >= 3, "{at:?}");
        let mut channel = alice.connect(bob.device(), "before").await.unwrap();
        for round in 0..2000_usize {
            for at in &at {
                let len = 1 + (round * 37) % 1400;
                let mut datagram = bytes(round, len);
                // Some look like what the DHT speaks.
                if round % 3 == 0 {
                    datagram[0] = 0x80 + (round % 16) as u8;
                }
                let _ = socket.send(&datagram, *at).await;
            }
            if round % 20 == 0 {
                common::pass(Duration::from_millis(5)).await;
            }
        }
        ping_pong(&mut channel, b"unaffected").await.unwrap();
        alice.close_with(bob.device()).await;
        let mut channel = alice.connect(bob.device(), "after").await.unwrap();
        assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
        let carol = lab.node(2).await;
        let mut channel = carol.connect(bob.device(), "newcomer").await.unwrap();
        assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
    });
}
