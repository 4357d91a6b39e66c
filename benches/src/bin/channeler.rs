//! The transport of many links over loopback: bulk data, channels, connections.
//!
//! Subjects: `udp` and `udp-1000` (one and a thousand channels, datagrams of 1452 bytes), `stream` (one channel over a TCP
//! connection), `move` (one channel that moves from UDP to TCP and back; also prints the longest stall), `native` (the
//! connections of today, TLS on TCP), `open` and `echo` (microseconds), `connect` and `connect-rsa` (milliseconds of CPU of
//! both ends, known by their keys alone or by chains of RSA-3072). Both ends in one process. `towline-compare
//! --channeler` sets them beside quinn.
#![allow(clippy::print_stdout, reason = "the figures are the product")]

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::task::JoinSet;
use towline::identity::{Identity, KeySize};
use towline::net::{Net, Os};
use towline_benches::{Pair, Stopwatch, identity, memory, percentile};

use towline_channeler_tokio::proto::{
    Certified, CertifiedPeers, Code, Credentials, EndpointConfig, KeyOnly, OpenOptions, Peer, Placement,
    StaticKey, Trust,
};
use towline_channeler_tokio::{Connection, Endpoint};

#[derive(Parser)]
struct Arguments {
    /// What to measure.
    #[arg(long)]
    subject: String,
    /// Bytes to move, in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Channels or connections opened, or bytes echoed, one after the other.
    #[arg(long, default_value_t = 2000)]
    opens: usize,
}

/// Size of the buffers given to write and read.
const BUFFER: usize = 64 * 1024;
/// Untimed runs before the timed ones.
const WARM_UP: usize = 50;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // A task of its own: what `block_on` runs itself is woken across threads.
    runtime.block_on(async { tokio::spawn(run(arguments)).await })?
}

async fn run(arguments: Arguments) -> Result<()> {
    let bytes = arguments.mib << 20;
    let (wall, cpu) = match arguments.subject.as_str() {
        "udp" => bulk(&Ends::over_udp().await?, bytes, 1).await?,
        "udp-1000" => bulk(&Ends::over_udp().await?, bytes, 1000).await?,
        "stream" => bulk(&Ends::over_tcp().await?, bytes, 1).await?,
        "native" => native(bytes).await?,
        "move" => {
            let (wall, cpu, stall) = moving(bytes).await?;
            println!("{wall} {cpu} {} {}", memory()?.1 as f64 / 1_048_576.0, stall * 1e3);
            return Ok(());
        }
        "open" => {
            print_latencies(opens(&Ends::over_udp().await?, arguments.opens).await?);
            return Ok(());
        }
        "echo" => {
            print_latencies(echoes(&Ends::over_udp().await?, arguments.opens).await?);
            return Ok(());
        }
        "connect" => return connects(None, arguments.opens).await,
        "connect-rsa" => return connects(Some(identity(KeySize::Rsa3072)?), arguments.opens).await,
        other => bail!("no subject {other}"),
    };
    println!("{wall} {cpu} {}", memory()?.1 as f64 / 1_048_576.0);
    Ok(())
}

/// Both ends of a connection, and what they belong to.
struct Ends {
    alice: Connection,
    bob: Connection,
    endpoints: [Endpoint; 2],
}

impl Ends {
    async fn over_udp() -> Result<Self> {
        let (alice, bob) = (endpoint(1, None)?, endpoint(2, None)?);
        let dial = alice.connect(known(2), bob.local_addr(first()).context("no socket")?);
        let (ours, theirs) = tokio::join!(dial, bob.accept());
        Ok(Self { alice: ours?, bob: theirs.context("endpoint closed")?, endpoints: [alice, bob] })
    }

    async fn over_tcp() -> Result<Self> {
        let (alice, bob) = (endpoint(1, None)?, endpoint(2, None)?);
        let at = bob.listen((Ipv4Addr::LOCALHOST, 0).into())?;
        let (ours, theirs) = tokio::join!(alice.connect_tcp(known(2), at), bob.accept());
        Ok(Self { alice: ours?, bob: theirs.context("endpoint closed")?, endpoints: [alice, bob] })
    }
}

fn first() -> towline_channeler_tokio::SocketId {
    towline_channeler_tokio::SocketId::FIRST
}

fn known(seed: u8) -> Peer {
    Peer::Key(StaticKey::from_bytes([seed; 32]).public())
}

fn endpoint(seed: u8, identity: Option<&Identity>) -> Result<Endpoint> {
    let key = StaticKey::from_bytes([seed; 32]);
    let (credentials, trust): (Arc<dyn Credentials>, Arc<dyn Trust>) = match identity {
        None => (Arc::new(KeyOnly::anyone()), Arc::new(KeyOnly::anyone())),
        Some(identity) => {
            let not_after = Os.unix_time().as_secs() as i64 + 86_400;
            let certified = Certified::new(identity, &key, not_after);
            (Arc::new(certified), Arc::new(CertifiedPeers::device(identity.device_id())))
        }
    };
    let config = EndpointConfig::new(key, credentials, trust);
    Ok(Endpoint::bind(Arc::new(Os), (Ipv4Addr::LOCALHOST, 0).into(), config)?)
}

/// What is written: the same memory for all, as it is not theirs that is measured.
static SOURCE: [u8; BUFFER] = [7; BUFFER];

async fn send(mut to: impl AsyncWrite + Unpin, bytes: usize) -> Result<()> {
    let mut left = bytes;
    while left > 0 {
        let now = left.min(BUFFER);
        to.write_all(&SOURCE[..now]).await?;
        left -= now;
    }
    to.shutdown().await?;
    Ok(())
}

/// Reads to the end, into memory that is common to all who read in a thread.
async fn receive(mut from: impl AsyncRead + Unpin) -> Result<usize> {
    thread_local! {
        static BYTES: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
    }
    let mut received = 0;
    loop {
        let read = poll_fn(|cx| {
            BYTES.with_borrow_mut(|bytes| {
                let mut buffer = ReadBuf::new(bytes);
                Pin::new(&mut from).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
            })
        });
        match read.await? {
            0 => return Ok(received),
            more => received += more,
        }
    }
}

async fn bulk(ends: &Ends, bytes: usize, channels: usize) -> Result<(f64, f64)> {
    let share = bytes / channels;
    let stopwatch = Stopwatch::start()?;
    let mut senders = JoinSet::new();
    for _ in 0..channels {
        let channel = ends.alice.open(OpenOptions::default()).await?;
        senders.spawn(send(channel, share));
    }
    let mut receivers = JoinSet::new();
    for _ in 0..channels {
        let channel = ends.bob.accept().await?.accept();
        receivers.spawn(receive(channel));
    }
    let mut received = 0;
    while let Some(done) = receivers.join_next().await {
        received += done??;
    }
    while let Some(done) = senders.join_next().await {
        done??;
    }
    ensure!(received == share * channels, "{received} bytes came");
    stopwatch.read()
}

/// Wall and CPU seconds, and the longest time without a byte. Every byte is looked at.
async fn moving(bytes: usize) -> Result<(f64, f64, f64)> {
    let ends = Ends::over_udp().await?;
    let at = ends.endpoints[1].listen((Ipv4Addr::LOCALHOST, 0).into())?;
    let udp = ends.alice.links().first().context("no link")?.link;
    let tcp = ends.alice.add_tcp(at).await?;
    ends.alice.link_active(tcp).await?;
    let stopwatch = Stopwatch::start()?;
    let mut to =
        ends.alice.open(OpenOptions { placement: Placement::Prefer(udp), ..OpenOptions::default() }).await?;
    let sender = tokio::spawn(async move {
        let mut sent = 0usize;
        while sent < bytes {
            to.set_placement(Placement::Prefer(if sent / (bytes / 3) == 1 { tcp } else { udp }));
            let part = part_at(sent);
            let len = part.len().min(bytes - sent);
            to.write_all(&part[..len]).await?;
            sent += len;
        }
        to.shutdown().await?;
        anyhow::Ok(to)
    });
    let mut from = ends.bob.accept().await?.accept();
    let mut buffer = vec![0u8; BUFFER];
    let (mut received, mut stall, mut last) = (0usize, 0f64, Instant::now());
    loop {
        let more = from.read(&mut buffer).await?;
        stall = stall.max(last.elapsed().as_secs_f64());
        last = Instant::now();
        if more == 0 {
            break;
        }
        let mut seen = &buffer[..more];
        while !seen.is_empty() {
            let (offset, part) = (received % BUFFER, part_at(received));
            let len = seen.len().min(BUFFER - offset);
            ensure!(seen[..len] == part[offset..offset + len], "wrong bytes at {received}");
            received += len;
            seen = &seen[len..];
        }
    }
    ensure!(received == bytes, "{received} bytes came");
    sender.await??;
    let (wall, cpu) = stopwatch.read()?;
    Ok((wall, cpu, stall))
}

/// The part of the data that `at` lies in: each differs from its neighbours.
fn part_at(at: usize) -> &'static [u8] {
    use std::sync::LazyLock;
    static PARTS: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..251 * BUFFER).map(|at| (at % 251 + at / BUFFER) as u8).collect());
    let number = at / BUFFER % 251;
    &PARTS[number * BUFFER..(number + 1) * BUFFER]
}

/// The same bytes over a connection of today.
async fn native(bytes: usize) -> Result<(f64, f64)> {
    let pair = Pair::start(KeySize::Rsa2048, |config| config.native_dialect = true).await?;
    let device = pair.bob.device();
    pair.alice.dial(device).await?;
    let stopwatch = Stopwatch::start()?;
    let alice = pair.alice.clone();
    let sender = tokio::spawn(async move { send(alice.connect(device, "bulk").await?, bytes).await });
    let incoming = pair.bob.incoming().await.context("the node was shut down")?;
    let received = receive(incoming.accept().await?).await?;
    sender.await??;
    ensure!(received == bytes, "{received} bytes came");
    stopwatch.read()
}

fn print_latencies(mut latencies: Vec<f64>) {
    println!("{} {}", percentile(&mut latencies, 50.0), percentile(&mut latencies, 95.0));
}

/// Sends back every byte of every channel.
fn serve_echo(bob: &Connection) {
    let bob = bob.clone();
    tokio::spawn(async move {
        while let Ok(incoming) = bob.accept().await {
            // A channel that fails shows at the other end.
            tokio::spawn(async move {
                let mut channel = incoming.accept();
                let mut byte = [0];
                while channel.read(&mut byte).await? > 0 {
                    channel.write_all(&byte).await?;
                }
                channel.shutdown().await
            });
        }
    });
}

/// Microseconds from asking for a channel until one byte has come back on it.
async fn opens(ends: &Ends, count: usize) -> Result<Vec<f64>> {
    serve_echo(&ends.bob);
    let mut latencies = Vec::with_capacity(count);
    for round in 0..WARM_UP + count {
        let began = Instant::now();
        let mut channel = ends.alice.open(OpenOptions::default()).await?;
        channel.write_all(&[1]).await?;
        channel.read_exact(&mut [0]).await?;
        if round >= WARM_UP {
            latencies.push(began.elapsed().as_secs_f64() * 1e6);
        }
        channel.shutdown().await?;
    }
    Ok(latencies)
}

/// Microseconds for one byte there and back on an open channel.
async fn echoes(ends: &Ends, count: usize) -> Result<Vec<f64>> {
    serve_echo(&ends.bob);
    let mut channel = ends.alice.open(OpenOptions::default()).await?;
    let mut latencies = Vec::with_capacity(count);
    for round in 0..WARM_UP + count {
        let began = Instant::now();
        channel.write_all(&[1]).await?;
        channel.read_exact(&mut [0]).await?;
        if round >= WARM_UP {
            latencies.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(latencies)
}

/// Prints milliseconds of CPU of both ends for one connection, and the median of the time until it stands.
async fn connects(identity: Option<Identity>, count: usize) -> Result<()> {
    let (alice, bob) = (endpoint(1, identity.as_ref())?, endpoint(2, identity.as_ref())?);
    let at = bob.local_addr(first()).context("no socket")?;
    let server = tokio::spawn(async move {
        while let Some(connection) = bob.accept().await {
            tokio::spawn(async move { connection.closed().await });
        }
    });
    let mut latencies = Vec::with_capacity(count);
    let stopwatch = Stopwatch::start()?;
    for _ in 0..count {
        let began = Instant::now();
        let connection = alice.connect(known(2), at).await?;
        latencies.push(began.elapsed().as_secs_f64() * 1e3);
        connection.close(Code::DONE, "");
    }
    let (_, cpu) = stopwatch.read()?;
    server.abort();
    // What closed connections linger for must not keep the process.
    tokio::time::timeout(Duration::from_secs(5), alice.wait_idle()).await.ok();
    println!("{} {}", cpu * 1e3 / count as f64, percentile(&mut latencies, 50.0));
    Ok(())
}
