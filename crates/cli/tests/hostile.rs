//! The program against peers that do not keep to the protocol.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{DEADLINE, Device, Running, World, names};
use rmpv::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::identity::Identity;
use towline::{Channel, Config, ConnectionPolicy, DeviceId, Node};

/// A node with the identity of a device, for saying what the program never says.
async fn node(world: &World, device: &Device) -> Node {
    let identity = Identity::load(&device.home, None).unwrap();
    let config =
        Config::loopback().with_bootstrap(&world.bootstrap).with_policy(ConnectionPolicy::DangerouslyAnyone);
    Node::start(Arc::new(towline::net::Os), config, identity).await.unwrap()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("the test ends in time") });
}

fn message(fields: &[(&str, Value)]) -> Vec<u8> {
    let map = fields.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect();
    let mut body = Vec::new();
    rmpv::encode::write_value(&mut body, &Value::Map(map)).unwrap();
    let mut message = u16::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    message.append(&mut body);
    message
}

fn header(name: &str, size: u64) -> Vec<u8> {
    message(&[("v", 1.into()), ("size", size.into()), ("name", name.into())])
}

fn answer(ok: bool, bytes: u64) -> Vec<u8> {
    message(&[("ok", ok.into()), ("bytes", bytes.into())])
}

/// Reads an answer: whether it is good, and the error in it.
async fn read_answer(channel: &mut Channel) -> (bool, String) {
    let length = channel.read_u16().await.unwrap();
    let mut body = vec![0; usize::from(length)];
    channel.read_exact(&mut body).await.unwrap();
    let Value::Map(fields) = rmpv::decode::read_value(&mut &*body).unwrap() else { panic!("no map") };
    let get = |key: &str| fields.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value);
    let error = get("error").and_then(Value::as_str).unwrap_or_default().to_owned();
    (get("ok").unwrap().as_bool().unwrap(), error)
}

/// Offers a file and sends `content`, whatever was announced, with the right hash of it.
async fn offer(node: &Node, to: DeviceId, name: &str, size: u64, content: &[u8]) -> (bool, String) {
    let mut channel = node.connect(to, "file://x").await.unwrap();
    channel.write_all(&header(name, size)).await.unwrap();
    assert_eq!(read_answer(&mut channel).await, (true, String::new()));
    channel.write_all(content).await.unwrap();
    channel.write_all(blake3::hash(content).as_bytes()).await.unwrap();
    channel.shutdown().await.unwrap();
    read_answer(&mut channel).await
}

#[test]
fn senders() {
    let world = World::new();
    let (eve, ben) = (world.device("eve"), world.device("ben"));
    let into = world.path("a/b/in");
    let mut receiving = ben.receive(&into, &["--accept-from", &eve.id, "--end-with-stdin"]);
    let to: DeviceId = ben.id.parse().unwrap();
    run(async {
        let node = node(&world, &eve).await;
        node.dht().connected().await.unwrap();

        // Names that lead elsewhere.
        for name in ["../../evil", "/tmp/evil", "..\\evil", ".evil"] {
            assert!(offer(&node, to, name, 1, b"x").await.0);
        }
        for name in ["..", "", "\u{1b}\u{202e}"] {
            assert!(offer(&node, to, name, 1, b"x").await.0);
        }
        let there =
            ["evil", "evil (1)", "evil (2)", "evil (3)", "file", "file (1)", "file (2)"].map(str::to_owned);
        assert_eq!(names(&into), there);
        assert_eq!(names(&world.path("a")), ["b"]);

        // Less, and other, than announced.
        let (ok, error) = offer(&node, to, "short", 1000, b"x").await;
        assert!(!ok && error.contains("after 33 of 1000 bytes"), "{error}");
        let (ok, error) = offer(&node, to, "other", 3, b"four").await;
        assert!(!ok && error.contains("damaged"), "{error}");
        assert_eq!(names(&into), there);

        // What is no header.
        for (garbage, why) in [
            (&b"\xff\xff"[..], "65535 bytes"),
            (b"\x00\x00", "not a msgpack map"),
            (b"\x00\x05GET /", "not a msgpack map"),
            (b"\x00\x05\xdf\xff\xff\xff\xff", "not a msgpack map"),
            (&message(&[("v", 9.into())]), "version 9"),
        ] {
            let mut channel = node.connect(to, "file://x").await.unwrap();
            channel.write_all(garbage).await.unwrap();
            let (ok, error) = read_answer(&mut channel).await;
            assert!(!ok && error.contains(why), "{error}");
        }
        let mut channel = node.connect(to, "file://x").await.unwrap();
        channel.write_all(b"\x00").await.unwrap();
        channel.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // The other side has nothing to say to half a message.
        let _ = channel.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");

        // Another kind of channel.
        let refused = node.connect(to, "shell").await.unwrap_err();
        assert!(refused.to_string().contains("only files"), "{refused}");

        // After all that it works as before, also when more comes than was announced.
        let mut channel = node.connect(to, "file://x").await.unwrap();
        let hash = blake3::hash(b"good");
        let everything = [&header("good", 4), &b"good"[..], hash.as_bytes(), &vec![0xff; 100_000]].concat();
        channel.write_all(&everything).await.unwrap();
        assert!(read_answer(&mut channel).await.0);
        assert!(read_answer(&mut channel).await.0);
        assert_eq!(std::fs::read(into.join("good")).unwrap(), b"good");
        node.shutdown().await;
    });
    receiving.end_input();
    receiving.ended().fails_with(130);
}

#[test]
fn receivers() {
    let world = World::new();
    let (anna, eve) = (world.device("anna"), world.device("eve"));
    let file = world.file("file", &vec![5; 300_000]);
    run(async {
        let node = node(&world, &eve).await;
        node.registered().await;
        let refusal = message(&[("ok", false.into()), ("bytes", 0.into()), ("error", "\u{1b}no".into())]);
        let cases: [(&[&[u8]], i32, &str); 7] = [
            (&[b"\x00\x01\xc1"], 5, "not a msgpack map"),
            (&[b"\xff\xff"], 5, "65535 bytes"),
            (&[], 5, "ended before"),
            (&[&refusal], 4, "declined"),
            (&[&answer(true, 0)], 5, "ended before"),
            (&[&answer(true, 0), &answer(true, 7)], 5, "it has 7 bytes"),
            (&[&answer(true, 0), &refusal], 5, "the other side failed"),
        ];
        for (answers, code, why) in cases {
            let sending = anna.send(&eve.id, &[&file]);
            let mut channel = node.incoming().await.unwrap().accept().await.unwrap();
            for answer in answers {
                channel.write_all(answer).await.unwrap();
            }
            channel.shutdown().await.unwrap();
            let ended = ended(sending).await.fails_with(code);
            let message = ended.event("error")["message"].as_str().unwrap().to_owned();
            assert!(message.contains(why), "{why}: {ended:?}");
        }
        node.shutdown().await;
    });
}

/// Waits for the end of a command while the node goes on.
async fn ended(running: Running) -> common::Ended {
    let ended = tokio::task::spawn_blocking(|| running.ended());
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("it ends soon").unwrap()
}
