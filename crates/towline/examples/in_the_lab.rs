//! The same two devices in a simulated network: a lossy mobile link, and no time lost waiting.
//! `cargo run -p towline --example in_the_lab`
#![allow(clippy::print_stdout, reason = "an example that shows something")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::dht::{Dht, DhtConfig};
use towline::identity::{GenerateOptions, Identity};
use towline::{Config, ConnectionPolicy, Node};
use towline_lab::{Link, run};

fn main() -> Result<(), Box<dyn Error>> {
    let seed = 7;
    run(seed, async |world| {
        let internet = world.internet();
        let host = |name: &str, link| {
            let host = world.host(name);
            host.attach(internet, link);
            host
        };
        let server = host("dht", Link::fibre());
        let meeting_point = SocketAddr::new(server.ipv4(), 4222).to_string();
        let dht = Dht::start(Arc::new(server), DhtConfig::on_port(4222), None).await?;

        // The lab lives in January 2027.
        let options = GenerateOptions::new(1_800_000_000);
        let config =
            || Config::lan().with_bootstrap(&meeting_point).with_policy(ConnectionPolicy::DangerouslyAnyone);
        let (phone, desk) = (host("phone", Link::mobile()), host("desk", Link::dsl()));
        let phone = Node::start(Arc::new(phone), config(), Identity::generate(&options)?).await?;
        let desk = Node::start(Arc::new(desk), config(), Identity::generate(&options)?).await?;
        desk.registered().await;

        let before = world.elapsed();
        let sending = async {
            let mut channel = phone.connect(desk.device(), "photo").await?;
            channel.write_all(&vec![1; 2_000_000]).await?;
            channel.shutdown().await?;
            Ok::<_, Box<dyn Error>>(())
        };
        let receiving = async {
            let incoming = desk.incoming().await.ok_or("the node ended")?;
            let mut photo = Vec::new();
            incoming.accept().await?.read_to_end(&mut photo).await?;
            Ok::<_, Box<dyn Error>>(photo.len())
        };
        let (sent, received) = tokio::join!(sending, receiving);
        sent?;
        println!("{} bytes in {:?} of virtual time", received?, world.elapsed().saturating_sub(before));
        let trace = world.trace();
        println!("{} packets, {} of them lost", trace.sent(), trace.dropped());
        drop(dht);
        Ok(())
    })
}
