//! Connections that are lost, peers that vanish, lines that stutter.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::io::ErrorKind;
use std::time::Duration;

use common::{
    Lab, accepted, bytes, channel_error, connected, echo, event, exchange, identity, ping_pong, story,
};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::net::now;
use towline::{ChannelError, CloseReason, ConnectError, Connection, Event, IncomingChannel, Node};
use towline_lab::{Host, Link};

/// Waits until `node` is asked for a channel, and closes the connection it came on instead of answering.
async fn close_instead(node: &Node) -> IncomingChannel {
    let incoming = node.incoming().await.unwrap();
    let connection =
        node.established().into_iter().find(|connection| connection.id() == incoming.connection());
    connection.unwrap().close().await;
    incoming
}

#[test]
fn an_unanswered_request_is_made_once_more_on_a_new_connection() {
    story(1, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let program = bob.clone();
        let answering = tokio::spawn(async move {
            let first = close_instead(&program).await;
            let lost = first.connection();
            assert!(first.accept().await.is_err(), "a channel of a connection that is gone");
            let second = program.incoming().await.unwrap();
            assert_ne!(second.connection(), lost);
            assert_eq!(second.name(), "again");
            second.accept().await.unwrap()
        });
        let mut near = alice.connect(bob.device(), "again").await.unwrap();
        let mut far = answering.await.unwrap();
        near.write_all(b"hello").await.unwrap();
        far.read_exact(&mut [0; 5]).await.unwrap();
    });
}

#[test]
fn a_request_whose_connection_is_lost_twice_fails_once() {
    story(2, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let program = bob.clone();
        let asked = tokio::spawn(async move {
            let mut asked = 0;
            loop {
                let _closed = close_instead(&program).await;
                asked += 1;
                if asked == 2 {
                    return tokio::time::timeout(Duration::from_mins(1), program.incoming()).await.is_err();
                }
            }
        });
        let error = alice.connect(bob.device(), "doomed").await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Channel(ChannelError::Connection(CloseReason::GoAway(_)))),
            "{error:?}"
        );
        assert!(asked.await.unwrap(), "the request was made a third time");
    });
}

#[test]
fn a_storm_of_requests_survives_the_loss_of_its_connection() {
    const CHANNELS: usize = 1500;
    for (seed, wait) in [(3, 0), (4, 5), (5, 11), (6, 30)] {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let mut config = lab.config();
            config.limits.pending_channel_requests = CHANNELS;
            config.limits.incoming_queue = CHANNELS;
            config.limits.waiters_per_dial = CHANNELS;
            let (_lab, alice, bob) = lab.pair_with(config.clone(), config).await;
            tokio::spawn(echo(bob.clone()));
            let first = alice.dial(bob.device()).await.unwrap();
            let killer = async {
                common::pass(Duration::from_millis(wait)).await;
                bob.close_with(alice.device()).await;
            };
            let connects = join_all((0..CHANNELS).map(|n| {
                let (alice, device) = (alice.clone(), bob.device());
                async move { alice.connect(device, &format!("storm-{n}")).await }
            }));
            let (channels, ()) = tokio::join!(connects, killer);
            let opened = channels.into_iter().enumerate().map(|(n, channel)| match channel {
                Ok(channel) => channel,
                Err(error) => panic!("request {n} after {wait} ms: {error:?}"),
            });
            assert_eq!(opened.count(), CHANNELS);
            first.closed().await;
            let mut channel = alice.connect(bob.device(), "after the storm").await.unwrap();
            assert_eq!(exchange(&mut channel, b"calm").await.unwrap(), b"calm");
        });
    }
}

/// Two connected nodes, with Bob's host to hurt and a channel between them.
async fn with_host(lab: &Lab) -> (Node, Node, Host, Connection) {
    let host = lab.host("bob");
    let (alice, bob) = (lab.node(0).await, lab.node_on(&host, identity(1), lab.config()).await);
    alice.registered().await;
    bob.registered().await;
    let connection = alice.dial(bob.device()).await.unwrap();
    (alice, bob, host, connection)
}

#[test]
fn a_crashed_peer_is_found_dead_by_keep_alive() {
    story(7, async |world| {
        let lab = Lab::new(world).await;
        let (alice, bob, host, connection) = with_host(&lab).await;
        let mut channels = accepted(&bob);
        let (mut near, _far) = connected(&alice, &bob, "idle", &mut channels).await;
        let mut events = alice.events();
        host.crash();
        let begun = now();
        let error = near.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "a vanished peer is no end of stream");
        assert_eq!(channel_error(&error), &ChannelError::Connection(CloseReason::Dead));
        let took = now() - begun;
        assert!(took >= Duration::from_secs(15) && took <= Duration::from_secs(41), "{took:?}");
        let reason = event(&mut events, |event| match event {
            Event::Disconnected { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        assert_eq!(reason.await, CloseReason::Dead);
        assert!(connection.is_closed());
        let error = near.write_all(b"x").await.unwrap_err();
        assert!(matches!(channel_error(&error), ChannelError::Connection(CloseReason::Dead)), "{error:?}");
    });
}

#[test]
fn an_outage_shorter_than_the_keep_alive_is_survived() {
    story(8, async |world| {
        let lab = Lab::new(world).await;
        let (alice, bob, host, connection) = with_host(&lab).await;
        tokio::spawn(echo(bob.clone()));
        let mut channel = alice.connect(bob.device(), "patient").await.unwrap();
        host.set_outage(2, true);
        channel.write_all(b"into the void").await.unwrap();
        common::pass(Duration::from_secs(15)).await;
        host.set_outage(2, false);
        channel.shutdown().await.unwrap();
        let mut text = String::new();
        channel.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "into the void");
        assert!(!connection.is_closed());
    });
}

#[test]
fn after_a_change_of_network_a_silent_peer_has_half_a_minute() {
    story(9, async |world| {
        let lab = Lab::new(world).await;
        let (alice, bob, host, connection) = with_host(&lab).await;
        tokio::spawn(echo(bob.clone()));
        let mut channel = alice.connect(bob.device(), "probed").await.unwrap();
        // A live connection passes.
        alice.connectivity_changed().await;
        common::pass(Duration::from_secs(10)).await;
        ping_pong(&mut channel, b"alive").await.unwrap();
        // A dead one is found out, and new paths are looked for until there is no hope.
        host.set_outage(2, true);
        alice.connectivity_changed().await;
        let begun = now();
        connection.closed().await;
        let took = now() - begun;
        // Two seconds of silence, the search, and a second for a farewell that nobody takes.
        assert!(took >= Duration::from_secs(15) && took <= Duration::from_secs(35), "{took:?}");
        let error = channel.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(channel_error(&error), &ChannelError::Connection(CloseReason::Dead));
    });
}

#[test]
fn a_connection_follows_this_host_to_a_new_address() {
    story(10, async |world| {
        let lab = Lab::new(world).await;
        let (alice, bob, host, connection) = with_host(&lab).await;
        tokio::spawn(echo(alice.clone()));
        let mut before = bob.connect(alice.device(), "before").await.unwrap();
        host.readdress(2);
        ping_pong(&mut before, b"moved").await.unwrap();
        let mut channel = bob.connect(alice.device(), "after").await.unwrap();
        assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
        assert_eq!(channel.connection(), connection.id());
    });
}

#[test]
fn a_peer_that_restarts_is_reached_again() {
    story(11, async |world| {
        let lab = Lab::new(world).await;
        let (alice, bob, host, _connection) = with_host(&lab).await;
        host.crash();
        drop(bob);
        common::pass(Duration::from_mins(1)).await;
        host.boot();
        let bob = lab.node_on(&host, identity(1), lab.config()).await;
        bob.registered().await;
        tokio::spawn(echo(bob.clone()));
        let mut channel = alice.connect(bob.device(), "back again").await.unwrap();
        assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
    });
}

#[test]
fn a_device_that_comes_back_elsewhere_may_dial_at_once() {
    for (seed, (first, bob_first)) in
        (40..).zip((0..8).flat_map(|_| [(0, false), (0, true), (1, false), (1, true)]))
    {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let host = lab.host("bob");
            let alice = lab.node(first).await;
            let bob = lab.node_on(&host, identity(1 - first), lab.config()).await;
            alice.registered().await;
            bob.registered().await;
            tokio::spawn(echo(alice.clone()));
            let (from, to) = if bob_first { (&bob, &alice) } else { (&alice, &bob) };
            from.dial(to.device()).await.unwrap();
            // Nobody tells Alice that this connection is gone.
            host.crash();
            drop(bob);
            let bob = lab.node(1 - first).await;
            let mut channel = bob.connect(alice.device(), "moved").await.unwrap();
            ping_pong(&mut channel, b"from elsewhere").await.unwrap();
        });
    }
}

#[test]
fn the_death_of_the_bootstrap_node_disturbs_no_connection() {
    story(12, async |world| {
        let (lab, alice, bob) = Lab::pair(world).await;
        tokio::spawn(echo(bob.clone()));
        let mut channel = alice.connect(bob.device(), "before").await.unwrap();
        lab.bootstrap_host.crash();
        common::pass(Duration::from_mins(5)).await;
        ping_pong(&mut channel, b"unaffected").await.unwrap();
        let mut another = alice.connect(bob.device(), "after").await.unwrap();
        assert_eq!(exchange(&mut another, b"hello").await.unwrap(), b"hello");
        assert_eq!(another.connection(), channel.connection());
        // The two of them are a DHT, too: they find each other without it.
        alice.close_with(bob.device()).await;
        let mut anew = alice.connect(bob.device(), "anew").await.unwrap();
        assert_eq!(exchange(&mut anew, b"hello").await.unwrap(), b"hello");
    });
}

#[test]
fn slow_and_lossy_lines_connect_and_deliver() {
    let lines = [
        ("thin", Link { rate: Some(16_000), ..Link::delay(Duration::from_millis(150)) }, 60_000),
        ("lossy", Link { loss: 0.10, ..Link::dsl() }, 300_000),
        ("far", Link::delay(Duration::from_millis(400)), 1_000_000),
        ("mobile", Link::mobile(), 1_000_000),
    ];
    for (seed, (name, link, len)) in (20..).zip(lines) {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let host = world_host(&lab, name, &link);
            let alice = lab.node_on(&host, identity(0), lab.config()).await;
            let bob = lab.node(1).await;
            bob.registered().await;
            alice.registered().await;
            tokio::spawn(echo(bob.clone()));
            let begun = now();
            let channel = alice.connect(bob.device(), name).await;
            let channel = channel.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            println!("{name}: connected after {:?}", now() - begun);
            let (mut reader, mut writer) = channel.split();
            let sent = bytes(len, len);
            let send = async {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let ((), end) = tokio::join!(send, reader.read_to_end(&mut received));
            end.unwrap();
            assert!(received == sent, "{name}: {} of {len} bytes", received.len());
            println!("{name}: {len} bytes there and back after {:?}", now() - begun);
        });
    }
}

fn world_host(lab: &Lab, name: &str, link: &Link) -> Host {
    let host = lab.world.host(name);
    host.attach(lab.internet, link.clone());
    host
}
