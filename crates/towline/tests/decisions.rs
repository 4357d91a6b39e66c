//! Who may connect and which channels are accepted, and what the other side gets to know of it.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Lab, accepted, claimed, connected, echo, event, identity, ping_pong, self_signed, story};
use towline::dht::FindCertificateError;
use towline::net::now;
use towline::signal::RefusalReason;
use towline::{
    ChannelError, Code, Config, ConnectError, ConnectOptions, ConnectionPolicy, Event, Limits, Node,
    StartError, Step,
};

#[test]
fn a_refusal_by_policy_is_told_at_once() {
    story(1, async |world| {
        let lab = Lab::new(world).await;
        let config = lab.config();
        let picky = config.clone().with_policy(ConnectionPolicy::OwnAccount);
        let (_lab, alice, bob) = lab.pair_with(config, picky).await;
        let mut events = bob.events();
        let begun = now();
        let error = alice.connect(bob.device(), "anything").await.unwrap_err();
        assert_eq!(error, ConnectError::Refused(RefusalReason::NotAllowed));
        assert_eq!(error.step(), Step::Signalling);
        assert!(now() - begun < Duration::from_secs(2), "the refusal took {:?}", now() - begun);
        let why = event(&mut events, |event| match event {
            Event::IncomingFailed { device, error } => Some((*device, error.clone())),
            _ => None,
        });
        assert_eq!(why.await, (alice.device(), ConnectError::NotAdmitted));
        assert!(bob.established().is_empty());
    });
}

#[test]
fn a_policy_of_the_program_sees_who_asks() {
    story(2, async |world| {
        let lab = Lab::new(world).await;
        let config = lab.config();
        let (known, account) = (identity(0).device_id(), identity(0).account_id().unwrap());
        let policy = ConnectionPolicy::custom(move |peer| peer.device == known && peer.account == account);
        let (lab, alice, bob) = lab.pair_with(config.clone(), config.with_policy(policy)).await;
        tokio::spawn(echo(bob.clone()));
        let mut channel = alice.connect(bob.device(), "known").await.unwrap();
        ping_pong(&mut channel, b"hello").await.unwrap();
        let stranger = lab.node(2).await;
        let error = stranger.connect(bob.device(), "unknown").await.unwrap_err();
        assert_eq!(error, ConnectError::Refused(RefusalReason::NotAllowed));
        ping_pong(&mut channel, b"still here").await.unwrap();
    });
}

#[test]
fn a_peer_that_says_nothing_is_waited_for_thirty_seconds() {
    story(3, async |world| {
        let lab = Lab::new(world).await;
        // It can be found, but nobody listens for connection requests.
        let silent = lab.bare_dht("silent", identity(1)).await;
        let _published = silent.publish_certificate();
        let alice = lab.node(0).await;
        alice.registered().await;
        let begun = now();
        let error = alice.connect(identity(1).device_id(), "anybody?").await.unwrap_err();
        let ConnectError::NoAnswer { waited, stored_on, .. } = error else { panic!("{error:?}") };
        assert_eq!(waited, Duration::from_secs(30));
        assert!(stored_on >= 1, "the evidence names no node");
        let took = now() - begun;
        assert!(took >= waited && took < waited + Duration::from_secs(5), "{took:?}");
    });
}

#[test]
fn an_unknown_device_fails_with_what_was_seen() {
    story(4, async |world| {
        let (_lab, alice, _bob) = Lab::pair(world).await;
        let nobody = identity(5).device_id();
        let error = alice.connect(nobody, "hello").await.unwrap_err();
        assert_eq!(error.step(), Step::Certificate);
        let ConnectError::Certificate(FindCertificateError::NotFound(evidence)) = error else {
            panic!("{error:?}")
        };
        assert!(evidence.answers >= 1, "{evidence:?}");
        assert_eq!(evidence.values, 0);
    });
}

#[test]
fn without_any_dht_the_certificate_is_not_found_in_time() {
    story(5, async |world| {
        let internet = world.internet();
        let host = world.host("lonely");
        host.attach(internet, towline_lab::Link::fibre());
        let alone = Node::start(std::sync::Arc::new(host), Config::lan(), identity(0)).await.unwrap();
        let begun = now();
        let error = alone.connect(identity(1).device_id(), "hello").await.unwrap_err();
        assert_eq!(error.step(), Step::Certificate, "{error:?}");
        assert!(now() - begun <= Limits::default().certificate_timeout + Duration::from_secs(1));
    });
}

#[test]
fn arguments_are_checked_before_anything_is_done() {
    story(6, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let max = Limits::default().channel_name;
        let own = alice.connect(alice.device(), "me").await.unwrap_err();
        assert_eq!(own, ConnectError::OwnDevice(alice.device()));
        let empty = alice.connect(bob.device(), "").await.unwrap_err();
        assert_eq!(empty, ConnectError::BadName { len: 0, max });
        let long = alice.connect(bob.device(), &"n".repeat(max + 1)).await.unwrap_err();
        assert_eq!(long, ConnectError::BadName { len: max + 1, max });
        assert!([own, empty, long].iter().all(|error| error.step() == Step::Arguments));
        assert!(alice.connections().await.is_empty(), "something was dialled");
        tokio::spawn(echo(bob.clone()));
        let longest = "é".repeat(max / 2);
        let mut channel = alice.connect(bob.device(), &longest).await.unwrap();
        assert_eq!(channel.name(), longest);
        ping_pong(&mut channel, b"hello").await.unwrap();
    });
}

#[test]
fn an_existing_connection_only_never_dials() {
    story(7, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        tokio::spawn(echo(bob.clone()));
        let only = ConnectOptions { existing_only: true, ..ConnectOptions::default() };
        let error = alice.connect_with(bob.device(), "one", only).await.unwrap_err();
        assert_eq!(error, ConnectError::NotConnected);
        let _kept = alice.connect(bob.device(), "two").await.unwrap();
        let mut channel = alice.connect_with(bob.device(), "three", only).await.unwrap();
        ping_pong(&mut channel, b"hello").await.unwrap();
        assert_eq!(alice.established().len(), 1);
    });
}

#[test]
fn a_declined_channel_leaves_the_others() {
    story(8, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let program = bob.clone();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some(incoming) = program.incoming().await {
                match incoming.name() {
                    "dropped" => drop(incoming),
                    "declined" => incoming.refuse(Code::Application(300), "not today").await,
                    _ => kept.push(tokio::spawn(async move {
                        let (mut reader, mut writer) = incoming.accept().await.unwrap().split();
                        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                    })),
                }
            }
        });
        let mut good = alice.connect(bob.device(), "good").await.unwrap();
        let declined = alice.connect(bob.device(), "declined").await.unwrap_err();
        let ConnectError::Channel(ChannelError::Refused(reason)) = declined else { panic!("{declined:?}") };
        assert_eq!((reason.code, &*reason.text), (Code::Application(300), "not today"));
        let dropped = alice.connect(bob.device(), "dropped").await.unwrap_err();
        let ConnectError::Channel(ChannelError::Refused(reason)) = dropped else { panic!("{dropped:?}") };
        assert_eq!(reason.code, Code::Declined);
        ping_pong(&mut good, b"untouched").await.unwrap();
        let mut better = alice.connect(bob.device(), "better").await.unwrap();
        ping_pong(&mut better, b"open").await.unwrap();
        assert_eq!(good.connection(), better.connection());
        assert_eq!(alice.established().len(), 1);
    });
}

#[test]
fn an_undecided_channel_times_out_alone() {
    story(9, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let program = bob.clone();
        tokio::spawn(async move {
            let mut undecided = Vec::new();
            while let Some(incoming) = program.incoming().await {
                match incoming.name() {
                    "later" => undecided.push(incoming),
                    _ => drop(tokio::spawn(async move {
                        let (mut reader, mut writer) = incoming.accept().await.unwrap().split();
                        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                    })),
                }
            }
        });
        let mut good = alice.connect(bob.device(), "good").await.unwrap();
        let begun = now();
        let error = alice.connect(bob.device(), "later").await.unwrap_err();
        let limit = Limits::default().channel_timeout;
        assert_eq!(error, ConnectError::Channel(ChannelError::TimedOut(limit)));
        assert_eq!((now() - begun).as_secs(), limit.as_secs());
        ping_pong(&mut good, b"alive").await.unwrap();
        assert_eq!(alice.established()[0].id(), good.connection());
        assert_eq!(alice.established()[0].channels().await.len(), 1);
    });
}

#[test]
fn a_node_that_is_shut_down_says_so() {
    story(10, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let (_near, _far) = common::connected(&alice, &bob, "one", &mut channels).await;
        alice.shutdown().await;
        assert_eq!(alice.connect(bob.device(), "two").await.unwrap_err(), ConnectError::NodeClosed);
        assert!(alice.dial(bob.device()).await.is_err_and(|error| error == ConnectError::NodeClosed));
        assert!(alice.incoming().await.is_none());
        assert!(alice.established().is_empty() && alice.connections().await.is_empty());
        // All of this is harmless.
        alice.close_with(bob.device()).await;
        alice.connectivity_changed().await;
        alice.registered().await;
        alice.shutdown().await;
    });
}

#[test]
fn a_device_without_an_account_does_not_start() {
    story(11, async |world| {
        let lab = Lab::new(world).await;
        let host = std::sync::Arc::new(lab.host("alone"));
        let refused = Node::start(host, lab.config(), self_signed()).await;
        assert!(matches!(refused, Err(StartError::NoAccount)), "{refused:?}");
    });
}

#[test]
fn a_full_queue_of_undecided_channels_refuses_more() {
    story(12, async |world| {
        let lab = Lab::new(world).await;
        let config = lab.config();
        let mut small = config.clone();
        small.limits.incoming_queue = 2;
        let (_lab, alice, bob) = lab.pair_with(config, small).await;
        let connection = alice.dial(bob.device()).await.unwrap();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                tokio::spawn({
                    let connection = connection.clone();
                    async move { connection.open("waiting").await }
                })
            })
            .collect();
        common::pass(Duration::from_secs(1)).await;
        let error = connection.open("one too many").await.unwrap_err();
        let ChannelError::Refused(reason) = error else { panic!("{error:?}") };
        assert_eq!(reason.code, Code::TooManyPending);
        let _channels = accepted(&bob);
        for open in waiting {
            open.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_device_belongs_to_the_account_it_presents_itself() {
    story(20, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let claimed = claimed(&identity(0));
        assert_eq!(claimed.device_id(), alice.device());
        assert_ne!(claimed.account_id(), Some(alice.account()));
        bob.remember(claimed.chain().clone()).await;
        let mut accepting = accepted(&bob);
        let (_near, far) = connected(&alice, &bob, "whose", &mut accepting).await;
        assert_eq!(far.peer().account, alice.account());
        assert_eq!(&far.peer().chain, alice.identity().chain());
    });
}

#[test]
fn a_device_is_not_admitted_for_an_account_that_claims_it() {
    story(21, async |world| {
        let lab = Lab::new(world).await;
        let claimed = claimed(&identity(0));
        let policy = ConnectionPolicy::Accounts(Arc::new([claimed.account_id().unwrap()].into()));
        let config = lab.config();
        let (_lab, alice, bob) = lab.pair_with(config.clone(), config.with_policy(policy)).await;
        bob.remember(claimed.chain().clone()).await;
        let mut events = bob.events();
        alice.connect(bob.device(), "let me in").await.unwrap_err();
        let why = event(&mut events, |event| match event {
            Event::IncomingFailed { error, .. } => Some(error.clone()),
            _ => None,
        });
        assert_eq!(why.await, ConnectError::NotAdmitted);
        assert!(bob.established().is_empty());
    });
}

#[test]
fn a_policy_that_panics_costs_one_attempt() {
    story(22, async |world| {
        let lab = Lab::new(world).await;
        let asked = AtomicBool::new(false);
        let policy = ConnectionPolicy::custom(move |_| {
            assert!(asked.swap(true, Ordering::Relaxed), "the policy of this test panics once");
            true
        });
        let mut picky = lab.config().with_policy(policy);
        picky.limits.answers_per_device = 1;
        let config = lab.config();
        let (_lab, alice, bob) = lab.pair_with(config, picky).await;
        tokio::spawn(echo(bob.clone()));
        let error = alice.connect(bob.device(), "first").await.unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error:?}");
        assert!(bob.connections().await.is_empty());
        let mut channel = alice.connect(bob.device(), "second").await.unwrap();
        ping_pong(&mut channel, b"hello").await.unwrap();
    });
}
