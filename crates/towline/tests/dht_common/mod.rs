//! What the tests of this crate share.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use towline::dht::{Dht, DhtConfig};
use towline::identity::{GenerateOptions, Identity, KeySize};
use towline::net::Net;

/// No step of a test takes so long unless something is broken.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The result of something that must happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, future).await;
    done.unwrap_or_else(|_| panic!("{what} did not happen within {DEADLINE:?}"))
}

/// Two devices, made once for all tests of a program: keys are slow to make.
pub fn identities() -> &'static [Arc<Identity>; 2] {
    static IDENTITIES: OnceLock<[Arc<Identity>; 2]> = OnceLock::new();
    IDENTITIES.get_or_init(|| std::array::from_fn(|_| Arc::new(new_identity())))
}

/// A device of an account of its own, with the smallest keys there are.
pub fn new_identity() -> Identity {
    let options = GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(1_700_000_000) };
    Identity::generate(&options).expect("a device can be generated")
}

/// Nodes on loopback that all know the first of them.
pub async fn network(net: &Arc<dyn Net>, identities: &[Option<Arc<Identity>>]) -> Vec<Dht> {
    let mut nodes: Vec<Dht> = Vec::new();
    for identity in identities {
        let mut config = DhtConfig::on_loopback();
        if let Some(first) = nodes.first() {
            let addr = first.local_addrs().v4.expect("IPv4 is bound");
            config = config.with_bootstrap(addr.to_string());
        }
        let node = Dht::start(Arc::clone(net), config, identity.clone()).await.expect("the node starts");
        nodes.push(node);
    }
    for node in &nodes {
        soon("being connected", node.connected()).await.expect("nobody has shut it down");
    }
    nodes
}
