//! Programs that are killed and started again, and programs that share a key.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};
use towline_channeler_tokio::{
    Endpoint, SocketId,
    proto::{Capabilities, Config, ConnectionError, EndpointConfig, Peer, Reason, StaticKey, WriteError},
};
use towline_lab::{Host, Link, Options, World};
use towline_net::{Net, UdpBind};

use support::{Station, channel, config, hosts};

/// Too short for any timeout.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A program on a host, with a key and at a port that it was told.
fn program(host: &Host, key: &StaticKey, port: u16, instance: Option<u64>) -> Station {
    let config = EndpointConfig { instance, ..config(key, Config::default()) };
    let endpoint = Endpoint::bind(Arc::new(host.clone()), (host.ipv4(), port).into(), config).unwrap();
    let addr = endpoint.local_addr(SocketId::FIRST).unwrap();
    Station { endpoint, peer: Peer::Key(key.public()), addr }
}

fn key(host: &Host) -> StaticKey {
    StaticKey::from_bytes(host.seed())
}

#[test]
fn a_peer_that_was_killed_and_started_again_says_so() {
    let story = async |world: World| {
        let (alice, host) = hosts(&world, Link::delay(Duration::from_millis(20)));
        let (alice, key) = (Station::in_lab(&alice), key(&host));
        let bob = program(&host, &key, 4000, None);
        let (ours, theirs) = alice.connect(&bob).await;
        let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
        sender.send(b"before").await.unwrap();
        receiver.recv(&mut [0; 6]).await.unwrap();

        // What is killed says nothing more.
        host.crash();
        sleep(Duration::from_secs(2)).await;
        host.boot();
        let bob = program(&host, &key, 4000, None);
        assert_eq!(ours.close_reason(), None);
        sender.send(b"after").await.unwrap();
        assert_eq!(timeout(AT_ONCE, ours.closed()).await.unwrap(), ConnectionError::Forgotten);
        assert_eq!(sender.send(b"!").await, Err(WriteError::Ended(Reason::Connection)));

        let (ours, theirs) = timeout(AT_ONCE, alice.connect(&bob)).await.unwrap();
        let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
        sender.send(b"again").await.unwrap();
        assert_eq!(receiver.recv(&mut [0; 6]).await, Ok(Some(5)));
    };
    Options::new(1).run(story).unwrap();
}

#[test]
fn it_says_so_on_a_new_stream_too() {
    let story = async |world: World| {
        let (alice, host) = hosts(&world, Link::delay(Duration::from_millis(20)));
        let (alice, key) = (Station::in_lab(&alice), key(&host));
        let tcp: SocketAddr = (host.ipv4(), 443).into();
        let bob = program(&host, &key, 4000, None);
        bob.endpoint.listen(tcp).unwrap();
        let (ours, theirs) = tokio::join!(alice.endpoint.connect_tcp(bob.peer, tcp), bob.endpoint.accept());
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        let (mut sender, _receiver) = channel(&ours, &theirs, Capabilities::stream()).await;

        host.crash();
        host.boot();
        let bob = program(&host, &key, 4000, None);
        bob.endpoint.listen(tcp).unwrap();
        // The old stream breaks when something is said on it.
        sender.send(b"anybody there?").await.unwrap();
        let mut events = ours.events();
        while !events.next().await.unwrap().is_end_of_link() {}
        let added = timeout(AT_ONCE, ours.add_tcp(tcp)).await.unwrap();
        assert!(added.is_err());
        assert_eq!(ours.close_reason(), Some(ConnectionError::Forgotten));
    };
    Options::new(2).run(story).unwrap();
}

/// Somebody on the way shows what is meant for one program to another one of the same key, and passes on what that says.
async fn show_to_another(world: &World, instance: Option<u64>) -> Option<ConnectionError> {
    let (alice, host) = hosts(world, Link::delay(Duration::from_millis(5)));
    let (alice, key) = (Station::in_lab(&alice), key(&host));
    let [bob, twin] = [4000, 4001].map(|port| program(&host, &key, port, instance));
    let inside = host.bind_udp(&UdpBind::new((host.ipv4(), 0).into())).unwrap();
    let outside = host.bind_udp(&UdpBind::new((host.ipv4(), 0).into())).unwrap();
    let bob_addr = bob.addr;
    let front = Station { addr: outside.local_addr(), ..bob };
    let (inside, outside) = (Arc::new(inside), Arc::new(outside));
    let (forth, back) = (Arc::clone(&inside), Arc::clone(&outside));
    let (addr, other, to) = (bob_addr, twin.addr, alice.addr);
    let showing = Arc::new(AtomicBool::new(false));
    let shows = Arc::clone(&showing);
    tokio::spawn(async move {
        let mut buf = [0; 2048];
        loop {
            let received = outside.recv(&mut buf).await.unwrap();
            forth.try_send(&buf[..received.len], addr).unwrap();
            if shows.load(Relaxed) {
                forth.try_send(&buf[..received.len], other).unwrap();
            }
        }
    });
    tokio::spawn(async move {
        let mut buf = [0; 2048];
        loop {
            let received = inside.recv(&mut buf).await.unwrap();
            back.try_send(&buf[..received.len], to).unwrap();
        }
    });
    let (ours, theirs) = alice.connect(&front).await;
    let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::datagram()).await;
    showing.store(true, Relaxed);
    for _ in 0..10 {
        if sender.send(b"some message, longer than an answer would be").await.is_err() {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(twin.endpoint.counters().resets > 0, "the other one was not asked");
    match ours.close_reason() {
        None => assert!(receiver.message().await.unwrap().is_some()),
        Some(_) => assert_eq!(sender.closed().await, Reason::Connection),
    }
    ours.close_reason()
}

#[test]
fn another_program_of_the_same_key_cannot_be_made_to_say_so() {
    Options::new(3).run(async |world| assert_eq!(show_to_another(&world, None).await, None)).unwrap();
    // It could, if a program said that both are one.
    let same = async |world| {
        assert_eq!(show_to_another(&world, Some(1)).await, Some(ConnectionError::Forgotten));
    };
    Options::new(3).run(same).unwrap();
}
