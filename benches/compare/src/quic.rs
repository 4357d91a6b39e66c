//! QUIC by quinn, with its own defaults.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};

use crate::measure::Stopwatch;
use crate::{pump, tls};

/// Two endpoints, and the two ends of a connection between them. All must be kept.
struct Pair {
    client: Connection,
    server: Connection,
    _endpoints: [Endpoint; 2],
}

async fn pair() -> Result<Pair> {
    let server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls::server()?)?));
    let listening = Endpoint::server(server, (Ipv4Addr::LOCALHOST, 0).into())?;
    let dialling = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls::client()?)?));
    let connecting = dialling.connect_with(config, listening.local_addr()?, "peer")?;
    let incoming = listening.accept().await.context("the endpoint was closed")?;
    let (client, server) = tokio::try_join!(connecting, incoming.accept()?)?;
    Ok(Pair { client, server, _endpoints: [dialling, listening] })
}

pub(crate) async fn bulk(bytes: usize) -> Result<(f64, f64)> {
    let pair = pair().await?;
    let stopwatch = Stopwatch::start()?;
    let to = pair.client.open_uni().await?;
    let sender = tokio::spawn(pump::send(to, bytes));
    let from = pair.server.accept_uni().await?;
    pump::receive(from, bytes).await?;
    sender.await??;
    stopwatch.read()
}

/// Microseconds from asking for a stream until one byte has come back on it.
pub(crate) async fn opens(count: usize) -> Result<Vec<f64>> {
    let pair = pair().await?;
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
