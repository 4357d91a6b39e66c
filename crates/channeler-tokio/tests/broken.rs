//! The only link of a connection is a stream, and the stream breaks.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use tokio::time::{sleep, timeout};
use towline_channeler_tokio::{
    Connection,
    proto::{Capabilities, Config, ConnectionError, LinkStatus, ReadError, Reason},
};
use towline_lab::{Link, Options, World};
use towline_net::{Net, Os, now};

use support::{PATIENCE, Pipe, Station, channel, hosts};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A connection over the pipe alone, both ends.
async fn connect(alice: &Station, bob: &Station, pipe: &Pipe) -> (Connection, Connection) {
    let (ours, theirs) = tokio::join!(alice.endpoint.connect_tcp(bob.peer, pipe.addr), bob.endpoint.accept());
    (ours.unwrap(), theirs.unwrap())
}

/// Waits until nothing is left of the links that there were.
async fn bare(connection: &Connection) {
    let mut events = connection.events();
    while connection.links().iter().any(|link| link.status != LinkStatus::Closed) {
        events.next().await.unwrap();
    }
}

#[tokio::test]
async fn without_another_link_the_connection_ends() {
    let config = Config { no_link_timeout: Duration::from_millis(200), ..Config::default() };
    let station = || Station::with(Arc::new(Os), LOCAL, config.clone());
    let (alice, bob) = (station(), station());
    let addr = bob.endpoint.listen((LOCAL, 0).into()).unwrap();
    let pipe = Pipe::new(Arc::new(Os), LOCAL, addr);
    let (ours, theirs) = timeout(PATIENCE, connect(&alice, &bob, &pipe)).await.unwrap();
    let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
    let broken = now();
    pipe.break_it();
    for end in [&ours, &theirs] {
        assert_eq!(timeout(PATIENCE, end.closed()).await.unwrap(), ConnectionError::NoLink);
        assert!(now() - broken >= config.no_link_timeout);
    }
    let mut buf = [0];
    assert_eq!(receiver.recv(&mut buf).await, Err(ReadError::Ended(Reason::Connection)));
    assert!(sender.send(&buf).await.is_err());
}

#[tokio::test]
async fn another_link_in_time_takes_over() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let addr = bob.endpoint.listen((LOCAL, 0).into()).unwrap();
    let pipe = Pipe::new(Arc::new(Os), LOCAL, addr);
    let (ours, theirs) = timeout(PATIENCE, connect(&alice, &bob, &pipe)).await.unwrap();
    let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
    pipe.break_it();
    timeout(PATIENCE, bare(&ours)).await.unwrap();
    // What is written meanwhile waits.
    sender.send(b"still there").await.unwrap();
    timeout(PATIENCE, ours.add_tcp(addr)).await.unwrap().unwrap();
    let mut buf = [0; 16];
    assert_eq!(timeout(PATIENCE, receiver.recv(&mut buf)).await.unwrap(), Ok(Some(11)));
    assert_eq!(buf[..11], *b"still there");
}

/// Until then either side may add a link, of either kind.
#[test]
fn the_time_for_another_link_is_as_it_was_set() {
    let story = async |world: World| {
        let (alice, bob) = hosts(&world, Link::delay(Duration::from_millis(5)));
        let tcp: Arc<dyn Net> = Arc::new(bob.clone());
        let ip = bob.ipv4();
        let (alice, bob) = (Station::in_lab(&alice), Station::in_lab(&bob));
        let addr = bob.endpoint.listen((ip, 0).into()).unwrap();
        let limit = Config::default().no_link_timeout;

        for late in [false, true] {
            let pipe = Pipe::new(Arc::clone(&tcp), ip, addr);
            let (ours, theirs) = connect(&alice, &bob, &pipe).await;
            pipe.break_it();
            bare(&theirs).await;
            bare(&ours).await;
            let broken = now();
            if late {
                assert_eq!(ours.closed().await, ConnectionError::NoLink);
                let took = now() - broken;
                assert!(limit.abs_diff(took) < Duration::from_millis(10), "{took:?}");
                assert_eq!(theirs.closed().await, ConnectionError::NoLink);
                continue;
            }
            sleep(limit * 9 / 10).await;
            theirs.add_link(alice.addr).await.unwrap();
            sleep(10 * limit).await;
            assert_eq!((ours.close_reason(), theirs.close_reason()), (None, None));
            let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::datagram()).await;
            sender.send(b"!").await.unwrap();
            assert_eq!(receiver.message().await, Ok(Some(b"!".to_vec())));
        }
    };
    Options::new(1).run(story).unwrap();
}
