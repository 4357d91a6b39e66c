//! Relays of coturn: every way to the server, every kind of relaying, and every refusal by its name.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use interop::{Coturn, CoturnOptions, Peer, Process, eventually, require};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;
use towline_net::{Net, Os, TcpConnect, UdpBind, UdpSocket};
use towline_turn_tokio::proto::{
    Config, Credentials, Failure, Family, PeerPolicy, Refusal, Relay, ServerConfig, ServerTransport, Users,
};
use towline_turn_tokio::{
    AllocateError, Ended, Options, PeerStream, RelayServer, RelaySocket, ServerOptions, TcpRelay, Tls,
};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);

const TRANSPORTS: [ServerTransport; 3] = [ServerTransport::Udp, ServerTransport::Tcp, ServerTransport::Tls];

struct Stage {
    folder: TempDir,
    certificate: rcgen::Certificate,
    net: Arc<dyn Net>,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self { folder, certificate: made.cert, net: Arc::new(Os) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn options(&self, server: SocketAddr, transport: ServerTransport) -> Options {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = Config::new(server, transport);
        client.credentials = Some(Credentials::new("ann", "secret"));
        let name = "localhost".try_into().unwrap();
        Options { tls: Some(Tls { config: Arc::new(config), name }), ..Options::new(client) }
    }

    async fn allocate(&self, options: &Options) -> Result<RelaySocket, AllocateError> {
        timeout(LIMIT, RelaySocket::allocate(Arc::clone(&self.net), options)).await.expect("it has a limit")
    }

    /// Why there is no relayed address.
    async fn failure(&self, options: &Options) -> Failure {
        match self.allocate(options).await {
            Err(AllocateError::Failed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn peer(&self, family: Family) -> Box<dyn UdpSocket> {
        self.net.bind_udp(&UdpBind::new(SocketAddr::new(loopback(family), 0))).unwrap()
    }
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

async fn receive(socket: &dyn UdpSocket) -> Result<(SocketAddr, Vec<u8>)> {
    let mut buffer = vec![0; 65_536];
    let received = timeout(LIMIT, socket.recv(&mut buffer)).await.context("a datagram")??;
    buffer.truncate(received.len);
    Ok((received.from, buffer))
}

/// Datagrams of many lengths, there and back; first as indications, then on a channel.
async fn echo(relayed: &RelaySocket, peer: &dyn UdpSocket) -> Result<()> {
    let relayed: &dyn UdpSocket = relayed;
    for round in 0..40_usize {
        let sent: Vec<u8> = (0..=round * 33).map(|at| (at * 7 + round) as u8).collect();
        relayed.send(&sent, peer.local_addr()).await?;
        ensure!(receive(peer).await? == (relayed.local_addr(), sent.clone()), "there, round {round}");
        peer.send(&sent, relayed.local_addr()).await?;
        ensure!(receive(relayed).await? == (peer.local_addr(), sent), "back, round {round}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_over_every_transport_and_family() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn]) else { return Ok(()) };
    let stage = Stage::new();
    let server = Coturn::start(&programs[0], &CoturnOptions::with_user(stage.path())?).await?;
    for transport in TRANSPORTS {
        for family in [Family::V4, Family::V6] {
            for server_family in [Family::V4, Family::V6] {
                let mut options = stage.options(server.address(server_family == Family::V6), transport);
                options.client.relay = Relay::Udp(family);
                let what = format!("{transport:?}, {family:?} relayed, server at {server_family:?}");
                let relayed = stage.allocate(&options).await.with_context(|| what.clone())?;
                ensure!(Family::of(relayed.local_addr().ip()) == family, "{what}");
                ensure!(Family::of(relayed.allocation().mapped.ip()) == server_family, "{what}");
                echo(&relayed, &*stage.peer(family)).await.with_context(|| what.clone())?;
                timeout(LIMIT, relayed.close()).await.with_context(|| what)?;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_at_once_or_what_there_is() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn]) else { return Ok(()) };
    let stage = Stage::new();
    let server = Coturn::start(&programs[0], &CoturnOptions::with_user(stage.path())?).await?;
    let mut options = stage.options(server.address(false), ServerTransport::Udp);
    options.client.relay = Relay::UdpBoth;
    let relayed = stage.allocate(&options).await?;
    let addresses = relayed.allocation().relayed.clone();
    ensure!(addresses.len() == 2, "{addresses:?}");
    for family in [Family::V4, Family::V6] {
        let peer = stage.peer(family);
        let from = addresses.iter().find(|address| Family::of(address.ip()) == family).unwrap();
        relayed.permit(peer.local_addr().ip()).await?;
        peer.send(b"in", *from).await?;
        ensure!(receive(&relayed).await? == (peer.local_addr(), b"in".to_vec()), "in, {family:?}");
        (&relayed as &dyn UdpSocket).send(b"out", peer.local_addr()).await?;
        ensure!(receive(&*peer).await? == (*from, b"out".to_vec()), "out, {family:?}");
    }

    let only_v4 = CoturnOptions { ipv6: false, ..CoturnOptions::with_user(stage.path())? };
    let server = Coturn::start(&programs[0], &only_v4).await?;
    let mut options = stage.options(server.address(false), ServerTransport::Udp);
    options.client.relay = Relay::UdpBoth;
    let relayed = stage.allocate(&options).await?;
    ensure!(relayed.allocation().relayed.len() == 1, "{:?}", relayed.allocation());
    let missing = Some((Family::V6, Refusal::AddressFamilyNotSupported));
    ensure!(relayed.allocation().missing == missing, "{:?}", relayed.allocation());
    options.client.relay = Relay::Udp(Family::V6);
    let reason = stage.failure(&options).await;
    ensure!(reason == Failure::Refused(Refusal::AddressFamilyNotSupported), "{reason}");
    Ok(())
}

async fn echo_stream(
    mut near: PeerStream,
    mut far: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
) -> Result<()> {
    let sent: Vec<u8> = (0..300_000_u32).map(|at| (at / 7) as u8).collect();
    let (mut there, mut back) = (vec![0; sent.len()], vec![0; sent.len()]);
    let both = async {
        let (near_in, near_out) = tokio::io::split(&mut near);
        let (far_in, far_out) = tokio::io::split(&mut far);
        let mut halves = (near_in, near_out, far_in, far_out);
        tokio::try_join!(
            async {
                halves.1.write_all(&sent).await?;
                halves.1.flush().await
            },
            async {
                halves.3.write_all(&sent).await?;
                halves.3.flush().await
            },
            async { halves.0.read_exact(&mut back).await.map(|_| ()) },
            async { halves.2.read_exact(&mut there).await.map(|_| ()) },
        )
    };
    timeout(LIMIT, both).await.context("an echo on a stream")??;
    ensure!(there == sent && back == sent, "bytes changed on the way");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_to_and_from_peers() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn]) else { return Ok(()) };
    let stage = Stage::new();
    let server = Coturn::start(&programs[0], &CoturnOptions::with_user(stage.path())?).await?;
    for transport in [ServerTransport::Tcp, ServerTransport::Tls] {
        for family in [Family::V4, Family::V6] {
            let what = format!("{transport:?}, {family:?}");
            let mut options = stage.options(server.address(family == Family::V6), transport);
            options.client.relay = Relay::Tcp(family);
            let relay = timeout(LIMIT, TcpRelay::allocate(Arc::clone(&stage.net), &options)).await??;
            let relayed = relay.allocation().relayed[0];
            let mut listener = stage.net.listen_tcp(SocketAddr::new(loopback(family), 0))?;
            let peer = listener.local_addr();
            let (near, far) = timeout(LIMIT, async { tokio::join!(relay.connect(peer), listener.accept()) })
                .await
                .with_context(|| format!("{what}: to a peer"))?;
            echo_stream(near?, far?).await.with_context(|| format!("{what}: to a peer"))?;

            relay.permit(peer.ip())?;
            timeout(LIMIT, relay.permitted(peer.ip())).await??;
            let (near, far) = timeout(LIMIT, async {
                tokio::join!(relay.accept(), stage.net.connect_tcp(relayed, TcpConnect::default()))
            })
            .await
            .with_context(|| format!("{what}: from a peer"))?;
            echo_stream(near?, far?).await.with_context(|| format!("{what}: from a peer"))?;

            drop(listener);
            let refused = timeout(LIMIT, relay.connect(peer)).await?;
            let expected = AllocateError::Failed(Failure::Refused(Refusal::ConnectionFailed));
            ensure!(refused.as_ref().err() == Some(&expected), "{what}: {refused:?}");
            timeout(LIMIT, relay.close()).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_have_a_name() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn]) else { return Ok(()) };
    let stage = Stage::new();
    let server = Coturn::start(&programs[0], &CoturnOptions::with_user(stage.path())?).await?;
    for transport in TRANSPORTS {
        let mut options = stage.options(server.address(false), transport);
        for (user, password) in [("ann", "wrong"), ("nobody", "secret")] {
            options.client.credentials = Some(Credentials::new(user, password));
            let reason = stage.failure(&options).await;
            ensure!(reason == Failure::WrongCredentials, "{transport:?}, {user}: {reason}");
        }
        options.client.credentials = None;
        let reason = stage.failure(&options).await;
        ensure!(reason == Failure::CredentialsRequired, "{transport:?}: {reason}");
    }
    let mut options = stage.options(server.address(false), ServerTransport::Tls);
    options.tls.as_mut().unwrap().name = "elsewhere.example".try_into()?;
    let outcome = stage.allocate(&options).await;
    ensure!(matches!(outcome, Err(AllocateError::Tls(_))), "{outcome:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limited_credentials() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn]) else { return Ok(()) };
    let stage = Stage::new();
    let arguments = ["--use-auth-secret", "--static-auth-secret=north"];
    let server = Coturn::start(&programs[0], &CoturnOptions::new(stage.path(), &arguments)?).await?;
    let mut options = stage.options(server.address(false), ServerTransport::Udp);
    let now = stage.net.unix_time().as_secs();
    options.client.credentials = Some(Credentials::time_limited(b"north", "ann", now + 3600));
    echo(&stage.allocate(&options).await?, &*stage.peer(Family::V4)).await?;
    for expired_or_forged in [
        Credentials::time_limited(b"north", "ann", now - 60),
        Credentials::time_limited(b"south", "ann", now + 3600),
    ] {
        options.client.credentials = Some(expired_or_forged);
        let reason = stage.failure(&options).await;
        ensure!(reason == Failure::WrongCredentials, "{reason}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_and_forbidden_peers() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn]) else { return Ok(()) };
    let stage = Stage::new();
    let how = CoturnOptions::with_user(stage.path())?.and("--user-quota=1").and("--denied-peer-ip=127.0.0.7");
    let server = Coturn::start(&programs[0], &how).await?;
    let options = stage.options(server.address(false), ServerTransport::Udp);
    let first = stage.allocate(&options).await?;
    let reason = stage.failure(&options).await;
    ensure!(reason == Failure::Refused(Refusal::QuotaReached), "{reason}");

    let denied: SocketAddr = "127.0.0.7:9".parse()?;
    let refused = timeout(LIMIT, first.permit(denied.ip())).await?;
    ensure!(refused == Err(Failure::Refused(Refusal::Forbidden)), "{refused:?}");
    ensure!(first.refusal(denied.ip()).is_some());
    // Others are not concerned.
    echo(&first, &*stage.peer(Family::V4)).await?;
    timeout(LIMIT, first.close()).await?;
    // Given back, it no longer counts.
    eventually("room for another one", async || Ok(stage.allocate(&options).await?)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_that_become_stale_are_not_noticed() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn]) else { return Ok(()) };
    let stage = Stage::new();
    let how = CoturnOptions::with_user(stage.path())?.and("--stale-nonce=1");
    let mut server = Coturn::start(&programs[0], &how).await?;
    let relayed = stage.allocate(&stage.options(server.address(false), ServerTransport::Udp)).await?;
    let stale = async {
        server.logs("error 438").await?;
        server.logs("REFRESH processed, success").await
    };
    let checks = async {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            relayed.check();
        }
    };
    tokio::select! {
        said = stale => said?,
        ended = relayed.ended() => bail!("ended: {ended:?}"),
        () = checks => {}
    }
    echo(&relayed, &*stage.peer(Family::V4)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_transfer_is_named() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn]) else { return Ok(()) };
    let stage = Stage::new();
    let how = CoturnOptions::with_user(stage.path())?;
    for transport in TRANSPORTS {
        let server = Coturn::start(&programs[0], &how).await?;
        let options = stage.options(server.address(false), transport);
        let relayed = stage.allocate(&options).await?;
        let peer = stage.peer(Family::V4);
        echo(&relayed, &*peer).await?;
        server.kill().await?;
        let again = Coturn::start(&programs[0], &how).await?;
        // Sending on: datagrams into the void, or an error once the stream is known to be gone.
        let sending: &dyn UdpSocket = &relayed;
        let _ = sending.send(b"into the void", peer.local_addr()).await;
        relayed.check();
        let ended = timeout(LIMIT, relayed.ended()).await?;
        let expected = match transport {
            ServerTransport::Udp => Failure::Refused(Refusal::AllocationMismatch),
            ServerTransport::Tcp | ServerTransport::Tls => Failure::StreamEnded,
        };
        ensure!(ended == Ended::Lost(expected), "{transport:?}: {ended:?}");
        let gone = receive(&relayed).await;
        ensure!(gone.is_err(), "{transport:?}");
        echo(&stage.allocate(&options).await?, &*peer).await.context("on the new server")?;
        again.kill().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_but_not_in_circles() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn]) else { return Ok(()) };
    let stage = Stage::new();
    let target = Coturn::start(&programs[0], &CoturnOptions::with_user(stage.path())?).await?;
    let to = target.address(false);
    let how = CoturnOptions::with_user(stage.path())?
        .and(&format!("--alternate-server={to}"))
        .and(&format!("--tls-alternate-server={to}"));
    let from = Coturn::start(&programs[0], &how).await?;
    for transport in TRANSPORTS {
        let options = stage.options(from.address(false), transport);
        let relayed = stage.allocate(&options).await.with_context(|| format!("{transport:?}"))?;
        ensure!(relayed.allocation().server == to, "{transport:?}");
        echo(&relayed, &*stage.peer(Family::V4)).await.with_context(|| format!("{transport:?}"))?;
    }
    let (here, there) = (CoturnOptions::with_user(stage.path())?, CoturnOptions::with_user(stage.path())?);
    let address = |options: &CoturnOptions| SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let (first, second) = (address(&here), address(&there));
    let _here = Coturn::start(&programs[0], &here.and(&format!("--alternate-server={second}"))).await?;
    let _there = Coturn::start(&programs[0], &there.and(&format!("--alternate-server={first}"))).await?;
    let reason = stage.failure(&stage.options(first, ServerTransport::Udp)).await;
    ensure!(reason == Failure::RedirectLoop(first), "{reason}");
    Ok(())
}

/// Our relay, with coturn's own client.
#[tokio::test(flavor = "multi_thread")]
async fn coturns_client_is_served() -> Result<()> {
    let Some(programs) = require(&[Peer::Coturn]) else { return Ok(()) };
    let client = programs[0].with_file_name("turnutils_uclient");
    let net: Arc<dyn Net> = Arc::new(Os);
    let users =
        Users { fixed: [("ann".to_owned(), "secret".to_owned())].into(), secret: Some(b"north".to_vec()) };
    let options = ServerOptions {
        config: ServerConfig { users, peers: PeerPolicy::DangerouslyAll, ..ServerConfig::default() },
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        tls: None,
        relay_v4: Some(Ipv4Addr::LOCALHOST),
        relay_v6: None,
        external_v4: None,
    };
    let server = RelayServer::start(Arc::clone(&net), options)?;
    let port = server.addresses()[0].port().to_string();
    // Two clients that talk with each other by way of their relays: as channels and as indications, UDP and TCP.
    for (credentials, way) in [
        (["-u", "ann", "-w", "secret"], &["-y"][..]),
        (["-u", "ann", "-w", "secret"], &["-y", "-s"]),
        (["-u", "ann", "-w", "secret"], &["-y", "-t"]),
        (["-u", "ann", "-W", "north"], &["-y"]),
    ] {
        let mut command = Command::new(&client);
        command.args(credentials).args(way).args([
            "-c",
            "-m",
            "2",
            "-n",
            "20",
            "-l",
            "171",
            "-p",
            &port,
            "127.0.0.1",
        ]);
        let mut process = Process::start("turnutils_uclient", command)?;
        let lost = |line: &str| line.contains("Total lost packets").then(|| line.to_owned());
        let line = process.expect("how many were lost", LIMIT, lost).await?;
        ensure!(line.contains("lost packets 0 "), "{way:?}: {line}");
    }
    Ok(())
}
