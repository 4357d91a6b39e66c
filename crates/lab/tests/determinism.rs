//! A seed makes a run, to the last packet.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use towline_lab::{Event, Link, Options, Plain, Record, RunError, Trace, World, run};
use towline_net::{Net, TcpConnect, UdpBind, now};

/// Twenty hosts at home and abroad that gossip by UDP and move data by TCP over bad lines, some of which fail.
async fn chaos(world: World) -> Trace {
    let internet = world.internet();
    let mut hosts = Vec::new();
    for number in 0..20 {
        let host = world.host(format!("host{number}"));
        if number % 3 == 0 {
            let home = world.lan();
            world.router(format!("router{number}"), home, internet, Link::dsl(), Plain);
            host.attach(home, Link::ethernet());
        } else {
            host.attach(internet, Link { loss: 0.02, reorder: true, ..Link::mobile() });
        }
        hosts.push(host);
    }
    let addresses: Vec<_> = hosts.iter().map(|host| (host.ipv4(), 4000).into()).collect();
    let mut tasks = Vec::new();
    for host in &hosts {
        let (host, addresses, world) = (host.clone(), addresses.clone(), world.clone());
        let udp = host.bind_udp(&UdpBind::new(([0, 0, 0, 0], 4000).into())).unwrap();
        let mut listener = host.listen_tcp(([0, 0, 0, 0], 4000).into()).unwrap();
        tasks.push(tokio::spawn(async move {
            loop {
                let Ok(mut stream) = listener.accept().await else { return };
                tokio::spawn(async move {
                    let mut got = Vec::new();
                    let _ = stream.read_to_end(&mut got).await;
                    let _ = stream.write_all(&got).await;
                });
            }
        }));
        tasks.push(tokio::spawn(async move {
            let mut buf = [0; 1500];
            loop {
                let pause = Duration::from_millis(u64::from(host.seed()[0]) + 1);
                let Ok(got) = timeout(pause, udp.recv(&mut buf)).await else {
                    let to = addresses[usize::from(host.seed()[0]) % addresses.len()];
                    let _ = udp.try_send(&host.seed(), to);
                    continue;
                };
                let Ok(got) = got else { return };
                if host.seed()[0] < 40 {
                    let mut stream = match host.connect_tcp(got.from, TcpConnect::default()).await {
                        Ok(stream) => stream,
                        Err(error) => {
                            world.note(error.to_string());
                            continue;
                        }
                    };
                    let _ = stream.write_all(&vec![1; 30_000]).await;
                    let _ = stream.shutdown().await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            }
        }));
    }
    sleep(Duration::from_secs(20)).await;
    hosts[1].set_outage(2, true);
    world.partition(internet, &[hosts[2].node(), hosts[4].node()]);
    hosts[5].crash();
    sleep(Duration::from_secs(20)).await;
    world.heal(internet);
    hosts[1].set_outage(2, false);
    hosts[7].readdress(2);
    sleep(Duration::from_secs(20)).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    world.trace()
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let (one, again, other) = (run(1, chaos), run(1, chaos), run(2, chaos));
    assert!(one.sent() > 10_000, "{} packets", one.sent());
    assert!(one.dropped() > 100);
    assert_eq!(one, again);
    assert_ne!(one.hash(), other.hash());
}

#[test]
fn the_clock_is_virtual_and_starts_where_it_is_told() {
    let day = Duration::from_hours(24);
    let unix_start = Duration::from_hours(480_000);
    let options = Options { unix_start, limit: 400 * day, ..Options::new(1) };
    let told = options.run(async |world| {
        let host = world.host("host");
        let start = now();
        sleep(365 * day).await;
        assert_eq!(now() - start, 365 * day);
        assert_eq!(world.elapsed(), 365 * day);
        assert_eq!(host.unix_time(), unix_start + 365 * day);
    });
    told.unwrap();
}

#[test]
fn waiting_for_what_never_comes_is_an_error() {
    let limit = Duration::from_mins(10);
    let told = Options { limit, ..Options::new(1) }.run(async |world| {
        let host = world.host("host");
        host.attach(world.internet(), Link::fibre());
        world.note("now we wait");
        let socket = host.bind_udp(&UdpBind::any_v4()).unwrap();
        let _ = socket.recv(&mut [0]).await;
    });
    let error = told.unwrap_err();
    assert!(
        matches!(&error, RunError::Limit { limit: is, last } if *is == limit && last.contains("now we wait"))
    );
    assert!(error.to_string().contains("600s"), "{error}");
}

#[test]
fn hosts_draw_different_lots_from_one_seed() {
    let draw = |seed| run(seed, async |world| [world.host("one").seed(), world.host("two").seed()]);
    let [one, two] = draw(1);
    assert_ne!(one, two);
    assert_eq!(draw(1), [one, two]);
    assert_ne!(draw(2)[0], one);
}

#[test]
fn the_timeline_reads_well_and_is_bounded() {
    let told = Options { timeline: 3, ..Options::new(1) }.run(async |world| {
        let internet = world.internet();
        let (one, two) = (world.host("one"), world.host("two"));
        one.attach(internet, Link::delay(Duration::from_millis(10)));
        two.attach(internet, Link::delay(Duration::from_micros(500)));
        let from = one.bind_udp(&UdpBind::any_v4()).unwrap();
        for _ in 0..5 {
            from.try_send(b"hello", (two.ipv4(), 9).into()).unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        world.trace()
    });
    let trace = told.unwrap();
    assert_eq!((trace.sent(), trace.arrived(), trace.dropped()), (5, 0, 5));
    let last: Vec<_> = trace.timeline().collect();
    assert_eq!(last.len(), 3);
    assert!(matches!(last[1], Record::Packet { event: Event::Sent, len: 5, .. }));
    let line = "     0.090500 udp         45.0.1.1:49152 -> 45.0.2.1:9 5 dropped: NoSocket";
    assert_eq!(trace.to_string().lines().last(), Some(line));
}
