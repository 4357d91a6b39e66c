//! The first line of the story, from a key to bytes that flow, in networks whose DHT nodes are other programs:
//! two Towline devices that know nothing but each other's id.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use interop::{Dhtnode, Peer, PyOpendht, require};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::net::Os;
use towline::{Channel, Config, ConnectionPolicy, Dialect, Node, Timeline};
use towline_identity::{GenerateOptions, Identity, KeySize};

/// Longer than any step may take here.
const LIMIT: Duration = Duration::from_mins(1);

/// Bytes sent each way on each channel: two files of odd length.
const LENGTHS: [usize; 2] = [3_000_001, 700_003];

macro_rules! programs {
    ($($peer:ident),+) => {
        match require(&[$(Peer::$peer),+]) {
            Some(paths) => paths,
            None => return Ok(()),
        }
    };
}

/// The DHT nodes of a network, none of them ours.
#[derive(Default)]
struct Strangers {
    dhtnodes: Vec<Dhtnode>,
    pythons: Vec<PyOpendht>,
}

impl Strangers {
    fn hub(&self) -> Option<SocketAddr> {
        let dhtnode = self.dhtnodes.first().map(Dhtnode::address);
        dhtnode.or_else(|| self.pythons.first().map(PyOpendht::address))
    }

    async fn add_dhtnodes(&mut self, program: &Path, count: usize) -> Result<()> {
        for _ in 0..count {
            self.dhtnodes.push(Dhtnode::start(program, false, self.hub()).await?);
        }
        Ok(())
    }

    async fn add_pythons(&mut self, python: &Path, count: usize) -> Result<()> {
        for _ in 0..count {
            self.pythons.push(PyOpendht::start(python, None, self.hub()).await?);
        }
        Ok(())
    }

    /// Waits until each of them has joined: they meet all others in their own time, and need not have.
    async fn settle(&mut self) -> Result<()> {
        for dhtnode in &mut self.dhtnodes {
            dhtnode.wait_for_nodes(1).await?;
        }
        for python in &mut self.pythons {
            python.wait_for_nodes(1).await?;
        }
        Ok(())
    }

    async fn stop(self) -> Result<()> {
        for python in self.pythons {
            python.stop().await?;
        }
        for dhtnode in self.dhtnodes {
            dhtnode.stop().await?;
        }
        Ok(())
    }
}

/// Says how long each step took.
struct Clock {
    network: &'static str,
    last: Instant,
}

impl Clock {
    fn start(network: &'static str) -> Self {
        Self { network, last: Instant::now() }
    }

    #[expect(clippy::print_stdout, reason = "the times of the steps are what a person runs this for")]
    fn step(&mut self, what: &str) {
        println!("{}: {what:<28} {:>6} ms", self.network, self.last.elapsed().as_millis());
        self.last = Instant::now();
    }

    #[expect(clippy::print_stdout, reason = "as above")]
    fn note(&self, Timeline { certificate, signalling, path, tls }: &Timeline) {
        let parts = [("certificate", certificate), ("signalling", signalling), ("path", path), ("TLS", tls)];
        let parts = parts.map(|(name, time)| format!("{name} {} ms", time.as_millis()));
        println!("{}: of the connection: {}", self.network, parts.join(", "));
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(LIMIT, future).await.with_context(|| format!("waited for {what}"))
}

fn identity() -> Result<Identity> {
    let mut options = GenerateOptions::new(1_800_000_000);
    options.key_size = KeySize::Rsa2048;
    Ok(Identity::generate(&options)?)
}

/// Two devices of different accounts that admit each other and nobody else.
async fn two_nodes(hub: SocketAddr, native_dialect: bool) -> Result<[Node; 2]> {
    let identities = [identity()?, identity()?];
    let accounts = identities.each_ref().map(Identity::account_id);
    let [alice, bob] = identities;
    let [alice_account, bob_account] = accounts.map(|account| account.context("a device has an account"));
    let start = async |own: Identity, other| -> Result<Node> {
        let admitted = ConnectionPolicy::Accounts(Arc::new([other].into()));
        let mut config = Config::loopback().with_bootstrap(hub.to_string()).with_policy(admitted);
        config.native_dialect = native_dialect;
        Ok(Node::start(Arc::new(Os), config, own).await?)
    };
    Ok([start(alice, bob_account?).await?, start(bob, alice_account?).await?])
}

/// Bytes that do not repeat soon, different for each seed.
fn file(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|n| ((n ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Sends `ours` and reads as much, both at once. Returns the hash of what came, and the channel: in the dialect of Jami
/// its end is the end of both directions.
async fn swap(mut channel: Channel, ours: Vec<u8>) -> Result<(blake3::Hash, Channel)> {
    let mut theirs = vec![0; ours.len()];
    let (mut reader, mut writer) = channel.split();
    let send = async {
        writer.write_all(&ours).await?;
        writer.flush().await
    };
    let (sent, received) = tokio::join!(send, reader.read_exact(&mut theirs));
    sent.context("sending")?;
    received.context("receiving")?;
    channel = Channel::unsplit(reader, writer);
    Ok((blake3::hash(&theirs), channel))
}

/// From two fresh identities to hashes that agree.
async fn first_line(network: &'static str, mut strangers: Strangers, native_dialect: bool) -> Result<()> {
    strangers.settle().await?;
    let mut clock = Clock::start(network);
    let [alice, bob] = two_nodes(strangers.hub().context("there are nodes")?, native_dialect).await?;
    clock.step("two nodes start");
    soon("both to be registered", async { tokio::join!(alice.registered(), bob.registered()) }).await?;
    clock.step("both are registered");

    let accepting = async {
        let mut accepted = Vec::new();
        for _ in LENGTHS {
            let incoming = bob.incoming().await.context("the node runs")?;
            ensure!(incoming.peer().device == alice.device(), "somebody else asks");
            accepted.push(incoming.accept().await?);
        }
        anyhow::Ok(accepted)
    };
    let connecting = async {
        let first = alice.connect(bob.device(), "file://0").await?;
        clock.step("connected, first channel");
        let second = alice.connect(bob.device(), "file://1").await?;
        clock.step("second channel");
        anyhow::Ok([first, second])
    };
    let line = async { tokio::try_join!(accepting, connecting) };
    let (accepted, opened) = soon("two channels", line).await??;
    ensure!(alice.established().len() == 1 && bob.established().len() == 1, "one connection carries both");
    let info = alice.established()[0].info().established.context("it is established")?;
    let dialect = if native_dialect { Dialect::Native } else { Dialect::Jami };
    ensure!(info.dialect == dialect, "{:?}", info.dialect);

    let mut swaps = Vec::new();
    for (channel, seed) in opened.into_iter().zip(0_u32..).chain(accepted.into_iter().zip(2..)) {
        let number: usize = channel.name().trim_start_matches("file://").parse()?;
        swaps.push((number, seed, tokio::spawn(swap(channel, file(LENGTHS[number], seed)))));
    }
    let mut channels = Vec::new();
    for (number, seed, task) in swaps {
        let (hash, channel) = soon("the bytes of a channel", task).await???;
        // What came is what the other side of the same channel sent.
        let expected = blake3::hash(&file(LENGTHS[number], (seed + 2) % 4));
        ensure!(hash == expected, "channel {number} of side {}", seed / 2);
        channels.push(channel);
    }
    clock.step("7.4 MB in four flows");
    clock.note(&info.timeline);
    soon("both to stop", async { tokio::join!(alice.shutdown(), bob.shutdown()) }).await?;
    clock.step("both stop");
    strangers.stop().await
}

#[tokio::test]
async fn through_debian_dhtnodes_only() -> Result<()> {
    let programs = programs!(Dhtnode);
    let mut strangers = Strangers::default();
    strangers.add_dhtnodes(&programs[0], 3).await?;
    first_line("dhtnode", strangers, true).await
}

#[tokio::test]
async fn through_the_newest_opendht_only() -> Result<()> {
    let programs = programs!(PyOpendht);
    let mut strangers = Strangers::default();
    strangers.add_pythons(&programs[0], 3).await?;
    first_line("opendht", strangers, true).await
}

#[tokio::test]
async fn through_both_in_the_dialect_of_jami() -> Result<()> {
    let programs = programs!(Dhtnode, PyOpendht);
    let mut strangers = Strangers::default();
    strangers.add_dhtnodes(&programs[0], 2).await?;
    strangers.add_pythons(&programs[1], 2).await?;
    first_line("mixed, Jami", strangers, false).await
}
