//! One connection for all channels to a device, whoever dialled, and what programs get to see of it.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Lab, accepted, bytes, connected, echo, event, exchange, identity, ping_pong, story};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::{Carrier, ConnectionState, Dialect, Event, Node, Origin};
use towline_lab::Link;

#[test]
fn two_channels_share_a_connection_even_with_one_name() {
    story(1, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let (mut one, mut far_one) = connected(&alice, &bob, "same", &mut channels).await;
        let (mut two, mut far_two) = connected(&alice, &bob, "same", &mut channels).await;
        assert_eq!(one.connection(), two.connection());
        assert_ne!(one.number(), two.number());
        assert_eq!((one.number(), two.number()), (far_one.number(), far_two.number()));
        for (near, far, text) in [(&mut one, &mut far_one, b"first"), (&mut two, &mut far_two, b"other")] {
            near.write_all(text).await.unwrap();
            let mut read = [0; 5];
            far.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, text);
        }
        assert_eq!(alice.established().len(), 1);
        // The other direction uses it, too.
        let mut back = accepted(&alice);
        let (third, _far) = connected(&bob, &alice, "back", &mut back).await;
        assert_eq!(third.connection(), one.connection());
        assert!(third.opened_here() && !far_one.opened_here());
    });
}

#[test]
fn a_hundred_calls_at_once_share_one_connection() {
    story(2, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        tokio::spawn(echo(bob.clone()));
        let mut events = alice.events();
        let calls = (0..100).map(|n| {
            let (alice, device) = (alice.clone(), bob.device());
            async move {
                let mut channel = alice.connect(device, &format!("call-{n}")).await.unwrap();
                assert_eq!(exchange(&mut channel, &bytes(n, 100 + n)).await.unwrap(), bytes(n, 100 + n));
                channel.connection()
            }
        });
        let used: BTreeSet<_> = join_all(calls).await.into_iter().collect();
        assert_eq!(used.len(), 1);
        assert_eq!(alice.established().len(), 1);
        let first = event(&mut events, |event| match event {
            Event::Connected { connection, first, .. } => Some((*connection, *first)),
            _ => None,
        });
        assert_eq!(first.await, (*used.first().unwrap(), true));
        common::pass(Duration::from_mins(1)).await;
        while let Ok(event) = events.try_recv() {
            assert!(!matches!(event, Event::Connected { .. }), "a second connection: {event:?}");
        }
    });
}

/// Both dial at the same time, several channels each.
async fn glare(lab: &Lab, alice: &Node, bob: &Node, delay: Duration) {
    let (mut alice_events, mut bob_events) = (alice.events(), bob.events());
    tokio::spawn(echo(alice.clone()));
    tokio::spawn(echo(bob.clone()));
    let dial = async |from: &Node, to: &Node, delay: Duration| {
        tokio::time::sleep(delay).await;
        let mut kept = Vec::new();
        for round in 0..20 {
            let calls = (0..3).map(|n| {
                let (from, device) = (from.clone(), to.device());
                async move {
                    let mut channel = from.connect(device, &format!("{round}-{n}")).await?;
                    ping_pong(&mut channel, &bytes(n, 1000)).await.unwrap();
                    Ok::<_, towline::ConnectError>(channel)
                }
            });
            for channel in join_all(calls).await {
                kept.push(channel.unwrap_or_else(|error| panic!("round {round}: {error:?}")));
            }
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        // Channels that were opened stay usable, whatever became of the connections meanwhile.
        for channel in &mut kept {
            ping_pong(channel, b"still here").await.unwrap();
        }
    };
    tokio::join!(dial(alice, bob, Duration::ZERO), dial(bob, alice, delay));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (near, far) = (alice.established(), bob.established());
    assert_eq!(
        (near.len(), far.len()),
        (1, 1),
        "{:#?} {:#?}",
        alice.connections().await,
        bob.connections().await
    );
    assert_eq!(near[0].id(), far[0].id());
    for events in [&mut alice_events, &mut bob_events] {
        let mut firsts = 0;
        while let Ok(event) = events.try_recv() {
            firsts += usize::from(matches!(event, Event::Connected { first: true, .. }));
            let lost = matches!(event, Event::Disconnected { .. });
            assert!(!lost || firsts == 1, "{event:?}");
        }
        assert_eq!(firsts, 1, "the first connection to a device is told once");
    }
    let mut channel = alice.connect(bob.device(), "settled").await.unwrap();
    ping_pong(&mut channel, b"hello").await.unwrap();
    let mut channel = bob.connect(alice.device(), "settled").await.unwrap();
    ping_pong(&mut channel, b"hello").await.unwrap();
    assert!(lab.world.elapsed() < common::LIMIT);
}

#[test]
fn dialling_from_both_ends_leaves_one_connection() {
    for seed in 0..16 {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            // Uneven lines: the two ends learn of each connection at different times.
            let line = |latency: u64| Link {
                jitter: Duration::from_millis(latency / 2),
                loss: if seed % 4 == 3 { 0.03 } else { 0.0 },
                ..Link::delay(Duration::from_millis(latency))
            };
            let hosts = [lab.world.host("alice"), lab.world.host("bob")];
            hosts[0].attach(lab.internet, line(3 + seed * 7 % 90));
            hosts[1].attach(lab.internet, line(3 + seed * 13 % 120));
            let alice = lab.node_on(&hosts[0], identity(0), lab.config()).await;
            let bob = lab.node_on(&hosts[1], identity(1), lab.config()).await;
            alice.registered().await;
            bob.registered().await;
            glare(&lab, &alice, &bob, Duration::from_millis(seed * 11 % 160)).await;
        });
    }
}

#[test]
fn lists_show_the_way_from_attempt_to_end() {
    story(3, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        assert!(alice.connections().await.is_empty());
        let dialling = tokio::spawn({
            let (alice, device) = (alice.clone(), bob.device());
            async move { alice.connect(device, "listed").await }
        });
        let mut seen = Vec::new();
        let info = loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let list = alice.connections().await;
            assert!(list.len() <= 1, "{list:?}");
            let Some(info) = list.into_iter().next() else { continue };
            assert_eq!((info.device, info.origin), (bob.device(), Origin::Dialled));
            if seen.last() != Some(&info.state) {
                seen.push(info.state);
            }
            if info.state == ConnectionState::Established {
                break info;
            }
        };
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!(seen.first(), Some(&ConnectionState::Signalling));
        assert!(
            seen.contains(&ConnectionState::Path),
            "the list does not tell how far an attempt is: {seen:?}"
        );
        let mut near = dialling.await.unwrap().unwrap();
        let mut far = channels.recv().await.unwrap();
        assert_eq!(info.account, Some(bob.account()));
        let established = info.established.unwrap();
        assert_eq!(established.dialect, Dialect::Native);
        assert_eq!(established.carrier, Carrier::Channeler);
        assert!(established.security.contains("ML-KEM"), "{}", established.security);
        assert!(established.timeline.total() > Duration::ZERO);

        near.write_all(&[7; 1000]).await.unwrap();
        far.read_exact(&mut [0; 1000]).await.unwrap();
        let connection = alice.connection(bob.device()).unwrap();
        let list = connection.channels().await;
        assert_eq!(list.len(), 1);
        assert_eq!((&*list[0].name, list[0].opened_here, list[0].sent), ("listed", true, 1000));
        let other = bob.connection(alice.device()).unwrap();
        let list = other.channels().await;
        assert_eq!((&*list[0].name, list[0].opened_here, list[0].received), ("listed", false, 1000));
        assert_eq!(list[0].id, near.number());
        assert_eq!(other.info().origin, Origin::Answered);
        assert_eq!((other.id(), other.peer().device), (connection.id(), alice.device()));
        let info = other.info().established.unwrap();
        assert_eq!((info.received, info.channels), (1000, 1));

        drop((near, far));
        common::pass(Duration::from_secs(1)).await;
        assert!(connection.channels().await.is_empty() && other.channels().await.is_empty());
        assert!(connection.ping().await.is_some());
        connection.close().await;
        common::pass(Duration::from_secs(1)).await;
        assert!(alice.connections().await.is_empty() && bob.connections().await.is_empty());
        assert!(connection.is_closed() && connection.channels().await.is_empty());
        assert!(connection.ping().await.is_none());
    });
}

#[test]
fn progress_is_told_in_order() {
    story(4, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let (mut near, mut far) = (alice.events(), bob.events());
        let connection = alice.dial(bob.device()).await.unwrap();
        for (events, peer) in [(&mut near, bob.device()), (&mut far, alice.device())] {
            let mut states = Vec::new();
            let mut last = Duration::ZERO;
            loop {
                match events.recv().await.unwrap() {
                    Event::Progress { connection: id, device, state, elapsed } => {
                        assert_eq!((id, device), (connection.id(), peer));
                        assert!(elapsed >= last);
                        last = elapsed;
                        states.push(state);
                    }
                    Event::Connected { connection: id, device, first, path, timeline } => {
                        assert_eq!((id, device, first), (connection.id(), peer, true));
                        assert_ne!(path.local, path.remote);
                        assert!(timeline.total() >= last);
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            let order = [ConnectionState::Signalling, ConnectionState::Path, ConnectionState::Securing];
            assert_eq!(states, order);
        }
        connection.close().await;
        for (events, id) in [(&mut near, connection.id()), (&mut far, connection.id())] {
            let Event::Disconnected { connection, .. } = events.recv().await.unwrap() else {
                panic!("no end")
            };
            assert_eq!(connection, id);
        }
    });
}
