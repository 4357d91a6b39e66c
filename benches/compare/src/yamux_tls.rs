//! yamux, as libp2p configures it by default, directly on tokio-rustls.

use std::future::poll_fn;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::compat::{FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use yamux::{Config, Connection, Mode};

use crate::measure::Stopwatch;
use crate::{pump, tls};

pub(crate) async fn bulk(bytes: usize) -> Result<(f64, f64)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let to = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(Arc::new(tls::server()?));
    let accept = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        acceptor.accept(stream).await
    });
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let client = TlsConnector::from(Arc::new(tls::client()?)).connect("peer".try_into()?, stream).await?;
    let server = accept.await??;
    let mut client = Connection::new(client.compat(), Config::default(), Mode::Client);
    let mut server = Connection::new(server.compat(), Config::default(), Mode::Server);
    let outbound = poll_fn(|cx| client.poll_new_outbound(cx)).await?;
    // A connection moves only while it is polled for streams of the peer.
    tokio::spawn(async move { while poll_fn(|cx| client.poll_next_inbound(cx)).await.is_some() {} });
    let stopwatch = Stopwatch::start()?;
    let sender = tokio::spawn(pump::send(outbound.compat(), bytes));
    let inbound = poll_fn(|cx| server.poll_next_inbound(cx)).await.context("the connection ended")??;
    tokio::spawn(async move { while poll_fn(|cx| server.poll_next_inbound(cx)).await.is_some() {} });
    pump::receive(inbound.compat(), bytes).await?;
    sender.await??;
    stopwatch.read()
}
