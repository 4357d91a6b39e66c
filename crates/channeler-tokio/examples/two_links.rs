//! A transfer over UDP that moves to TCP and back, while it runs, without losing a byte.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::Context as _;
use tokio::io::AsyncReadExt;
use towline_channeler_tokio::{
    Channel, Connection, Endpoint, SocketId,
    proto::{EndpointConfig, KeyOnly, OpenOptions, Peer, Route, StaticKey},
};
use towline_net::{Net, Os};

const LEN: usize = 32 << 20;

fn endpoint(net: &Arc<dyn Net>) -> anyhow::Result<(Endpoint, Peer)> {
    let key = StaticKey::from_bytes(net.seed());
    let peer = Peer::Key(key.public());
    let anyone = Arc::new(KeyOnly::anyone());
    let config = EndpointConfig::new(key, anyone.clone(), anyone);
    Ok((Endpoint::bind(Arc::clone(net), (Ipv4Addr::LOCALHOST, 0).into(), config)?, peer))
}

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

async fn send(mut channel: Channel) -> anyhow::Result<()> {
    let bytes: Vec<u8> = (0..LEN).map(byte).collect();
    for chunk in bytes.chunks(64 << 10) {
        channel.send(chunk).await?;
        tokio::task::yield_now().await;
    }
    channel.finish();
    channel.closed().await;
    Ok(())
}

/// Reads so many bytes and looks whether they are the right ones.
async fn expect(channel: &mut Channel, from: usize, len: usize) -> anyhow::Result<usize> {
    let mut bytes = vec![0; len];
    channel.read_exact(&mut bytes).await?;
    anyhow::ensure!(bytes.iter().enumerate().all(|(at, had)| *had == byte(from + at)), "false bytes");
    Ok(from + len)
}

fn show(connection: &Connection, at: usize) {
    let links: Vec<_> = connection.links();
    let names = links.iter().map(|link| match link.route {
        Route::Datagram { .. } => format!("{} over UDP {:?}", link.link, link.status),
        Route::Stream(_) => format!("{} over TCP {:?}", link.link, link.status),
    });
    println!("{:>3} MiB: {}", at >> 20, names.collect::<Vec<_>>().join(", "));
}

/// Moves the bytes over all three links.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> anyhow::Result<()> {
    let net: Arc<dyn Net> = Arc::new(Os);
    let (server, peer) = endpoint(&net)?;
    let udp = server.local_addr(SocketId::FIRST).context("it was bound just now")?;
    // Peers may come by TCP, too. The first packet says which connection a stream is for.
    let tcp = server.listen((Ipv4Addr::LOCALHOST, 0).into())?;
    tokio::spawn(async move {
        let connection = server.accept().await.context("the endpoint is open")?;
        let channel = connection.accept().await?.accept();
        send(channel).await
    });

    let (client, _) = endpoint(&net)?;
    let connection = client.connect(peer, udp).await?;
    let mut channel = connection.open(OpenOptions::default()).await?;
    // Nothing is to be said on it: the opening is sent all the same.
    channel.finish();

    let at = expect(&mut channel, 0, LEN / 4).await?;
    show(&connection, at);

    let first = connection.links()[0].link;
    let stream = connection.add_tcp(tcp).await?;
    connection.close_link(first);
    let at = expect(&mut channel, at, LEN / 4).await?;
    show(&connection, at);

    connection.add_link(udp).await?;
    connection.close_link(stream);
    let at = expect(&mut channel, at, LEN / 2).await?;
    show(&connection, at);

    let end = channel.recv(&mut [0]).await?;
    anyhow::ensure!(end.is_none(), "more than was sent");
    drop((channel, connection));
    client.wait_idle().await;
    Ok(())
}
