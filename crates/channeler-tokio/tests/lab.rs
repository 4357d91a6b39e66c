//! In the simulated network, in virtual time.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use tokio::time::{sleep, timeout};
use towline_channeler_tokio::{
    ConnectError, Connection, Endpoint, News,
    proto::{
        Capabilities, Code, Config, ConnectionError, HandshakeError, LinkStatus, OpenOptions, Resend,
        StaticKey,
    },
};
use towline_lab::{Host, Link, Options, World};
use towline_net::{Net, UdpBind, now};

use support::{Station, channel, hosts, pattern};

fn tell<F: Future<Output = ()>>(seed: u64, story: impl FnOnce(World) -> F) {
    Options::new(seed).run(story).unwrap();
}

fn line() -> Link {
    Link::delay(Duration::from_millis(10))
}

#[test]
fn a_round_trip_connects_and_a_channel_costs_none() {
    tell(1, async |world| {
        let (alice, bob) = hosts(&world, line());
        let (alice, bob) = (Station::in_lab(&alice), Station::in_lab(&bob));
        let start = now();
        let (ours, theirs) = alice.connect(&bob).await;
        // One of 40 ms to know each other, half of one until both know that they do.
        assert!(now() - start < Duration::from_millis(65), "{:?}", now() - start);
        let asked = now();
        let answer = async {
            let mut channel = theirs.accept().await.unwrap().accept();
            let message = channel.message().await.unwrap().unwrap();
            channel.send(&message).await.unwrap();
            channel.finish();
            channel.closed().await;
        };
        let ask = async {
            let mut channel = ours.open(OpenOptions::default()).await.unwrap();
            channel.send(b"ping").await.unwrap();
            channel.finish();
            assert_eq!(channel.message().await.unwrap().unwrap(), b"ping");
            assert!(now() - asked < Duration::from_millis(43), "{:?}", now() - asked);
            assert_eq!(channel.message().await, Ok(None));
        };
        tokio::join!(answer, ask);
    });
}

#[test]
fn a_question_and_its_answer_on_a_new_channel_are_one_packet_each() {
    const QUESTIONS: u64 = 100;
    tell(12, async |world| {
        let (alice, bob) = hosts(&world, line());
        let (alice, bob) = (Station::in_lab(&alice), Station::in_lab(&bob));
        let (ours, theirs) = alice.connect(&bob).await;
        let answering = theirs.clone();
        tokio::spawn(async move {
            while let Ok(incoming) = answering.accept().await {
                tokio::spawn(async move {
                    let mut channel = incoming.accept();
                    while let Ok(Some(message)) = channel.message().await {
                        channel.send(&message).await.unwrap();
                    }
                    channel.finish();
                });
            }
        });
        // What links say at first is not counted.
        sleep(Duration::from_secs(2)).await;
        let before = [&ours, &theirs].map(|end| end.stats().packets_sent);
        for _ in 0..QUESTIONS {
            let mut channel = ours.open(OpenOptions::default()).await.unwrap();
            channel.send(b"?").await.unwrap();
            assert_eq!(channel.message().await.unwrap().unwrap(), b"?");
            channel.finish();
        }
        let after = [&ours, &theirs].map(|end| end.stats().packets_sent);
        // An end or an acknowledgement may have to go by itself now and then.
        let most = QUESTIONS + QUESTIONS / 10;
        assert!(
            after.iter().zip(before).all(|(after, before)| after - before <= most),
            "{before:?} {after:?}"
        );
    });
}

/// What an endpoint says of a connection that it does not know can be made again by itself alone, not by its like at another port.
#[test]
fn endpoints_of_one_key_do_not_speak_for_each_other() {
    tell(14, async |world| {
        let (alice, bob) = hosts(&world, line());
        let key = StaticKey::from_bytes([7; 32]);
        let start = |port: u16| {
            let config = support::config(&key, Config::default());
            Endpoint::bind(Arc::new(bob.clone()), (bob.ipv4(), port).into(), config).unwrap()
        };
        let asker = alice.bind_udp(&UdpBind::new((alice.ipv4(), 0).into())).unwrap();
        // A data packet of nobody; the answer begins, where that has its connection id, with what belongs to this id.
        let answer = async |port: u16| {
            let question = [8; 100];
            asker.send(&question, (bob.ipv4(), port).into()).await.unwrap();
            let mut buf = [0; 100];
            let read = asker.recv(&mut buf).await.unwrap();
            assert!(read.len < question.len());
            buf[8..16].to_vec()
        };
        let (one, _other) = (start(4000), start(4001));
        let before = answer(4000).await;
        assert_ne!(before, answer(4001).await);
        drop(one);
        sleep(Duration::from_secs(1)).await;
        let _again = start(4000);
        assert_eq!(before, answer(4000).await, "a server that was started again");
    });
}

#[test]
fn a_closed_endpoint_is_idle_soon_whoever_comes() {
    tell(15, async |world| {
        let (alice, bob) = hosts(&world, line());
        let (alice, bob) = (Station::in_lab(&alice), Station::in_lab(&bob));
        let (_ours, _theirs) = alice.connect(&bob).await;
        let (peer, addr) = (bob.peer, bob.addr);
        let strangers = tokio::spawn(async move {
            loop {
                let attempt = alice.endpoint.connect(peer, addr);
                // It goes on only as long as somebody waits for it.
                let _ = timeout(Duration::from_millis(50), attempt).await;
            }
        });
        bob.endpoint.close(Code::GOING_AWAY, "");
        let start = now();
        bob.endpoint.wait_idle().await;
        assert!(now() - start < Duration::from_secs(10), "{:?}", now() - start);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bob.endpoint.connections(), 0);
        strangers.abort();
    });
}

#[test]
fn nobody_answers() {
    tell(2, async |world| {
        let (alice, bob) = hosts(&world, line());
        let nobody = (bob.ipv4(), 9).into();
        let (alice, bob) = (Station::in_lab(&alice), Station::in_lab(&bob));
        let error = alice.endpoint.connect(bob.peer, nobody).await.unwrap_err();
        assert!(
            matches!(
                error,
                ConnectError::Connection(
                    ConnectionError::NoAnswer | ConnectionError::Handshake(HandshakeError::TimedOut)
                )
            ),
            "{error:?}"
        );
        alice.endpoint.wait_idle().await;
        // An attempt that nobody waits for is given up.
        let attempt = alice.endpoint.connect(bob.peer, nobody);
        assert!(timeout(Duration::from_millis(10), attempt).await.is_err());
        timeout(Duration::from_secs(1), alice.endpoint.wait_idle()).await.unwrap();
    });
}

#[test]
fn everything_arrives_over_a_bad_line() {
    tell(3, async |world| {
        let (alice, bob) = hosts(&world, Link { loss: 0.05, ..line() });
        let (alice, bob) = (Station::in_lab(&alice), Station::in_lab(&bob));
        let (ours, theirs) = alice.connect(&bob).await;
        let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
        let sent = pattern(0, 3_000_000);
        let send = async {
            sender.send(&sent).await.unwrap();
            sender.finish();
        };
        let receive = async {
            let mut received = Vec::new();
            while let Some(some) = receiver.message().await.unwrap() {
                received.extend(some);
            }
            received
        };
        let ((), received) = tokio::join!(send, receive);
        assert!(received == sent);
        assert!(ours.stats().packets_lost > 50);
    });
}

#[test]
fn losses_are_told_and_nothing_comes_twice() {
    tell(4, async |world| {
        let (alice, bob) = hosts(&world, Link { loss: 0.1, ..line() });
        let (alice, bob) = (Station::in_lab(&alice), Station::in_lab(&bob));
        let (ours, theirs) = alice.connect(&bob).await;
        let capabilities = Capabilities { ordered: true, resend: Resend::No, close_on_loss: false };
        let (mut sender, mut receiver) = channel(&ours, &theirs, capabilities).await;
        let mut events = ours.events();
        let send = async {
            for number in 0..1000_u32 {
                sender.send(&number.to_be_bytes()).await.unwrap();
                sleep(Duration::from_millis(2)).await;
            }
            sender.finish();
        };
        let receive = async {
            let mut last = None;
            let mut count = 0;
            while let Some(message) = receiver.message().await.unwrap() {
                let number = u32::from_be_bytes(message[..].try_into().unwrap());
                assert!(last.is_none_or(|last| last < number), "{last:?} before {number}");
                last = Some(number);
                count += 1;
            }
            receiver.finish();
            count
        };
        let ((), count) = tokio::join!(send, receive);
        sender.closed().await;
        let mut told = 0;
        let telling = async {
            while let Some(news) = events.next().await {
                if let News::Lost { channel, messages, sent: true } = news {
                    assert_eq!(channel, sender.id());
                    told += messages;
                }
                if told + count >= 1000 {
                    break;
                }
            }
        };
        timeout(Duration::from_secs(1), telling).await.unwrap();
        assert_eq!(told + count, 1000);
        assert!((100..300).contains(&told), "{told}");
    });
}

/// The IPv4 address of an interface.
fn address(host: &Host, index: u32) -> IpAddr {
    let interface =
        host.interfaces().unwrap().into_iter().find(|interface| interface.index == index).unwrap();
    interface.addresses.iter().map(|own| own.addr).find(IpAddr::is_ipv4).unwrap()
}

/// Sends a message every 5 ms until it is told to end, and gives the longest wait between two that arrived. `act` has 2 s
/// before and 3 s after it.
async fn longest_gap<F: Future<Output = ()>>(ours: &Connection, theirs: &Connection, act: F) -> Duration {
    let (mut sender, mut receiver) = channel(ours, theirs, Capabilities::stream()).await;
    let done = Cell::new(false);
    let send = async {
        while !done.get() {
            sender.send(&[7; 100]).await.unwrap();
            sleep(Duration::from_millis(5)).await;
        }
        sender.finish();
    };
    let receive = async {
        let (mut last, mut longest) = (now(), Duration::ZERO);
        while receiver.recv(&mut [0; 10_000]).await.unwrap().is_some() {
            longest = longest.max(now() - last);
            last = now();
        }
        receiver.finish();
        longest
    };
    let acting = async {
        sleep(Duration::from_secs(2)).await;
        act.await;
        sleep(Duration::from_secs(3)).await;
        done.set(true);
    };
    tokio::join!(send, receive, acting).1
}

#[test]
fn a_warm_line_takes_over_from_one_that_is_cut() {
    tell(5, async |world| {
        let (ours, theirs) = hosts(&world, Link::delay(Duration::from_millis(7)));
        let other = world.lan();
        let (alices, bobs) = (ours.attach(other, line()), theirs.attach(other, line()));
        let first = ours.interfaces().unwrap().into_iter().find(|own| !own.loopback).unwrap().index;
        let alice = Station::in_lab(&ours);
        let any = Station::new(Arc::new(theirs.clone()), Ipv4Addr::UNSPECIFIED.into());
        let bob = Station { addr: (theirs.ipv4(), any.addr.port()).into(), ..any };
        let (connection, peer) = alice.connect(&bob).await;
        let mut events = connection.events();
        let socket = alice.endpoint.add_socket(&UdpBind::new((address(&ours, alices), 0).into())).unwrap();
        let link = connection.add_link_from(socket, (address(&theirs, bobs), bob.addr.port()).into());
        let second = link.await.unwrap();
        connection.set_available(second, false);
        let cut = async { ours.set_outage(first, true) };
        let gap = longest_gap(&connection, &peer, cut).await;
        assert!(gap < Duration::from_millis(250), "{gap:?}");
        let mut dead = false;
        while let Ok(Some(news)) = timeout(Duration::from_millis(1), events.next()).await {
            dead |=
                matches!(news, News::Link(link) if link.link != second && link.status == LinkStatus::Dead);
        }
        assert!(dead, "nobody told");
    });
}

#[test]
fn an_address_that_changes_is_followed() {
    tell(6, async |world| {
        let (ours, theirs) = hosts(&world, line());
        let index = ours.interfaces().unwrap().into_iter().find(|own| !own.loopback).unwrap().index;
        let alice = Station::new(Arc::new(ours.clone()), Ipv4Addr::UNSPECIFIED.into());
        let bob = Station::in_lab(&theirs);
        let (connection, peer) = alice.connect(&bob).await;
        let before = peer.links()[0].route;
        let gap = longest_gap(&connection, &peer, async { ours.readdress(index) }).await;
        assert!(gap < Duration::from_secs(1), "{gap:?}");
        assert_ne!(peer.links()[0].route, before);
    });
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let hash = |seed| {
        let story = async |world: World| {
            let (alice, bob) = hosts(&world, Link { loss: 0.02, ..line() });
            let tcp = bob.clone();
            let (alice, bob) = (Station::in_lab(&alice), Station::in_lab(&bob));
            let listener = bob.endpoint.listen((tcp.ipv4(), 0).into()).unwrap();
            let (ours, theirs) = alice.connect(&bob).await;
            let moves = async { assert!(ours.add_tcp(listener).await.is_ok()) };
            longest_gap(&ours, &theirs, moves).await;
            ours.close(Code::DONE, "");
            alice.endpoint.wait_idle().await;
            world.trace().hash()
        };
        Options::new(seed).run(story).unwrap()
    };
    assert_eq!(hash(7), hash(7));
    assert_ne!(hash(7), hash(8));
}
