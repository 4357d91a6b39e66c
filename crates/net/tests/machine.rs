//! What only the machine's own network can show. What it has in common with the lab is told in `crates/lab`.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use towline_net::{Group, Net, Os, TcpConnect, UdpBind};

const PATIENCE: Duration = Duration::from_secs(10);

/// Groups whose scope is the host: nothing leaves it, whatever the interface.
async fn multicast(net: &dyn Net, group: IpAddr, interface: u32, any: SocketAddr) {
    let group = Group { addr: group, interface };
    let member = |addr| UdpBind {
        shared: true,
        groups: vec![group],
        multicast_interface: Some(interface),
        ..UdpBind::new(addr)
    };
    let one = net.bind_udp(&member(any)).unwrap();
    let addr = SocketAddr::new(any.ip(), one.local_addr().port());
    let other = net.bind_udp(&member(addr)).unwrap();
    let stranger = net.bind_udp(&UdpBind { groups: vec![], ..member(addr) }).unwrap();
    one.send(b"anybody?", (group.addr, addr.port()).into()).await.unwrap();
    let mut buf = [0; 100];
    for member in [&one, &other] {
        let got = timeout(PATIENCE, member.recv(&mut buf)).await.unwrap().unwrap();
        assert_eq!((got.len, got.from.port()), (8, addr.port()));
    }
    // What was sent after it has arrived, and it has not.
    let to = (if any.is_ipv6() { IpAddr::from(Ipv6Addr::LOCALHOST) } else { Ipv4Addr::LOCALHOST.into() }, 0);
    let alone = net.bind_udp(&UdpBind::new(to.into())).unwrap();
    drop((one, other));
    alone.send(b"you", (to.0, addr.port()).into()).await.unwrap();
    let got = timeout(PATIENCE, stranger.recv(&mut buf)).await.unwrap().unwrap();
    assert_eq!(&buf[..got.len], b"you");
}

#[tokio::test]
async fn multicast_over_loopback_v4() {
    let loopback = Os.interfaces().unwrap().into_iter().find(|interface| interface.loopback).unwrap();
    let any = (Ipv4Addr::UNSPECIFIED, 0).into();
    multicast(&Os, Ipv4Addr::new(239, 192, 0, 1).into(), loopback.index, any).await;
}

#[tokio::test]
async fn multicast_within_the_host_v6() {
    let group = "ff11::8080".parse().unwrap();
    let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
    let interfaces = Os.interfaces().unwrap();
    // Linux has no IPv6 multicast on its loopback interface, so another has to carry it.
    let carries = interfaces.iter().find(|interface| {
        let mut addresses = interface.addresses.iter();
        interface.up && interface.multicast && addresses.any(|own| own.addr.is_ipv6())
    });
    match carries {
        Some(interface) => multicast(&Os, group, interface.index, any).await,
        None => {
            let groups = interfaces.iter().filter(|interface| interface.loopback);
            let groups = groups.map(|interface| Group { addr: group, interface: interface.index }).collect();
            Os.bind_udp(&UdpBind { groups, ..UdpBind::new(any) }).unwrap();
        }
    }
}

#[tokio::test]
async fn names_are_resolved() {
    let found = Os.resolve("localhost:4222").await.unwrap();
    assert!(found.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 4222) && !found.is_empty());
}

#[tokio::test]
async fn an_attempt_is_given_up_in_time() {
    // A listener whose backlog nobody empties answers until it is full; so the address is one that is
    // reserved for documentation. Where there is no route to it, that is the answer.
    let options = TcpConnect { timeout: Duration::from_millis(50), ..TcpConnect::default() };
    let error = Os.connect_tcp(([192, 0, 2, 1], 9).into(), options).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            std::io::ErrorKind::TimedOut
                | std::io::ErrorKind::NetworkUnreachable
                | std::io::ErrorKind::HostUnreachable
                | std::io::ErrorKind::ConnectionRefused
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_port_can_be_listened_on_again_at_once() {
    let net: Arc<dyn Net> = Arc::new(Os);
    let mut listener = net.listen_tcp((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let addr = listener.local_addr();
    let (ours, theirs) = tokio::join!(net.connect_tcp(addr, TcpConnect::default()), listener.accept());
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    // The side that ends first keeps the port in TIME_WAIT.
    theirs.shutdown().await.unwrap();
    assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
    drop((ours, theirs, listener));
    net.listen_tcp(addr).unwrap();
}

#[tokio::test]
async fn offloaded_work_leaves_the_tasks_alone() {
    let net: Arc<dyn Net> = Arc::new(Os);
    let (go, wait) = std::sync::mpsc::sync_channel(1);
    let ran = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ran);
    let work = net.offload(move || {
        wait.recv().unwrap();
        flag.store(true, Ordering::Relaxed);
    });
    // On the thread of this task the work would wait for ever.
    assert!(!ran.load(Ordering::Relaxed));
    go.send(()).unwrap();
    timeout(PATIENCE, work).await.unwrap();
    assert!(ran.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_subscription_without_changes_is_quiet_and_ends_with_its_holder() {
    let mut changes = Os.changes();
    assert!(timeout(Duration::from_millis(1), changes.changed()).await.is_err());
    drop(changes);
    // The task behind it ends without waiting for its next look.
    let metrics = tokio::runtime::Handle::current().metrics();
    while metrics.num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
}
