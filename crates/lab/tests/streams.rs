//! TCP through links.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{io::ErrorKind, net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use towline_lab::{Host, Link, Network, Options, World, run};
use towline_net::{Net, TcpConnect, TcpListener, TcpStream, now};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
/// The interface of a host with one.
const LINE: u32 = 2;

struct Pair {
    world: World,
    network: Network,
    one: Host,
    other: Host,
    listener: Box<dyn TcpListener>,
    ours: Box<dyn TcpStream>,
    theirs: Box<dyn TcpStream>,
}

fn hosts(world: &World, link: &Link) -> (Network, Host, Host) {
    let internet = world.internet();
    let (one, other) = (world.host("one"), world.host("other"));
    one.attach(internet, link.clone());
    other.attach(internet, Link::delay(Duration::ZERO));
    (internet, one, other)
}

async fn connected(world: World, link: Link, address: impl Fn(&Host) -> IpAddr) -> Pair {
    let (network, one, other) = hosts(&world, &link);
    let mut listener = other.listen_tcp((address(&other), 0).into()).unwrap();
    let connecting = one.connect_tcp(listener.local_addr(), TcpConnect::default());
    let (ours, theirs) = tokio::join!(connecting, listener.accept());
    Pair { world, network, one, other, ours: ours.unwrap(), theirs: theirs.unwrap(), listener }
}

/// Moves this many bytes and says how long it took until the last had arrived.
async fn transfer(pair: &mut Pair, len: usize) -> Duration {
    let start = now();
    let mut got = vec![0; len];
    let data: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
    let (sent, received) = tokio::join!(pair.ours.write_all(&data), pair.theirs.read_exact(&mut got));
    sent.unwrap();
    received.unwrap();
    assert!(got == data);
    now() - start
}

#[test]
fn connecting_takes_a_round_trip() {
    run(1, async |world| {
        let start = now();
        let _pair = connected(world, Link::delay(20 * MS), Host::ipv4).await;
        // The other end knows half a round trip later.
        assert_eq!(now() - start, 60 * MS);
    });
}

#[test]
fn throughput_is_the_rate() {
    for (rate, latency) in [(125_000, 40), (1_000_000, 10), (10_000_000, 25)] {
        run(1, async |world| {
            let link = Link { rate: Some(rate), ..Link::delay(latency * MS) };
            let mut pair = connected(world, link, Host::ipv4).await;
            let len = 5 * rate as usize;
            let took = transfer(&mut pair, len).await.as_secs_f64();
            // 40 bytes of headers for 1460.
            let ideal = len as f64 * 1500.0 / 1460.0 / rate as f64;
            assert!(took >= ideal && took < ideal * 1.06, "{rate} B/s: {took} s instead of {ideal} s");
        });
    }
}

#[test]
fn throughput_without_a_rate_is_the_window_per_round_trip() {
    run(1, async |world| {
        let mut pair = connected(world, Link::delay(50 * MS), Host::ipv6).await;
        transfer(&mut pair, 10 << 20).await;
        let took = transfer(&mut pair, 20 << 20).await;
        // 1 MiB of buffer per 100 ms.
        assert!((19 * 100 * MS..23 * 100 * MS).contains(&took), "{took:?}");
    });
}

#[test]
fn loss_costs_time_and_not_bytes() {
    let time = |loss, len, seed| {
        run(seed, async |world| {
            let link = Link { loss, rate: Some(1_000_000), ..Link::delay(20 * MS) };
            let mut pair = connected(world, link, Host::ipv4).await;
            transfer(&mut pair, len).await
        })
    };
    let clean = time(0.0, 2_000_000, 1);
    for seed in 1..6 {
        let lossy = time(0.02, 2_000_000, seed);
        assert!(lossy > clean && lossy < 8 * clean, "{lossy:?} instead of {clean:?}");
        assert!(time(0.3, 100_000, seed) < 120 * S);
    }
}

#[test]
fn reordering_loses_nothing() {
    run(1, async |world| {
        let link = Link { jitter: 5 * MS, reorder: true, loss: 0.01, ..Link::delay(10 * MS) };
        let mut pair = connected(world, link, Host::ipv4).await;
        transfer(&mut pair, 3_000_000).await;
    });
}

#[test]
fn a_lost_last_segment_is_sent_again_after_the_timeout() {
    run(1, async |world| {
        let mut pair = connected(world, Link::delay(10 * MS), Host::ipv4).await;
        transfer(&mut pair, 100_000).await;
        pair.one.set_outage(LINE, true);
        pair.ours.write_all(b"x").await.unwrap();
        sleep(100 * MS).await;
        pair.one.set_outage(LINE, false);
        let start = now();
        pair.theirs.read_exact(&mut [0]).await.unwrap();
        assert!((110 * MS..150 * MS).contains(&(now() - start)), "{:?}", now() - start);
    });
}

/// Without jitter the round trip shows no deviation, and an acknowledgement must not count as late for that.
#[test]
fn a_long_way_is_only_slow() {
    run(1, async |world| {
        let mut pair = connected(world, Link::delay(400 * MS), Host::ipv4).await;
        let took = transfer(&mut pair, 1_000_000).await;
        assert!(took < 8 * S, "{took:?}");
    });
}

#[test]
fn a_writer_without_a_reader_is_bounded() {
    let options = Options { tcp_buffer: 100_000, ..Options::new(1) };
    let told = options.run(async |world| {
        let mut pair = connected(world, Link::delay(10 * MS), Host::ipv4).await;
        let mut written = 0;
        while let Ok(len) = timeout(10 * S, pair.ours.write(&[1; 5000])).await {
            written += len.unwrap();
        }
        // One buffer at each end.
        assert_eq!(written, 200_000);
        // A minute later the peer, which is alive but does not read, is still connected to.
        sleep(60 * S).await;
        let mut got = vec![0; written];
        pair.theirs.read_exact(&mut got).await.unwrap();
        transfer(&mut pair, 500_000).await;
    });
    told.unwrap();
}

#[test]
fn an_outage_stalls_and_heals() {
    run(1, async |world| {
        let mut pair = connected(world, Link::delay(10 * MS), Host::ipv4).await;
        pair.one.set_outage(LINE, true);
        pair.ours.write_all(b"late").await.unwrap();
        let mut got = [0; 4];
        assert!(timeout(20 * S, pair.theirs.read_exact(&mut got)).await.is_err());
        pair.one.set_outage(LINE, false);
        timeout(6 * S, pair.theirs.read_exact(&mut got)).await.unwrap().unwrap();
        assert_eq!(&got, b"late");
    });
}

#[test]
fn a_long_outage_ends_both_sides() {
    run(1, async |world| {
        let mut pair = connected(world, Link::delay(10 * MS), Host::ipv4).await;
        pair.one.set_outage(LINE, true);
        pair.ours.write_all(b"late").await.unwrap();
        let start = now();
        let error = pair.ours.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!((30 * S..36 * S).contains(&(now() - start)), "{:?}", now() - start);
        // The side that only listens finds out by its keep-alive.
        let error = pair.theirs.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(now() - start < 60 * S);
        drop((pair.ours, pair.theirs));
        assert_eq!((pair.one.connections(), pair.other.connections()), (0, 0));
    });
}

#[test]
fn an_idle_connection_stays() {
    run(1, async |world| {
        let mut pair = connected(world, Link::mobile(), Host::ipv4).await;
        sleep(2 * 3600 * S).await;
        transfer(&mut pair, 1000).await;
    });
}

#[test]
fn connecting_to_silence_times_out() {
    run(1, async |world| {
        let (_, one, other) = hosts(&world, &Link::delay(10 * MS));
        other.set_outage(LINE, true);
        let start = now();
        let options = TcpConnect { timeout: 4 * S, ..TcpConnect::default() };
        let error = one.connect_tcp((other.ipv4(), 1).into(), options).await.unwrap_err();
        assert_eq!((error.kind(), now() - start), (ErrorKind::TimedOut, 4 * S));
        assert_eq!(one.connections(), 0);
    });
}

#[test]
fn an_unknown_address_is_silent_on_the_internet_and_unreachable_at_home() {
    run(1, async |world| {
        let (_, one, _) = hosts(&world, &Link::delay(10 * MS));
        let nobody = ([45, 9, 9, 9], 1).into();
        let error = one.connect_tcp(nobody, TcpConnect::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);

        let lan = world.lan();
        let host = world.host("home");
        host.attach(lan, Link::ethernet());
        let IpAddr::V4(own) = host.ipv4() else { panic!("asked for IPv4") };
        let [a, b, c, _] = own.octets();
        let start = now();
        let error = host.connect_tcp(([a, b, c, 200], 1).into(), TcpConnect::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HostUnreachable);
        assert!(now() - start < 4 * S);
        let error = host.connect_tcp(nobody, TcpConnect::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    });
}

#[test]
fn a_crash_is_silent_until_the_host_is_back() {
    run(1, async |world| {
        let mut pair = connected(world, Link::delay(10 * MS), Host::ipv4).await;
        pair.other.crash();
        let dead = pair.theirs.write(b"x").await.unwrap_err();
        assert_eq!(dead.kind(), ErrorKind::BrokenPipe);
        assert!(pair.listener.accept().await.is_err());
        assert!(pair.other.listen_tcp((pair.other.ipv4(), 0).into()).is_err());
        pair.ours.write_all(b"anybody?").await.unwrap();
        assert!(timeout(5 * S, pair.ours.read(&mut [0])).await.is_err());
        pair.other.boot();
        // The next repetition meets a host that knows nothing of it.
        let error = timeout(6 * S, pair.ours.read(&mut [0])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        drop(pair.other.listen_tcp(pair.listener.local_addr()).unwrap());
    });
}

#[test]
fn a_partition_separates_and_heals() {
    run(1, async |world| {
        let mut pair = connected(world, Link::delay(10 * MS), Host::ipv4).await;
        pair.world.partition(pair.network, &[pair.one.node()]);
        pair.ours.write_all(b"over").await.unwrap();
        let mut got = [0; 4];
        assert!(timeout(10 * S, pair.theirs.read_exact(&mut got)).await.is_err());
        let to = pair.listener.local_addr();
        assert!(pair.one.connect_tcp(to, TcpConnect::default()).await.is_err());
        pair.world.heal(pair.network);
        timeout(6 * S, pair.theirs.read_exact(&mut got)).await.unwrap().unwrap();
        transfer(&mut pair, 1000).await;
    });
}

#[test]
fn both_may_ask_at_once() {
    run(1, async |world| {
        let (_, one, other) = hosts(&world, &Link::delay(10 * MS));
        let (a, b) = ((one.ipv4(), 700).into(), (other.ipv4(), 800).into());
        let from = |local| TcpConnect { local: Some(local), ..TcpConnect::default() };
        let (ours, theirs) = tokio::join!(one.connect_tcp(b, from(a)), other.connect_tcp(a, from(b)));
        let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
        ours.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        theirs.read_exact(&mut got).await.unwrap();
    });
}

#[test]
fn nothing_is_left_of_closed_connections() {
    run(1, async |world| {
        let Pair { one, other, mut ours, mut theirs, listener, .. } =
            connected(world, Link { loss: 0.2, ..Link::delay(10 * MS) }, Host::ipv4).await;
        ours.write_all(&vec![1; 100_000]).await.unwrap();
        drop(ours);
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 100_000);
        drop(theirs);
        sleep(90 * S).await;
        assert_eq!((one.connections(), other.connections()), (0, 0));

        // Given up before it was open, and never accepted.
        let to = listener.local_addr();
        let attempt = one.connect_tcp(to, TcpConnect::default());
        assert!(timeout(5 * MS, attempt).await.is_err());
        let _unaccepted = one.connect_tcp(to, TcpConnect::default()).await.unwrap();
        drop(listener);
        sleep(90 * S).await;
        assert_eq!(other.connections(), 0);
    });
}

#[test]
fn a_flood_of_attempts_is_bounded() {
    run(1, async |world| {
        let (_, one, other) = hosts(&world, &Link::delay(MS));
        let listener = other.listen_tcp((other.ipv4(), 80).into()).unwrap();
        let options = TcpConnect { timeout: 3 * S, ..TcpConnect::default() };
        let attempts = (0..300).map(|_| one.connect_tcp(listener.local_addr(), options));
        let done = futures_util::future::join_all(attempts).await;
        assert_eq!(done.iter().filter(|attempt| attempt.is_ok()).count(), 128);
        assert_eq!(other.connections(), 128);
    });
}
