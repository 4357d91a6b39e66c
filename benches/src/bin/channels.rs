//! Opening channels on a warm connection, native dialect and Jami's.
//!
//! Subjects: `open` (a channel opened, one byte there and back, the peer's consent waited for), `open-early` (the same
//! without waiting for it), `echo` (one byte there and back on an open channel), `burst` (a thousand channels opened at
//! once, until the last is accepted), each also with `-jami`. Both ends in one process.
#![allow(clippy::print_stdout, reason = "the figures are the product")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use towline::identity::KeySize;
use towline::{Channel, ConnectOptions, Node};
use towline_benches::{Pair, median, percentile, run_subject};

#[derive(Parser)]
struct Arguments {
    /// Channels opened, or bytes echoed, one after the other.
    #[arg(long, default_value_t = 2000)]
    opens: usize,
    /// Channels opened at once.
    #[arg(long, default_value_t = 1000)]
    burst: usize,
    /// Times that burst is repeated; the median counts.
    #[arg(long, default_value_t = 10)]
    bursts: usize,
    /// Rounds; each runs every subject once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// One thread for both ends instead of two.
    #[arg(long)]
    current_thread: bool,
    /// Run one subject in this process and print its figures.
    #[arg(long)]
    subject: Option<String>,
}

const LATENCIES: [&str; 5] = ["open", "open-early", "open-jami", "echo", "echo-jami"];
const BURSTS: [&str; 2] = ["burst", "burst-jami"];
/// Untimed runs before the timed ones.
const WARM_UP: usize = 50;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(subject) = &arguments.subject {
        let mut runtime = if arguments.current_thread {
            tokio::runtime::Builder::new_current_thread()
        } else {
            tokio::runtime::Builder::new_multi_thread()
        };
        let runtime = runtime.worker_threads(2).enable_all().build()?;
        let subject = subject.clone();
        // A task of its own: what `block_on` runs itself is woken across threads.
        return runtime
            .block_on(async { tokio::spawn(async move { run(&subject, &arguments).await }).await? });
    }
    let opens = arguments.opens.to_string();
    let (burst, bursts) = (arguments.burst.to_string(), arguments.bursts.to_string());
    let mut work = vec!["--opens", &opens, "--burst", &burst, "--bursts", &bursts];
    if arguments.current_thread {
        work.push("--current-thread");
    }
    let subjects = [&LATENCIES[..], &BURSTS[..]].concat();
    let mut figures: Vec<Vec<Vec<f64>>> = vec![Vec::new(); subjects.len()];
    for _ in 0..arguments.rounds {
        for (subject, runs) in subjects.iter().zip(&mut figures) {
            runs.push(run_subject(&[&["--subject", subject], &work[..]].concat())?);
        }
    }
    let of_rounds = |runs: &[Vec<f64>], figure: usize| {
        median(&mut runs.iter().map(|run| run[figure]).collect::<Vec<_>>())
    };
    println!("{:<12} {:>8} {:>8}", "subject", "p50 us", "p95 us");
    let (latencies, totals) = figures.split_at(LATENCIES.len());
    for (subject, runs) in LATENCIES.iter().zip(latencies) {
        println!("{subject:<12} {:>8.1} {:>8.1}", of_rounds(runs, 0), of_rounds(runs, 1));
    }
    println!("\n{:<12} {:>8}", format!("{} at once", arguments.burst), "ms");
    for (subject, runs) in BURSTS.iter().zip(totals) {
        println!("{subject:<12} {:>8.2}", of_rounds(runs, 0));
    }
    Ok(())
}

async fn run(subject: &str, arguments: &Arguments) -> Result<()> {
    let (what, native) = match subject.strip_suffix("-jami") {
        Some(what) => (what, false),
        None => (subject, true),
    };
    let pair = Pair::start(KeySize::Rsa2048, |config| config.native_dialect = native).await?;
    pair.alice.dial(pair.bob.device()).await?;
    let mut latencies = match what {
        "open" => opens(&pair, arguments.opens, false).await?,
        "open-early" => opens(&pair, arguments.opens, true).await?,
        "echo" => echoes(&pair, arguments.opens).await?,
        "burst" => {
            let mut totals = Vec::new();
            for _ in 0..arguments.bursts {
                totals.push(burst(&pair, arguments.burst).await?);
            }
            println!("{}", median(&mut totals));
            return Ok(());
        }
        other => bail!("no subject {other}"),
    };
    println!("{} {}", percentile(&mut latencies, 50.0), percentile(&mut latencies, 95.0));
    Ok(())
}

/// Accepts every channel and sends back what comes on it.
fn serve_echo(bob: &Node) {
    async fn echo(mut channel: Channel) -> Result<()> {
        let mut byte = [0];
        while channel.read(&mut byte).await? > 0 {
            channel.write_all(&byte).await?;
        }
        Ok(channel.shutdown().await?)
    }
    let bob = bob.clone();
    tokio::spawn(async move {
        while let Some(incoming) = bob.incoming().await {
            // A channel that fails shows at the other end.
            tokio::spawn(async move { echo(incoming.accept().await?).await });
        }
    });
}

async fn there_and_back(channel: &mut Channel) -> Result<()> {
    channel.write_all(&[1]).await?;
    let mut byte = [0];
    channel.read_exact(&mut byte).await?;
    Ok(())
}

/// Microseconds from asking for a channel until one byte has come back on it.
async fn opens(pair: &Pair, count: usize, early: bool) -> Result<Vec<f64>> {
    serve_echo(&pair.bob);
    let options = ConnectOptions { early, ..ConnectOptions::default() };
    let mut latencies = Vec::with_capacity(count);
    for round in 0..WARM_UP + count {
        let began = Instant::now();
        let mut channel = pair.alice.connect_with(pair.bob.device(), "echo", options).await?;
        there_and_back(&mut channel).await?;
        if round >= WARM_UP {
            latencies.push(began.elapsed().as_secs_f64() * 1e6);
        }
        channel.shutdown().await?;
    }
    Ok(latencies)
}

/// Microseconds for one byte there and back on an open channel.
async fn echoes(pair: &Pair, count: usize) -> Result<Vec<f64>> {
    serve_echo(&pair.bob);
    let mut channel = pair.alice.connect(pair.bob.device(), "echo").await?;
    let mut latencies = Vec::with_capacity(count);
    for round in 0..WARM_UP + count {
        let began = Instant::now();
        there_and_back(&mut channel).await?;
        if round >= WARM_UP {
            latencies.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(latencies)
}

/// Milliseconds until `count` channels asked for at once are all open on both ends.
async fn burst(pair: &Pair, count: usize) -> Result<f64> {
    let connection = pair.alice.dial(pair.bob.device()).await?;
    let began = Instant::now();
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let connection = connection.clone();
        opening.spawn(async move { connection.open("burst").await });
    }
    let mut accepted = Vec::with_capacity(count);
    while accepted.len() < count {
        let incoming = pair.bob.incoming().await.context("the node was shut down")?;
        accepted.push(incoming.accept().await?);
    }
    let mut opened = Vec::with_capacity(count);
    while let Some(channel) = opening.join_next().await {
        opened.push(channel??);
    }
    let total = began.elapsed().as_secs_f64() * 1e3;
    ensure!(opened.len() == count, "{} channels opened", opened.len());
    drop((opened, accepted));
    // The next burst begins when nothing is left of this one.
    let peer = pair.bob.connection(pair.alice.device()).context("the connection is gone")?;
    while !(connection.channels().await.is_empty() && peer.channels().await.is_empty()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(total)
}
