//! What becomes of devices that may not connect any more, and how the other side learns of an end.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Lab, accepted, channel_error, connected, echo, event, family, identity, ping_pong, story};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::identity::{Identity, RevocationList, Revoked};
use towline::net::now;
use towline::{
    ChannelError, CloseReason, Config, ConnectError, ConnectionPolicy, ConnectionState, DeviceId, Event,
    Node, SharedRevocations,
};
use towline_lab::World;

/// A policy that the test changes.
#[derive(Debug, Clone, Default)]
struct Banned(Arc<Mutex<BTreeSet<DeviceId>>>);

impl Banned {
    fn policy(&self) -> ConnectionPolicy {
        let banned = self.clone();
        ConnectionPolicy::custom(move |peer| !banned.0.lock().unwrap().contains(&peer.device))
    }

    fn ban(&self, device: DeviceId) {
        self.0.lock().unwrap().insert(device);
    }
}

/// Revokes the device of [`family`].
fn revoke(device: &Identity) -> RevocationList {
    let (account, _) = family();
    account.revoke([], &[device.chain().leaf().clone()], 1_800_000_000).unwrap()
}

fn revoked() -> Revoked {
    let (account, device) = family();
    Revoked { certificate: device.device_id(), issuer: account.device_id() }
}

/// The device of [`family`], and Bob, who hears of revocations.
async fn pair(world: World, native_dialect: bool) -> (Lab, Node, Node, SharedRevocations) {
    let lab = Lab::new(world).await;
    let config = Config { native_dialect, ..lab.config() };
    let lists = SharedRevocations::default();
    let alice = lab.node_on(&lab.host("alice"), family().1, config.clone()).await;
    let bob = lab.node_with(1, Config { revocations: lists.clone(), ..config }).await;
    alice.registered().await;
    bob.registered().await;
    (lab, alice, bob, lists)
}

#[test]
fn a_revoked_device_is_neither_answered_nor_dialled() {
    story(1, async |world| {
        let (_lab, alice, bob, lists) = pair(world, true).await;
        let (account, device) = family();
        assert!(lists.insert(revoke(&device), account.chain().leaf()).unwrap());
        assert!(!lists.insert(revoke(&device), account.chain().leaf()).unwrap(), "it says nothing new");
        assert_eq!(lists.snapshot().lists().count(), 1);
        let mut events = bob.events();
        alice.connect(bob.device(), "still me").await.unwrap_err();
        let why = event(&mut events, |event| match event {
            Event::IncomingFailed { error, .. } => Some(error.clone()),
            _ => None,
        });
        assert_eq!(why.await, ConnectError::Revoked(revoked()));
        let error = bob.connect(alice.device(), "still you?").await.unwrap_err();
        assert_eq!(error, ConnectError::Revoked(revoked()));
        bob.remember(device.chain().clone()).await;
        assert_eq!(bob.find(alice.device()).await.unwrap_err(), ConnectError::Revoked(revoked()));
        assert!(error.to_string().contains("revoked"), "{error}");
    });
}

/// How the end of a connection by the policy looks from both sides, whoever dialled.
#[test]
fn what_stands_ends_when_the_device_is_revoked() {
    for (seed, (native, dialled_here)) in
        (2..).zip([(true, false), (true, true), (false, false), (false, true)])
    {
        story(seed, async |world| {
            let (_lab, alice, bob, lists) = pair(world, native).await;
            let (mut at_alice, mut at_bob) = (accepted(&alice), accepted(&bob));
            let (mut near, mut far) = if dialled_here {
                let (far, near) = connected(&bob, &alice, "open", &mut at_alice).await;
                (near, far)
            } else {
                connected(&alice, &bob, "open", &mut at_bob).await
            };
            // Nothing is enforced by itself, and nothing ends that may stand.
            bob.enforce_policy().await;
            let (account, device) = family();
            lists.insert(revoke(&device), account.chain().leaf()).unwrap();
            near.write_all(b"hello").await.unwrap();
            far.read_exact(&mut [0; 5]).await.unwrap();
            let mut events = bob.events();
            let begun = now();
            // More than goes through while nobody reads it.
            let writing = tokio::spawn(async move { far.write_all(&vec![7; 50_000_000]).await });
            common::pass(Duration::from_millis(100)).await;
            bob.enforce_policy().await;
            assert!(now() - begun < Duration::from_secs(5), "{:?}", now() - begun);
            assert!(bob.established().is_empty() || bob.established()[0].is_closed());
            let reason = event(&mut events, |event| match event {
                Event::Disconnected { reason, .. } => Some(reason.clone()),
                _ => None,
            });
            assert_eq!(reason.await, CloseReason::Revoked(revoked()));
            let error = writing.await.unwrap().unwrap_err();
            let gone = ChannelError::Connection(CloseReason::Revoked(revoked()));
            assert_eq!(channel_error(&error), &gone);
            // The other side learns of it at once, by a proper end of the session.
            let told = now();
            let end = near.read_to_end(&mut Vec::new()).await;
            assert!(now() - told < Duration::from_secs(2), "{:?}", now() - told);
            let error = match end {
                // All that Jami can say is the end.
                Ok(_) => near.write_all(b"more").await.unwrap_err(),
                Err(error) => error,
            };
            match channel_error(&error) {
                ChannelError::Connection(CloseReason::Peer) => assert!(!native),
                ChannelError::Connection(CloseReason::GoAway(reason)) => {
                    assert_eq!(reason.code, towline::Code::Declined);
                }
                other => panic!("{other:?}"),
            }
        });
    }
}

#[test]
fn who_is_not_admitted_any_more_goes() {
    story(6, async |world| {
        let lab = Lab::new(world).await;
        let banned = Banned::default();
        let config = lab.config();
        let (lab, alice, bob) = lab.pair_with(config.clone(), config.with_policy(banned.policy())).await;
        let carol = lab.node(2).await;
        carol.registered().await;
        tokio::spawn(echo(bob.clone()));
        let mut bad = alice.connect(bob.device(), "bad").await.unwrap();
        let mut good = carol.connect(bob.device(), "good").await.unwrap();
        let mut events = bob.events();
        banned.ban(alice.device());
        ping_pong(&mut bad, b"nobody enforces it").await.unwrap();
        bob.enforce_policy().await;
        let gone = event(&mut events, |event| match event {
            Event::Disconnected { device, reason, .. } => Some((*device, reason.clone())),
            _ => None,
        });
        assert_eq!(gone.await, (alice.device(), CloseReason::NotAdmitted));
        ping_pong(&mut bad, b"hello").await.unwrap_err();
        ping_pong(&mut good, b"hello").await.unwrap();
        alice.connect(bob.device(), "again").await.unwrap_err();
        assert_eq!(bob.established().len(), 1);
    });
}

/// Whom the program dials although the policy does not admit it, it wants.
#[test]
fn a_connection_that_never_needed_the_policy_stays() {
    story(7, async |world| {
        let lab = Lab::new(world).await;
        let picky = lab.config().with_policy(ConnectionPolicy::RefuseAll);
        let config = lab.config();
        let (_lab, alice, bob) = lab.pair_with(picky, config).await;
        tokio::spawn(echo(bob.clone()));
        let mut channel = alice.connect(bob.device(), "a client").await.unwrap();
        alice.enforce_policy().await;
        ping_pong(&mut channel, b"hello").await.unwrap();
        alice.close_with(bob.account()).await;
        ping_pong(&mut channel, b"hello").await.unwrap_err();
    });
}

/// The device is banned at any moment of its attempt: it never gets to stay.
#[test]
fn an_attempt_under_way_is_judged_at_its_end() {
    for seed in 10..26_u64 {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let banned = Banned::default();
            let config = Config { native_dialect: seed % 2 == 0, ..lab.config() };
            let (_lab, alice, bob) = lab.pair_with(config.clone(), config.with_policy(banned.policy())).await;
            tokio::spawn(echo(bob.clone()));
            let dialling = tokio::spawn({
                let (alice, device) = (alice.clone(), bob.device());
                async move { alice.connect(device, "in time?").await }
            });
            common::pass(Duration::from_millis((seed - 10) * 12)).await;
            banned.ban(alice.device());
            bob.enforce_policy().await;
            common::pass(Duration::from_secs(3)).await;
            assert!(bob.established().is_empty(), "{:?}", bob.connections().await);
            assert!(alice.established().is_empty(), "{:?}", alice.connections().await);
            dialling.abort();
        });
    }
}

/// A peer that has finished its part of the handshake holds the connection for established, whatever becomes of ours.
#[test]
fn what_ends_in_the_handshake_ends_properly_too() {
    for (seed, shut_down) in (30..).zip([true, false]) {
        let mut between = 0;
        for step in 0..30 {
            between += story(seed, async |world| {
                let lab = Lab::new(world).await;
                let config = Config { native_dialect: false, ..lab.config() };
                let (_lab, alice, bob) = lab.pair_with(config.clone(), config).await;
                let mut events = alice.events();
                // Whoever dials is the server, and finishes last.
                let dialling = tokio::spawn({
                    let (bob, device) = (bob.clone(), alice.device());
                    async move { bob.dial(device).await }
                });
                while !bob.connections().await.iter().any(|info| info.state == ConnectionState::Securing) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tokio::time::sleep(Duration::from_millis(step)).await;
                let unfinished = bob.established().is_empty();
                if shut_down {
                    bob.shutdown().await;
                } else {
                    bob.close_with(alice.device()).await;
                }
                common::pass(Duration::from_secs(2)).await;
                assert!(alice.established().is_empty() && bob.established().is_empty(), "after {step} ms");
                let mut ends = 0;
                while let Ok(event) = events.try_recv() {
                    if let Event::Disconnected { reason, .. } = event {
                        assert_eq!(reason, CloseReason::Peer, "after {step} ms");
                        ends += 1;
                    }
                }
                drop(dialling);
                usize::from(unfinished && ends > 0)
            });
        }
        assert!(between > 0, "no end came between those of the two sides");
    }
}

/// A handshake that succeeds with a device that may not connect: it is told.
#[test]
fn who_is_turned_away_behind_the_handshake_hears_of_it() {
    story(40, async |world| {
        let lab = Lab::new(world).await;
        let claimed = common::claimed(&identity(0));
        let policy = ConnectionPolicy::Accounts(Arc::new([claimed.account_id().unwrap()].into()));
        let config = Config { native_dialect: false, ..lab.config() };
        let (_lab, alice, bob) = lab.pair_with(config.clone(), config.with_policy(policy)).await;
        bob.remember(claimed.chain().clone()).await;
        let begun = now();
        if let Ok(connection) = alice.dial(bob.device()).await {
            connection.closed().await;
        }
        assert!(now() - begun < Duration::from_secs(3), "{:?}", now() - begun);
        assert!(alice.established().is_empty() && bob.established().is_empty());
    });
}
