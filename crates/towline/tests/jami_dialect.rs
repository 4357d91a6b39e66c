//! Two nodes that speak as Jami does, on one side or on both: what works between them, and what cannot.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Duration;

use common::{Lab, accepted, bytes, channel_error, connected, echo, ping_pong, story};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::net::now;
use towline::{ChannelError, CloseReason, Code, ConnectError, ConnectOptions, Dialect, Node};
use towline_lab::World;

/// Who leaves the native dialect out.
const SIDES: [(bool, bool); 3] = [(false, false), (false, true), (true, false)];

async fn pair(world: World, (first, second): (bool, bool)) -> (Lab, Node, Node) {
    let lab = Lab::new(world).await;
    let config = lab.config();
    let of = |native_dialect| towline::Config { native_dialect, ..config.clone() };
    lab.pair_with(of(first), of(second)).await
}

#[test]
fn channels_open_and_carry_bytes_both_ways() {
    for (seed, sides) in (1..).zip(SIDES) {
        story(seed, async |world| {
            let (_lab, alice, bob) = pair(world, sides).await;
            for node in [&alice, &bob] {
                tokio::spawn(echo(node.clone()));
            }
            let connection = alice.dial(bob.device()).await.unwrap();
            assert_eq!(connection.info().established.unwrap().dialect, Dialect::Jami);
            let mut near = Vec::new();
            let mut far = Vec::new();
            for n in 0..20 {
                near.push(alice.connect(bob.device(), &format!("near-{n}")).await.unwrap());
                far.push(bob.connect(alice.device(), &format!("far-{n}")).await.unwrap());
            }
            // The TLS server, who dialled, counts from 0x8000, the client from 1.
            assert!(near.iter().all(|channel| channel.number() >= 0x8000 && channel.opened_here()));
            assert!(far.iter().all(|channel| (1..0x8000).contains(&channel.number())));
            let capabilities = near[0].capabilities();
            assert!(!capabilities.half_close && !capabilities.windows && !capabilities.early);
            let all = near.iter_mut().chain(&mut far).enumerate();
            join_all(
                all.map(|(n, channel)| async move { ping_pong(channel, &bytes(n, 50_000)).await.unwrap() }),
            )
            .await;
            assert_eq!(alice.established().len(), 1);
            assert!(connection.ping().await.is_some(), "beacons measure the round trip");
        });
    }
}

#[test]
fn an_end_closes_both_directions_after_what_was_written() {
    story(4, async |world| {
        let (_lab, alice, bob) = pair(world, (false, true)).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "ended", &mut channels).await;
        let sent = bytes(4, 1_000_000);
        let send = async {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let ((), end) = tokio::join!(send, far.read_to_end(&mut received));
        end.unwrap();
        assert!(received == sent);
        assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0, "the other direction ended, too");
        let error = far.write_all(b"too late").await.unwrap_err();
        assert!(matches!(channel_error(&error), ChannelError::Stopped(_)), "{error:?}");
        drop((near, far));
        common::pass(Duration::from_secs(1)).await;
        assert!(alice.established()[0].channels().await.is_empty());
        assert!(bob.established()[0].channels().await.is_empty());
    });
}

#[test]
fn refusals_and_silence_concern_one_channel() {
    story(5, async |world| {
        let (_lab, alice, bob) = pair(world, (false, false)).await;
        let program = bob.clone();
        tokio::spawn(async move {
            let mut undecided = Vec::new();
            let mut kept = Vec::new();
            while let Some(incoming) = program.incoming().await {
                match incoming.name() {
                    "declined" => incoming.refuse(Code::Application(999), "lost on the way").await,
                    "silence" => undecided.push(incoming),
                    _ => kept.push(tokio::spawn(async move {
                        let (mut reader, mut writer) = incoming.accept().await.unwrap().split();
                        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                    })),
                }
            }
        });
        let mut good = alice.connect(bob.device(), "good").await.unwrap();
        let error = alice.connect(bob.device(), "declined").await.unwrap_err();
        let ConnectError::Channel(ChannelError::Refused(reason)) = error else { panic!("{error:?}") };
        assert_eq!(reason.code, Code::Unspecified);
        let begun = now();
        let error = alice.connect(bob.device(), "silence").await.unwrap_err();
        assert!(matches!(error, ConnectError::Channel(ChannelError::TimedOut(_))), "{error:?}");
        assert!(now() - begun <= Duration::from_secs(31));
        ping_pong(&mut good, b"alive").await.unwrap();
        // Asked for early, it waits for the answer all the same.
        let early = ConnectOptions { early: true, ..ConnectOptions::default() };
        let mut channel = alice.connect_with(bob.device(), "early", early).await.unwrap();
        ping_pong(&mut channel, b"in time").await.unwrap();
        assert_eq!(alice.established().len(), 1);
    });
}

#[test]
fn thousands_of_channels_end_at_once_and_lose_nothing() {
    const CHANNELS: usize = 2000;
    story(6, async |world| {
        let lab = Lab::new(world).await;
        let mut config = lab.config();
        config.native_dialect = false;
        config.limits.pending_channel_requests = CHANNELS;
        config.limits.incoming_queue = CHANNELS;
        let (_lab, alice, bob) = lab.pair_with(config.clone(), config).await;
        alice.dial(bob.device()).await.unwrap();
        let receive = async {
            let mut reads = Vec::new();
            while reads.len() < CHANNELS {
                let incoming = bob.incoming().await.unwrap();
                reads.push(tokio::spawn(async move {
                    let mut channel = incoming.accept().await.unwrap();
                    let mut received = Vec::new();
                    channel.read_to_end(&mut received).await.unwrap();
                    let number: usize = channel.name().parse().unwrap();
                    assert!(received == bytes(number, number), "channel {number}: {} bytes", received.len());
                }));
            }
            for read in reads {
                read.await.unwrap();
            }
        };
        let send = join_all((0..CHANNELS).map(|n| {
            let (alice, device) = (alice.clone(), bob.device());
            async move {
                let mut channel = alice.connect(device, &n.to_string()).await.unwrap();
                channel.write_all(&bytes(n, n)).await.unwrap();
                channel.shutdown().await.unwrap();
            }
        }));
        tokio::join!(receive, send);
    });
}

#[test]
fn a_closed_connection_ends_streams_and_a_cut_one_does_not() {
    story(7, async |world| {
        let lab = Lab::new(world).await;
        let mut config = lab.config();
        config.native_dialect = false;
        let host = lab.host("bob");
        let alice = lab.node_with(0, config.clone()).await;
        let bob = lab.node_on(&host, common::identity(1), config).await;
        bob.registered().await;
        let mut channels = accepted(&bob);
        // There is no other way of saying it: the end of the connection is the end of its streams.
        let (mut near, mut far) = connected(&alice, &bob, "closed", &mut channels).await;
        far.write_all(b"last words").await.unwrap();
        bob.close_with(alice.device()).await;
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "last words");
        let error = near.write_all(b"x").await.unwrap_err();
        assert!(matches!(channel_error(&error), ChannelError::Connection(CloseReason::Peer)), "{error:?}");
        let (mut near, _far) = connected(&alice, &bob, "cut", &mut channels).await;
        host.crash();
        let begun = now();
        let error = near.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(channel_error(&error), &ChannelError::Connection(CloseReason::Dead));
        assert!(now() - begun <= Duration::from_secs(41), "{:?}", now() - begun);
    });
}

#[test]
fn a_reader_that_never_reads_costs_bounded_memory() {
    story(8, async |world| {
        let lab = Lab::new(world).await;
        let mut config = lab.config();
        config.native_dialect = false;
        config.limits.connection_receive_budget = 1 << 20;
        let (_lab, alice, bob) = lab.pair_with(config.clone(), config).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "stuck", &mut channels).await;
        let piece = bytes(1, 64 * 1024);
        let mut written = 0_usize;
        while let Ok(result) = tokio::time::timeout(Duration::from_secs(50), near.write(&piece)).await {
            written += result.unwrap();
            assert!(written < 8 << 20, "a peer that does not read took {written} bytes");
        }
        // Not reading is no reason for the connection to be taken for dead, and all of it arrives.
        common::pass(Duration::from_secs(100)).await;
        let mut buffer = vec![0; 64 * 1024];
        let mut read = 0;
        while read < written {
            let count = far.read(&mut buffer).await.unwrap();
            assert!(count > 0, "an end after {read} of {written} bytes");
            read += count;
        }
    });
}
