//! One set of stories, told on the machine and in the lab: both must behave alike.
//!
//! Every story gets a network and an address of it to bind to.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    io::{ErrorKind, IoSlice},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use towline_net::{Net, Os, TcpConnect, TcpStream, UdpBind};

type Host = Arc<dyn Net>;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a story on the machine and in the lab, over IPv4 and IPv6.
macro_rules! stories {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            #[test]
            fn on_the_machine() {
                super::on_the_machine(super::$name);
            }

            #[test]
            fn in_the_lab() {
                super::in_the_lab(super::$name);
            }
        }
    )* };
}

fn on_the_machine<F: Future<Output = ()>>(story: impl Fn(Host, IpAddr) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for local in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let told = timeout(PATIENCE, story(Arc::new(Os), local)).await;
            told.unwrap_or_else(|_| panic!("the story with {local} did not end"));
        }
    });
}

fn in_the_lab<F: Future<Output = ()>>(story: impl Fn(Host, IpAddr) -> F) {
    towline_lab::run(1, async |world| {
        let lan = world.lan();
        let host = world.host("host");
        host.attach(lan, towline_lab::Link::ethernet());
        for local in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), host.ipv4(), host.ipv6()] {
            let told = timeout(PATIENCE, story(Arc::new(host.clone()), local)).await;
            told.unwrap_or_else(|_| panic!("the story with {local} did not end\n{}", world.trace()));
        }
    });
}

stories! {
    datagrams_travel_whole,
    an_address_is_taken_once,
    a_shared_address_is_taken_by_all_who_share,
    foreign_addresses_cannot_be_bound,
    families_do_not_mix,
    long_datagrams_are_refused_or_cut,
    streams_carry_bytes_in_order_both_ways,
    vectored_writes_keep_their_order,
    one_direction_ends_while_the_other_goes_on,
    writing_after_the_end_fails,
    a_closed_port_refuses,
    a_dropped_listener_refuses_and_resets,
    dropping_unread_data_resets,
    a_writer_waits_for_its_reader,
    a_listener_on_any_address_accepts_on_each,
    connecting_from_a_chosen_port,
    loopback_is_the_first_interface,
    addresses_resolve_to_themselves,
    randomness_does_not_repeat,
    offloaded_work_returns_its_result,
}

async fn pair(net: &Host, local: IpAddr) -> (Box<dyn TcpStream>, Box<dyn TcpStream>) {
    let mut listener = net.listen_tcp((local, 0).into()).unwrap();
    let to = listener.local_addr();
    let (ours, theirs) = tokio::join!(net.connect_tcp(to, TcpConnect::default()), listener.accept());
    (ours.unwrap(), theirs.unwrap())
}

fn any(of: IpAddr) -> IpAddr {
    if of.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

async fn datagrams_travel_whole(net: Host, local: IpAddr) {
    let one = net.bind_udp(&UdpBind::new((local, 0).into())).unwrap();
    let other = net.bind_udp(&UdpBind::new((local, 0).into())).unwrap();
    assert_ne!(one.local_addr().port(), 0);
    assert_eq!(one.local_addr().ip(), local);
    one.send(b"first", other.local_addr()).await.unwrap();
    one.try_send(b"", other.local_addr()).unwrap();
    one.try_send(&[7; 1400], other.local_addr()).unwrap();
    let mut buf = [0; 2048];
    let got = other.recv(&mut buf).await.unwrap();
    assert_eq!((&buf[..got.len], got.from), (&b"first"[..], one.local_addr()));
    assert_eq!(other.recv(&mut buf).await.unwrap().len, 0);
    assert_eq!(other.recv(&mut buf).await.unwrap().len, 1400);
}

async fn an_address_is_taken_once(net: Host, local: IpAddr) {
    let udp = net.bind_udp(&UdpBind::new((local, 0).into())).unwrap();
    let again = net.bind_udp(&UdpBind::new(udp.local_addr())).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AddrInUse);
    let on_any = SocketAddr::new(any(local), udp.local_addr().port());
    assert_eq!(net.bind_udp(&UdpBind::new(on_any)).unwrap_err().kind(), ErrorKind::AddrInUse);
    let tcp = net.listen_tcp((local, 0).into()).unwrap();
    assert_eq!(net.listen_tcp(tcp.local_addr()).unwrap_err().kind(), ErrorKind::AddrInUse);
    let addr = tcp.local_addr();
    drop(tcp);
    drop(net.listen_tcp(addr).unwrap());
}

async fn a_shared_address_is_taken_by_all_who_share(net: Host, local: IpAddr) {
    let shared = |addr| UdpBind { shared: true, ..UdpBind::new(addr) };
    let one = net.bind_udp(&shared((local, 0).into())).unwrap();
    let _other = net.bind_udp(&shared(one.local_addr())).unwrap();
    let alone = net.bind_udp(&UdpBind::new(one.local_addr())).unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::AddrInUse);
}

async fn foreign_addresses_cannot_be_bound(net: Host, local: IpAddr) {
    let foreign: IpAddr = match local {
        IpAddr::V4(_) => Ipv4Addr::new(203, 0, 113, 77).into(),
        IpAddr::V6(_) => "2001:db8::77".parse().unwrap(),
    };
    let error = net.bind_udp(&UdpBind::new((foreign, 0).into())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    let error = net.listen_tcp((foreign, 0).into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
}

async fn families_do_not_mix(net: Host, local: IpAddr) {
    let of_ours = net.bind_udp(&UdpBind::new((any(local), 0).into())).unwrap();
    let other: IpAddr = if local.is_ipv6() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    // The same port is free in the other family, since a socket has only one.
    let port = of_ours.local_addr().port();
    drop(net.bind_udp(&UdpBind::new((any(other), port).into())).unwrap());
    assert!(of_ours.try_send(b"x", (other, port).into()).is_err());
}

async fn long_datagrams_are_refused_or_cut(net: Host, local: IpAddr) {
    let one = net.bind_udp(&UdpBind::new((local, 0).into())).unwrap();
    assert!(one.try_send(&vec![0; 65_536], one.local_addr()).is_err());
    one.try_send(&[1; 100], one.local_addr()).unwrap();
    let mut small = [0; 10];
    assert_eq!(one.recv(&mut small).await.unwrap().len, 10);
    one.try_send(b"next", one.local_addr()).unwrap();
    assert_eq!(one.recv(&mut small).await.unwrap().len, 4);
}

async fn streams_carry_bytes_in_order_both_ways(net: Host, local: IpAddr) {
    let (mut ours, theirs) = pair(&net, local).await;
    assert_eq!(ours.local_addr(), theirs.peer_addr());
    assert_eq!(ours.peer_addr(), theirs.local_addr());
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(theirs);
    let echo = async {
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let talk = async {
        let (mut read, mut write) = tokio::io::split(&mut ours);
        let mut got = Vec::new();
        let send = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let ((), len) = tokio::join!(send, read.read_to_end(&mut got));
        assert_eq!(len.unwrap(), sent.len());
        assert!(got == sent);
    };
    tokio::join!(echo, talk);
}

async fn vectored_writes_keep_their_order(net: Host, local: IpAddr) {
    let (mut ours, mut theirs) = pair(&net, local).await;
    assert!(ours.is_write_vectored());
    let parts = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"two")];
    assert_eq!(ours.write_vectored(&parts).await.unwrap(), 6);
    let mut got = [0; 6];
    theirs.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"onetwo");
}

async fn one_direction_ends_while_the_other_goes_on(net: Host, local: IpAddr) {
    let (mut ours, mut theirs) = pair(&net, local).await;
    ours.write_all(b"question").await.unwrap();
    ours.shutdown().await.unwrap();
    let mut got = Vec::new();
    theirs.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"question");
    theirs.write_all(b"answer").await.unwrap();
    drop(theirs);
    got.clear();
    ours.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"answer");
}

async fn writing_after_the_end_fails(net: Host, local: IpAddr) {
    let (mut ours, _theirs) = pair(&net, local).await;
    ours.shutdown().await.unwrap();
    assert_eq!(ours.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

async fn a_closed_port_refuses(net: Host, local: IpAddr) {
    let listener = net.listen_tcp((local, 0).into()).unwrap();
    let to = listener.local_addr();
    drop(listener);
    let error = net.connect_tcp(to, TcpConnect::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

async fn a_dropped_listener_refuses_and_resets(net: Host, local: IpAddr) {
    let listener = net.listen_tcp((local, 0).into()).unwrap();
    let mut waiting =
        net.connect_tcp(listener.local_addr(), TcpConnect::default()).await.expect("the system accepts");
    drop(listener);
    let error = waiting.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

async fn dropping_unread_data_resets(net: Host, local: IpAddr) {
    let (mut ours, mut theirs) = pair(&net, local).await;
    ours.write_all(b"two words").await.unwrap();
    let mut one = [0; 3];
    theirs.read_exact(&mut one).await.unwrap();
    drop(theirs);
    let error = ours.read(&mut one).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

async fn a_writer_waits_for_its_reader(net: Host, local: IpAddr) {
    let (mut ours, mut theirs) = pair(&net, local).await;
    let chunk = vec![1; 64 << 10];
    let mut written = 0;
    // More than the buffers of the machine hold, which grow by themselves.
    while let Ok(len) = timeout(Duration::from_millis(300), ours.write(&chunk)).await {
        written += len.unwrap();
        assert!(written < 256 << 20, "nothing bounds what is written");
    }
    let mut read = 0;
    let mut buf = vec![0; 64 << 10];
    while read < written {
        read += theirs.read(&mut buf).await.unwrap();
    }
    ours.write_all(b"x").await.unwrap();
    assert_eq!(theirs.read(&mut buf).await.unwrap(), 1);
}

async fn a_listener_on_any_address_accepts_on_each(net: Host, local: IpAddr) {
    let mut listener = net.listen_tcp((any(local), 0).into()).unwrap();
    let to = SocketAddr::new(local, listener.local_addr().port());
    let (ours, theirs) = tokio::join!(net.connect_tcp(to, TcpConnect::default()), listener.accept());
    assert_eq!(ours.unwrap().peer_addr(), to);
    assert_eq!(theirs.unwrap().local_addr(), to);
}

async fn connecting_from_a_chosen_port(net: Host, local: IpAddr) {
    // A port that was free a moment ago.
    let from = net.bind_udp(&UdpBind::new((local, 0).into())).unwrap().local_addr();
    let mut listener = net.listen_tcp((local, 0).into()).unwrap();
    let options = TcpConnect { local: Some(from), ..TcpConnect::default() };
    let (ours, theirs) = tokio::join!(net.connect_tcp(listener.local_addr(), options), listener.accept());
    assert_eq!(ours.unwrap().local_addr(), from);
    assert_eq!(theirs.unwrap().peer_addr(), from);
}

async fn loopback_is_the_first_interface(net: Host, _local: IpAddr) {
    let interfaces = net.interfaces().unwrap();
    assert!(interfaces.is_sorted_by_key(|interface| interface.index));
    let loopback = interfaces.iter().find(|interface| interface.loopback).unwrap();
    assert!(loopback.up && loopback.index > 0);
    let v4 = loopback.addresses.iter().find(|own| own.addr == IpAddr::from(Ipv4Addr::LOCALHOST)).unwrap();
    assert_eq!(v4.prefix, 8);
}

async fn addresses_resolve_to_themselves(net: Host, local: IpAddr) {
    let addr = SocketAddr::new(local, 4222);
    assert_eq!(net.resolve(&addr.to_string()).await.unwrap(), [addr]);
    assert!(net.resolve("no port").await.is_err());
    assert!(net.resolve("name.invalid:1").await.is_err());
}

async fn randomness_does_not_repeat(net: Host, _local: IpAddr) {
    assert_ne!(net.seed(), net.seed());
    assert!(net.unix_time() > Duration::from_hours(24 * 365 * 50));
}

async fn offloaded_work_returns_its_result(net: Host, _local: IpAddr) {
    assert_eq!(net.offload(|| 6 * 7).await, 42);
}
