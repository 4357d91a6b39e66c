//! Towlines that speak the channeler transport, and Towlines that do not.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Duration;

use common::{Lab, accepted, bytes, channel_error, connected, exchange, pass, story};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::{Carrier, ChannelError, CloseReason, Code, Config, ConnectOptions, Dialect};

/// Tells a story between a dialler and a device that each speak the transport or not.
fn between(
    seed: u64,
    [dialler, dialled]: [bool; 2],
    tell: impl AsyncFnOnce(towline::Node, towline::Node, Lab),
) {
    story(seed, async |world| {
        let lab = Lab::new(world).await;
        let config = |channeler| Config { channeler, ..lab.config() };
        let (first, second) = (config(dialler), config(dialled));
        let (lab, alice, bob) = lab.pair_with(first, second).await;
        tell(alice, bob, lab).await;
    });
}

const ALL: [[bool; 2]; 4] = [[true, true], [true, false], [false, true], [false, false]];

#[test]
fn both_must_speak_the_transport_and_otherwise_it_is_tls() {
    for (seed, who) in (1..).zip(ALL) {
        between(seed, who, async |alice, bob, _lab| {
            let mut channels = accepted(&bob);
            let (mut near, mut far) = connected(&alice, &bob, "hello", &mut channels).await;
            let expected = if who == [true, true] { Carrier::Channeler } else { Carrier::Tls };
            for node in [&alice, &bob] {
                let info = node.established()[0].info().established.unwrap();
                assert_eq!((info.carrier, info.dialect), (expected, Dialect::Native), "{who:?}");
            }
            let connection = alice.connection(bob.device()).unwrap();
            assert_eq!(connection.peer().account, bob.account());
            assert!(connection.ping().await.is_some());
            assert_eq!(near.number(), far.number());
            let words = bytes(7, 300_000);
            let send = async {
                near.write_all(&words).await.unwrap();
                near.shutdown().await.unwrap();
            };
            let mut heard = Vec::new();
            let ((), read) = tokio::join!(send, far.read_to_end(&mut heard));
            read.unwrap();
            assert!(heard == words);
        });
    }
}

#[test]
fn codes_and_texts_arrive_by_either() {
    for (seed, who) in (10..).zip([[true, true], [true, false]]) {
        between(seed, who, async |alice, bob, _lab| {
            let device = bob.device();
            let asking = alice.connect(device, "no thanks");
            let refusing =
                async { bob.incoming().await.unwrap().refuse(Code::Application(999), "not now").await };
            let (refused, ()) = tokio::join!(asking, refusing);
            let towline::ConnectError::Channel(ChannelError::Refused(reason)) = refused.unwrap_err() else {
                panic!("not refused")
            };
            assert_eq!((reason.code, &*reason.text), (Code::Application(999), "not now"), "{who:?}");

            // Data that was written before the answer is lost with a refusal, and the reason is told all the same.
            let early = ConnectOptions { early: true, ..ConnectOptions::default() };
            let mut channel = alice.connect_with(device, "early", early).await.unwrap();
            channel.write_all(b"in vain").await.unwrap();
            bob.incoming().await.unwrap().refuse(Code::Declined, "late").await;
            let error = channel.read(&mut [0; 8]).await.unwrap_err();
            let ChannelError::Refused(reason) = channel_error(&error) else { panic!("{error:?}") };
            assert_eq!((reason.code, &*reason.text), (Code::Declined, "late"), "{who:?}");

            let mut channels = accepted(&bob);
            let (near, mut far) = connected(&alice, &bob, "given up", &mut channels).await;
            near.reset(70_000).await;
            let error = far.read(&mut [0; 8]).await.unwrap_err();
            let ChannelError::Reset(reason) = channel_error(&error) else { panic!("{error:?}") };
            assert_eq!(reason.code, Code::Application(70_000), "{who:?}");
        });
    }
}

#[test]
fn a_peer_that_does_not_read_is_told_that_nobody_reads_it() {
    between(20, [true, true], async |alice, bob, _lab| {
        let mut channels = accepted(&bob);
        let (mut near, far) = connected(&alice, &bob, "idle", &mut channels).await;
        let (reader, mut writer) = far.split();
        drop(reader);
        // Also a writer that has nothing to say and waits for nothing.
        pass(Duration::from_secs(1)).await;
        let error = near.write_all(b"x").await.unwrap_err();
        let ChannelError::Stopped(reason) = channel_error(&error) else { panic!("{error:?}") };
        assert_eq!(reason.code, Code::Cancelled);
        writer.write_all(b"the other way is open").await.unwrap();
        writer.shutdown().await.unwrap();
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "the other way is open");
    });
}

#[test]
fn more_channels_than_allowed_are_refused_by_name() {
    story(21, async |world| {
        let lab = Lab::new(world).await;
        let mut narrow = lab.config();
        narrow.limits.channels = 3;
        let wide = lab.config();
        let (_lab, alice, bob) = lab.pair_with(wide, narrow).await;
        let mut channels = accepted(&bob);
        let mut open = Vec::new();
        for n in 0..3 {
            open.push(connected(&alice, &bob, &format!("channel-{n}"), &mut channels).await);
        }
        let towline::ConnectError::Channel(ChannelError::Refused(reason)) =
            alice.connect(bob.device(), "one too many").await.unwrap_err()
        else {
            panic!("not refused")
        };
        assert_eq!(reason.code, Code::TooManyChannels);
        drop(open.pop());
        pass(Duration::from_secs(1)).await;
        let _next = connected(&alice, &bob, "room again", &mut channels).await;
    });
}

#[test]
fn readers_that_stand_still_take_bounded_memory_and_stop_nobody() {
    story(22, async |world| {
        let lab = Lab::new(world).await;
        let mut tight = lab.config();
        tight.limits.connection_receive_budget = 4 << 20;
        let wide = lab.config();
        let (_lab, alice, bob) = lab.pair_with(wide, tight).await;
        let mut channels = accepted(&bob);
        let mut still = Vec::new();
        for n in 0..3 {
            let (mut near, far) = connected(&alice, &bob, &format!("still-{n}"), &mut channels).await;
            let writing = tokio::spawn(async move {
                let piece = bytes(n, 64 * 1024);
                while near.write_all(&piece).await.is_ok() {}
            });
            still.push((far, writing));
        }
        pass(Duration::from_secs(20)).await;
        let (mut near, mut far) = connected(&alice, &bob, "free", &mut channels).await;
        let mut answer = exchange_one_way(&mut near, &mut far, &bytes(9, 2_000_000)).await;
        assert_eq!(answer.len(), 2_000_000);
        answer.clear();
        let held: u64 = bob.established()[0].channels().await.iter().map(|info| info.received).sum();
        assert!(held < 4_000_000 + 2_000_000, "{held} bytes handed over");
        bob.close_with(alice.device()).await;
        for (_, writing) in still {
            writing.await.unwrap();
        }
    });
}

async fn exchange_one_way(near: &mut towline::Channel, far: &mut towline::Channel, words: &[u8]) -> Vec<u8> {
    let send = async {
        near.write_all(words).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let ((), read) = tokio::join!(send, far.read_to_end(&mut heard));
    read.unwrap();
    heard
}

#[test]
fn a_connection_in_which_nothing_happens_lives() {
    between(23, [true, true], async |alice, bob, _lab| {
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "quiet", &mut channels).await;
        pass(Duration::from_mins(5)).await;
        near.write_all(b"still here").await.unwrap();
        far.read_exact(&mut [0; 10]).await.unwrap();
        bob.close_with(alice.device()).await;
        let error = near.read(&mut [0; 1]).await.unwrap_err();
        let ChannelError::Connection(CloseReason::GoAway(reason)) = channel_error(&error) else {
            panic!("{error:?}")
        };
        assert_eq!(reason.code, Code::GoingAway);
        let _ = exchange(&mut far, b"").await.unwrap_err();
    });
}
