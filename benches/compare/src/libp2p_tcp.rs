//! libp2p over TCP, TLS and yamux, with its own defaults.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, StreamProtocol, Swarm, SwarmBuilder, tcp, yamux};
use libp2p_stream::{Behaviour, Control, IncomingStreams};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::measure::Stopwatch;
use crate::pump;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/towline-compare/1");

/// The dialling end of a connection, and what comes in at the other. The swarms run in tasks.
struct Pair {
    control: Control,
    peer: PeerId,
    incoming: IncomingStreams,
}

fn swarm() -> Result<Swarm<Behaviour>> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), libp2p::tls::Config::new, yamux::Config::default)?
        .with_behaviour(|_| Behaviour::new())?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build())
}

async fn pair() -> Result<Pair> {
    let (mut dialling, mut listening) = (swarm()?, swarm()?);
    let peer = *listening.local_peer_id();
    let incoming = listening.behaviour().new_control().accept(PROTOCOL)?;
    let control = dialling.behaviour().new_control();
    listening.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = listening.select_next_some().await {
            break address;
        }
    };
    tokio::spawn(async move { while listening.next().await.is_some() {} });
    dialling.dial(address.with_p2p(peer).ok().context("the address names a peer already")?)?;
    loop {
        match dialling.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => break,
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
    tokio::spawn(async move { while dialling.next().await.is_some() {} });
    Ok(Pair { control, peer, incoming })
}

pub(crate) async fn bulk(bytes: usize) -> Result<(f64, f64)> {
    let Pair { mut control, peer, mut incoming } = pair().await?;
    let stopwatch = Stopwatch::start()?;
    let sender = tokio::spawn(async move {
        let to = control.open_stream(peer, PROTOCOL).await?;
        pump::send(to.compat(), bytes).await
    });
    let (_, from) = incoming.next().await.context("the swarm ended")?;
    pump::receive(from.compat(), bytes).await?;
    sender.await??;
    stopwatch.read()
}

/// Microseconds from asking for a stream until one byte has come back on it.
pub(crate) async fn opens(count: usize) -> Result<Vec<f64>> {
    let Pair { mut control, peer, mut incoming } = pair().await?;
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            let (from, to) = tokio::io::split(stream.compat());
            tokio::spawn(pump::echo(to, from));
        }
    });
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        let mut stream = control.open_stream(peer, PROTOCOL).await?.compat();
        stream.write_all(&[1]).await?;
        stream.read_u8().await?;
        latencies.push(began.elapsed().as_secs_f64() * 1e6);
        stream.shutdown().await?;
    }
    Ok(latencies)
}
