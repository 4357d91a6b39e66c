//! What links do to datagrams.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{net::SocketAddr, time::Duration};

use tokio::time::timeout;
use towline_lab::{Drop, Event, Host, Link, Record, World, run};
use towline_net::{Net, UdpBind, UdpSocket, now};

const MS: Duration = Duration::from_millis(1);

/// Two hosts on an internet: the first by `up`, the second by a link that does nothing.
fn pair(world: &World, up: Link) -> (Host, Host) {
    let internet = world.internet();
    let (one, other) = (world.host("one"), world.host("other"));
    one.attach_by(internet, up, Link::delay(Duration::ZERO));
    other.attach(internet, Link::delay(Duration::ZERO));
    (one, other)
}

fn bind(host: &Host) -> (Box<dyn UdpSocket>, SocketAddr) {
    let socket = host.bind_udp(&UdpBind { buffer: 1 << 30, ..UdpBind::any_v4() }).unwrap();
    let addr = (host.ipv4(), socket.local_addr().port()).into();
    (socket, addr)
}

/// Datagrams that arrive within a second, by their first two bytes, and when each did.
async fn drain(socket: &dyn UdpSocket) -> Vec<(u16, Duration)> {
    let start = now();
    let mut got = Vec::new();
    let mut buf = vec![0; 65_536];
    while let Ok(received) = timeout(Duration::from_secs(1), socket.recv(&mut buf)).await {
        assert!(received.unwrap().len >= 2);
        got.push((u16::from_be_bytes([buf[0], buf[1]]), now() - start));
    }
    got
}

fn burst(socket: &dyn UdpSocket, to: SocketAddr, count: u16, len: usize) {
    for number in 0..count {
        let mut data = vec![0; len];
        data[..2].copy_from_slice(&number.to_be_bytes());
        socket.try_send(&data, to).unwrap();
    }
}

fn drops(world: &World, why: Drop) -> usize {
    let trace = world.trace();
    let is =
        |record: &&Record| matches!(record, Record::Packet { event: Event::Dropped(is), .. } if *is == why);
    trace.timeline().filter(is).count()
}

#[test]
fn latency_is_exact_to_the_nanosecond() {
    let latency = Duration::from_nanos(10_234_567);
    run(1, async |world| {
        let (one, other) = pair(&world, Link::delay(latency));
        let ((from, _), (at, to)) = (bind(&one), bind(&other));
        for wait in [0, 1, 7] {
            tokio::time::sleep(wait * MS).await;
            let sent = now();
            from.try_send(b"hi", to).unwrap();
            at.recv(&mut [0; 2]).await.unwrap();
            assert_eq!(now() - sent, latency);
        }
    });
}

#[test]
fn timers_fire_on_time_between_packets() {
    run(1, async |world| {
        let (one, other) = pair(&world, Link::delay(Duration::from_micros(300)));
        let ((from, _), (at, to)) = (bind(&one), bind(&other));
        let echo = tokio::spawn(async move {
            let mut buf = [0; 2];
            loop {
                at.recv(&mut buf).await.unwrap();
                from.try_send(b"hi", to).unwrap();
            }
        });
        let (first, _) = bind(&one);
        first.try_send(b"hi", to).unwrap();
        for _ in 0..100 {
            let start = now();
            tokio::time::sleep(3 * MS).await;
            // Tokio rounds up to whole milliseconds, and the lab adds nothing to that.
            assert!(now() - start < 4 * MS);
            assert_eq!(world.elapsed().subsec_nanos() % 1_000_000, 0);
        }
        echo.abort();
    });
}

#[test]
fn jitter_delays_within_its_bound_and_keeps_order() {
    run(1, async |world| {
        let (one, other) = pair(&world, Link { jitter: 20 * MS, ..Link::delay(10 * MS) });
        let ((from, _), (at, to)) = (bind(&one), bind(&other));
        let mut delays = Vec::new();
        for _ in 0..200 {
            tokio::time::sleep(50 * MS).await;
            let sent = now();
            from.try_send(b"hi", to).unwrap();
            at.recv(&mut [0; 2]).await.unwrap();
            delays.push(now() - sent);
        }
        delays.sort_unstable();
        assert!(delays[0] >= 10 * MS && delays[199] <= 30 * MS);
        assert!(delays[20] < 14 * MS && delays[180] > 26 * MS, "evenly distributed");
        burst(&*from, to, 100, 2);
        assert!(drain(&*at).await.is_sorted_by_key(|(number, _)| *number));
    });
}

#[test]
fn reordering_is_by_request() {
    run(1, async |world| {
        let (one, other) = pair(&world, Link { jitter: 20 * MS, reorder: true, ..Link::delay(10 * MS) });
        let ((from, _), (at, to)) = (bind(&one), bind(&other));
        burst(&*from, to, 100, 2);
        let got = drain(&*at).await;
        assert_eq!(got.len(), 100);
        assert!(!got.is_sorted_by_key(|(number, _)| *number));
    });
}

#[test]
fn loss_is_as_frequent_as_configured() {
    run(1, async |world| {
        let (one, other) = pair(&world, Link { loss: 0.1, ..Link::delay(MS) });
        let ((from, _), (at, to)) = (bind(&one), bind(&other));
        burst(&*from, to, 10_000, 2);
        let got = drain(&*at).await.len();
        // Four standard deviations of 30.
        assert!((8880..=9120).contains(&got), "{got} of 10000 arrived");
    });
}

#[test]
fn a_rate_spaces_datagrams_exactly() {
    run(1, async |world| {
        let (one, other) = pair(&world, Link { rate: Some(1_000_000), ..Link::delay(5 * MS) });
        let ((from, _), (at, to)) = (bind(&one), bind(&other));
        // 972 bytes and 28 of headers take a millisecond.
        burst(&*from, to, 50, 972);
        let got = drain(&*at).await;
        assert_eq!(got.len(), 50);
        for (number, arrival) in got {
            assert_eq!(arrival, 5 * MS + u32::from(number + 1) * MS);
        }
    });
}

#[test]
fn a_full_queue_drops_the_newest() {
    run(1, async |world| {
        let link = Link { rate: Some(1_000_000), queue: 10_000, ..Link::delay(MS) };
        let (one, other) = pair(&world, link);
        let ((from, _), (at, to)) = (bind(&one), bind(&other));
        burst(&*from, to, 50, 972);
        let got = drain(&*at).await;
        assert_eq!(got.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!(drops(&world, Drop::Queue), 40);
    });
}

#[test]
fn long_datagrams_are_cut_at_home_and_dropped_abroad() {
    run(1, async |world| {
        let lossy = Link { loss: 0.1, ..Link::delay(MS) };
        let (one, other) = pair(&world, lossy);
        let ((from, _), (at, to)) = (bind(&one), bind(&other));
        burst(&*from, to, 1000, 14_000);
        // Ten fragments must all arrive: 0.9 to the power of ten is 0.35.
        let got = drain(&*at).await.len();
        assert!((290..=410).contains(&got), "{got} of 1000 arrived");

        let narrow = Link { mtu: 1280, ..Link::delay(MS) };
        let (one, other) = pair(&world, Link::delay(MS));
        other.set_link(2, narrow.clone(), narrow);
        let ((from, _), (at, to)) = (bind(&one), bind(&other));
        from.try_send(&[0; 1252], to).unwrap();
        from.try_send(&[1; 1253], to).unwrap();
        assert_eq!(drain(&*at).await.len(), 1);
        assert_eq!(drops(&world, Drop::TooLong), 1);
    });
}

#[test]
fn an_outage_loses_what_is_sent_meanwhile() {
    run(1, async |world| {
        let (one, other) = pair(&world, Link::delay(10 * MS));
        let ((from, _), (at, to)) = (bind(&one), bind(&other));
        burst(&*from, to, 1, 2);
        one.set_outage(2, true);
        burst(&*from, to, 5, 2);
        assert_eq!(drain(&*at).await.len(), 1, "what was on its way arrives");
        one.set_outage(2, false);
        burst(&*from, to, 1, 2);
        assert_eq!(drain(&*at).await.len(), 1);
        assert_eq!(drops(&world, Drop::Outage), 5);
    });
}

#[test]
fn a_full_socket_drops() {
    run(1, async |world| {
        let (one, other) = pair(&world, Link::delay(MS));
        let small = other.bind_udp(&UdpBind { buffer: 10_000, ..UdpBind::any_v4() }).unwrap();
        let (from, _) = bind(&one);
        burst(&*from, (other.ipv4(), small.local_addr().port()).into(), 100, 1000);
        tokio::time::sleep(10 * MS).await;
        let got = drain(&*small).await.len();
        assert_eq!(got, 7);
        assert_eq!(drops(&world, Drop::SocketFull), 93);
    });
}
