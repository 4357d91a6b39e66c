//! QUIC by quinn, with its own defaults, or with datagrams of a given size.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig, TransportConfig};

use tokio::task::JoinSet;

use crate::measure::Stopwatch;
use crate::{pump, tls};

/// Two endpoints, and the two ends of a connection between them. All must be kept.
struct Pair {
    client: Connection,
    server: Connection,
    _endpoints: [Endpoint; 2],
}

/// `mtu`: the UDP payload of every datagram; `None`: what quinn finds.
async fn pair(mtu: Option<u16>) -> Result<Pair> {
    let mut transport = TransportConfig::default();
    transport.max_concurrent_uni_streams(1000u32.into());
    if let Some(mtu) = mtu {
        transport.initial_mtu(mtu).mtu_discovery_config(None);
    }
    let transport = Arc::new(transport);
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls::server()?)?));
    server.transport_config(Arc::clone(&transport));
    let listening = Endpoint::server(server, (Ipv4Addr::LOCALHOST, 0).into())?;
    let dialling = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls::client()?)?));
    config.transport_config(transport);
    let connecting = dialling.connect_with(config, listening.local_addr()?, "peer")?;
    let incoming = listening.accept().await.context("the endpoint was closed")?;
    let (client, server) = tokio::try_join!(connecting, incoming.accept()?)?;
    Ok(Pair { client, server, _endpoints: [dialling, listening] })
}

pub(crate) async fn bulk(bytes: usize, streams: usize, mtu: Option<u16>) -> Result<(f64, f64)> {
    let pair = pair(mtu).await?;
    let share = bytes / streams;
    let stopwatch = Stopwatch::start()?;
    let mut senders = JoinSet::new();
    for _ in 0..streams {
        let client = pair.client.clone();
        senders.spawn(async move { pump::send(client.open_uni().await?, share).await });
    }
    let mut receivers = JoinSet::new();
    for _ in 0..streams {
        let from = pair.server.accept_uni().await?;
        receivers.spawn(pump::receive(from, share));
    }
    while let Some(done) = receivers.join_next().await {
        done??;
    }
    while let Some(done) = senders.join_next().await {
        done??;
    }
    stopwatch.read()
}

/// Milliseconds of CPU of both ends for one connection, on average over `count`.
pub(crate) async fn connects(count: usize) -> Result<f64> {
    let server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls::server()?)?));
    let listening = Endpoint::server(server, (Ipv4Addr::LOCALHOST, 0).into())?;
    let dialling = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls::client()?)?));
    let to = listening.local_addr()?;
    let server = tokio::spawn(async move {
        while let Some(incoming) = listening.accept().await {
            // A connection that fails shows at the other end.
            tokio::spawn(async move { anyhow::Ok(incoming.accept()?.await?.closed().await) });
        }
    });
    let stopwatch = Stopwatch::start()?;
    for _ in 0..count {
        let connection = dialling.connect_with(config.clone(), to, "peer")?.await?;
        connection.close(0u32.into(), b"");
    }
    let (_, cpu) = stopwatch.read()?;
    server.abort();
    Ok(cpu * 1e3 / count as f64)
}

/// Microseconds from asking for a stream until one byte has come back on it.
pub(crate) async fn opens(count: usize) -> Result<Vec<f64>> {
    let pair = pair(None).await?;
    let server = pair.server.clone();
    tokio::spawn(async move {
        while let Ok((to, from)) = server.accept_bi().await {
            tokio::spawn(pump::echo(to, from));
        }
    });
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        let (mut to, mut from) = pair.client.open_bi().await?;
        to.write_all(&[1]).await?;
        let mut byte = [0];
        from.read_exact(&mut byte).await?;
        latencies.push(began.elapsed().as_secs_f64() * 1e6);
        to.finish()?;
    }
    Ok(latencies)
}
