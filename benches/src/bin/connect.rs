//! A first connection on a warm local DHT, step by step.
//!
//! Every sample dials from a node that has just started and that the dialled device has never met, so both look the
//! other's certificate up. One table per length of the RSA keys. The time without RSA follows from them: over the
//! three lengths, the total grows with the cost of one private-key operation, measured in the same run; the line
//! through the medians meets an operation that costs nothing at the time without RSA, and its slope is the number of
//! such operations that the two devices do one after the other. Below every table the same for that length alone: the
//! total less the six private-key operations that request, answer and TLS consist of.
#![allow(clippy::print_stdout, reason = "the figures are the product")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use towline::dht::{Dht, DhtConfig};
use towline::identity::{Identity, KeySize};
use towline::net::{Net, Os};
use towline::{Config, ConnectionPolicy, Node, Timeline};
use towline_benches::{cpu_time, line_through, median, percentile, run_subject, stored_identity};

#[derive(Parser)]
struct Arguments {
    /// Connections made for each key length, in all rounds together.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Rounds; each runs every key length once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Nodes of the DHT besides the two devices.
    #[arg(long, default_value_t = 8)]
    dht_nodes: usize,
    /// Both devices know each other's certificate beforehand.
    #[arg(long)]
    acquainted: bool,
    /// Every dialling node leaves after its connection, so that the DHT is full of addresses that are silent.
    #[arg(long)]
    churn: bool,
    /// Where identities are kept between runs: making them takes longer than all else.
    #[arg(long, default_value = "target/bench-identities")]
    identities: PathBuf,
    /// Make connections with keys of this many bits in this process, and print the figures of each.
    #[arg(long)]
    subject: Option<usize>,
}

const KEY_SIZES: [KeySize; 3] = [KeySize::Rsa2048, KeySize::Rsa3072, KeySize::Rsa4096];
/// What is measured of a connection, in milliseconds, and where in the table it stands.
const FIGURES: [&str; 8] = [
    "certificate",
    "signalling",
    "  of it the peer's lookup",
    "path",
    "tls",
    "total",
    "first channel",
    "CPU, both ends and the DHT",
];
/// A connection takes this many operations with a private key, none at the same time as another: the request is signed
/// and decrypted, the answer too, and each side signs in TLS.
const PRIVATE_OPERATIONS: f64 = 6.0;
const TOTAL: usize = 5;
const CPU: usize = 7;
/// Lets a node that has just registered finish what it has begun.
const SETTLE: Duration = Duration::from_millis(300);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(bits) = arguments.subject {
        let key_size =
            KEY_SIZES.into_iter().find(|size| size.bits() == bits).context("no such key length")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let samples = runtime.block_on(run(key_size, &arguments))?;
        let operations = rsa_operations(&stored_identity(&arguments.identities, key_size, 0)?)?;
        let figures: Vec<String> =
            operations.iter().chain(samples.iter().flatten()).map(ToString::to_string).collect();
        println!("{}", figures.join(" "));
        return Ok(());
    }
    let share = arguments.connections.div_ceil(arguments.rounds.max(1));
    let mut runs: [Vec<Vec<f64>>; KEY_SIZES.len()] = Default::default();
    for key_size in KEY_SIZES {
        for number in 0..=share {
            stored_identity(&arguments.identities, key_size, number)?;
        }
    }
    for _ in 0..arguments.rounds {
        for (key_size, runs) in KEY_SIZES.iter().zip(&mut runs) {
            let (bits, share) = (key_size.bits().to_string(), share.to_string());
            let dht_nodes = arguments.dht_nodes.to_string();
            let identities = arguments.identities.to_str().context("the path is not UTF-8")?;
            let mut call = vec!["--subject", &bits, "--connections", &share, "--dht-nodes", &dht_nodes];
            call.extend(["--identities", identities]);
            for (flag, given) in [("--acquainted", arguments.acquainted), ("--churn", arguments.churn)] {
                call.extend(given.then_some(flag));
            }
            runs.push(run_subject(&call)?);
        }
    }
    print_tables(&runs)
}

/// `runs`: by key length, then by round; first the costs of the operations, then the samples one after the other.
fn print_tables(runs: &[Vec<Vec<f64>>]) -> Result<()> {
    let mut points = Vec::new();
    for (key_size, runs) in KEY_SIZES.iter().zip(runs) {
        let costs: Vec<f64> = (0..RSA_OPERATIONS.len())
            .map(|which| median(&mut runs.iter().map(|run| run[which]).collect::<Vec<_>>()))
            .collect();
        let samples: Vec<&[f64]> =
            runs.iter().flat_map(|run| run[RSA_OPERATIONS.len()..].chunks_exact(FIGURES.len())).collect();
        println!("RSA-{}, {} connections", key_size.bits(), samples.len());
        println!("{:<28} {:>8} {:>8}", "", "p50 ms", "p95 ms");
        for (which, name) in FIGURES.iter().enumerate() {
            let mut figures: Vec<f64> = samples.iter().map(|sample| sample[which]).collect();
            if which == CPU {
                // Counted in steps of 10 ms: only the mean says anything.
                println!("{name:<28} {:>8.2} (mean)", figures.iter().sum::<f64>() / figures.len() as f64);
                continue;
            }
            println!(
                "{name:<28} {:>8.2} {:>8.2}",
                percentile(&mut figures, 50.0),
                percentile(&mut figures, 95.0)
            );
        }
        let costs_text: Vec<String> =
            RSA_OPERATIONS.iter().zip(&costs).map(|(name, cost)| format!("{name} {cost:.3} ms")).collect();
        println!("one operation: {}", costs_text.join(", "));
        let private = f64::midpoint(costs[0], costs[3]);
        let total = median(&mut samples.iter().map(|sample| sample[TOTAL]).collect::<Vec<_>>());
        println!("total without private-key operations: {:.2} ms\n", total - PRIVATE_OPERATIONS * private);
        points.push((private, total));
    }
    let (base, slope) = line_through(&points);
    println!("without RSA: {base:.1} ms; private-key operations one after the other: {slope:.1}");
    ensure!(base.is_finite(), "no connections");
    Ok(())
}

const RSA_OPERATIONS: [&str; 4] = ["sign", "verify", "encrypt", "decrypt"];

/// Milliseconds of each of [`RSA_OPERATIONS`] with this key, medians.
fn rsa_operations(identity: &Identity) -> Result<[f64; 4]> {
    /// About the size of a connection request.
    const MESSAGE: [u8; 1500] = [7; 1500];
    fn cost<T>(mut operation: impl FnMut() -> Result<T>) -> Result<f64> {
        let mut figures = Vec::new();
        for _ in 0..31 {
            let began = Instant::now();
            std::hint::black_box(operation()?);
            figures.push(began.elapsed().as_secs_f64() * 1e3);
        }
        Ok(median(&mut figures))
    }
    let (key, public) = (identity.key(), identity.key().public());
    let signature = key.sign(&MESSAGE);
    let sealed = public.encrypt(&MESSAGE)?;
    Ok([
        cost(|| Ok(key.sign(&MESSAGE)))?,
        cost(|| Ok(public.verify(&MESSAGE, &signature)?))?,
        cost(|| Ok(public.encrypt(&MESSAGE)?))?,
        cost(|| Ok(key.decrypt(&sealed)?))?,
    ])
}

async fn run(key_size: KeySize, arguments: &Arguments) -> Result<Vec<[f64; FIGURES.len()]>> {
    let net: Arc<dyn Net> = Arc::new(Os);
    let first = Dht::start(Arc::clone(&net), DhtConfig::on_loopback(), None).await?;
    let bootstrap = first.local_addrs().v4.context("the DHT node has no IPv4 socket")?.to_string();
    let mut dht = vec![first];
    for _ in 1..arguments.dht_nodes {
        let config = DhtConfig::on_loopback().with_bootstrap(&bootstrap);
        dht.push(Dht::start(Arc::clone(&net), config, None).await?);
    }
    for node in &dht[1..] {
        node.connected().await?;
    }
    let config =
        || Config::loopback().with_bootstrap(&bootstrap).with_policy(ConnectionPolicy::DangerouslyAnyone);
    let stored = |number| stored_identity(&arguments.identities, key_size, number);
    let bob = Node::start(Arc::clone(&net), config(), stored(0)?).await?;
    bob.registered().await;
    let serving = bob.clone();
    tokio::spawn(async move {
        let mut channels = Vec::new();
        while let Some(incoming) = serving.incoming().await {
            channels.push(incoming.accept().await);
        }
    });

    let (mut samples, mut dialled) = (Vec::new(), Vec::new());
    for number in 1..=arguments.connections {
        let alice = Node::start(Arc::clone(&net), config(), stored(number)?).await?;
        alice.registered().await;
        if arguments.acquainted {
            alice.remember(bob.identity().chain().clone()).await;
            bob.remember(alice.identity().chain().clone()).await;
        }
        tokio::time::sleep(SETTLE).await;
        samples.push(sample(&alice, &bob).await?);
        if arguments.churn {
            alice.shutdown().await;
        } else {
            dialled.push(alice);
        }
    }
    Ok(samples)
}

/// Connects once and opens a channel: [`FIGURES`].
async fn sample(alice: &Node, bob: &Node) -> Result<[f64; FIGURES.len()]> {
    let cpu = cpu_time()?;
    let connection = alice.dial(bob.device()).await?;
    let connected = Instant::now();
    let _channel = connection.open("first").await?;
    let first_channel = connected.elapsed();
    let cpu = cpu_time()?.saturating_sub(cpu);
    let timeline = |node: &Node, peer: &Node| -> Result<Timeline> {
        let info = node.connection(peer.device()).context("the connection is gone")?.info();
        Ok(info.established.context("it is not established")?.timeline)
    };
    let (ours, theirs) = (timeline(alice, bob)?, timeline(bob, alice)?);
    let steps = [
        ours.certificate,
        ours.signalling,
        theirs.certificate,
        ours.path,
        ours.tls,
        ours.total(),
        first_channel,
        cpu,
    ];
    Ok(steps.map(|step| step.as_secs_f64() * 1e3))
}
