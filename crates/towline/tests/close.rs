//! Ends: of channels, of connections, of nodes, at any moment.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::io::ErrorKind;
use std::time::Duration;

use common::{
    Lab, accepted, bytes, channel_error, connected, echo, event, exchange, identity, sibling, story,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::net::now;
use towline::{ChannelError, CloseReason, ConnectError, Event, Target};

/// How one side closes.
#[derive(Clone, Copy, Debug)]
enum By {
    Device,
    Account,
    Connection,
}

#[test]
fn close_with_ends_the_channels_of_both_sides() {
    for (seed, by) in (1..).zip([By::Device, By::Account, By::Connection]) {
        story(seed, async |world| {
            let (lab, alice, bob) = Lab::pair(world).await;
            let carol = lab.node(2).await;
            carol.registered().await;
            let mut channels = accepted(&bob);
            let (mut near, mut far) = connected(&alice, &bob, "closed", &mut channels).await;
            let (mut other, mut other_far) = connected(&carol, &bob, "other", &mut channels).await;
            let mut events = alice.events();
            let target: Target = match by {
                By::Device => alice.device().into(),
                By::Account => alice.account().into(),
                By::Connection => far.connection().into(),
            };
            bob.close_with(target).await;
            assert_eq!(bob.established().len(), 1, "{by:?}");
            let error = far.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(channel_error(&error), &ChannelError::Connection(CloseReason::Here));
            let error = near.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            assert!(
                matches!(channel_error(&error), ChannelError::Connection(CloseReason::GoAway(_))),
                "{error:?}"
            );
            let error = near.write_all(b"x").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            let reason = event(&mut events, |event| match event {
                Event::Disconnected { device, reason, .. } => Some((*device, reason.clone())),
                _ => None,
            });
            assert!(matches!(reason.await, (device, CloseReason::GoAway(_)) if device == bob.device()));
            other.write_all(b"untouched").await.unwrap();
            other_far.read_exact(&mut [0; 9]).await.unwrap();
            // Closed is not forbidden.
            let (mut near, mut far) = connected(&alice, &bob, "anew", &mut channels).await;
            near.write_all(b"hello").await.unwrap();
            far.read_exact(&mut [0; 5]).await.unwrap();
        });
    }
}

#[test]
fn close_with_gives_up_dials() {
    for (seed, by) in (4..).zip([By::Device, By::Account, By::Connection]) {
        // At different moments of the dial.
        for wait in [0, 15, 40, 80, 2_000] {
            story(seed, async |world| {
                let lab = Lab::new(world).await;
                let silent = lab.bare_dht("silent", identity(1)).await;
                let _published = silent.publish_certificate();
                let alice = lab.node(0).await;
                alice.registered().await;
                let peer = identity(1);
                let dial = tokio::spawn({
                    let (alice, device) = (alice.clone(), peer.device_id());
                    async move { alice.connect(device, "given up").await }
                });
                common::pass(Duration::from_millis(wait)).await;
                let account_known =
                    alice.connections().await.first().is_some_and(|info| info.account.is_some());
                let target: Target = match by {
                    By::Device => peer.device_id().into(),
                    // Before the certificate is known nobody can tell.
                    By::Account if !account_known => return,
                    By::Account => peer.account_id().unwrap().into(),
                    By::Connection => alice.connections().await[0].id.into(),
                };
                alice.close_with(target).await;
                assert_eq!(
                    dial.await.unwrap().unwrap_err(),
                    ConnectError::Cancelled,
                    "{by:?} after {wait} ms"
                );
                assert!(alice.connections().await.is_empty());
            });
        }
    }
}

#[test]
fn close_with_an_account_ends_all_its_devices() {
    story(8, async |world| {
        let lab = Lab::new(world).await;
        let bob = lab.node(0).await;
        bob.registered().await;
        let mut channels = accepted(&bob);
        let mut kept = Vec::new();
        for number in 0..3 {
            let host = lab.host(&format!("sibling-{number}"));
            let device = lab.node_on(&host, sibling(number), lab.config()).await;
            kept.push((connected(&device, &bob, "one of many", &mut channels).await, device));
        }
        assert_eq!(bob.established().len(), 3);
        bob.close_with(sibling(0).account_id().unwrap()).await;
        assert!(bob.established().is_empty());
        for ((mut near, _), _) in kept {
            assert!(near.read(&mut [0; 1]).await.is_err());
        }
    });
}

#[test]
fn an_unanswered_request_ends_with_its_connection_closed_here() {
    story(9, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        alice.dial(bob.device()).await.unwrap();
        let request = tokio::spawn({
            let (alice, device) = (alice.clone(), bob.device());
            async move { alice.connect(device, "unanswered").await }
        });
        let _asked = bob.incoming().await.unwrap();
        alice.close_with(bob.device()).await;
        assert_eq!(request.await.unwrap().unwrap_err(), ConnectError::Cancelled);
        common::pass(Duration::from_secs(5)).await;
        assert!(alice.established().is_empty(), "what was closed was dialled again");
    });
}

#[test]
fn a_graceful_close_delivers_what_was_written() {
    // Less and more than what queues, windows and buffers on the way hold; read at once, or long after the end.
    for (seed, len, late) in
        [(10, 10, false), (11, 100_000, true), (12, 230_000, true), (13, 3_000_000, false)]
    {
        story(seed, async |world| {
            let (_lab, alice, bob) = Lab::pair(world).await;
            let mut channels = accepted(&bob);
            let (mut near, mut far) = connected(&alice, &bob, "last words", &mut channels).await;
            let (_quiet, mut far_quiet) = connected(&alice, &bob, "quiet", &mut channels).await;
            let words = bytes(len, len);
            let send = async {
                near.write_all(&words).await.unwrap();
                near.shutdown().await.unwrap();
                alice.shutdown().await;
            };
            let receive = async {
                if late {
                    common::pass(Duration::from_mins(1)).await;
                }
                let mut received = Vec::new();
                far.read_to_end(&mut received).await.unwrap();
                received
            };
            let ((), received) = tokio::join!(send, receive);
            assert!(received == words, "{} of {len} bytes", received.len());
            // The other was not ended by its program: that is no clean end.
            let error = far_quiet.read(&mut [0; 1]).await.unwrap_err();
            assert!(matches!(channel_error(&error), ChannelError::Connection(_)), "{error:?}");
        });
    }
}

#[test]
fn what_came_before_a_reset_of_the_connection_is_read_before_the_error() {
    story(14, async |world| {
        let lab = Lab::new(world).await;
        let (host, alice) = lab.housed("alice", 0).await;
        let bob = lab.node(1).await;
        bob.registered().await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "cut", &mut channels).await;
        let said = bytes(14, 200_000);
        near.write_all(&said).await.unwrap();
        common::pass(Duration::from_secs(2)).await;
        host.crash();
        bob.connectivity_changed().await;
        common::pass(Duration::from_secs(10)).await;
        let mut received = Vec::new();
        let error = far.read_to_end(&mut received).await.unwrap_err();
        assert!(received == said, "{} bytes", received.len());
        assert_eq!(channel_error(&error), &ChannelError::Connection(CloseReason::Dead));
    });
}

#[test]
fn a_shutdown_comes_through_at_any_moment_of_a_dial() {
    for wait in (0..40).map(|step| step * 8) {
        story(15, async |world| {
            let (_lab, alice, bob) = Lab::pair(world).await;
            tokio::spawn(echo(bob.clone()));
            let dial = tokio::spawn({
                let (alice, device) = (alice.clone(), bob.device());
                async move { alice.connect(device, "shut down").await }
            });
            common::pass(Duration::from_millis(wait)).await;
            let begun = now();
            alice.shutdown().await;
            assert!(now() - begun < Duration::from_secs(6), "{:?} at {wait} ms", now() - begun);
            match dial.await.unwrap() {
                Ok(mut channel) => assert!(channel.read(&mut [0; 1]).await.is_err(), "an end at {wait} ms"),
                Err(error) => assert_eq!(error, ConnectError::NodeClosed, "at {wait} ms"),
            }
            // The other side is not left with half a connection.
            common::pass(Duration::from_secs(45)).await;
            assert!(bob.connections().await.is_empty(), "{:#?}", bob.connections().await);
        });
    }
}

#[test]
fn a_shutdown_while_sending_ends_the_writers() {
    story(16, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let mut writers = Vec::new();
        let mut readers = Vec::new();
        for n in 0..10 {
            let (mut near, mut far) = connected(&alice, &bob, &format!("heavy-{n}"), &mut channels).await;
            writers.push(tokio::spawn(async move {
                loop {
                    if let Err(error) = near.write_all(&bytes(9, 30_000)).await {
                        return error;
                    }
                }
            }));
            // Half of them read.
            readers.push(tokio::spawn(async move {
                let mut buffer = vec![0; 10_000];
                while n % 2 == 0 && far.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                far
            }));
        }
        common::pass(Duration::from_secs(1)).await;
        let begun = now();
        alice.shutdown().await;
        assert!(now() - begun < Duration::from_secs(6));
        for writer in writers {
            let error = writer.await.unwrap();
            assert!(matches!(channel_error(&error), ChannelError::Connection(_)), "{error:?}");
        }
        for reader in readers {
            let mut far = reader.await.unwrap();
            let error = tokio::io::copy(&mut far, &mut tokio::io::sink()).await.unwrap_err();
            assert!(matches!(channel_error(&error), ChannelError::Connection(_)), "{error:?}");
        }
    });
}

#[test]
fn dropping_the_node_is_no_proper_end() {
    story(17, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "orphan", &mut channels).await;
        let connection = alice.established().remove(0);
        drop(alice);
        for channel in [&mut near, &mut far] {
            let error = channel.read(&mut [0; 1]).await.unwrap_err();
            assert!(matches!(channel_error(&error), ChannelError::Connection(_)), "{error:?}");
            assert!(channel.write_all(b"x").await.is_err());
        }
        connection.closed().await;
        assert!(connection.open("too late").await.is_err());
        common::pass(Duration::from_secs(1)).await;
        assert!(bob.established().is_empty());
    });
}

#[test]
fn a_program_may_dial_again_as_soon_as_it_learns_of_the_end() {
    story(18, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        for round in 0..5 {
            let (mut near, mut far) = connected(&alice, &bob, &format!("round-{round}"), &mut channels).await;
            bob.close_with(alice.device()).await;
            assert!(near.read(&mut [0; 1]).await.is_err() && far.read(&mut [0; 1]).await.is_err());
        }
        tokio::spawn(async move { while channels.recv().await.is_some() {} });
        tokio::spawn(echo(alice.clone()));
        let mut channel = bob.connect(alice.device(), "the other way").await.unwrap();
        assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
    });
}
