//! Connections that begin in bad weather, and how they end.

use std::time::Duration;

use towline_channeler::{Capabilities, Code, Config, ConnectionError, Event, Reason, WriteError};

use crate::support::{
    figures::{milliseconds, percentile},
    way::{Path, Reorder},
    world::World,
    writer::Plan,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// How long until both sides are connected, and one of them got a byte; none if that never happened.
fn time_to_connect(seed: u64, path: &Path) -> Option<Duration> {
    let mut world = World::new(seed, Config::default());
    world.network.add_datagrams(path.clone(), path.clone());
    world.connect(0);
    let connected = |world: &World| {
        world.hosts.iter().all(|host| host.events.iter().any(|(_, event)| *event == Event::Connected))
    };
    world.run_until(20 * SECOND, |world| connected(world)).then(|| world.time())
}

#[test]
fn a_clear_path_takes_one_round_trip_and_a_half_at_most() {
    let took = time_to_connect(1, &Path::rtt(50)).unwrap();
    println!("connected on both sides after {} ms of a round trip of 50", milliseconds(took));
    assert!(took <= 76 * MS);
}

#[test]
fn loss_delays_a_connection_and_does_not_prevent_it() {
    for (loss, at_most) in [(0.05, 1), (0.2, 2), (0.4, 6)] {
        let path = Path { duplicate: 0.1, ..Path::rtt(50).with_loss(loss) };
        let reorder = Some(Reorder { share: 0.2, by: 30 * MS });
        let path = Path { reorder, ..path };
        let took: Vec<_> = (100..140).filter_map(|seed| time_to_connect(seed, &path)).collect();
        let [median, worst] = [0.5, 0.95].map(|share| percentile(&took, share));
        println!(
            "{} % loss: {} of 40 connect, median {} ms, p95 {} ms",
            loss * 100.0,
            took.len(),
            milliseconds(median),
            milliseconds(worst)
        );
        assert!(took.len() >= 39);
        assert!(worst <= at_most * SECOND, "{worst:?}");
    }
}

#[test]
fn damaged_packets_are_as_good_as_lost() {
    let path = Path { corrupt: 0.3, ..Path::rtt(50) };
    let connected = (200..220).filter(|seed| time_to_connect(*seed, &path).is_some()).count();
    assert_eq!(connected, 20);
}

#[test]
fn only_small_packets_pass() {
    let path = Path { mtu: 1200, ..Path::rtt(50) };
    assert!(time_to_connect(2, &path).is_some());
}

#[test]
fn nobody_answers() {
    let mut world = World::new(3, Config::default());
    world.network.add_datagrams(Path { up: false, ..Path::default() }, Path::default());
    world.connect(0);
    world.run(30 * SECOND);
    assert_eq!(world.hosts[0].closed, Some(ConnectionError::NoAnswer));
    let (at, _) = world.hosts[0].events.last().unwrap();
    assert_eq!(*at, Config::default().handshake_timeout);
    let sent = world.network.way(0, 0).tally.sent;
    assert!((5..60).contains(&sent), "{sent} packets in ten seconds");
    assert_eq!(world.hosts[0].endpoint.connections(), 0);
}

#[test]
fn a_close_is_heard() {
    for loss in [0.0, 0.3] {
        let mut world = World::on(4, &Path::rtt(40));
        world.network.each_way(0, |path| path.loss = loss);
        let now = world.now;
        let channel = world.hosts[0].start(now, Capabilities::default(), Plan::Bulk(u64::MAX));
        world.run(SECOND);
        let now = world.now;
        world.hosts[0].connection().close(now, Code(300), "enough");
        let expected = ConnectionError::ClosedByPeer { code: Code(300), text: "enough".into() };
        let heard = world.run_until(2 * SECOND, |world| world.hosts[1].closed.is_some());
        assert!(heard);
        assert_eq!(world.hosts[1].closed, Some(expected));
        assert_eq!(world.hosts[0].closed, Some(ConnectionError::ClosedHere));
        let now = world.now;
        for host in &mut world.hosts {
            let ended = WriteError::Ended(Reason::Connection);
            assert_eq!(host.connection().write(now, channel, b"late"), Err(ended));
        }
        world.run(10 * SECOND);
        for host in &mut world.hosts {
            assert!(host.connection().is_drained());
            assert_eq!(host.endpoint.connections(), 0);
        }
    }
}

#[test]
fn silence_ends_a_connection() {
    let mut world = World::on(5, &Path::rtt(40));
    world.run(60 * SECOND);
    for host in &world.hosts {
        assert_eq!(host.closed, None, "an idle connection is kept alive");
    }
    world.network.set_up(0, false);
    let began = world.time();
    world.run(40 * SECOND);
    for host in &world.hosts {
        assert_eq!(host.closed, Some(ConnectionError::TimedOut));
        let after = host.events.last().unwrap().0 - began;
        println!("host {} gives up {} ms after the silence began", host.host, milliseconds(after));
        // Thirty seconds after it last heard something, or last began to say something after that.
        assert!((10 * SECOND..=46 * SECOND).contains(&after), "{after:?}");
    }
}

#[test]
fn an_idle_connection_sends_little() {
    let mut world = World::on(6, &Path::rtt(40));
    world.run(10 * SECOND);
    let before = world.network.way(0, 0).tally.sent + world.network.way(0, 1).tally.sent;
    world.run(300 * SECOND);
    let sent = world.network.way(0, 0).tally.sent + world.network.way(0, 1).tally.sent - before;
    println!("five idle minutes: {sent} packets");
    assert!(sent <= 100, "{sent}");
    assert!(world.hosts.iter().all(|host| host.closed.is_none()));
}
