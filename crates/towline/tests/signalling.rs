//! Requests and answers on the DHT as peers with other plans would put them.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::rogue::{NOWHERE, Rogue, public, request};
use common::{Lab, accepted, connected, echo, event, exchange, identity, ping_pong, self_signed, story};
use towline::dht::{InfoHash, Value};
use towline::net::now;
use towline::signal::{Extension, PeerRequest, RefusalReason, USER_TYPE};
use towline::{ConnectError, Event, Limits, Step};

#[test]
fn rubbish_at_the_request_key_disturbs_nobody() {
    story(1, async |world| {
        let (lab, alice, bob) = Lab::pair(world).await;
        tokio::spawn(echo(bob.clone()));
        let rogue = Rogue::new(&lab, identity(2)).await;
        let bob_key = public(&bob);
        let listened_at = InfoHash::of_peer_requests(&bob.device());
        let good = request(77, NOWHERE).encode();
        for cut in [0, 1, 5, 20, good.len() - 1] {
            rogue.put(&bob_key, good[..cut].to_vec()).await;
        }
        rogue.put(&bob_key, vec![0xff; 40_000]).await;
        rogue.put(&bob_key, [0x91; 5_000].to_vec()).await;
        rogue.put(&bob_key, request(0, NOWHERE).encode()).await;
        rogue.put(&bob_key, request(78, "no candidates at all").encode()).await;
        rogue.put(&bob_key, request(79, &"x".repeat(20_000)).encode()).await;
        // Neither signed nor encrypted, or not for Bob.
        let plain = || Value::new(0, 0, request(80, NOWHERE).encode()).with_user_type(USER_TYPE);
        rogue.dht.put(listened_at, plain(), towline::dht::PutOptions::default()).await.unwrap();
        rogue.dht.put_signed(listened_at, plain()).await.unwrap();
        rogue.dht.put_encrypted(listened_at, &public(&alice), plain()).await.unwrap();
        common::pass(Duration::from_secs(5)).await;
        assert!(bob.connections().await.iter().all(|info| info.device == identity(2).device_id()));
        let mut channel = alice.connect(bob.device(), "undisturbed").await.unwrap();
        assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
    });
}

#[test]
fn a_request_is_treated_once_however_often_it_comes() {
    story(2, async |world| {
        let (lab, _alice, bob) = Lab::pair(world).await;
        let rogue = Rogue::new(&lab, identity(2)).await;
        let mut events = bob.events();
        for _ in 0..4 {
            rogue.put(&public(&bob), request(4242, NOWHERE).encode()).await;
            common::pass(Duration::from_secs(1)).await;
        }
        assert_eq!(bob.connections().await.len(), 1);
        // Its path leads nowhere; the failure is told once, with its evidence, and the request stays treated.
        let error = event(&mut events, |event| match event {
            Event::IncomingFailed { error, .. } => Some(error.clone()),
            _ => None,
        });
        let error = error.await;
        assert_eq!(error.step(), Step::Path, "{error:?}");
        rogue.put(&public(&bob), request(4242, NOWHERE).encode()).await;
        common::pass(Duration::from_mins(1)).await;
        while let Ok(event) = events.try_recv() {
            assert!(!matches!(event, Event::IncomingFailed { .. } | Event::Progress { .. }), "{event:?}");
        }
        assert!(bob.connections().await.is_empty());
    });
}

#[test]
fn answers_nobody_waits_for_are_ignored() {
    story(3, async |world| {
        let (lab, alice, bob) = Lab::pair(world).await;
        let rogue = Rogue::new(&lab, identity(2)).await;
        let answer = |id| PeerRequest { is_answer: true, ..request(id, NOWHERE) };
        rogue.put(&public(&alice), answer(1).encode()).await;
        common::pass(Duration::from_secs(2)).await;
        assert!(alice.connections().await.is_empty());
        // One with the id of a dial under way, but from another device than the one dialled: refused, if it counted.
        let silent = Rogue::new(&lab, identity(3)).await;
        let dialling = tokio::spawn({
            let (alice, device) = (alice.clone(), silent.identity.device_id());
            async move { alice.connect(device, "mine").await }
        });
        let asked = silent.asked().await;
        let refused = Extension { refused: Some(RefusalReason::Busy), ..Extension::default() };
        let forged = PeerRequest { extension: Some(refused), ..answer(asked.id) };
        rogue.put(&public(&alice), forged.encode()).await;
        rogue.put(&public(&alice), answer(asked.id).encode()).await;
        common::pass(Duration::from_secs(5)).await;
        assert!(!dialling.is_finished(), "the answer of a stranger counted");
        silent.put(&public(&alice), forged.encode()).await;
        assert_eq!(dialling.await.unwrap().unwrap_err(), ConnectError::Refused(RefusalReason::Busy));
        let mut channels = accepted(&bob);
        let _both = connected(&alice, &bob, "as ever", &mut channels).await;
    });
}

#[test]
fn an_answer_without_candidates_fails_at_once() {
    story(4, async |world| {
        let (lab, alice, _bob) = Lab::pair(world).await;
        let rogue = Rogue::new(&lab, identity(2)).await;
        let dialling = tokio::spawn({
            let (alice, device) = (alice.clone(), rogue.identity.device_id());
            async move { alice.connect(device, "broken").await }
        });
        let asked = rogue.asked().await;
        let broken = PeerRequest { is_answer: true, ..request(asked.id, "neither here nor there") };
        rogue.put(&public(&alice), broken.encode()).await;
        let error = dialling.await.unwrap().unwrap_err();
        assert!(matches!(error, ConnectError::BadCandidates(_)), "{error:?}");
    });
}

/// A program that was just started asks and publishes its certificate at the same time.
#[test]
fn a_certificate_that_comes_after_the_request_counts() {
    story(12, async |world| {
        let (lab, _alice, bob) = Lab::pair(world).await;
        let mut late = Rogue::unpublished(&lab, identity(2)).await;
        let asked = tokio::spawn({
            let (own, key) = (late.dht.clone(), public(&bob));
            let at = InfoHash::of_peer_requests(&bob.device());
            let ask = Value::new(0, 0, request(6, NOWHERE).encode()).with_user_type(USER_TYPE);
            async move { own.put_encrypted(at, &key, ask).await.unwrap() }
        });
        common::pass(Duration::from_secs(1)).await;
        assert!(asked.is_finished());
        late.publish(towline::Eras::Both).await;
        let answer = late.find(|message| message.is_answer && message.id == 6);
        assert!(!tokio::time::timeout(Duration::from_secs(4), answer).await.unwrap().ice_message.is_empty());
    });
}

#[test]
fn a_device_without_an_account_is_turned_away() {
    story(5, async |world| {
        let (lab, _alice, bob) = Lab::pair(world).await;
        let alone = Rogue::new(&lab, self_signed()).await;
        let mut events = bob.events();
        alone.put(&public(&bob), request(5, NOWHERE).encode()).await;
        let error = event(&mut events, |event| match event {
            Event::IncomingFailed { device, error } => Some((*device, error.clone())),
            _ => None,
        });
        let (device, error) = error.await;
        assert_eq!(device, alone.identity.device_id());
        assert_eq!(error.step(), Step::Certificate, "{error:?}");
        // Nor is it dialled.
        let error = bob.connect(device, "hello").await.unwrap_err();
        assert_eq!(error.step(), Step::Certificate, "{error:?}");
    });
}

/// A device in the middle passes on, as its own, what two honest devices say: they meet, and TLS tells them apart.
#[test]
fn a_relayed_exchange_fails_at_the_wrong_key() {
    story(6, async |world| {
        let (lab, alice, bob) = Lab::pair(world).await;
        let middle = Rogue::new(&lab, identity(2)).await;
        let mut events = bob.events();
        let dialling = tokio::spawn({
            let (alice, device) = (alice.clone(), middle.identity.device_id());
            async move { alice.connect(device, "who are you?").await }
        });
        let asked = middle.asked().await;
        middle.put(&public(&bob), asked.encode()).await;
        let answer = middle.find(|message| message.is_answer).await;
        middle.put(&public(&alice), answer.encode()).await;
        let error = dialling.await.unwrap().unwrap_err();
        assert_eq!(error.step(), Step::Tls, "{error:?}");
        let told = event(&mut events, |event| match event {
            Event::IncomingFailed { error, .. } => Some(error.clone()),
            _ => None,
        });
        let told = told.await;
        assert_eq!(told.step(), Step::Tls, "{told:?}");
        let both = format!("{error:?} {told:?}");
        assert!(both.contains("WrongDevice"), "neither side names the wrong device: {both}");
        assert!(alice.established().is_empty() && bob.established().is_empty());
    });
}

#[test]
fn each_bound_has_its_error() {
    story(7, async |world| {
        let lab = Lab::new(world).await;
        let mut config = lab.config();
        config.limits.answers = 3;
        config.limits.answers_per_device = 2;
        let mut dialler = lab.config();
        dialler.limits.dials = 2;
        dialler.limits.waiters_per_dial = 3;
        let (lab, alice, bob) = lab.pair_with(dialler, config).await;
        let rogues = [Rogue::new(&lab, identity(2)).await, Rogue::new(&lab, identity(3)).await];
        // Answers of one device, and of all.
        for id in 1..=4 {
            rogues[0].put(&public(&bob), request(id, NOWHERE).encode()).await;
        }
        common::pass(Duration::from_secs(1)).await;
        assert_eq!(bob.connections().await.len(), 2);
        let towline = PeerRequest { extension: Some(Extension::default()), ..request(9, NOWHERE) };
        rogues[0].put(&public(&bob), towline.encode()).await;
        let refusal = rogues[0].find(|message| message.id == 9).await;
        assert_eq!(refusal.extension.unwrap().refused, Some(RefusalReason::Busy));
        for id in 1..=2 {
            rogues[1].put(&public(&bob), request(id, NOWHERE).encode()).await;
        }
        common::pass(Duration::from_secs(1)).await;
        assert_eq!(bob.connections().await.len(), 3);
        let begun = now();
        let error = alice.connect(bob.device(), "no room").await.unwrap_err();
        assert_eq!(error, ConnectError::Refused(RefusalReason::Busy));
        assert!(now() - begun < Duration::from_secs(2));
        // Dials, and those who wait for one.
        let dial = |device| {
            let alice = alice.clone();
            tokio::spawn(async move { alice.connect(device, "waiting").await })
        };
        let to = |rogue: &Rogue| rogue.identity.device_id();
        let waiting: Vec<_> = (0..3).map(|_| dial(to(&rogues[0]))).chain([dial(to(&rogues[1]))]).collect();
        common::pass(Duration::from_millis(1)).await;
        let error = alice.connect(to(&rogues[0]), "one too many").await.unwrap_err();
        assert_eq!(error, ConnectError::Busy { what: "calls waiting for one device", limit: 3 });
        let error = alice.connect(bob.device(), "one too many").await.unwrap_err();
        assert_eq!(error, ConnectError::Busy { what: "dials", limit: 2 });
        assert_eq!(error.step(), Step::Arguments);
        for dial in waiting {
            assert!(matches!(dial.await.unwrap(), Err(ConnectError::NoAnswer { .. })));
        }
    });
}

#[test]
fn connections_are_bounded_in_both_directions() {
    story(8, async |world| {
        let lab = Lab::new(world).await;
        let mut config = lab.config();
        config.limits = Limits { connections: 1, ..Limits::default() };
        let (lab, alice, bob) = lab.pair_with(lab_config(&config), config).await;
        tokio::spawn(echo(bob.clone()));
        let mut channel = alice.connect(bob.device(), "first").await.unwrap();
        let carol = lab.node(2).await;
        carol.registered().await;
        let error = carol.connect(bob.device(), "second").await.unwrap_err();
        assert_eq!(error, ConnectError::Refused(RefusalReason::Busy));
        let error = bob.connect(carol.device(), "second").await.unwrap_err();
        assert_eq!(error, ConnectError::Busy { what: "connections", limit: 1 });
        ping_pong(&mut channel, b"first").await.unwrap();
        alice.shutdown().await;
        common::pass(Duration::from_secs(1)).await;
        let mut channel = carol.connect(bob.device(), "now there is room").await.unwrap();
        ping_pong(&mut channel, b"second").await.unwrap();
    });
}

/// The set-up without its bounds.
fn lab_config(config: &towline::Config) -> towline::Config {
    towline::Config { limits: Limits::default(), ..config.clone() }
}

#[test]
fn a_chain_longer_than_allowed_is_not_looked_at() {
    story(9, async |world| {
        let lab = Lab::new(world).await;
        let (wide, mut narrow) = (lab.config(), lab.config());
        narrow.limits.certificate_chain = 1000;
        let (_lab, alice, bob) = lab.pair_with(narrow, wide).await;
        let error = alice.connect(bob.device(), "hello").await.unwrap_err();
        assert!(matches!(error, ConnectError::BadChain(_)), "{error:?}");
    });
}

/// A Jami peer takes any answer for candidates, so it is turned away by silence.
#[test]
fn who_does_not_know_refusals_gets_no_answer() {
    story(10, async |world| {
        let lab = Lab::new(world).await;
        let config = lab.config();
        let nobody = towline::ConnectionPolicy::Devices(Arc::default());
        let picky = config.clone().with_policy(nobody);
        let (lab, _alice, bob) = lab.pair_with(config, picky).await;
        let jami = Rogue::new(&lab, identity(2)).await;
        jami.put(&public(&bob), request(10, NOWHERE).encode()).await;
        let answer = tokio::time::timeout(Duration::from_mins(2), jami.find(|message| message.id == 10));
        assert!(answer.await.is_err());
        // A Towline is told.
        let towline = PeerRequest { extension: Some(Extension::default()), ..request(11, NOWHERE) };
        jami.put(&public(&bob), towline.encode()).await;
        let refusal = jami.find(|message| message.id == 11).await;
        assert_eq!(refusal.extension.unwrap().refused, Some(RefusalReason::NotAllowed));
    });
}
