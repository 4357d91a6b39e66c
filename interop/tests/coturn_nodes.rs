//! Two whole nodes whose only way to each other is coturn.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use interop::jami::Namespace;
use interop::{Coturn, CoturnOptions, Peer, Place, require};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;
use towline::dht::{Dht, DhtConfig};
use towline::net::Os;
use towline::{Cause, Config, ConnectionPolicy, Node, Reach, Relay, RelaySecret, RelayTransport};
use towline_identity::{DeviceId, GenerateOptions, Identity, KeySize};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);

/// The host between the two, which forwards nothing: its addresses on either side, and the one that is relayed at.
const SIDES: [[u8; 4]; 2] = [[45, 200, 1, 1], [45, 200, 2, 1]];
const RELAYED: [u8; 4] = [45, 200, 3, 1];
const ALICE: [u8; 4] = [45, 200, 1, 2];
const BOB: [u8; 4] = [45, 200, 2, 2];

/// Runs on a thread of its own, on a host, until this is dropped.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Running {
    fn on<F: Future<Output = Result<()>>>(
        host: &Arc<Namespace>,
        run: impl FnOnce(oneshot::Receiver<()>) -> F + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let host = Arc::clone(host);
        let thread = std::thread::spawn(move || {
            host.enter()?;
            runtime()?.block_on(run(stopped))
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Ok(Err(error))) = ended {
            assert!(std::thread::panicking(), "{error:#}");
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn identity() -> Result<Identity> {
    let mut options = GenerateOptions::new(1_800_000_000);
    options.key_size = KeySize::Rsa2048;
    Ok(Identity::generate(&options)?)
}

fn config(reach: Reach, side: usize) -> Config {
    let bootstrap = SocketAddr::from((SIDES[side], 4222));
    let mut config = Config::lan()
        .with_bootstrap(bootstrap.to_string())
        .with_policy(ConnectionPolicy::DangerouslyAnyone)
        .with_reach(reach);
    config.discovery = towline::discovery::DiscoveryConfig::off();
    config
}

/// The devices, and what is between them.
struct Stage {
    coturn: CoturnOptions,
    program: PathBuf,
    certificate: Vec<u8>,
    alice: Identity,
    bob: DeviceId,
    _running: [Running; 2],
    _folder: tempfile::TempDir,
}

impl Stage {
    /// From here on the thread is on the host of Alice.
    fn new(program: &Path, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let host = |name| Namespace::new(name, folder.path()).map(Arc::new);
        let (hub, alice_host, bob_host) = (host("hub")?, host("alice")?, host("bob")?);
        hub.ip("link add br0 type bridge")?;
        for address in SIDES.iter().chain([&RELAYED]) {
            hub.ip(&format!("addr add {}/24 dev br0", IpAddr::from(*address)))?;
        }
        hub.ip("link set br0 up")?;
        hub.plug(&alice_host, ALICE.into(), SIDES[0].into())?;
        hub.plug(&bob_host, BOB.into(), SIDES[1].into())?;

        let listen = IpAddr::from(SIDES[0]);
        let made = rcgen::generate_simple_self_signed([listen.to_string()])?;
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem())?;
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())?;
        let place = Place { host: Arc::clone(&hub), listen, relay: RELAYED.into() };
        let coturn = CoturnOptions {
            place: Some(place),
            port: 3478,
            ..CoturnOptions::new(
                folder.path(),
                &[&["--lt-cred-mech", "--user", "ann:secret"], arguments].concat(),
            )?
        };

        let dht = Running::on(&hub, async |stopped| {
            let _dht = Dht::start(Arc::new(Os), DhtConfig::on_port(4222), None).await?;
            let _ = stopped.await;
            Ok(())
        });
        let (alice, bob) = (identity()?, identity()?);
        let device = bob.device_id();
        let (tell, ready) = std::sync::mpsc::sync_channel(1);
        let answering = Running::on(&bob_host, async move |stopped| {
            let node = Node::start(Arc::new(Os), config(Reach::default(), 1), bob).await?;
            timeout(LIMIT, node.registered()).await.context("Bob is registered")?;
            tell.send(())?;
            tokio::select! {
                outcome = answer(&node) => outcome,
                _ = stopped => {
                    node.shutdown().await;
                    Ok(())
                }
            }
        });
        ready.recv_timeout(LIMIT).context("Bob is there")?;
        alice_host.enter()?;
        Ok(Self {
            coturn,
            program: program.to_owned(),
            certificate: made.cert.der().to_vec(),
            alice,
            bob: device,
            _running: [dht, answering],
            _folder: folder,
        })
    }

    async fn coturn(&self) -> Result<Coturn> {
        Coturn::start(&self.program, &self.coturn).await
    }

    async fn node(&self, transport: RelayTransport, password: &str) -> Result<Node> {
        let relay = Relay {
            server: SocketAddr::from((SIDES[0], 3478)).to_string(),
            transport,
            user: "ann".to_owned(),
            secret: RelaySecret::Password(password.to_owned()),
        };
        let roots = vec![self.certificate.clone()];
        let reach = Reach { relays: vec![relay], relay_roots: roots, ..Reach::default() };
        let node = Node::start(Arc::new(Os), config(reach, 0), self.alice.clone()).await?;
        timeout(LIMIT, node.registered()).await.context("Alice is registered")?;
        Ok(node)
    }
}

/// Takes what comes on every channel, and answers with its hash.
async fn answer(node: &Node) -> Result<()> {
    while let Some(incoming) = node.incoming().await {
        tokio::spawn(async move {
            let Ok(mut channel) = incoming.accept().await else { return };
            let mut hash = blake3::Hasher::new();
            let mut buffer = vec![0; 1 << 16];
            while let Ok(len @ 1..) = channel.read(&mut buffer).await {
                hash.update(&buffer[..len]);
            }
            if channel.write_all(hash.finalize().as_bytes()).await.is_ok() {
                let _ = channel.shutdown().await;
            }
        });
    }
    bail!("the node ended")
}

/// Sends so much to Bob; `half` comes between. All of it has to arrive, by the relay.
async fn transfer(
    stage: &Stage,
    node: &Node,
    len: u32,
    half: impl Future<Output = Result<()>>,
) -> Result<()> {
    let dialled = timeout(LIMIT, node.connect(stage.bob, "sink")).await.context("a channel")?;
    let mut channel = dialled.context("a channel")?;
    let bytes: Vec<u8> = (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    timeout(LIMIT, channel.write_all(first)).await.context("the first half")??;
    half.await?;
    timeout(LIMIT, channel.write_all(second)).await.context("the second half")??;
    channel.shutdown().await?;
    let mut answer = Vec::new();
    timeout(LIMIT, channel.read_to_end(&mut answer)).await.context("the answer")??;
    ensure!(answer == blake3::hash(&bytes).as_bytes(), "what arrived is not what was sent");
    let links = node.connection(stage.bob).context("it stands")?.links().await;
    ensure!(!links.is_empty() && links.iter().all(|link| link.kind.is_relayed()), "{links:#?}");
    Ok(())
}

#[test]
fn coturn_carries_connections_by_every_transport_and_may_be_restarted() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn, Peer::Kernel]) else { return Ok(()) };
    let stage = Stage::new(&programs[0], &[])?;
    runtime()?.block_on(async {
        let mut server = Some(stage.coturn().await?);
        for transport in [RelayTransport::Tls, RelayTransport::Tcp, RelayTransport::Udp] {
            let begun = Instant::now();
            let node = stage.node(transport, "secret").await?;
            let ready = begun.elapsed();
            // Who is connected to the server notices its end; who sends datagrams does not.
            let restart = async {
                server.take().context("it runs")?.kill().await?;
                server = Some(stage.coturn().await?);
                Ok(())
            };
            transfer(&stage, &node, 2_000_000, restart).await.with_context(|| format!("{transport:?}"))?;
            node.shutdown().await;
            println!("{transport:?}: {:?}, of which {ready:?} until Alice was found", begun.elapsed());
        }
        Ok(())
    })
}

/// Dials Bob until the report names this cause: the attempt itself goes on looking for a way.
async fn until_named(stage: &Stage, node: &Node, named: impl Fn(&Cause) -> bool) -> Result<()> {
    let looking = async {
        loop {
            let causes = node.report(stage.bob).await.map(|report| report.causes).unwrap_or_default();
            if causes.iter().any(&named) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        biased;
        outcome = node.connect(stage.bob, "sink") => match outcome {
            Err(error) => bail!("{error}; {:?}", node.report(stage.bob).await.map(|report| report.causes)),
            Ok(_) => bail!("there is no way, and it was found"),
        },
        () = looking => Ok(()),
    }
}

#[test]
fn what_coturn_refuses_is_named() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn, Peer::Kernel]) else { return Ok(()) };
    let stage = Stage::new(&programs[0], &["--user-quota=1"])?;
    runtime()?.block_on(async {
        let _server = stage.coturn().await?;
        // The first has all that there is for one user.
        let first = stage.node(RelayTransport::Udp, "secret").await?;
        transfer(&stage, &first, 100_000, async { Ok(()) }).await?;
        let other = Stage { alice: identity()?, ..stage };
        let second = other.node(RelayTransport::Udp, "secret").await?;
        until_named(&other, &second, |cause| matches!(cause, Cause::RelayFull { .. })).await?;
        second.shutdown().await;
        let third = other.node(RelayTransport::Tcp, "wrong").await?;
        until_named(&other, &third, |cause| matches!(cause, Cause::RelayCredentials { .. })).await?;
        third.shutdown().await;
        first.shutdown().await;
        Ok(())
    })
}
