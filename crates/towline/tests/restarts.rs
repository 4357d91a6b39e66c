//! Requests that lie on the DHT from before a node started, and what it can know about them.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::rogue::{NOWHERE, Rogue, public, request};
use common::{Lab, echo, identity, ping_pong, story};
use towline::signal::PeerRequest;
use towline::{Config, Node};

fn remembering(lab: &Lab, path: &Path) -> Config {
    Config { treated_path: Some(path.to_owned()), ..lab.config() }
}

/// A device that was asked something before it restarted, and has answered.
async fn restarted(lab: &Lab, config: Config, end: impl AsyncFnOnce(Node)) -> (Rogue, Node) {
    let jami = Rogue::new(lab, identity(2)).await;
    let host = lab.host("bob");
    let bob = lab.node_on(&host, identity(1), config.clone()).await;
    bob.registered().await;
    jami.put(&public(&bob), request(31, NOWHERE).encode()).await;
    jami.find(|message| message.is_answer && message.id == 31).await;
    end(bob).await;
    let host = lab.host("bob again");
    (jami, lab.node_on(&host, identity(1), config).await)
}

async fn answers(jami: &Rogue, id: u64) -> usize {
    let messages = jami.lying_at(towline::dht::CertificateKey::Long).await;
    messages.iter().filter(|message| message.is_answer && message.id == id).count()
}

#[test]
fn a_restarted_device_does_not_answer_again() {
    story(1, async |world| {
        let directory = tempfile::tempdir().unwrap();
        let lab = Lab::new(world).await;
        let config = remembering(&lab, &directory.path().join("treated"));
        let (jami, bob) = restarted(&lab, config, async |bob| bob.shutdown().await).await;
        bob.registered().await;
        common::pass(Duration::from_secs(20)).await;
        assert_eq!(answers(&jami, 31).await, 1);
        assert!(bob.connections().await.is_empty());
        // A new one is answered.
        jami.put(&public(&bob), request(32, NOWHERE).encode()).await;
        jami.find(|message| message.is_answer && message.id == 32).await;
    });
}

#[test]
fn nor_does_one_that_crashed() {
    story(2, async |world| {
        let directory = tempfile::tempdir().unwrap();
        let lab = Lab::new(world).await;
        let config = remembering(&lab, &directory.path().join("treated"));
        let crash = async |bob| {
            common::pass(Duration::from_secs(3)).await;
            drop(bob);
        };
        let (jami, bob) = restarted(&lab, config, crash).await;
        bob.registered().await;
        common::pass(Duration::from_secs(20)).await;
        assert_eq!(answers(&jami, 31).await, 1);
    });
}

/// Nothing tells their age, so they are answered: one of them may be seconds old.
#[test]
fn without_a_memory_what_lies_there_is_answered() {
    story(3, async |world| {
        let lab = Lab::new(world).await;
        let config = lab.config();
        let (jami, bob) = restarted(&lab, config, async |bob| bob.shutdown().await).await;
        bob.registered().await;
        common::pass(Duration::from_secs(20)).await;
        assert_eq!(answers(&jami, 31).await, 2);
    });
}

#[test]
fn a_request_from_while_nobody_listened_is_answered() {
    story(4, async |world| {
        let lab = Lab::new(world).await;
        let jami = Rogue::new(&lab, identity(2)).await;
        jami.put(identity(1).key().public(), request(33, NOWHERE).encode()).await;
        common::pass(Duration::from_secs(10)).await;
        let _bob = lab.node(1).await;
        let answered = jami.finds_within(Duration::from_secs(20), |message: &PeerRequest| {
            message.is_answer && message.id == 33
        });
        assert!(answered.await);
    });
}

#[test]
fn a_damaged_memory_is_replaced() {
    story(5, async |world| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("treated");
        std::fs::write(&path, vec![0xff; 100_000]).unwrap();
        let lab = Lab::new(world).await;
        let (picky, config) = (remembering(&lab, &path), lab.config());
        let (_lab, alice, bob) = lab.pair_with(config, picky).await;
        tokio::spawn(echo(bob.clone()));
        let mut channel = alice.connect(bob.device(), "hello").await.unwrap();
        ping_pong(&mut channel, b"hello").await.unwrap();
        bob.shutdown().await;
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(
            written.starts_with(&alice.device().to_string()) && written.lines().count() == 1,
            "{written}"
        );
    });
}

#[test]
fn an_old_request_costs_a_moment_and_no_more() {
    story(6, async |world| {
        let lab = Lab::new(world).await;
        let jami = Rogue::new(&lab, identity(2)).await;
        for id in 40..60 {
            jami.put(identity(1).key().public(), request(id, NOWHERE).encode()).await;
        }
        let bob = lab.node(1).await;
        tokio::spawn(echo(bob.clone()));
        bob.registered().await;
        common::pass(Duration::from_secs(2)).await;
        assert!(bob.connections().await.len() <= bob_limit(), "{:?}", bob.connections().await);
        // Others are served meanwhile.
        let alice = lab.node(0).await;
        alice.registered().await;
        let mut channel = alice.connect(bob.device(), "hello").await.unwrap();
        ping_pong(&mut channel, b"hello").await.unwrap();
        common::pass(Duration::from_mins(2)).await;
        assert_eq!(bob.connections().await.len(), 1, "only the one that stands");
    });
}

fn bob_limit() -> usize {
    towline::Limits::default().answers_per_device
}
