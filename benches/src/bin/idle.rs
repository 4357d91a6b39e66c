//! Memory of connections that do nothing, and of connections whose peer misbehaves.
//!
//! Two processes hold the two ends of all connections, a third the DHT, so that the figures are those of one end each.
//! Between two devices there is one connection; so each process runs many devices, and each of one side dials each of
//! the other. What nodes cost is told apart by a line through the memory after every batch.
#![allow(clippy::print_stdout, reason = "the figures are the product")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use towline::dht::{Dht, DhtConfig};
use towline::identity::KeySize;
use towline::net::{Net, Os};
use towline::{Channel, Config, ConnectionPolicy, DeviceId, Node};
use towline_benches::{line_through, memory_of, stored_identity};

#[derive(Parser, Clone)]
struct Arguments {
    /// Devices of each side; the connections are the square of it.
    #[arg(long, default_value_t = 32)]
    devices: usize,
    /// Batches the connections are made in.
    #[arg(long, default_value_t = 8)]
    batches: usize,
    /// Seconds of silence before the memory is read after a batch.
    #[arg(long, default_value_t = 3)]
    settle: u64,
    /// Seconds of silence at the end, and a last reading: buffers no longer in use are given back by then.
    #[arg(long, default_value_t = 60)]
    linger: u64,
    /// KiB that every connection moves in both directions before it falls silent.
    #[arg(long, default_value_t = 0)]
    moved: usize,
    /// Measure peers that do not read instead.
    #[arg(long)]
    abuse: bool,
    /// Seconds during which nobody reads.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Jami's dialect instead of our own.
    #[arg(long)]
    jami: bool,
    /// Where identities are kept between runs.
    #[arg(long, default_value = "target/bench-identities")]
    identities: PathBuf,
    /// Play a part of the benchmark.
    #[arg(long)]
    role: Option<Role>,
    /// The DHT node to start from.
    #[arg(long, default_value = "")]
    bootstrap: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// The DHT.
    Dht,
    /// Accepts channels, sends back what it owes (see [`exchange`]), and then keeps them.
    Keep,
    /// Accepts channels and never reads.
    Ignore,
}

/// Dials under way at once; more only wait for the processor.
const AT_ONCE: usize = 16;
/// Numbers of the identities of the accepting side begin here.
const ACCEPTING: usize = 1000;
const MIB: f64 = 1_048_576.0;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match arguments.role {
            Some(Role::Dht) => {
                let mut config = DhtConfig::on_loopback();
                // Every device here has the same address, which the limits take for one greedy source.
                config.node.limits.rates.per_source = config.node.limits.rates.global;
                let dht = Dht::start(Arc::new(Os), config, None).await?;
                println!("{}", dht.local_addrs().v4.context("the DHT node has no IPv4 socket")?);
                until_told();
                Ok(())
            }
            Some(role) => accept(role, &arguments).await,
            None if arguments.abuse => abuse(&arguments).await,
            None => idle(&arguments).await,
        }
    })
}

/// A process that plays a part. It ends with this.
struct Part {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Part {
    fn start(role: Role, arguments: &Arguments, bootstrap: &str) -> Result<Self> {
        let role = role.to_possible_value().context("a role has a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role.get_name(), "--bootstrap", bootstrap]);
        command.args(["--devices", &arguments.devices.to_string(), "--moved", &arguments.moved.to_string()]);
        command.arg("--identities").arg(&arguments.identities);
        if arguments.jami {
            command.arg("--jami");
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(process.stdout.take().context("it was given a pipe")?);
        Ok(Self { process, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "a part of the benchmark ended early");
        Ok(line.trim().to_owned())
    }

    fn id(&self) -> String {
        self.process.id().to_string()
    }

    fn signal(&self, name: &str) -> Result<()> {
        ensure!(Command::new("kill").args([name, &self.id()]).status()?.success(), "kill {name} failed");
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for the end of the standard input, which the end of the benchmark brings.
fn until_told() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Devices numbered from `first`, registered. They are clients of the DHT, so that it takes none of their memory.
async fn nodes(arguments: &Arguments, bootstrap: &str, first: usize) -> Result<Vec<Node>> {
    let net: Arc<dyn Net> = Arc::new(Os);
    let mut nodes = Vec::new();
    for number in first..first + arguments.devices {
        let mut config =
            Config::loopback().with_bootstrap(bootstrap).with_policy(ConnectionPolicy::DangerouslyAnyone);
        config.native_dialect = !arguments.jami;
        config.dht.node.mode = towline::dht::NodeMode::Client;
        let identity = stored_identity(&arguments.identities, KeySize::Rsa2048, number)?;
        nodes.push(Node::start(Arc::clone(&net), config, identity).await?);
    }
    for node in &nodes {
        node.registered().await;
    }
    Ok(nodes)
}

/// The accepting side.
async fn accept(role: Role, arguments: &Arguments) -> Result<()> {
    let nodes = nodes(arguments, &arguments.bootstrap, ACCEPTING).await?;
    let ids: Vec<String> = nodes.iter().map(|node| node.device().to_string()).collect();
    println!("{}", ids.join(" "));
    std::io::stdout().flush()?;
    for node in &nodes {
        let node = node.clone();
        let moved = if matches!(role, Role::Keep) { arguments.moved } else { 0 };
        tokio::spawn(async move {
            while let Some(incoming) = node.incoming().await {
                tokio::spawn(async move {
                    let mut channel = incoming.accept().await?;
                    exchange(&mut channel, moved).await?;
                    // Held open for as long as the process lives.
                    std::future::pending::<()>().await;
                    drop(channel);
                    anyhow::Ok(())
                });
            }
        });
    }
    tokio::task::spawn_blocking(until_told).await?;
    Ok(())
}

/// Sends and receives `kib` KiB.
async fn exchange(channel: &mut Channel, kib: usize) -> Result<()> {
    let (mut reader, mut writer) = tokio::io::split(channel);
    let buffer = [7; 1024];
    let send = async {
        for _ in 0..kib {
            writer.write_all(&buffer).await?;
        }
        anyhow::Ok(())
    };
    let receive = async {
        let mut buffer = [0; 1024];
        for _ in 0..kib {
            reader.read_exact(&mut buffer).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(send, receive)?;
    Ok(())
}

/// Both sides of a set-up: the DHT, the accepting process, its devices, and ours.
struct Stage {
    _dht: Part,
    peer: Part,
    theirs: Vec<DeviceId>,
    ours: Vec<Node>,
}

impl Stage {
    async fn set(role: Role, arguments: &Arguments) -> Result<Self> {
        let mut dht = Part::start(Role::Dht, arguments, "")?;
        let bootstrap = dht.line()?;
        let mut peer = Part::start(role, arguments, &bootstrap)?;
        let ours = nodes(arguments, &bootstrap, 0).await?;
        let theirs = peer.line()?.split(' ').map(str::parse).collect::<Result<Vec<DeviceId>, _>>()?;
        Ok(Self { _dht: dht, peer, theirs, ours })
    }

    /// Resident memory in bytes: of this process, of the peer's.
    fn memory(&self) -> Result<[f64; 2]> {
        Ok([memory_of("self")?.0 as f64, memory_of(&self.peer.id())?.0 as f64])
    }

    /// The same at its highest since the last [`forget_peaks`](Self::forget_peaks).
    fn peaks(&self) -> Result<[f64; 2]> {
        Ok([memory_of("self")?.1 as f64, memory_of(&self.peer.id())?.1 as f64])
    }

    fn forget_peaks(&self) -> Result<()> {
        for process in ["self", &self.peer.id()] {
            // 5: reset the peak of the resident set; see proc(5).
            std::fs::write(format!("/proc/{process}/clear_refs"), "5")?;
        }
        Ok(())
    }
}

async fn idle(arguments: &Arguments) -> Result<()> {
    let stage = Stage::set(Role::Keep, arguments).await?;
    let devices = arguments.devices;
    let total = devices * devices;
    // Spread over the devices, so that every batch is like the others.
    let mut pairs = (0..total).map(|number| {
        let ours = number % devices;
        (ours, (ours + number / devices) % devices)
    });
    let mut channels = Vec::with_capacity(total);
    let mut readings = [vec![], vec![]];
    let mut read = |stage: &Stage, count: usize| -> Result<[f64; 2]> {
        let memory = stage.memory()?;
        for (readings, memory) in readings.iter_mut().zip(memory) {
            readings.push((count as f64, memory));
        }
        println!("{count:>6} {:>14.1} {:>14.1}", memory[0] / MIB, memory[1] / MIB);
        Ok(memory)
    };
    println!("{:>6} {:>14} {:>14}", "count", "dialling MiB", "answering MiB");
    let pause = Duration::from_secs(arguments.settle);
    tokio::time::sleep(pause).await;
    read(&stage, 0)?;
    for batch in 1..=arguments.batches {
        let mut dialling = JoinSet::new();
        loop {
            let wanted = total * batch / arguments.batches - channels.len() - dialling.len();
            if wanted > 0 && dialling.len() < AT_ONCE {
                let (ours, theirs) = pairs.next().context("there are as many pairs as connections")?;
                let (node, device) = (stage.ours[ours].clone(), stage.theirs[theirs]);
                let moved = arguments.moved;
                dialling.spawn(async move {
                    let mut channel = node.connect(device, "idle").await?;
                    exchange(&mut channel, moved).await?;
                    anyhow::Ok(channel)
                });
                continue;
            }
            let Some(channel) = dialling.join_next().await else { break };
            channels.push(channel??);
        }
        tokio::time::sleep(pause).await;
        read(&stage, channels.len())?;
    }
    let lines = readings.each_ref().map(|readings| {
        // The first connections also pay for code and tables that the rest shares.
        line_through(&readings[1..])
    });
    println!("KiB per connection: dialling {:.1}, answering {:.1}", lines[0].1 / 1024.0, lines[1].1 / 1024.0);
    if arguments.linger > 0 {
        tokio::time::sleep(Duration::from_secs(arguments.linger)).await;
        let last = stage.memory()?;
        let each = |side: usize| (last[side] - lines[side].0) / total as f64 / 1024.0;
        println!(
            "after {} s of silence: dialling {:.1}, answering {:.1}",
            arguments.linger,
            each(0),
            each(1)
        );
    }
    let alive: usize = stage.ours.iter().map(|node| node.established().len()).sum();
    ensure!(alive == total, "{alive} connections are left");
    Ok(())
}

/// What is written, over and over; static, so that the writers themselves need no memory.
static POURED: [u8; 64 * 1024] = [7; 64 * 1024];
/// Channels that write at once in the cases of [`abuse`].
const WRITERS: [usize; 3] = [1, 100, 1000];

async fn abuse(arguments: &Arguments) -> Result<()> {
    println!(
        "{:<34} {:>12} {:>14} {:>14}",
        format!("{} s", arguments.seconds),
        "accepted MiB",
        "sender +MiB",
        "receiver +MiB"
    );
    for jami in [false, true] {
        let arguments = Arguments { jami, devices: 1, ..arguments.clone() };
        for writers in WRITERS {
            for frozen in [false, true] {
                let (accepted, [sender, receiver]) = pour(&arguments, writers, frozen).await?;
                let name = format!(
                    "{}, {writers} channels, {}",
                    if jami { "jami" } else { "native" },
                    if frozen { "peer stopped" } else { "nobody reads" }
                );
                println!("{name:<34} {accepted:>12.1} {sender:>14.1} {receiver:>14.1}");
            }
        }
    }
    Ok(())
}

/// Writes on so many channels to a peer whose program does not read, or, `frozen`, to one that does nothing at all.
/// Returns MiB: what our side took from the writers, and how far the memory of the two processes rose at most.
async fn pour(arguments: &Arguments, writers: usize, frozen: bool) -> Result<(f64, [f64; 2])> {
    let stage = Stage::set(Role::Ignore, arguments).await?;
    let ([node], [device]) = (&stage.ours[..], &stage.theirs[..]) else { bail!("one device on each side") };
    let connection = node.dial(*device).await?;
    let mut channels = Vec::new();
    for _ in 0..writers {
        channels.push(connection.open("poured into").await?);
    }
    if frozen {
        stage.peer.signal("-STOP")?;
    }
    let before = stage.memory()?;
    stage.forget_peaks()?;
    let accepted = Arc::new(AtomicU64::new(0));
    let mut writing = JoinSet::new();
    for mut channel in channels {
        let accepted = Arc::clone(&accepted);
        writing.spawn(async move {
            loop {
                // Ends when the connection is given up, which a peer that is stopped for long brings about.
                match channel.write(&POURED).await {
                    Ok(written) => accepted.fetch_add(written as u64, Ordering::Relaxed),
                    Err(_) => return,
                };
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let peaks = stage.peaks()?;
    let rise = [0, 1].map(|side| (peaks[side] - before[side]) / MIB);
    Ok((accepted.load(Ordering::Relaxed) as f64 / MIB, rise))
}
