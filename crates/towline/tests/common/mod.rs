//! What the stories share: identities, and nodes on loopback or in the lab.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use towline::dht::{Dht, DhtConfig};
use towline::identity::{GenerateOptions, Identity, KeySize};
use towline::net::Net;
use towline::{Config, ConnectionPolicy, Node};
use towline_lab::{Host, Link, Network, World};

/// RSA-2048 identities, each with an account of its own; made once per process, as they take time.
pub fn identity(number: usize) -> Identity {
    static MADE: OnceLock<Mutex<Vec<Identity>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap();
    while made.len() <= number {
        // All in January 2027, the time of the lab.
        let options = GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(1_800_000_000) };
        made.push(Identity::generate(&options).unwrap());
    }
    made[number].clone()
}

/// A network in the lab: a DHT node to bootstrap from, and whoever joins.
pub struct Lab {
    pub world: World,
    pub internet: Network,
    pub bootstrap: SocketAddr,
    pub dht: Dht,
}

impl Lab {
    pub async fn new(world: World) -> Self {
        let internet = world.internet();
        let host = world.host("bootstrap");
        host.attach(internet, Link::delay(std::time::Duration::from_millis(5)));
        let bootstrap = SocketAddr::new(host.ipv4(), 4222);
        let dht = Dht::start(Arc::new(host), DhtConfig::on_port(4222), None).await.unwrap();
        Self { world, internet, bootstrap, dht }
    }

    pub fn host(&self, name: &str) -> Host {
        let host = self.world.host(name);
        host.attach(self.internet, Link::delay(std::time::Duration::from_millis(5)));
        host
    }

    pub fn config(&self) -> Config {
        Config::lan().with_bootstrap(self.bootstrap.to_string()).with_policy(ConnectionPolicy::DangerouslyAnyone)
    }

    /// A node with identity `number` that admits anyone.
    pub async fn node(&self, number: usize) -> Node {
        self.node_with(number, self.config()).await
    }

    pub async fn node_with(&self, number: usize, config: Config) -> Node {
        let host: Arc<dyn Net> = Arc::new(self.host(&format!("device-{number}")));
        Node::start(host, config, identity(number)).await.unwrap()
    }
}
