//! Large packets, and a connection whose only link breaks.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::{net::Ipv4Addr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::timeout,
};
use towline_channeler_tokio::{
    Channel, Connection, News,
    proto::{Capabilities, Config, LinkStatus},
};
use towline_net::Os;

use support::{PATIENCE, Station, channel, pattern};

fn station(config: Config) -> Station {
    Station::with(Arc::new(Os), Ipv4Addr::LOCALHOST.into(), config)
}

/// Writes that much and reads it at the other end.
async fn carry(from: &mut Channel, to: &mut Channel, at: u64, len: usize) {
    let bytes = pattern(at, len);
    let mut received = vec![0; len];
    let both = async { tokio::join!(from.write_all(&bytes), to.read_exact(&mut received)) };
    let (written, read) = timeout(PATIENCE, both).await.unwrap();
    written.unwrap();
    read.unwrap();
    assert!(received == bytes, "the bytes from {at}");
}

/// Both ends of a pipe: what is written to one is read from the other, until the task is aborted.
fn pipe() -> (DuplexStream, DuplexStream, JoinHandle<()>) {
    let ((near, mut one), (mut other, far)) = (duplex(100_000), duplex(100_000));
    let task = tokio::spawn(async move {
        // It ends when one of them does.
        let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
    });
    (near, far, task)
}

async fn over(
    near: DuplexStream,
    far: DuplexStream,
    from: &Station,
    to: &Station,
) -> (Connection, Connection) {
    to.endpoint.accept_stream(far);
    let both = async { tokio::join!(from.endpoint.connect_stream(to.peer, near), to.endpoint.accept()) };
    let (ours, theirs) = timeout(PATIENCE, both).await.unwrap();
    (ours.unwrap(), theirs.unwrap())
}

#[tokio::test]
async fn datagrams_grow_to_what_the_path_carries() {
    let config = || Config { max_mtu: 9000, ..Config::default() };
    let (alice, bob) = (station(config()), station(config()));
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    let (mut from, mut to) = channel(&ours, &theirs, Capabilities::stream()).await;
    let mut at = 0;
    let grown = async {
        while ours.links()[0].mtu < 9000 {
            carry(&mut from, &mut to, at, 100_000).await;
            at += 100_000;
        }
    };
    timeout(PATIENCE, grown).await.unwrap();
}

#[tokio::test]
async fn packets_of_a_stream_are_as_large_as_both_allow() {
    for (ours, theirs, mtu) in [(65_535, 65_535, 65_535), (65_535, 30_000, 30_000), (2000, 65_535, 2000)] {
        let config = |max_stream_packet| Config { max_stream_packet, ..Config::default() };
        let (alice, bob) = (station(config(ours)), station(config(theirs)));
        let (near, far, _pipe) = pipe();
        let (ours, theirs) = over(near, far, &alice, &bob).await;
        assert_eq!(ours.links()[0].mtu, mtu);
        let (mut from, mut to) = channel(&ours, &theirs, Capabilities::stream()).await;
        carry(&mut from, &mut to, 0, 3_000_000).await;
        let packets = ours.stats().packets_sent;
        assert!(packets < 2 * 3_000_000 / u64::from(mtu) + 100, "{packets} packets of {mtu}");
    }
}

#[tokio::test]
async fn who_lost_the_only_link_may_bring_another() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let (near, far, pipe_of_both) = pipe();
    let (ours, theirs) = over(near, far, &alice, &bob).await;
    let (mut from, mut to) = channel(&ours, &theirs, Capabilities::stream()).await;
    carry(&mut from, &mut to, 0, 100_000).await;

    let mut events = ours.events();
    pipe_of_both.abort();
    let closed = async {
        while let Some(news) = events.next().await {
            if matches!(news, News::Link(report) if report.status == LinkStatus::Closed) {
                return;
            }
        }
        panic!("nobody told");
    };
    timeout(PATIENCE, closed).await.unwrap();
    assert_eq!(ours.close_reason(), None);

    // What is written meanwhile waits.
    from.write_all(&pattern(100_000, 1000)).await.unwrap();
    let (near, far, _pipe) = pipe();
    bob.endpoint.accept_stream(far);
    timeout(PATIENCE, ours.add_stream(near)).await.unwrap().unwrap();
    let mut received = [0; 1000];
    timeout(PATIENCE, to.read_exact(&mut received)).await.unwrap().unwrap();
    assert!(received[..] == pattern(100_000, 1000));
    carry(&mut from, &mut to, 101_000, 1_000_000).await;
}
