//! One program that echoes, one that asks, over UDP on loopback.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use towline_channeler_tokio::{
    Connection, Endpoint, SocketId,
    proto::{EndpointConfig, KeyOnly, OpenOptions, Peer, StaticKey},
};
use towline_net::{Net, Os};

/// Echoes every channel of a connection.
async fn serve(connection: Connection) {
    while let Ok(incoming) = connection.accept().await {
        println!("{} opens {:?}", connection.peer().id(), String::from_utf8_lossy(incoming.label()));
        let channel = incoming.accept();
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(channel);
            // Whoever asks learns of an error when the channel ends early.
            if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
                let _ = writer.shutdown().await;
            }
        });
    }
}

/// Both sides, until the echo was heard.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> anyhow::Result<()> {
    let net: Arc<dyn Net> = Arc::new(Os);

    // Each side has a key of its own. The server's is known to the client, as an address is; anybody may come.
    let server_key = StaticKey::from_bytes(net.seed());
    let anyone = Arc::new(KeyOnly::anyone());
    let config = EndpointConfig::new(server_key.clone(), anyone.clone(), anyone.clone());
    let server = Endpoint::bind(Arc::clone(&net), (Ipv4Addr::LOCALHOST, 0).into(), config)?;
    let addr = server.local_addr(SocketId::FIRST).context("it was bound just now")?;
    tokio::spawn(async move {
        while let Some(connection) = server.accept().await {
            tokio::spawn(serve(connection));
        }
    });

    let config = EndpointConfig::new(StaticKey::from_bytes(net.seed()), anyone.clone(), anyone);
    let client = Endpoint::bind(net, (Ipv4Addr::LOCALHOST, 0).into(), config)?;
    let connection = client.connect(Peer::Key(server_key.public()), addr).await?;

    let options = OpenOptions { label: b"echo".to_vec(), ..OpenOptions::default() };
    let mut channel = connection.open(options).await?;
    channel.write_all(b"Is anybody there?").await?;
    channel.finish();
    let mut answer = String::new();
    channel.read_to_string(&mut answer).await?;
    println!("the echo: {answer:?}");
    anyhow::ensure!(answer == "Is anybody there?");

    drop((channel, connection));
    client.wait_idle().await;
    Ok(())
}
