//! Peers that lose their memory, and connections without a link.

use std::time::Duration;

use towline_channeler::{
    Capabilities, Config, ConnectionError, Endpoint, EndpointConfig, Handled, KeyOnly, Route,
};

use crate::support::{
    figures::milliseconds,
    program::UNIX_TIME,
    way::Path,
    world::{World, endpoint, key},
    writer::Plan,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// When this host heard the end, since then.
fn end(world: &World, host: usize, since: Duration) -> Duration {
    let last = world.hosts[host].events.last().unwrap();
    last.0 - since
}

fn steady(world: &mut World, host: usize) {
    let now = world.now;
    let plan = Plan::Records { count: 100_000, every: 10 * MS, sizes: 100..=300 };
    world.hosts[host].start(now, Capabilities::stream(), plan);
}

#[test]
fn a_peer_that_was_started_again_is_noticed_by_the_next_packet() {
    for (host, seed) in [(0, 81), (1, 82)] {
        let mut world = World::on(seed, &Path::rtt(50));
        steady(&mut world, host);
        world.run(SECOND);
        world.restart(1 - host);
        let since = world.time();
        assert!(world.run_until(SECOND, |world| world.hosts[host].closed.is_some()));
        assert_eq!(world.hosts[host].closed, Some(ConnectionError::Forgotten));
        let took = end(&world, host, since);
        println!("the peer of host {host} was started again: noticed after {} ms", milliseconds(took));
        assert!(took <= 61 * MS, "{took:?}");
        world.run(SECOND);
        assert_eq!(world.hosts[host].endpoint.connections(), 0, "nothing is left");
    }
}

/// Of two links, one is dead: the other is enough to hear it.
#[test]
fn any_link_tells_it() {
    let mut world = World::on(80, &Path::rtt(50));
    let wire = world.network.add_datagrams(Path::rtt(50), Path::rtt(50));
    world.add_link(wire);
    steady(&mut world, 0);
    world.run(SECOND);
    world.network.set_up(0, false);
    world.run(SECOND);
    world.restart(1);
    let since = world.time();
    world.run(SECOND);
    assert_eq!(world.hosts[0].closed, Some(ConnectionError::Forgotten));
    assert!(end(&world, 0, since) <= 61 * MS);
}

#[test]
fn an_idle_connection_hears_it_with_its_next_keep_alive() {
    let mut world = World::on(83, &Path::rtt(50));
    world.run(5 * SECOND);
    world.restart(1);
    let since = world.time();
    world.run(20 * SECOND);
    assert_eq!(world.hosts[0].closed, Some(ConnectionError::Forgotten));
    assert!(end(&world, 0, since) <= 15 * SECOND + 50 * MS);
}

#[test]
fn a_stream_link_carries_it_as_well() {
    let mut world = World::new(85, Config::default());
    let stream = world.network.add_stream(Path::bottleneck(100, 20), Path::bottleneck(100, 20), 256 << 10);
    world.connect(stream);
    world.run(SECOND);
    steady(&mut world, 0);
    world.run(SECOND);
    world.restart(1);
    world.run(SECOND);
    assert_eq!(world.hosts[0].closed, Some(ConnectionError::Forgotten));
}

/// What an endpoint answers to a packet of nobody.
fn answer(endpoint: &mut Endpoint, world: &World, route: Route, packet: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match endpoint.handle(world.now, UNIX_TIME, route, &mut packet.to_vec(), &mut out) {
        Handled::Respond(_) => Some(out),
        _ => None,
    }
}

/// Somebody who sees all packets and can send any, but has no key.
#[test]
fn nobody_else_can_say_it() {
    let config = std::sync::Arc::new(Config::default());
    let mut world = World::new(86, Config::default());
    world.network.add_datagrams(Path::rtt(20), Path::rtt(20));
    // A connection that really was forgotten, and what was said about it.
    world.connect(0);
    world.run(SECOND);
    steady(&mut world, 0);
    world.run(SECOND);
    world.restart(1);
    world.network.tap = Some(Vec::new());
    world.run(SECOND);
    assert_eq!(world.hosts[0].closed, Some(ConnectionError::Forgotten));
    let heard = world.network.tap.replace(Vec::new()).unwrap();
    let old: Vec<_> = heard.into_iter().filter(|(from, _)| *from == 1).map(|(_, packet)| packet).collect();
    assert!(!old.is_empty());

    // The next one, between the same two.
    world.restart(0);
    world.connect(0);
    world.run(SECOND);
    steady(&mut world, 0);
    steady(&mut world, 1);
    world.run(SECOND);
    let live = world.network.tap.replace(Vec::new()).unwrap();
    let to_second = live.iter().rev().find(|(from, _)| *from == 0).unwrap().1.clone();
    let to_first = live.iter().rev().find(|(from, _)| *from == 1).unwrap().1.clone();
    let id: [u8; 8] = to_first[8..16].try_into().unwrap();

    let route = world.network.route(0, 0);
    let mut forged = old.clone();
    // The proof of the old connection under the id of the new one.
    forged.extend(old.iter().map(|packet| [&packet[..8], &id, &packet[16..]].concat()));
    // What another endpoint says: of another key, and of the same at another place.
    forged.extend(answer(&mut endpoint(2, &config, 1), &world, route, &to_second));
    let anyone = std::sync::Arc::new(KeyOnly::anyone());
    let elsewhere =
        EndpointConfig { instance: Some(1), ..EndpointConfig::new(key(1), anyone.clone(), anyone) };
    forged.extend(answer(&mut Endpoint::new(elsewhere, [3; 32]), &world, route, &to_second));
    assert_eq!(forged.len(), 2 * old.len() + 2);
    // The endpoint that has the connection gives nothing away, and a true reset from elsewhere is none.
    let stranger = Route::datagram(([203, 0, 113, 1], 9).into());
    let now = world.now;
    assert!(matches!(
        world.hosts[1].endpoint.handle(now, UNIX_TIME, stranger, &mut to_second.clone(), &mut Vec::new()),
        Handled::To(_)
    ));
    let reset = answer(&mut endpoint(1, &config, 4), &world, route, &to_second).unwrap();
    world.network.inject(now, 0, stranger, reset.clone());
    let mut damaged = reset.clone();
    *damaged.last_mut().unwrap() ^= 0x80;
    forged.push(damaged);
    for packet in forged {
        world.network.inject(now, 0, route, packet);
    }
    world.run(5 * SECOND);
    assert_eq!(world.hosts.each_ref().map(|host| host.closed.clone()), [None, None]);

    // The same one from the right place: a key that is at two places at once must be told apart by `instance`.
    let now = world.now;
    world.network.inject(now, 0, route, reset);
    world.run(SECOND);
    assert_eq!(world.hosts[0].closed, Some(ConnectionError::Forgotten));
}

#[test]
fn late_packets_of_a_retired_link_are_not_answered() {
    let mut world = World::on(87, &Path::rtt(20));
    let wire = world.network.add_datagrams(Path::rtt(20), Path::rtt(20));
    let first = world.hosts[0].connection().links().next().unwrap().link;
    world.add_link(wire);
    steady(&mut world, 0);
    world.network.tap = Some(Vec::new());
    world.run(SECOND);
    let heard = world.network.tap.take().unwrap();
    let now = world.now;
    world.hosts[0].connection().close_link(now, first);
    world.run(SECOND);
    for wire in 0..2 {
        for (from, packet) in &heard {
            let route = world.network.route(wire, 1 - from);
            world.network.inject(world.now, 1 - from, route, packet.clone());
        }
    }
    world.run(SECOND);
    for host in &world.hosts {
        assert_eq!((host.closed.as_ref(), host.endpoint.counters().resets), (None, 0));
    }
}

/// A connection whose only link is a stream.
fn on_a_stream(seed: u64, config: Config) -> (World, usize) {
    let mut world = World::new(seed, config);
    let stream = world.network.add_stream(Path::bottleneck(100, 20), Path::bottleneck(100, 20), 256 << 10);
    world.connect(stream);
    world.run(SECOND);
    (world, stream)
}

#[test]
fn without_a_link_it_ends_soon() {
    for wait in [Duration::ZERO, SECOND, Config::default().no_link_timeout] {
        let (mut world, stream) = on_a_stream(88, Config { no_link_timeout: wait, ..Config::default() });
        steady(&mut world, 0);
        world.run(SECOND);
        let now = world.now;
        world.network.break_stream(now, stream);
        let since = world.time();
        world.run(40 * SECOND);
        for host in 0..2 {
            assert_eq!(world.hosts[host].closed, Some(ConnectionError::NoLink));
            assert_eq!(end(&world, host, since), wait);
        }
    }
}

#[test]
fn a_link_in_time_saves_it() {
    let (mut world, stream) = on_a_stream(89, Config::default());
    let now = world.now;
    let size = 30 << 20;
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(size));
    world.run(SECOND);
    let now = world.now;
    world.network.break_stream(now, stream);
    world.run(4 * SECOND);
    let wire = world.network.add_datagrams(Path::bottleneck(100, 20), Path::bottleneck(100, 20));
    world.add_link(wire);
    assert!(world.run_until(20 * SECOND, |world| world.hosts[1].readers[&channel].finished));
    assert_eq!(world.hosts[1].readers[&channel].bytes, size);
    world.run(20 * SECOND);
    assert_eq!(world.hosts.each_ref().map(|host| host.closed.clone()), [None, None]);
}

/// The peer closed what was the only link, and says nothing more.
#[test]
fn a_peer_that_closes_the_last_link() {
    let mut world = World::on(90, &Path::rtt(20));
    let link = world.hosts[0].connection().links().next().unwrap().link;
    let now = world.now;
    world.hosts[0].connection().close_link(now, link);
    let since = world.time();
    world.run(20 * SECOND);
    for host in 0..2 {
        assert_eq!(world.hosts[host].closed, Some(ConnectionError::NoLink));
        assert!(end(&world, host, since) <= 5 * SECOND + 20 * MS);
    }
}
