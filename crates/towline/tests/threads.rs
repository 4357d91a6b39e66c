//! On real sockets and several threads, where tasks meet at any moment: the stories in which races would show.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::sync::Arc;

use common::{accepted, bytes, connected, echo, exchange, identity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use towline::dht::{Dht, DhtConfig};
use towline::net::{Net, Os};
use towline::{Config, ConnectionPolicy, Node};

const CHANNELS: usize = 2000;

/// A DHT node on loopback and two devices that met there.
async fn pair() -> (Dht, Node, Node) {
    let net: Arc<dyn Net> = Arc::new(Os);
    let dht = Dht::start(Arc::clone(&net), DhtConfig::on_loopback(), None).await.unwrap();
    let mut config = Config::loopback()
        .with_bootstrap(dht.local_addrs().v4.unwrap().to_string())
        .with_policy(ConnectionPolicy::DangerouslyAnyone);
    config.limits.pending_channel_requests = 2 * CHANNELS;
    config.limits.incoming_queue = 2 * CHANNELS;
    config.limits.waiters_per_dial = CHANNELS;
    let alice = Node::start(Arc::clone(&net), config.clone(), identity(0)).await.unwrap();
    let bob = Node::start(net, config, identity(1)).await.unwrap();
    bob.registered().await;
    (dht, alice, bob)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_written_arrives_before_the_end() {
    let (_dht, alice, bob) = pair().await;
    alice.dial(bob.device()).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..CHANNELS {
        let (alice, device) = (alice.clone(), bob.device());
        tasks.spawn(async move {
            let channel = alice.connect(device, &n.to_string()).await.unwrap();
            let (_reader, mut writer) = channel.split();
            writer.write_all(&bytes(n, n * 7)).await.unwrap();
            if n % 2 == 0 {
                writer.shutdown().await.unwrap();
            }
        });
    }
    for _ in 0..CHANNELS {
        let incoming = bob.incoming().await.unwrap();
        tasks.spawn(async move {
            let mut channel = incoming.accept().await.unwrap();
            let mut received = Vec::new();
            channel.read_to_end(&mut received).await.unwrap();
            let number: usize = channel.name().parse().unwrap();
            assert!(received == bytes(number, number * 7), "channel {number}: {} bytes", received.len());
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn channels_in_both_directions_do_not_mix() {
    let (_dht, alice, bob) = pair().await;
    let mut channels = accepted(&bob);
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let (near, far) = connected(&alice, &bob, &format!("both-{n}"), &mut channels).await;
        for (salt, channel) in [(n, near), (n + 1000, far)] {
            let (mut reader, mut writer) = channel.split();
            tasks.spawn(async move {
                writer.write_all(&bytes(salt, 2_000_000)).await.unwrap();
                writer.shutdown().await.unwrap();
            });
            tasks.spawn(async move {
                let expected = bytes(if salt < 1000 { salt + 1000 } else { salt - 1000 }, 2_000_000);
                let mut received = Vec::new();
                reader.read_to_end(&mut received).await.unwrap();
                assert!(received == expected, "{salt}: {} bytes", received.len());
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_survive_the_loss_of_their_connection() {
    let (_dht, alice, bob) = pair().await;
    tokio::spawn(echo(bob.clone()));
    alice.dial(bob.device()).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..CHANNELS {
        let (alice, device) = (alice.clone(), bob.device());
        tasks.spawn(async move { alice.connect(device, &format!("storm-{n}")).await.map(drop) });
    }
    let mut opened = 0;
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
        opened += 1;
        if opened == CHANNELS / 10 {
            bob.close_with(alice.device()).await;
        }
    }
    let mut channel = alice.connect(bob.device(), "calm").await.unwrap();
    assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn both_dial_at_once() {
    let (_dht, alice, bob) = pair().await;
    alice.registered().await;
    tokio::spawn(echo(alice.clone()));
    tokio::spawn(echo(bob.clone()));
    for round in 0..10_usize {
        let mut tasks = JoinSet::new();
        for (from, to) in [(&alice, &bob), (&bob, &alice)] {
            for n in 0..5 {
                let (from, device) = (from.clone(), to.device());
                tasks.spawn(async move {
                    let mut channel = from.connect(device, &format!("{round}-{n}")).await.unwrap();
                    assert_eq!(exchange(&mut channel, &bytes(n, 5_000)).await.unwrap(), bytes(n, 5_000));
                });
            }
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        // Dials that became needless end, too: one that the other side ends would fail the next round.
        alice.close_with(bob.device()).await;
        bob.close_with(alice.device()).await;
    }
    alice.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn last_words_are_heard_by_a_peer_in_the_middle_of_talking() {
    let (_dht, alice, bob) = pair().await;
    let mut channels = accepted(&bob);
    for round in 0..20 {
        let (mut near, mut far) = connected(&alice, &bob, "last words", &mut channels).await;
        let (listening, mut talking) = connected(&alice, &bob, "talk", &mut channels).await;
        let (mut ear, _mouth) = listening.split();
        let talk = tokio::spawn(async move { while talking.write_all(&bytes(1, 10_000)).await.is_ok() {} });
        let hear =
            tokio::spawn(async move { while ear.next_bytes().await.is_ok_and(|heard| heard.is_some()) {} });
        let words = bytes(round, 100_000);
        near.write_all(&words).await.unwrap();
        near.shutdown().await.unwrap();
        alice.close_with(bob.device()).await;
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert!(heard == words, "round {round}: {} bytes", heard.len());
        talk.await.unwrap();
        hear.await.unwrap();
    }
}
