//! What the benchmarks share: CPU time, memory, medians, and two devices on loopback.
//!
//! Every benchmark runs its subjects in turn, several times, each in a process of its own, and prints medians and
//! ratios: machines drift, ratios of neighbouring runs do not.

mod measure;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use towline::dht::{Dht, DhtConfig};
use towline::identity::{GenerateOptions, Identity, KeySize};
use towline::net::{Net, Os};
use towline::{Config, ConnectionPolicy, Node};

pub use measure::{
    Stopwatch, cpu_time, line_through, median, memory, memory_of, percentile, run_program, run_subject,
};

/// A DHT node and two devices on loopback, the second accepting anyone.
#[derive(Debug)]
pub struct Pair {
    /// The DHT node both bootstrap from.
    pub dht: Dht,
    /// Dials.
    pub alice: Node,
    /// Is dialled.
    pub bob: Node,
}

/// A new identity with keys of this size.
pub fn identity(key_size: KeySize) -> Result<Identity> {
    let now = Os.unix_time().as_secs() as i64;
    Ok(Identity::generate(&GenerateOptions { key_size, ..GenerateOptions::new(now) })?)
}

/// The identity with this number below `directory`, made if it is not there yet: making one takes longer than most of
/// what is measured.
pub fn stored_identity(directory: &Path, key_size: KeySize, number: usize) -> Result<Identity> {
    let directory = directory.join(format!("rsa{}", key_size.bits())).join(number.to_string());
    if let Ok(identity) = Identity::load(&directory, None) {
        return Ok(identity);
    }
    std::fs::create_dir_all(&directory)?;
    let identity = identity(key_size)?;
    identity.save(&directory, None)?;
    Ok(identity)
}

impl Pair {
    /// Starts the three and waits until the second can be dialled.
    pub async fn start(key_size: KeySize, adjust: impl Fn(&mut Config)) -> Result<Self> {
        let net: Arc<dyn Net> = Arc::new(Os);
        let dht = Dht::start(Arc::clone(&net), DhtConfig::on_loopback(), None).await?;
        let bootstrap = dht.local_addrs().v4.context("the DHT node has no IPv4 socket")?.to_string();
        let config = || {
            let mut config = Config::loopback().with_bootstrap(&bootstrap);
            config.policy = ConnectionPolicy::DangerouslyAnyone;
            adjust(&mut config);
            config
        };
        let alice = Node::start(Arc::clone(&net), config(), identity(key_size)?).await?;
        let bob = Node::start(net, config(), identity(key_size)?).await?;
        alice.registered().await;
        bob.registered().await;
        Ok(Self { dht, alice, bob })
    }
}
