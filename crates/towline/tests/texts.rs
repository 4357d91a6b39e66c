//! Texts between two nodes, and what a peer can do to them.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Lab, channel_error, identity, story};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::net::now;
use towline::sip::{CHANNEL, Delivery, DeviceError, TextError, TextOptions, Texts, media};
use towline::{
    AccountId, Admit, Channel, ChannelError, Code, ConnectError, DeviceId, Node, Pattern, PeerKind, Router,
};
use towline_lab::World;
use towline_sip::{Limits, Message, Status, StreamParser};

/// A node whose contacts are all others, with texts. The devices of an account are looked up in `known`.
fn texts(node: &Node, options: TextOptions, known: &[(AccountId, DeviceId)]) -> Texts {
    let own = node.account();
    let kind =
        move |peer: &towline::Peer| if peer.account == own { PeerKind::OwnDevice } else { PeerKind::Contact };
    texts_with(node, &Router::new(kind), options, known)
}

fn texts_with(node: &Node, router: &Router, options: TextOptions, known: &[(AccountId, DeviceId)]) -> Texts {
    let known = known.to_vec();
    let devices = move |account| {
        let devices = known.iter().filter(|(of, _)| *of == account).map(|(_, device)| *device);
        std::future::ready(devices.collect()).boxed()
    };
    let texts = Texts::serve(node, router, options, devices).unwrap();
    let (router, node) = (router.clone(), node.clone());
    tokio::spawn(async move { router.run(&node).await });
    texts
}

fn entry(node: &Node) -> (AccountId, DeviceId) {
    (node.account(), node.device())
}

/// Two nodes in Jami's dialect, as it is with the daemon.
async fn jami_pair(world: World) -> (Lab, Node, Node) {
    let lab = Lab::new(world).await;
    let config = towline::Config { native_dialect: false, ..lab.config() };
    lab.pair_with(config.clone(), config).await
}

#[test]
fn texts_both_ways_share_one_channel() {
    story(1, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let near = texts(&alice, TextOptions::default(), &[entry(&bob)]);
        let far = texts(&bob, TextOptions::default(), &[]);
        let delivery = near.send(bob.account(), media::TEXT, "hello é中").await.unwrap();
        assert_eq!((&delivery.delivered[..], &delivery.failed[..]), (&[bob.device()][..], &[][..]));
        let text = far.next().await.unwrap();
        assert_eq!((text.peer.account, text.peer.device), (alice.account(), alice.device()));
        assert_eq!((&*text.content_type, &text.body[..]), ("text/plain", "hello é中".as_bytes()));
        assert_eq!(text.message_id.unwrap(), format!("{:016x}", delivery.message_id));
        // The answer needs no lookup: the device is connected.
        far.send(alice.account(), "application/x-thing;v=1", vec![0, 255, 13, 10]).await.unwrap();
        let text = near.next().await.unwrap();
        assert_eq!((&*text.content_type, &text.body[..]), ("application/x-thing;v=1", &[0, 255, 13, 10][..]));
        near.send(bob.account(), media::TEXT, "").await.unwrap();
        assert_eq!(far.next().await.unwrap().body, b"");
        let channels = alice.established()[0].channels().await;
        assert_eq!((channels.len(), &*channels[0].name), (1, CHANNEL));
    });
}

#[test]
fn many_texts_at_once_go_over_one_channel_and_none_is_lost() {
    story(2, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let near = texts(&alice, TextOptions::default(), &[entry(&bob)]);
        let far = texts(&bob, TextOptions::default(), &[entry(&alice)]);
        let to_bob = (0..50).map(|n| near.send(bob.account(), media::TEXT, format!("to bob {n}")));
        let to_alice = (0..50).map(|n| far.send(alice.account(), media::TEXT, format!("to alice {n}")));
        let (first, second) = tokio::join!(join_all(to_bob), join_all(to_alice));
        assert!(first.iter().chain(&second).all(Result::is_ok), "{first:?} {second:?}");
        for (texts, to) in [(&far, "to bob"), (&near, "to alice")] {
            let mut bodies = Vec::new();
            for _ in 0..50 {
                bodies.push(String::from_utf8(texts.next().await.unwrap().body).unwrap());
            }
            bodies.sort_unstable();
            let mut expected: Vec<_> = (0..50).map(|n| format!("{to} {n}")).collect();
            expected.sort_unstable();
            assert_eq!(bodies, expected);
        }
        // Each side may have opened one at the same time.
        assert!(alice.established()[0].channels().await.len() <= 2);
    });
}

#[test]
fn a_text_too_long_or_of_no_type_is_not_sent() {
    story(3, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let near = texts(&alice, TextOptions::default(), &[entry(&bob)]);
        let far = texts(&bob, TextOptions::default(), &[]);
        let error = near.send(bob.account(), media::TEXT, vec![b'x'; 8000]).await.unwrap_err();
        let TextError::TooLong { length, max: 8000 } = error else { panic!("{error:?}") };
        for kind in ["", "text", "text/plain\r\nVia: x"] {
            assert_eq!(near.send(bob.account(), kind, "x").await, Err(TextError::ContentType));
        }
        assert!(alice.established().is_empty(), "nobody was dialled for that");
        near.send(bob.account(), media::TEXT, vec![b'x'; 8000 - (length - 8000)]).await.unwrap();
        far.next().await.unwrap();
        let nobody = AccountId([7; 20]);
        assert_eq!(near.send(nobody, media::TEXT, "x").await, Err(TextError::Nobody(nobody)));
    });
}

/// The channel as a program of its own would use it.
struct Raw {
    channel: Channel,
    parser: StreamParser,
}

impl Raw {
    async fn open(from: &Node, to: &Node) -> Self {
        Self {
            channel: from.connect(to.device(), CHANNEL).await.unwrap(),
            parser: StreamParser::new(Limits::default()),
        }
    }

    async fn say(&mut self, method: &str, from: AccountId, branch: u32, body: &str) {
        let text = format!(
            "{method} sips:x@10.0.0.1;transport=tls SIP/2.0\r\nVia: SIP/2.0/TLS 10.0.0.2:1;branch=z9hG4bK{branch}\r\n\
             From: <sip:{from}@ring.dht>;tag=1\r\nTo: <sips:x@10.0.0.1>\r\nCall-ID: {branch}\r\nCSeq: 1 {method}\r\n\
             Content-Type: text/plain\r\nMessage-ID: id{branch}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.channel.write_all(text.as_bytes()).await.unwrap();
    }

    async fn answer(&mut self) -> Option<Status> {
        loop {
            if let Some(message) = self.parser.next_message().unwrap() {
                let Message::Response(response) = message else { panic!("{message:?}") };
                return Some(response.status);
            }
            let mut bytes = [0; 1000];
            match self.channel.read(&mut bytes).await.unwrap() {
                0 => return None,
                count => self.parser.push(&bytes[..count]),
            }
        }
    }
}

#[test]
fn a_call_is_declined() {
    story(4, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let far = texts(&bob, TextOptions::default(), &[]);
        let mut raw = Raw::open(&alice, &bob).await;
        raw.say("INVITE", alice.account(), 1, "v=0\r\n").await;
        assert_eq!(raw.answer().await, Some(Status::DECLINE));
        raw.say("ACK", alice.account(), 1, "").await;
        raw.say("OPTIONS", alice.account(), 2, "").await;
        assert_eq!(raw.answer().await, Some(Status::OK), "the ACK was absorbed");
        // Without an ACK it is forgotten, and nothing else happens.
        raw.say("INVITE", alice.account(), 3, "v=0\r\n").await;
        assert_eq!(raw.answer().await, Some(Status::DECLINE));
        common::pass(Duration::from_secs(40)).await;
        raw.say("MESSAGE", alice.account(), 4, "still here").await;
        assert_eq!(raw.answer().await, Some(Status::OK));
        assert_eq!(far.next().await.unwrap().body, b"still here");
    });
}

#[test]
fn nobody_writes_in_the_name_of_another_account() {
    story(5, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let far = texts(&bob, TextOptions::default(), &[]);
        let mut raw = Raw::open(&alice, &bob).await;
        raw.say("MESSAGE", bob.account(), 1, "I am you").await;
        assert_eq!(raw.answer().await, Some(Status::FORBIDDEN));
        raw.say("INVITE", bob.account(), 2, "").await;
        assert_eq!(raw.answer().await, Some(Status::FORBIDDEN));
        raw.say("MESSAGE", alice.account(), 3, "I am me").await;
        assert_eq!(raw.answer().await, Some(Status::OK));
        assert_eq!(far.next().await.unwrap().body, b"I am me");
    });
}

#[test]
fn a_text_that_comes_twice_is_told_once() {
    story(6, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let far = texts(&bob, TextOptions::default(), &[]);
        for _ in 0..2 {
            let mut raw = Raw::open(&alice, &bob).await;
            raw.say("MESSAGE", alice.account(), 1, "once").await;
            assert_eq!(raw.answer().await, Some(Status::OK));
        }
        let mut raw = Raw::open(&alice, &bob).await;
        raw.say("MESSAGE", alice.account(), 2, "again").await;
        assert_eq!(raw.answer().await, Some(Status::OK));
        assert_eq!(far.next().await.unwrap().body, b"once");
        assert_eq!(far.next().await.unwrap().body, b"again");
    });
}

#[test]
fn garbage_ends_the_channel_and_nothing_else() {
    story(7, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let near = texts(&alice, TextOptions::default(), &[]);
        let far = texts(&bob, TextOptions::default(), &[entry(&alice)]);
        let mut raw = Raw::open(&alice, &bob).await;
        raw.channel.write_all(b"\x16\x03\x01 what is this").await.unwrap();
        assert_eq!(raw.answer().await, None);
        let mut raw = Raw::open(&alice, &bob).await;
        raw.channel.write_all(b"MESSAGE sip:a@b SIP/2.0\r\nContent-Length: 70000\r\n\r\n").await.unwrap();
        assert_eq!(raw.answer().await, None);
        far.send(alice.account(), media::TEXT, "all is well").await.unwrap();
        assert_eq!(near.next().await.unwrap().body, b"all is well");
        assert_eq!(bob.established().len(), 1);
    });
}

#[test]
fn a_program_that_does_not_take_its_texts_holds_up_nobody() {
    story(8, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let near = texts(&alice, TextOptions::default(), &[entry(&bob)]);
        let far = texts(&bob, TextOptions { queue: 2, ..TextOptions::default() }, &[]);
        for _ in 0..2 {
            near.send(bob.account(), media::TEXT, "taken").await.unwrap();
        }
        let refused =
            TextError::Unreachable(vec![(bob.device(), DeviceError::Refused(Status::SERVICE_UNAVAILABLE))]);
        assert_eq!(near.send(bob.account(), media::TEXT, "too much").await, Err(refused));
        far.next().await.unwrap();
        near.send(bob.account(), media::TEXT, "room again").await.unwrap();
        far.next().await.unwrap();
        assert_eq!(far.next().await.unwrap().body, b"room again");
    });
}

/// Accepts every channel and never reads or answers.
fn silent(node: &Node) -> tokio::task::JoinHandle<()> {
    let node = node.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(incoming) = node.incoming().await {
            kept.push(incoming.accept().await.unwrap());
        }
    })
}

#[test]
fn a_peer_that_stalls_is_given_up_after_32_seconds() {
    story(9, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let near = texts(&alice, TextOptions::default(), &[entry(&bob)]);
        let program = silent(&bob);
        let begun = now();
        let sent = join_all((0..3).map(|_| near.send(bob.account(), media::TEXT, "anybody?"))).await;
        let timed_out = TextError::Unreachable(vec![(bob.device(), DeviceError::TimedOut)]);
        assert!(sent.iter().all(|result| result.as_ref() == Err(&timed_out)), "{sent:?}");
        let waited = now() - begun;
        assert!((32..35).contains(&waited.as_secs()), "{waited:?}");
        // The program comes to its senses: the next text goes over another channel.
        program.abort();
        let far = texts(&bob, TextOptions::default(), &[]);
        near.send(bob.account(), media::TEXT, "welcome back").await.unwrap();
        assert_eq!(far.next().await.unwrap().body, b"welcome back");
    });
}

#[test]
fn a_peer_that_asks_and_never_reads_is_given_up() {
    story(10, async |world| {
        let lab = Lab::new(world).await;
        let mut config = lab.config();
        config.limits.connection_receive_budget = 64 << 10;
        config.limits.channel_send_buffer = 16 << 10;
        let (_lab, alice, bob) = lab.pair_with(config.clone(), config).await;
        let sip = Limits { output: 32 << 10, ..Limits::default() };
        let _far = texts(&bob, TextOptions { sip, ..TextOptions::default() }, &[]);
        let mut raw = Raw::open(&alice, &bob).await;
        let begun = now();
        let mut branch = 0;
        let error = loop {
            branch += 1;
            let text = format!(
                "OPTIONS sip:x@y SIP/2.0\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK{branch}\r\nFrom: <sip:{}@ring.dht>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n",
                alice.account()
            );
            if let Err(error) = raw.channel.write_all(text.as_bytes()).await {
                break error;
            }
        };
        assert!(
            matches!(channel_error(&error), ChannelError::Stopped(_) | ChannelError::Reset(_)),
            "{error:?}"
        );
        let waited = now() - begun;
        assert!((32..40).contains(&waited.as_secs()), "{waited:?}");
    });
}

#[test]
fn strangers_are_refused_and_told_nothing() {
    story(11, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let near = texts(&alice, TextOptions::default(), &[entry(&bob)]);
        let strict = Router::new(|_| PeerKind::Stranger);
        let _far = texts_with(&bob, &strict, TextOptions::default(), &[]);
        let error = near.send(bob.account(), media::TEXT, "may I?").await.unwrap_err();
        let TextError::Unreachable(failed) = error else { panic!("{error:?}") };
        assert!(
            matches!(
                &failed[..],
                [(_, DeviceError::Connect(ConnectError::Channel(ChannelError::Refused(_))))]
            ),
            "{failed:?}"
        );
    });
}

#[test]
fn the_channels_of_a_device_are_bounded() {
    story(12, async |world| {
        let (_lab, alice, bob) = common::Lab::pair(world).await;
        let _far = texts(&bob, TextOptions { channels_per_device: 2, ..TextOptions::default() }, &[]);
        let first = Raw::open(&alice, &bob).await;
        let _second = Raw::open(&alice, &bob).await;
        let error = alice.connect(bob.device(), CHANNEL).await.unwrap_err();
        let ConnectError::Channel(ChannelError::Refused(reason)) = error else { panic!("{error:?}") };
        assert_eq!(reason.code, Code::TooManyChannels);
        drop(first);
        common::pass(Duration::from_secs(1)).await;
        Raw::open(&alice, &bob).await;
    });
}

#[test]
fn all_devices_of_an_account_get_it_and_a_dead_one_delays_little() {
    story(13, async |world| {
        let lab = Lab::new(world).await;
        let alice = lab.node(0).await;
        let mut nodes = Vec::new();
        for n in 0..2 {
            let node =
                lab.node_on(&lab.host(&format!("sibling-{n}")), common::sibling(n), lab.config()).await;
            node.registered().await;
            nodes.push(node);
        }
        alice.registered().await;
        let gone = common::sibling(2);
        let account = nodes[0].account();
        let mut known: Vec<_> = nodes.iter().map(entry).collect();
        known.push((account, gone.device_id()));
        let near = texts(&alice, TextOptions::default(), &known);
        let far: Vec<_> = nodes.iter().map(|node| texts(node, TextOptions::default(), &[])).collect();
        let begun = now();
        let Delivery { mut delivered, failed, .. } =
            near.send(account, media::TEXT, "all of you").await.unwrap();
        assert!(now() - begun < Duration::from_secs(12), "{:?}", now() - begun);
        delivered.sort_unstable();
        let mut expected: Vec<_> = nodes.iter().map(Node::device).collect();
        expected.sort_unstable();
        assert_eq!(delivered, expected);
        assert!(matches!(&failed[..], [(device, _)] if *device == gone.device_id()), "{failed:?}");
        for texts in &far {
            assert_eq!(texts.next().await.unwrap().body, b"all of you");
        }
        // From then on it delays nothing, as long as others of the account are remembered.
        let begun = now();
        let Delivery { delivered, failed, .. } = near.send(account, media::TEXT, "again").await.unwrap();
        assert_eq!((delivered.len(), &failed[..]), (2, &[][..]));
        assert!(now() - begun < Duration::from_secs(1), "{:?}", now() - begun);
    });
}

#[test]
fn a_slow_lookup_is_made_once_and_delays_little() {
    story(17, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let lookups = Arc::new(AtomicUsize::new(0));
        let (counted, device) = (Arc::clone(&lookups), bob.device());
        let slow = move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(Duration::from_secs(12)).await;
                vec![device]
            }
            .boxed()
        };
        let router = Router::new(|_| PeerKind::Contact);
        let near = Texts::serve(&alice, &router, TextOptions::default(), slow).unwrap();
        let _far = texts(&bob, TextOptions::default(), &[]);
        alice.dial(bob.device()).await.unwrap();
        let mut waited = Vec::new();
        for _ in 0..4 {
            let begun = now();
            near.send(bob.account(), media::TEXT, "connected").await.unwrap();
            waited.push((now() - begun).as_secs());
        }
        assert_eq!((waited, lookups.load(Ordering::Relaxed)), (vec![5, 5, 1, 0], 1));
    });
}

#[test]
fn a_connection_that_is_lost_costs_nothing_but_time() {
    story(14, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let near = texts(&alice, TextOptions::default(), &[entry(&bob)]);
        let far = texts(&bob, TextOptions::default(), &[]);
        for n in 0..3 {
            near.send(bob.account(), media::TEXT, format!("{n}")).await.unwrap();
            assert_eq!(far.next().await.unwrap().body, format!("{n}").as_bytes());
            bob.established()[0].close().await;
        }
    });
}

#[test]
fn the_end_of_the_node_is_the_end_of_its_texts() {
    story(15, async |world| {
        let (_lab, alice, bob) = jami_pair(world).await;
        let near = texts(&alice, TextOptions::default(), &[entry(&bob)]);
        let far = texts(&bob, TextOptions::default(), &[]);
        near.send(bob.account(), media::TEXT, "last").await.unwrap();
        bob.shutdown().await;
        assert_eq!(far.next().await.unwrap().body, b"last");
        assert_eq!(far.next().await.map(|text| text.body), None);
        alice.shutdown().await;
        assert_eq!(near.send(bob.account(), media::TEXT, "too late").await, Err(TextError::Closed));
    });
}

#[test]
fn a_name_is_served_once() {
    story(16, async |world| {
        let lab = Lab::new(world).await;
        let alice = lab.node_on(&lab.host("alone"), identity(0), lab.config()).await;
        let router = Router::new(|_| PeerKind::Contact);
        let route = router.serve(Pattern::exact(CHANNEL), Admit::default(), 1).unwrap();
        let serve =
            || Texts::serve(&alice, &router, TextOptions::default(), |_| std::future::ready(vec![]).boxed());
        assert!(serve().is_err());
        drop(route);
        assert!(serve().is_ok());
    });
}
