//! The first line: two devices that know each other's key find each other and move bytes.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::sync::Arc;

use common::{Lab, echo, identity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::dht::{Dht, DhtConfig};
use towline::{Config, ConnectionPolicy, Node};

#[tokio::test]
async fn over_loopback_sockets() {
    let net: Arc<dyn towline::net::Net> = Arc::new(towline::net::Os);
    let dht = Dht::start(Arc::clone(&net), DhtConfig::on_loopback(), None).await.unwrap();
    let bootstrap = dht.local_addrs().v4.unwrap().to_string();
    let config =
        || Config::loopback().with_bootstrap(&bootstrap).with_policy(ConnectionPolicy::DangerouslyAnyone);
    let alice = Node::start(Arc::clone(&net), config(), identity(0)).await.unwrap();
    let bob = Node::start(net, config(), identity(1)).await.unwrap();
    bob.registered().await;
    tokio::spawn(echo(bob.clone()));

    let mut channel = alice.connect(bob.device(), "echo").await.unwrap();
    channel.write_all(b"hello").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut answer = String::new();
    channel.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "hello");
    let info = alice.connections().await;
    println!("{info:#?}");
    alice.shutdown().await;
    bob.shutdown().await;
}

#[test]
fn in_the_lab() {
    towline_lab::run(1, async |world| {
        let net = Lab::new(world).await;
        let (alice, bob) = (net.node(0).await, net.node(1).await);
        bob.registered().await;
        tokio::spawn(echo(bob.clone()));
        let mut channel = alice.connect(bob.device(), "echo").await.unwrap();
        let sent: Vec<u8> = (0..2_000_000u32).map(|i| i as u8).collect();
        let (mut reader, mut writer) = channel.split();
        let received = async {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.unwrap();
            received
        };
        let send = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let (received, ()) = tokio::join!(received, send);
        assert!(received == sent);
        println!("{:?} {:#?}", net.world.elapsed(), alice.connections().await);
        channel = alice.connect(bob.device(), "again").await.unwrap();
        assert_eq!(channel.name(), "again");
    });
}
