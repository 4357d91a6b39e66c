//! Requests that meet: a Jami peer asks us while we ask it, or both dial at once (`jamid.md` 1, `connection.md` 3.6).
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Duration;

use common::rogue::{NOWHERE, Rogue, public, request};
use common::{Lab, bytes, echo, identity, ping_pong, story};
use tokio::task::JoinHandle;
use towline::net::now;
use towline::signal::{Extension, PeerRequest};
use towline::{Channel, ConnectError, Dialect, Node, Origin};
use towline_lab::{Link, World};

fn dial(from: &Node, to: &Rogue) -> JoinHandle<Result<Channel, ConnectError>> {
    let (from, device) = (from.clone(), to.identity.device_id());
    tokio::spawn(async move { from.connect(device, "crossing").await })
}

/// Requests of ours that lie at the device's key.
async fn requests(to: &Rogue) -> Vec<PeerRequest> {
    let mut messages = to.lying_at(towline::dht::CertificateKey::Long).await;
    messages.retain(|message| !message.is_answer);
    messages
}

async fn rogue_and_node(world: World) -> (Lab, Rogue, Node) {
    let lab = Lab::new(world).await;
    let jami = Rogue::new(&lab, identity(2)).await;
    let bob = lab.node(1).await;
    bob.registered().await;
    (lab, jami, bob)
}

#[test]
fn a_known_request_is_answered_before_ours_goes_out() {
    story(1, async |world| {
        let (_lab, jami, bob) = rogue_and_node(world).await;
        jami.put(&public(&bob), request(51, NOWHERE).encode()).await;
        let begun = now();
        let dialling = dial(&bob, &jami);
        jami.find(|message| message.is_answer && message.id == 51).await;
        common::pass(Duration::from_secs(3)).await;
        assert!(requests(&jami).await.is_empty(), "ours crossed theirs");
        // Theirs leads nowhere, as a stale one does: ours goes out all the same.
        jami.asked().await;
        let waited = now() - begun;
        assert!(waited > Duration::from_secs(3) && waited < Duration::from_secs(7), "{waited:?}");
        let error = dialling.await.unwrap().unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error:?}");
    });
}

#[test]
fn a_device_that_asks_and_asks_is_asked_all_the_same() {
    story(6, async |world| {
        let (_lab, jami, bob) = rogue_and_node(world).await;
        let key = public(&bob);
        let asking = async {
            for id in 60.. {
                jami.put(&key, request(id, NOWHERE).encode()).await;
                common::pass(Duration::from_secs(2)).await;
            }
        };
        let dialled = async {
            common::pass(Duration::from_secs(1)).await;
            let begun = now();
            let dialling = dial(&bob, &jami);
            jami.asked().await;
            dialling.abort();
            now() - begun
        };
        let waited = tokio::select! {
            () = asking => unreachable!("it never stops"),
            waited = dialled => waited,
        };
        assert!(waited < Duration::from_secs(8), "{waited:?}");
    });
}

#[test]
fn a_request_that_fails_at_once_delays_nothing() {
    story(2, async |world| {
        let (_lab, jami, bob) = rogue_and_node(world).await;
        let begun = now();
        let dialling = dial(&bob, &jami);
        jami.put(&public(&bob), request(52, "no candidates at all").encode()).await;
        jami.asked().await;
        assert!(now() - begun < Duration::from_secs(2), "{:?}", now() - begun);
        dialling.abort();
    });
}

#[test]
fn a_request_that_comes_while_ours_is_out_is_answered_and_ours_not_repeated() {
    story(3, async |world| {
        let (_lab, jami, bob) = rogue_and_node(world).await;
        let dialling = dial(&bob, &jami);
        let ours = jami.asked().await;
        jami.put(&public(&bob), request(53, NOWHERE).encode()).await;
        jami.find(|message| message.is_answer && message.id == 53).await;
        let error = dialling.await.unwrap().unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error:?}");
        let lying = requests(&jami).await;
        assert!(lying.len() == 1 && lying[0].id == ours.id, "{} requests", lying.len());
    });
}

#[test]
fn a_request_of_a_towline_holds_nothing_up() {
    story(4, async |world| {
        let (_lab, towline, bob) = rogue_and_node(world).await;
        let theirs = PeerRequest { extension: Some(Extension::default()), ..request(54, NOWHERE) };
        towline.put(&public(&bob), theirs.encode()).await;
        towline.find(|message| message.is_answer).await;
        let begun = now();
        let dialling = dial(&bob, &towline);
        towline.asked().await;
        assert!(now() - begun < Duration::from_secs(1));
        dialling.abort();
    });
}

/// Two nodes, the first of which or both speak as Jami does.
async fn pair(world: World, second: bool, latencies: [u64; 2]) -> (Lab, Node, Node) {
    let lab = Lab::new(world).await;
    let mut nodes = Vec::new();
    for (number, (native_dialect, latency)) in [false, second].into_iter().zip(latencies).enumerate() {
        let host = lab.world.host(format!("device-{number}"));
        host.attach(lab.internet, Link::delay(Duration::from_millis(latency)));
        let config = towline::Config { native_dialect, ..lab.config() };
        nodes.push(lab.node_on(&host, identity(number), config).await);
    }
    for node in &nodes {
        node.registered().await;
        tokio::spawn(echo(node.clone()));
    }
    let bob = nodes.pop().unwrap();
    (lab, nodes.pop().unwrap(), bob)
}

/// Both dial, the second somewhat later; all channels of both sides work, before and after.
#[test]
fn both_sides_dial_at_once_in_the_dialect_of_jami() {
    for seed in 0..12_u64 {
        story(seed, async |world| {
            let second = seed % 3 == 0;
            let (_lab, alice, bob) = pair(world, second, [3 + seed * 17 % 80, 3 + seed * 23 % 90]).await;
            let calls = async |from: &Node, to: &Node, delay: Duration| {
                tokio::time::sleep(delay).await;
                let mut kept = Vec::new();
                for number in 0..5 {
                    let name = format!("{number}");
                    let mut channel = from.connect(to.device(), &name).await.unwrap();
                    ping_pong(&mut channel, &bytes(number, 1000)).await.unwrap();
                    kept.push(channel);
                    tokio::time::sleep(Duration::from_millis(13)).await;
                }
                kept
            };
            let delay = Duration::from_millis(seed * 37 % 300);
            let (near, far) = tokio::join!(calls(&alice, &bob, Duration::ZERO), calls(&bob, &alice, delay));
            // Whatever stands goes on standing: Jami retires nothing.
            tokio::time::sleep(Duration::from_secs(50)).await;
            for mut channel in near.into_iter().chain(far) {
                ping_pong(&mut channel, b"still here").await.unwrap();
            }
            let (ours, theirs) = (alice.established(), bob.established());
            assert!((1..=2).contains(&ours.len()) && ours.len() == theirs.len(), "{ours:?} {theirs:?}");
            for connection in &ours {
                assert_eq!(connection.info().established.unwrap().dialect, Dialect::Jami);
                assert!(connection.ping().await.is_some(), "beacons go both ways");
            }
            // Both open new channels on the same one.
            let preferred = |node: &Node, to: &Node| node.connection(to.device()).unwrap().id();
            assert_eq!(preferred(&alice, &bob), preferred(&bob, &alice));
        });
    }
}

#[test]
fn a_dial_that_gave_way_uses_what_the_other_side_made() {
    story(20, async |world| {
        // Bob reads Alice's request before the program of Bob asks for her.
        let (_lab, alice, bob) = pair(world, true, [60, 60]).await;
        let mut events = bob.events();
        let dialling = tokio::spawn({
            let (alice, device) = (alice.clone(), bob.device());
            async move { alice.connect(device, "theirs").await }
        });
        // The attempt to answer has begun.
        common::event(&mut events, |event| matches!(event, towline::Event::Progress { .. }).then_some(()))
            .await;
        let mut channel = bob.connect(alice.device(), "ours").await.unwrap();
        ping_pong(&mut channel, b"hello").await.unwrap();
        let mut other = dialling.await.unwrap().unwrap();
        ping_pong(&mut other, b"hello").await.unwrap();
        common::pass(Duration::from_secs(40)).await;
        assert_eq!((alice.connections().await.len(), bob.connections().await.len()), (1, 1));
        assert_eq!(bob.established()[0].info().origin, Origin::Answered);
    });
}

/// A Jami peer that does not admit us says nothing.
#[test]
fn a_silent_refusal_is_told_for_what_it_may_be() {
    story(21, async |world| {
        let lab = Lab::new(world).await;
        let picky = towline::Config {
            native_dialect: false,
            policy: towline::ConnectionPolicy::OwnAccount,
            ..lab.config()
        };
        let config = lab.config();
        let (_lab, alice, bob) = lab.pair_with(config, picky).await;
        let begun = now();
        let error = alice.connect(bob.device(), "hello").await.unwrap_err();
        assert!(now() - begun >= Duration::from_secs(30));
        let ConnectError::NoAnswer { stored_on, .. } = &error else { panic!("{error:?}") };
        assert!(*stored_on >= 1);
        let text = error.to_string();
        assert!(text.contains("refuses in silence") && text.contains("DHT nodes"), "{text}");
        // It was not banned for asking: when the other side lets it in, it gets in.
        let mut back = bob.connect(alice.device(), "other way").await;
        assert!(back.is_err(), "nobody serves it");
        tokio::spawn(echo(alice.clone()));
        back = bob.connect(alice.device(), "other way").await;
        ping_pong(&mut back.unwrap(), b"hello").await.unwrap();
    });
}
