//! Readings that are worth nothing when they are old, over a line that loses every tenth packet: some repairs, no waiting.
//!
//! The network is simulated, so the ten seconds that this takes are over at once. Over sockets the same code runs with `Os`
//! for a `Host`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::time::sleep;
use towline_channeler_tokio::{
    Endpoint, SocketId,
    proto::{Capabilities, EndpointConfig, KeyOnly, OpenOptions, Peer, Resend, StaticKey},
};
use towline_lab::{Host, Link, World};
use towline_net::{Net, now};

const READINGS: u32 = 1000;
const EVERY: Duration = Duration::from_millis(10);

/// A reading is repeated as long as it is of use, and overtakes those that are late.
const FRESH: Capabilities =
    Capabilities { ordered: false, resend: Resend::Until(Duration::from_millis(150)), close_on_loss: false };

fn endpoint(host: &Host) -> anyhow::Result<(Endpoint, Peer)> {
    let key = StaticKey::from_bytes(host.seed());
    let peer = Peer::Key(key.public());
    let anyone = Arc::new(KeyOnly::anyone());
    let config = EndpointConfig::new(key, anyone.clone(), anyone);
    Ok((Endpoint::bind(Arc::new(host.clone()), (host.ipv4(), 0).into(), config)?, peer))
}

async fn story(world: World) -> anyhow::Result<()> {
    let internet = world.internet();
    let (sensor, station) = (world.host("sensor"), world.host("station"));
    sensor.attach(internet, Link { loss: 0.1, ..Link::delay(Duration::from_millis(20)) });
    station.attach(internet, Link::delay(Duration::from_millis(5)));

    let (server, peer) = endpoint(&station)?;
    let addr = server.local_addr(SocketId::FIRST).context("it was bound just now")?;
    let (client, _) = endpoint(&sensor)?;
    let connection = client.connect(peer, addr).await?;
    let options = OpenOptions { capabilities: FRESH, label: b"readings".to_vec(), ..OpenOptions::default() };
    let mut channel = connection.open(options).await?;
    let start = now();
    tokio::spawn(async move {
        for number in 0..READINGS {
            let reading = [number.to_be_bytes(), micros(start).to_be_bytes()].concat();
            // If there is no room, the next reading will be fresher.
            let _ = channel.try_send(&reading);
            sleep(EVERY).await;
        }
        channel.finish();
        channel.closed().await;
    });

    let theirs = server.accept().await.context("the endpoint is open")?;
    let mut channel = theirs.accept().await?.accept();
    channel.finish();
    let mut ages = Vec::new();
    while let Some(message) = channel.message().await? {
        let written = u32::from_be_bytes(message[4..].try_into()?);
        ages.push(Duration::from_micros((micros(start) - written).into()));
    }
    ages.sort_unstable();
    let part = |part: usize| ages[(ages.len() - 1) * part / 100].as_millis();
    let arrived = ages.len();
    println!("{arrived} of {READINGS} readings arrived");
    println!("age in ms: {} median, {} of 95 %, {} at most", part(50), part(95), part(100));
    anyhow::ensure!(arrived > READINGS as usize * 98 / 100, "repairs are to bring most that was lost");
    anyhow::ensure!(arrived < READINGS as usize || part(100) > 30, "a line that loses shows");
    anyhow::ensure!(part(100) < 250, "what is too old is not sent again");
    Ok(())
}

/// Microseconds since then.
fn micros(start: Instant) -> u32 {
    (now() - start).as_micros() as u32
}

/// Tells the story and its figures.
pub(crate) fn main() -> anyhow::Result<()> {
    towline_lab::run(7, story)
}
