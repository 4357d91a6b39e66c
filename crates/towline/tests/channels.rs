//! Bytes on channels: nothing lost, nothing mixed, nobody held up.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::io::ErrorKind;
use std::task::Poll;
use std::time::Duration;

use common::{Lab, accepted, bytes, channel_error, connected, echo, exchange, pass, ping_pong, story};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::net::now;
use towline::{Channel, ChannelError, Class, Code, ConnectOptions};

#[test]
fn a_flood_on_three_channels_does_not_mix() {
    const PIECES: usize = 2600;
    const PIECE: usize = 8000;
    story(1, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let mut floods = Vec::new();
        for number in 0..3 {
            let (mut near, mut far) =
                connected(&alice, &bob, &format!("flood-{number}"), &mut channels).await;
            floods.push(async move {
                let send = async {
                    for piece in 0..PIECES {
                        near.write_all(&[(piece * 3 + number) as u8; PIECE]).await.unwrap();
                    }
                    near.shutdown().await.unwrap();
                };
                let receive = async {
                    let mut piece = vec![0; PIECE];
                    for at in 0..PIECES {
                        far.read_exact(&mut piece).await.unwrap();
                        assert!(piece.iter().all(|byte| *byte == (at * 3 + number) as u8), "piece {at}");
                    }
                    assert_eq!(far.read(&mut piece).await.unwrap(), 0);
                };
                tokio::join!(send, receive);
            });
        }
        join_all(floods).await;
    });
}

#[test]
fn thousands_of_channels_from_each_side_echo() {
    const EACH: usize = 2000;
    story(2, async |world| {
        let lab = Lab::new(world).await;
        let mut config = lab.config();
        config.limits.pending_channel_requests = 2 * EACH;
        config.limits.incoming_queue = 2 * EACH;
        let (_lab, alice, bob) = lab.pair_with(config.clone(), config).await;
        for node in [&alice, &bob] {
            tokio::spawn(echo(node.clone()));
        }
        alice.dial(bob.device()).await.unwrap();
        let all = |from: &towline::Node, to: &towline::Node| {
            let (from, device) = (from.clone(), to.device());
            join_all((0..EACH).map(move |n| {
                let from = from.clone();
                async move {
                    let mut channel = from.connect(device, &format!("echo-{n}")).await.unwrap();
                    ping_pong(&mut channel, &bytes(n, 32)).await.unwrap();
                    channel
                }
            }))
        };
        let (near, far) = tokio::join!(all(&alice, &bob), all(&bob, &alice));
        assert_eq!(alice.established()[0].channels().await.len(), 2 * EACH);
        assert!(near.iter().chain(&far).all(|channel| channel.connection() == near[0].connection()));
        drop((near, far));
        common::pass(Duration::from_secs(2)).await;
        assert!(alice.established()[0].channels().await.is_empty());
    });
}

/// How a sender ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Shutdown,
    Drop,
}

/// The i-th of many channels writes i bytes and ends at once.
fn massive_end(end: End) {
    const CHANNELS: usize = 3000;
    story(3, async |world| {
        let lab = Lab::new(world).await;
        let mut config = lab.config();
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
        let send = async {
            // All are open before the first ends, so that the ends come at once.
            let open = (0..CHANNELS).map(|n| {
                let (alice, device) = (alice.clone(), bob.device());
                async move { alice.connect(device, &n.to_string()).await.unwrap() }
            });
            let channels = join_all(open).await;
            let ends = channels.into_iter().enumerate().map(|(n, channel)| async move {
                // Nobody reads the other direction; that must not disturb this one.
                let (_reader, mut writer) = channel.split();
                writer.write_all(&bytes(n, n)).await.unwrap();
                match end {
                    End::Shutdown => writer.shutdown().await.unwrap(),
                    End::Drop => drop(writer),
                }
            });
            join_all(ends).await;
        };
        tokio::join!(receive, send);
    });
}

#[test]
fn nothing_is_lost_when_thousands_shut_down_at_once() {
    massive_end(End::Shutdown);
}

#[test]
fn nothing_is_lost_when_thousands_are_dropped_at_once() {
    massive_end(End::Drop);
}

#[test]
fn one_direction_ends_and_the_other_flows() {
    story(4, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "half", &mut channels).await;
        near.write_all(b"question").await.unwrap();
        near.shutdown().await.unwrap();
        let error = near.write_all(b"more").await.unwrap_err();
        assert_eq!((error.kind(), channel_error(&error)), (ErrorKind::BrokenPipe, &ChannelError::EndedHere));
        near.shutdown().await.unwrap();
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        common::pass(Duration::from_mins(2)).await;
        let answer = bytes(4, 500_000);
        let write = async {
            far.write_all(&answer).await.unwrap();
            far.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let ((), end) = tokio::join!(write, near.read_to_end(&mut read));
        end.unwrap();
        assert!(read == answer);
    });
}

#[test]
fn early_data_arrives_with_the_request() {
    story(5, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let connection = alice.dial(bob.device()).await.unwrap();
        let early = ConnectOptions { early: true, ..ConnectOptions::default() };
        let mut channel = alice.connect_with(bob.device(), "early", early).await.unwrap();
        channel.write_all(b"before the answer").await.unwrap();
        let incoming = bob.incoming().await.unwrap();
        let mut far = incoming.accept().await.unwrap();
        channel.shutdown().await.unwrap();
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "before the answer");

        let mut refused = alice.connect_with(bob.device(), "refused", early).await.unwrap();
        refused.write_all(b"in vain").await.unwrap();
        bob.incoming().await.unwrap().refuse(Code::Application(1000), "no").await;
        let error = refused.read(&mut [0; 8]).await.unwrap_err();
        let ChannelError::Refused(reason) = channel_error(&error) else { panic!("{error:?}") };
        assert_eq!(reason.code, Code::Application(1000));
        let error = refused.write_all(b"again").await.unwrap_err();
        assert!(matches!(channel_error(&error), ChannelError::Refused(_)), "{error:?}");
        assert!(!connection.is_closed());
    });
}

#[test]
fn a_reset_carries_its_code() {
    story(6, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let (near, mut far) = connected(&alice, &bob, "given up", &mut channels).await;
        near.reset(4711).await;
        let error = far.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let ChannelError::Reset(reason) = channel_error(&error) else { panic!("{error:?}") };
        assert_eq!(reason.code, Code::Application(4711));
        let error = far.write_all(b"x").await.unwrap_err();
        assert!(matches!(channel_error(&error), ChannelError::Reset(_)), "{error:?}");
        let (mut near, mut far) = connected(&alice, &bob, "not affected", &mut channels).await;
        near.write_all(b"hello").await.unwrap();
        far.read_exact(&mut [0; 5]).await.unwrap();
    });
}

#[test]
fn a_dropped_channel_delivers_and_then_refuses_to_be_written_to() {
    story(7, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let (mut near, mut far) = connected(&alice, &bob, "dropped", &mut channels).await;
        let last = bytes(7, 100_000);
        near.write_all(&last).await.unwrap();
        drop(near);
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert!(read == last);
        let error = loop {
            match far.write_all(&[0; 1000]).await {
                Ok(()) => common::pass(Duration::from_millis(10)).await,
                Err(error) => break error,
            }
        };
        let ChannelError::Stopped(reason) = channel_error(&error) else { panic!("{error:?}") };
        assert_eq!(reason.code, Code::Cancelled);
        drop(far);
        common::pass(Duration::from_secs(1)).await;
        assert!(alice.established()[0].channels().await.is_empty());
        assert!(bob.established()[0].channels().await.is_empty());
    });
}

#[test]
fn a_request_given_up_is_not_left_behind() {
    story(8, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let connection = alice.dial(bob.device()).await.unwrap();
        let request = tokio::time::timeout(Duration::from_millis(200), connection.open("never mind")).await;
        assert!(request.is_err());
        let mut far = bob.incoming().await.unwrap().accept().await.unwrap();
        // Whether withdrawn or accepted too late, its end comes.
        let mut read = Vec::new();
        let _ = far.read_to_end(&mut read).await;
        assert!(read.is_empty());
        drop(far);
        common::pass(Duration::from_secs(1)).await;
        assert!(connection.channels().await.is_empty());
    });
}

#[test]
fn a_reader_that_never_reads_stops_nobody_else() {
    story(9, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let (mut stuck, _unread) = connected(&alice, &bob, "stuck", &mut channels).await;
        let piece = bytes(1, 64 * 1024);
        let mut written = 0_usize;
        while let Ok(result) = tokio::time::timeout(Duration::from_mins(1), stuck.write(&piece)).await {
            written += result.unwrap();
            assert!(written < 32 << 20, "a peer that does not read took {written} bytes");
        }
        let (mut near, mut far) = connected(&alice, &bob, "free", &mut channels).await;
        let sent = bytes(9, 3_000_000);
        let send = async {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let ((), end) = tokio::join!(send, far.read_to_end(&mut read));
        end.unwrap();
        assert!(read == sent);
    });
}

#[test]
fn an_urgent_channel_does_not_wait_behind_bulk() {
    // Below the mux lie the send buffer of TCP and the queue of the line, which no priority passes: keep them small.
    let options =
        towline_lab::Options { tcp_buffer: 64 << 10, limit: common::LIMIT, ..towline_lab::Options::new(10) };
    let outcome = options.run(async |world| {
        let lab = Lab::new(world).await;
        let host = lab.host("thin");
        let (config, rate) = (lab.config(), Some(500_000));
        let thin = towline_lab::Link { rate, queue: 64 << 10, ..towline_lab::Link::fibre() };
        let alice = lab.node_on(&host, common::identity(0), config).await;
        let bob = lab.node(1).await;
        bob.registered().await;
        tokio::spawn(echo(bob.clone()));
        let mut bulk: Vec<Channel> = Vec::new();
        for n in 0..4 {
            bulk.push(alice.connect(bob.device(), &format!("bulk-{n}")).await.unwrap());
        }
        let options = ConnectOptions { priority: Class::Urgent.into(), ..ConnectOptions::default() };
        let mut urgent = alice.connect_with(bob.device(), "keys", options).await.unwrap();
        host.set_link(2, thin.clone(), thin);
        for channel in bulk {
            let (mut reader, mut writer) = channel.split();
            tokio::spawn(async move { while writer.write_all(&[0; 16 * 1024]).await.is_ok() {} });
            tokio::spawn(async move {
                while reader.read(&mut [0; 16 * 1024]).await.is_ok_and(|read| read > 0) {}
            });
        }
        common::pass(Duration::from_secs(3)).await;
        let mut worst = Duration::ZERO;
        for _ in 0..30 {
            let begun = now();
            ping_pong(&mut urgent, b"k").await.unwrap();
            worst = worst.max(now() - begun);
            common::pass(Duration::from_millis(50)).await;
        }
        println!("worst round trip of the urgent channel: {worst:?}");
        assert!(worst < Duration::from_secs(1), "{worst:?}");
    });
    outcome.unwrap();
}

#[test]
fn halves_go_apart_and_together() {
    story(11, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let (near, mut far) = connected(&alice, &bob, "halves", &mut channels).await;
        let (mut reader, mut writer) = near.split();
        let writing = tokio::spawn(async move {
            writer.write_all(b"to you").await.unwrap();
            writer
        });
        far.write_all(b"to me").await.unwrap();
        let got = reader.next_bytes().await.unwrap().unwrap();
        assert_eq!(&got[..], b"to me");
        let writer = writing.await.unwrap();
        let mut near = Channel::unsplit(reader, writer);
        let mut text = [0; 6];
        far.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"to you");
        tokio::spawn(async move {
            let (mut reader, mut writer) = far.split();
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        assert_eq!(exchange(&mut near, b"whole again").await.unwrap(), b"whole again");
        let (mut reader, _) = near.split();
        assert_eq!(reader.next_bytes().await.unwrap(), None);
    });
}

#[test]
fn a_reset_that_is_given_up_still_ends_the_channel() {
    story(40, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut accepting = accepted(&bob);
        let (near, mut far) = connected(&alice, &bob, "half reset", &mut accepting).await;
        let connection = alice.connection(bob.device()).unwrap();
        let mut reset = Box::pin(near.reset(7));
        std::future::poll_fn(|cx| {
            // A task that has used up its turn: the first await does not get through.
            while let Poll::Ready(turn) = tokio::task::coop::poll_proceed(cx) {
                turn.made_progress();
            }
            assert!(reset.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(reset);
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        drop(far);
        pass(Duration::from_secs(1)).await;
        assert!(connection.channels().await.is_empty());
    });
}

#[test]
fn a_request_that_is_given_up_is_withdrawn_at_once() {
    story(41, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let connection = alice.dial(bob.device()).await.unwrap();
        let wait = Duration::from_secs(1);
        tokio::time::timeout(wait, connection.open("nobody answers")).await.unwrap_err();
        pass(Duration::from_secs(1)).await;
        assert!(connection.channels().await.is_empty());
        let there = bob.connection(alice.device()).unwrap();
        assert!(there.channels().await.is_empty());
        // Whoever gets to it later finds it gone.
        let mut late = bob.incoming().await.unwrap().accept().await.unwrap();
        late.read_u8().await.unwrap_err();
    });
}

#[test]
fn the_smallest_send_buffer_still_sends() {
    story(60, async |world| {
        let lab = Lab::new(world).await;
        let (mut tight, other) = (lab.config(), lab.config());
        tight.limits.channel_send_buffer = 0;
        let (_lab, alice, bob) = lab.pair_with(tight, other).await;
        tokio::spawn(echo(bob.clone()));
        let mut channel = alice.connect(bob.device(), "tight").await.unwrap();
        let sent = vec![7; 30_000];
        assert_eq!(exchange(&mut channel, &sent).await.unwrap(), sent);
    });
}
