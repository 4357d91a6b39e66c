//! What links and boxes do to packets beside losing them one by one.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{net::SocketAddr, time::Duration};

use tokio::time::{sleep, timeout};
use towline_lab::{
    Burst, Host, Link, NatBox, NatHandle, World, run,
    towline_nat::{Allocation, Config, Timeouts},
};
use towline_net::{Net, UdpBind, UdpSocket};

fn pair(world: &World, link: Link) -> (Box<dyn UdpSocket>, Box<dyn UdpSocket>, SocketAddr) {
    let internet = world.internet();
    let (a, b) = (world.host("a"), world.host("b"));
    a.attach(internet, Link::delay(Duration::from_millis(1)));
    b.attach_by(internet, Link::delay(Duration::from_millis(1)), link);
    let (from, to) = (a.bind_udp(&UdpBind::any_v4()).unwrap(), b.bind_udp(&UdpBind::any_v4()).unwrap());
    let addr = (b.ipv4(), to.local_addr().port()).into();
    (from, to, addr)
}

/// Numbers that arrive when 0 to `count` are sent, one a millisecond.
async fn arrivals(world: &World, link: Link, count: u16) -> Vec<u16> {
    let (from, to, addr) = pair(world, link);
    let mut numbers = Vec::new();
    let mut buf = [0; 2];
    for number in 0..count {
        from.send(&number.to_be_bytes(), addr).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    while let Ok(received) = timeout(Duration::from_millis(50), to.recv(&mut buf)).await {
        received.unwrap();
        numbers.push(u16::from_be_bytes(buf));
    }
    numbers
}

#[test]
fn bursts_lose_packets_in_a_row() {
    let begins = 0.01;
    let link = Link { burst: Some(Burst { begins, length: 8.0 }), ..Link::delay(Duration::ZERO) };
    let arrived = run(7, async |world| arrivals(&world, link, 6_000).await);
    let gaps: Vec<u16> =
        arrived.windows(2).map(|pair| pair[1] - pair[0] - 1).filter(|gap| *gap > 0).collect();
    let mean = gaps.iter().map(|gap| f64::from(*gap)).sum::<f64>() / gaps.len() as f64;
    assert!((6.0..10.0).contains(&mean), "{} gaps of {mean} packets on average", gaps.len());
    assert!((35..85).contains(&gaps.len()), "{} gaps", gaps.len());
}

#[test]
fn a_link_repeats_packets() {
    let link = Link { duplicate: 0.1, ..Link::delay(Duration::from_millis(3)) };
    let arrived = run(7, async |world| arrivals(&world, link, 2_000).await);
    let mut once = arrived.clone();
    once.dedup();
    assert_eq!(once, (0..2_000).collect::<Vec<_>>(), "all of them, in order");
    assert!((150..250).contains(&(arrived.len() - once.len())), "{} repeated", arrived.len() - once.len());
}

#[test]
fn what_must_not_be_cut_is_too_long() {
    run(3, async |world| {
        let internet = world.internet();
        let (a, b) = (world.host("a"), world.host("b"));
        a.attach(internet, Link { mtu: 1300, ..Link::fibre() });
        b.attach(internet, Link::fibre());
        let to = b.bind_udp(&UdpBind::any_v4()).unwrap();
        let addr = (b.ipv4(), to.local_addr().port()).into();
        let cut = a.bind_udp(&UdpBind::any_v4()).unwrap();
        let whole = a.bind_udp(&UdpBind { dont_fragment: true, ..UdpBind::any_v4() }).unwrap();
        let mut buf = [0; 2000];
        cut.send(&[1; 1400], addr).await.unwrap();
        assert_eq!(to.recv(&mut buf).await.unwrap().len, 1400);
        whole.send(&[2; 1400], addr).await.unwrap();
        whole.send(&[3; 1272], addr).await.unwrap();
        let received = to.recv(&mut buf).await.unwrap();
        assert_eq!((received.len, buf[0]), (1272, 3), "the longer one is lost");
    });
}

/// A host behind a NAT, and one on the internet.
fn behind(world: &World, timeout: Duration) -> (Host, Host, NatHandle) {
    let (internet, lan) = (world.internet(), world.lan());
    let timeouts = Timeouts { udp: timeout, ..Timeouts::linux() };
    let allocation = Allocation::Sequential { step: 1 };
    let config = Config { timeouts, allocation, inbound_refresh: false, ..Config::port_restricted_cone() };
    let (nat, handle) = NatBox::new(world, config);
    world.router("router", lan, internet, Link::fibre(), nat);
    let (inner, outer) = (world.host("inner"), world.host("outer"));
    inner.attach(lan, Link::ethernet());
    outer.attach(internet, Link::fibre());
    (inner, outer, handle)
}

#[test]
fn a_nat_keeps_and_forgets_its_mappings() {
    run(1, async |world| {
        let (inner, outer, nat) = behind(&world, Duration::from_secs(30));
        let from = inner.bind_udp(&UdpBind::any_v4()).unwrap();
        let to = outer.bind_udp(&UdpBind::any_v4()).unwrap();
        let stranger = outer.bind_udp(&UdpBind::any_v4()).unwrap();
        let addr = (outer.ipv4(), to.local_addr().port()).into();
        let mut buf = [0; 16];
        let mut ends = Vec::new();
        for pause in [0, 10, 29, 31] {
            sleep(Duration::from_secs(pause)).await;
            from.send(b"out", addr).await.unwrap();
            let seen = to.recv(&mut buf).await.unwrap().from;
            assert_ne!(seen.ip(), inner.ipv4());
            ends.push(seen);
            stranger.send(b"stranger", seen).await.unwrap();
            to.send(b"back", seen).await.unwrap();
            let back = from.recv(&mut buf).await.unwrap();
            assert_eq!(&buf[..back.len], b"back", "a stranger is not let in");
            assert_eq!(back.from, addr);
        }
        assert_eq!(ends[0], ends[2], "in use");
        assert_ne!(ends[2], ends[3], "timed out");
        assert_eq!(nat.mappings().len(), 1);

        nat.forget();
        assert!(nat.mappings().is_empty());
        to.send(b"nobody", ends[3]).await.unwrap();
        assert!(timeout(Duration::from_secs(1), from.recv(&mut buf)).await.is_err(), "nothing comes in");
        from.send(b"out", addr).await.unwrap();
        let seen = to.recv(&mut buf).await.unwrap().from;
        assert_ne!(seen, ends[3], "a new mapping");
    });
}

#[test]
fn tcp_passes_a_nat_and_a_link_that_repeats() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    run(1, async |world| {
        let (inner, outer, _) = behind(&world, Duration::from_secs(30));
        let interface = outer.interfaces().unwrap()[1].index;
        let bad =
            Link { duplicate: 0.05, burst: Some(Burst { begins: 0.002, length: 5.0 }), ..Link::fibre() };
        outer.set_link(interface, bad.clone(), bad);
        let mut listener = outer.listen_tcp((outer.ipv4(), 0).into()).unwrap();
        let addr = listener.local_addr();
        let served = tokio::spawn(async move {
            let mut stream = listener.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all
        });
        let mut stream = inner.connect_tcp(addr, towline_net::TcpConnect::default()).await.unwrap();
        let sent: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(served.await.unwrap() == sent);
    });
}
