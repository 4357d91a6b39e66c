//! Two devices in one process meet on loopback: `cargo run -p towline --example two_devices`.
#![allow(clippy::print_stdout, reason = "an example that shows something")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::dht::{Dht, DhtConfig};
use towline::identity::{GenerateOptions, Identity};
use towline::net::{Net, Os};
use towline::{Config, ConnectionPolicy, Node};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let net: Arc<dyn Net> = Arc::new(Os);
    // A DHT node to meet at. On the internet there are thousands; `Config::internet` joins them.
    let dht = Dht::start(Arc::clone(&net), DhtConfig::on_loopback(), None).await?;
    let meeting_point = dht.local_addrs().v4.ok_or("no IPv4 on loopback")?.to_string();

    let now = net.unix_time().as_secs().cast_signed();
    let new_identity = || Identity::generate(&GenerateOptions::new(now));
    let config = || Config::loopback().with_bootstrap(&meeting_point);

    let alice = Node::start(Arc::clone(&net), config(), new_identity()?).await?;
    // Bob lets in devices of Alice's account, and nobody else.
    let friends = [alice.account()].into();
    let policy = ConnectionPolicy::Accounts(Arc::new(friends));
    let bob = Node::start(net, config().with_policy(policy), new_identity()?).await?;
    bob.registered().await;

    let greeter = tokio::spawn({
        let bob = bob.clone();
        async move {
            // The second point of decision: this program takes channels named "greeting" only.
            while let Some(incoming) = bob.incoming().await {
                if incoming.name() != "greeting" {
                    continue;
                }
                let mut channel = incoming.accept().await?;
                let mut name = String::new();
                channel.read_to_string(&mut name).await?;
                channel.write_all(format!("Hello, {name}!").as_bytes()).await?;
                channel.shutdown().await?;
            }
            Ok::<(), std::io::Error>(())
        }
    });

    // All Alice knows is Bob's id.
    let mut channel = alice.connect(bob.device(), "greeting").await?;
    channel.write_all(b"Alice").await?;
    channel.shutdown().await?;
    let mut answer = String::new();
    channel.read_to_string(&mut answer).await?;
    println!("{answer}");

    // A channel that Bob's program does not take.
    match alice.connect(bob.device(), "something else").await {
        Ok(_) => return Err("it was taken".into()),
        Err(error) => println!("refused, as it should be: {error}"),
    }
    for connection in alice.connections().await {
        let Some(established) = connection.established else { continue };
        println!("{} over {}, {}", connection.device, established.path, established.security);
        let total: Duration = established.timeline.total();
        println!("connected in {total:?}");
    }
    alice.shutdown().await;
    bob.shutdown().await;
    greeter.await??;
    Ok(())
}
