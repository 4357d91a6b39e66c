//! Over real sockets on loopback.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use towline_channeler_tokio::{
    Connection, News, SocketId,
    proto::{Capabilities, Code, LinkStatus, OpenOptions, Peer, ReadError, Reason, Route, WriteError},
};

use support::{PATIENCE, Station, channel, pattern};

/// Sends `len` bytes one way and back, on a channel of its own.
async fn round_trip(from: &Connection, to: &Connection, len: usize) {
    let (ours, mut theirs) = channel(from, to, Capabilities::stream()).await;
    let (mut sender, mut receiver) = ours.split();
    let echo = async {
        let (mut reader, mut writer) = tokio::io::split(&mut theirs);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let send = async {
        for at in (0..len).step_by(50_000) {
            sender.write_all(&pattern(at as u64, 50_000.min(len - at))).await.unwrap();
        }
        sender.finish();
    };
    let receive = async {
        let mut received = Vec::new();
        receiver.read_to_end(&mut received).await.unwrap();
        assert!(received == pattern(0, len), "{} of {len} bytes", received.len());
    };
    timeout(PATIENCE, async { tokio::join!(echo, send, receive) }).await.unwrap();
    assert_eq!(sender.closed().await, Reason::Finished);
}

#[tokio::test]
async fn echo() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    assert!(matches!(bob.peer, Peer::Key(key) if key == ours.peer().static_key));
    assert!(matches!(alice.peer, Peer::Key(key) if key == theirs.peer().static_key));
    round_trip(&ours, &theirs, 5).await;
    round_trip(&theirs, &ours, 3_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_on_threads() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    round_trip(&ours, &theirs, 10_000_000).await;
}

#[tokio::test]
async fn echo_over_ipv6() {
    let net = || std::sync::Arc::new(towline_net::Os);
    let local = std::net::Ipv6Addr::LOCALHOST.into();
    let (alice, bob) = (Station::new(net(), local), Station::new(net(), local));
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    round_trip(&ours, &theirs, 100_000).await;
}

#[tokio::test]
async fn endpoints_on_every_address_answer_from_the_one_they_were_asked_at() {
    for (any, asked) in [("0.0.0.0", "127.0.0.7"), ("::", "::1")] {
        let net = || std::sync::Arc::new(towline_net::Os);
        let any = any.parse().unwrap();
        let (alice, bob) = (Station::new(net(), any), Station::new(net(), any));
        let bob =
            Station { addr: (asked.parse::<std::net::IpAddr>().unwrap(), bob.addr.port()).into(), ..bob };
        let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
        round_trip(&ours, &theirs, 100_000).await;
        assert_eq!(ours.links()[0].route, Route::datagram(bob.addr));
    }
}

#[tokio::test]
async fn messages_keep_their_bounds() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::datagram()).await;
    let messages = [pattern(0, 3), vec![], pattern(9, 50_000), pattern(7, 1)];
    for message in &messages {
        timeout(PATIENCE, sender.send(message)).await.unwrap().unwrap();
        let received = timeout(PATIENCE, receiver.message()).await.unwrap().unwrap();
        assert!(received.as_ref() == Some(message));
    }
    // One that does not fit stays.
    sender.send(b"hello").await.unwrap();
    let mut buf = [0; 8];
    let short = timeout(PATIENCE, receiver.recv(&mut buf[..2])).await.unwrap();
    assert_eq!(short, Err(ReadError::TooShort(5)));
    assert_eq!(receiver.recv(&mut buf).await, Ok(Some(5)));
    sender.finish();
    assert_eq!(timeout(PATIENCE, receiver.recv(&mut buf)).await.unwrap(), Ok(None));
    assert!(matches!(sender.send(b"more").await, Err(WriteError::Finished | WriteError::Ended(_))));
}

#[tokio::test]
async fn what_is_dropped_unfinished_is_reset() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
    sender.write_all(b"half").await.unwrap();
    receiver.read_exact(&mut [0; 4]).await.unwrap();
    drop(sender);
    let error = timeout(PATIENCE, receiver.recv(&mut [0; 4])).await.unwrap();
    assert_eq!(error, Err(ReadError::Ended(Reason::Peer(Code::DROPPED))));
    // What is not wanted any more is told to the one who writes.
    let (sender, receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
    let (mut writer, _reader) = sender.split();
    let (mut back, unread) = receiver.split();
    drop(unread);
    let writing = async { while writer.write_all(&[0; 10_000]).await.is_ok() {} };
    timeout(PATIENCE, writing).await.unwrap();
    back.finish();
}

#[tokio::test]
async fn channels_are_refused() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    let channel = ours.open(OpenOptions::default()).await.unwrap();
    let code = Code(Code::PROGRAM.0 + 7);
    timeout(PATIENCE, theirs.accept()).await.unwrap().unwrap().refuse(code);
    assert_eq!(timeout(PATIENCE, channel.accepted()).await.unwrap(), Err(Reason::Peer(code)));
    let channel = ours.open(OpenOptions::default()).await.unwrap();
    drop(timeout(PATIENCE, theirs.accept()).await.unwrap().unwrap());
    assert_eq!(timeout(PATIENCE, channel.closed()).await.unwrap(), Reason::Peer(Code::REFUSED));
    let channel = ours.open(OpenOptions::default()).await.unwrap();
    let _theirs = timeout(PATIENCE, theirs.accept()).await.unwrap().unwrap().accept();
    assert_eq!(timeout(PATIENCE, channel.accepted()).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn the_last_handle_delivers_and_closes() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
    let sent = pattern(0, 200_000);
    timeout(PATIENCE, sender.send(&sent)).await.unwrap().unwrap();
    sender.finish();
    drop((ours, sender));
    let mut received = Vec::new();
    timeout(PATIENCE, receiver.read_to_end(&mut received)).await.unwrap().unwrap();
    assert!(received == sent);
    receiver.finish();
    let error = timeout(PATIENCE, theirs.closed()).await.unwrap();
    let done = towline_channeler_tokio::proto::ConnectionError::ClosedByPeer {
        code: Code::DONE,
        text: String::new(),
    };
    assert_eq!(error, done);
    timeout(PATIENCE, alice.endpoint.wait_idle()).await.unwrap();
}

#[tokio::test]
async fn closing_an_endpoint_tells_everybody() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    let (_sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
    alice.endpoint.close(Code::GOING_AWAY, "good night");
    let error = timeout(PATIENCE, theirs.closed()).await.unwrap();
    assert_eq!(error.to_string(), "closed by the peer: code 6, \"good night\"");
    let read = receiver.recv(&mut [0]).await;
    assert_eq!(read, Err(ReadError::Ended(Reason::Connection)));
    assert!(ours.accept().await.is_err());
    assert!(alice.endpoint.accept().await.is_none());
    timeout(PATIENCE, alice.endpoint.wait_idle()).await.unwrap();
    assert!(alice.endpoint.connect(bob.peer, bob.addr).await.is_err());
}

#[tokio::test]
async fn a_connection_over_a_stream_alone() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let addr = bob.endpoint.listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let (ours, theirs) = timeout(PATIENCE, async {
        tokio::join!(alice.endpoint.connect_tcp(bob.peer, addr), bob.endpoint.accept())
    })
    .await
    .unwrap();
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert!(matches!(ours.links()[..], [link] if link.route.is_stream()));
    round_trip(&ours, &theirs, 5).await;
    round_trip(&ours, &theirs, 5_000_000).await;
}

#[tokio::test]
async fn links_are_added_used_and_dropped_while_data_flows() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let tcp = bob.endpoint.listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
    let len = 40_000_000_u64;
    let send = async {
        for at in (0..len).step_by(100_000) {
            sender.write_all(&pattern(at, 100_000)).await.unwrap();
            tokio::task::yield_now().await;
        }
        sender.finish();
    };
    let receive = async {
        let mut at = 0;
        let mut buf = vec![0; 65_536];
        while let Some(len) = receiver.recv(&mut buf).await.unwrap() {
            assert!(buf[..len] == pattern(at, len), "byte {at} and what follows");
            at += len as u64;
        }
        assert_eq!(at, len);
    };
    let moves = async {
        // UDP to TCP and back, on another socket.
        let first = ours.links()[0].link;
        let stream = ours.add_tcp(tcp).await.unwrap();
        ours.close_link(first);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let socket = alice.endpoint.add_socket(&towline_net::UdpBind::new((Ipv4Addr::LOCALHOST, 0).into()));
        let again = ours.add_link_from(socket.unwrap(), bob.addr).await.unwrap();
        ours.close_link(stream);
        again
    };
    let ((), (), last) = timeout(PATIENCE, async { tokio::join!(send, receive, moves) }).await.unwrap();
    let links = ours.links();
    let active: Vec<_> = links.iter().filter(|link| link.status == LinkStatus::Active).collect();
    assert!(matches!(active[..], [link] if link.link == last), "{links:?}");
}

#[tokio::test]
async fn a_socket_that_is_closed_takes_its_links_along() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    let bind = towline_net::UdpBind::new((Ipv4Addr::LOCALHOST, 0).into());
    let socket = alice.endpoint.add_socket(&bind).unwrap();
    let addr = alice.endpoint.local_addr(socket).unwrap();
    let link = timeout(PATIENCE, ours.add_link_from(socket, bob.addr)).await.unwrap().unwrap();
    alice.endpoint.close_socket(SocketId::FIRST);
    assert_eq!(alice.endpoint.local_addr(SocketId::FIRST), None);
    round_trip(&ours, &theirs, 1_000_000).await;
    let left: Vec<_> = ours.links().into_iter().filter(|link| link.status != LinkStatus::Closed).collect();
    assert!(matches!(left[..], [only] if only.link == link), "{left:?}");
    // The last of them takes the connection along, in the end, and the port is free.
    alice.endpoint.close_socket(socket);
    let bind = towline_net::UdpBind::new(addr);
    let bound = async {
        while alice.endpoint.add_socket(&bind).is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, bound).await.unwrap();
}

#[tokio::test]
async fn a_broken_stream_is_told_and_survived() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    // A pipe for a stream.
    let (one, other) = tokio::io::duplex(100_000);
    let (other_reader, other_writer) = tokio::io::split(other);
    let (far, near) = tokio::io::duplex(100_000);
    bob.endpoint.accept_stream(far);
    let (near_reader, near_writer) = tokio::io::split(near);
    let forth = tokio::spawn(copy(other_reader, near_writer));
    let back = tokio::spawn(copy(near_reader, other_writer));
    let mut events = ours.events();
    let link = timeout(PATIENCE, ours.add_stream(one)).await.unwrap().unwrap();
    round_trip(&ours, &theirs, 1_000_000).await;
    forth.abort();
    back.abort();
    let closed = async {
        while let Some(news) = events.next().await {
            match news {
                News::Link(report) if report.link == link && report.status == LinkStatus::Closed => return,
                _ => {}
            }
        }
        panic!("nobody told");
    };
    timeout(PATIENCE, closed).await.unwrap();
    round_trip(&ours, &theirs, 1_000_000).await;
    let left = ours.links().into_iter().filter(|link| link.status != LinkStatus::Closed);
    assert!(left.map(|link| link.route).all(|route| matches!(route, Route::Datagram { .. })));
}

async fn copy(mut from: impl tokio::io::AsyncRead + Unpin, mut to: impl tokio::io::AsyncWrite + Unpin) {
    // It ends when one of them does.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

#[tokio::test]
async fn strangers_on_a_listener_do_no_harm() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    let tcp = bob.endpoint.listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mut stranger = tokio::net::TcpStream::connect(tcp).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut silent = tokio::net::TcpStream::connect(tcp).await.unwrap();
    let (ours, theirs) = timeout(PATIENCE, async {
        tokio::join!(alice.endpoint.connect_tcp(bob.peer, tcp), bob.endpoint.accept())
    })
    .await
    .unwrap();
    round_trip(&ours.unwrap(), &theirs.unwrap(), 1000).await;
    silent.write_all(&[0, 1, 0].repeat(20)).await.unwrap();
    // Whoever says nothing of use is hung up on.
    assert!(matches!(timeout(PATIENCE, silent.read(&mut [0])).await.unwrap(), Ok(0) | Err(_)));
}

#[tokio::test]
async fn an_endpoint_that_is_dropped_ends_its_tasks() {
    let (alice, bob) = (Station::on_loopback(), Station::on_loopback());
    bob.endpoint.listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let (ours, theirs) = timeout(PATIENCE, alice.connect(&bob)).await.unwrap();
    drop((alice, bob));
    round_trip(&ours, &theirs, 100_000).await;
    drop((ours, theirs));
    let metrics = tokio::runtime::Handle::current().metrics();
    let ended = async {
        while metrics.num_alive_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
}
