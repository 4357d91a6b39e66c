//! The work of the project's benchmarks through other stacks, and tables that set both side by side.
//!
//! `towline-compare --bulk BULK` moves bytes through every subject of the `bulk` benchmark at the path `BULK` and
//! through those here, alternately, each run in a process of its own. `--channels CHANNELS` does the same for opening a
//! channel and echoing one byte, `--channeler CHANNELER` for the transport of many links.
//!
//! Subjects here: `libp2p` (TCP, TLS, yamux; its TLS prefers ChaCha20-Poly1305), `yamux` (the same multiplexer on
//! tokio-rustls with AES-256-GCM, so that the cipher does not decide the comparison), `quinn` (QUIC). Both ends run in
//! one process.

mod libp2p_tcp;
#[path = "../../src/measure.rs"]
#[allow(dead_code, reason = "shared with the benchmarks, which use all of it")]
mod measure;
mod pump;
mod quic;
mod tls;
mod yamux_tls;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Parser;

use measure::{median, memory, run_program, run_subject};

#[derive(Parser)]
struct Arguments {
    /// Bytes to move, in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Channels to open one after the other.
    #[arg(long, default_value_t = 2000)]
    opens: usize,
    /// Rounds; each runs every subject once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Run one subject in this process and print its figures.
    #[arg(long)]
    subject: Option<String>,
    /// The `bulk` benchmark of the project: print a table of bulk data.
    #[arg(long)]
    bulk: Option<PathBuf>,
    /// The `channeler` benchmark of the project: print a table of bulk data, channels and connections.
    #[arg(long)]
    channeler: Option<PathBuf>,
    /// The `channels` benchmark of the project: print a table of opening channels.
    #[arg(long)]
    channels: Option<PathBuf>,
}

/// Who runs a subject: the project's benchmark or this program.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Towline,
    Here,
}

const BULK: [(By, &str); 7] = [
    (By::Towline, "rustls"),
    (By::Towline, "native"),
    (By::Towline, "native-100"),
    (By::Towline, "jami"),
    (By::Here, "yamux"),
    (By::Here, "libp2p"),
    (By::Here, "quinn"),
];
/// One channeler connection against one of quinn with datagrams of the same size, and the connections of today over TCP.
const CHANNELER: [(By, &str); 7] = [
    (By::Towline, "udp"),
    (By::Here, "quinn-1452"),
    (By::Towline, "udp-1000"),
    (By::Here, "quinn-1000"),
    (By::Towline, "stream"),
    (By::Towline, "move"),
    (By::Towline, "native"),
];
const OPENS: [(By, &str); 5] = [
    (By::Towline, "open"),
    (By::Towline, "open-early"),
    (By::Towline, "open-jami"),
    (By::Here, "libp2p-open"),
    (By::Here, "quinn-open"),
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(subject) = &arguments.subject {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (bytes, opens) = (arguments.mib << 20, arguments.opens);
        // A task of its own: what `block_on` runs itself is woken across threads.
        let task = run_here(subject.clone(), bytes, opens);
        return runtime.block_on(async { tokio::spawn(task).await })?;
    }
    if arguments.bulk.is_none() && arguments.channels.is_none() && arguments.channeler.is_none() {
        bail!("give --bulk, --channels or --channeler with the path of that benchmark, or --subject");
    }
    if let Some(channeler) = &arguments.channeler {
        print_channeler(channeler, &arguments)?;
    }
    if let Some(bulk) = &arguments.bulk {
        print_bulk(bulk, arguments.mib, arguments.rounds)?;
    }
    if let Some(channels) = &arguments.channels {
        print_opens(channels, arguments.opens, arguments.rounds)?;
    }
    Ok(())
}

/// Runs one of the subjects here and prints its figures.
async fn run_here(subject: String, bytes: usize, opens: usize) -> Result<()> {
    let (wall, cpu) = match subject.as_str() {
        "libp2p" => libp2p_tcp::bulk(bytes).await?,
        "yamux" => yamux_tls::bulk(bytes).await?,
        "quinn" => quic::bulk(bytes, 1, None).await?,
        "quinn-1452" => quic::bulk(bytes, 1, Some(1452)).await?,
        "quinn-1000" => quic::bulk(bytes, 1000, Some(1452)).await?,
        "libp2p-open" => return pump::print_latencies(libp2p_tcp::opens(opens).await?),
        "quinn-open" => return pump::print_latencies(quic::opens(opens).await?),
        "quinn-connect" => {
            println!("{}", quic::connects(opens).await?);
            return Ok(());
        }
        other => bail!("no subject {other}"),
    };
    println!("{wall} {cpu} {}", memory()?.1 as f64 / 1_048_576.0);
    Ok(())
}

/// Runs all subjects in turn, `rounds` times over: figures by subject, then by round.
fn run(subjects: &[(By, &str)], towline: &Path, work: &[&str], rounds: usize) -> Result<Vec<Vec<Vec<f64>>>> {
    let mut figures = vec![Vec::new(); subjects.len()];
    for _ in 0..rounds {
        for ((by, subject), runs) in subjects.iter().zip(&mut figures) {
            let arguments = [&["--subject", subject], work].concat();
            runs.push(match by {
                By::Towline => run_program(towline, &arguments)?,
                By::Here => run_subject(&arguments)?,
            });
        }
    }
    Ok(figures)
}

/// The median over rounds of what `figure` makes of a run and the same round's run of `other`.
fn over_rounds(runs: &[Vec<f64>], other: &[Vec<f64>], figure: impl Fn(&[f64], &[f64]) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().zip(other).map(|(run, other)| figure(run, other)).collect();
    median(&mut figures)
}

fn position(subjects: &[(By, &str)], wanted: &str) -> usize {
    subjects.iter().position(|(_, subject)| *subject == wanted).expect("a subject of the table")
}

fn print_bulk(towline: &Path, mib: usize, rounds: usize) -> Result<()> {
    let figures = run(&BULK, towline, &["--mib", &mib.to_string()], rounds)?;
    let gib = mib as f64 / 1024.0;
    let (floor, libp2p) = (&figures[position(&BULK, "rustls")], &figures[position(&BULK, "libp2p")]);
    println!(
        "{:<12} {:>10} {:>10} {:>10} {:>8} {:>9}",
        "subject", "CPU s/GiB", "x rustls", "x libp2p", "MiB/s", "peak MiB"
    );
    for ((_, subject), runs) in BULK.iter().zip(&figures) {
        println!(
            "{subject:<12} {:>10.3} {:>10.2} {:>10.2} {:>8.0} {:>9.1}",
            over_rounds(runs, runs, |run, _| run[1] / gib),
            over_rounds(runs, floor, |run, floor| run[1] / floor[1]),
            over_rounds(runs, libp2p, |run, libp2p| run[1] / libp2p[1]),
            over_rounds(runs, runs, |run, _| mib as f64 / run[0]),
            over_rounds(runs, runs, |run, _| run[2]),
        );
    }
    Ok(())
}

fn print_channeler(towline: &Path, arguments: &Arguments) -> Result<()> {
    let (mib, rounds) = (arguments.mib, arguments.rounds);
    let figures = run(&CHANNELER, towline, &["--mib", &mib.to_string()], rounds)?;
    let gib = mib as f64 / 1024.0;
    let of = |subject| &figures[position(&CHANNELER, subject)];
    println!(
        "{:<12} {:>10} {:>12} {:>10} {:>10} {:>8} {:>9}",
        "subject", "CPU s/GiB", "Gbit/CPU-s", "x quinn", "x native", "MiB/s", "peak MiB"
    );
    for ((_, subject), runs) in CHANNELER.iter().zip(&figures) {
        println!(
            "{subject:<12} {:>10.3} {:>12.2} {:>10.2} {:>10.2} {:>8.0} {:>9.1}",
            over_rounds(runs, runs, |run, _| run[1] / gib),
            over_rounds(runs, runs, |run, _| gib * 8.589_934_592 / run[1]),
            over_rounds(runs, of("quinn-1452"), |run, quinn| run[1] / quinn[1]),
            over_rounds(runs, of("native"), |run, native| run[1] / native[1]),
            over_rounds(runs, runs, |run, _| mib as f64 / run[0]),
            over_rounds(runs, runs, |run, _| run[2]),
        );
    }
    let many = over_rounds(of("udp-1000"), of("udp"), |many, one| many[1] / one[1]);
    println!("1,000 channels against one: {many:.2} x CPU");
    let opens = arguments.opens.to_string();
    let latencies = [(By::Towline, "open"), (By::Towline, "echo"), (By::Here, "quinn-open")];
    let figures = run(&latencies, towline, &["--opens", &opens], rounds)?;
    println!("\n{:<14} {:>8} {:>8}", "subject", "p50 us", "p95 us");
    for ((_, subject), runs) in latencies.iter().zip(&figures) {
        let [p50, p95] = [0, 1].map(|at| over_rounds(runs, runs, |run, _| run[at]));
        println!("{subject:<14} {p50:>8.1} {p95:>8.1}");
    }
    let connects = [(By::Towline, "connect"), (By::Towline, "connect-rsa"), (By::Here, "quinn-connect")];
    let figures = run(&connects, towline, &["--opens", "500"], rounds)?;
    println!("\n{:<14} {:>14}", "subject", "CPU ms");
    for ((_, subject), runs) in connects.iter().zip(&figures) {
        println!("{subject:<14} {:>14.3}", over_rounds(runs, runs, |run, _| run[0]));
    }
    Ok(())
}

fn print_opens(towline: &Path, opens: usize, rounds: usize) -> Result<()> {
    let figures = run(&OPENS, towline, &["--opens", &opens.to_string()], rounds)?;
    let quinn = &figures[position(&OPENS, "quinn-open")];
    println!("{:<12} {:>8} {:>8} {:>8}", "subject", "p50 us", "p95 us", "x quinn");
    for ((_, subject), runs) in OPENS.iter().zip(&figures) {
        println!(
            "{subject:<12} {:>8.1} {:>8.1} {:>8.2}",
            over_rounds(runs, runs, |run, _| run[0]),
            over_rounds(runs, runs, |run, _| run[1]),
            over_rounds(runs, quinn, |run, quinn| run[0] / quinn[0]),
        );
    }
    Ok(())
}
