//! Strangers and attackers against a live endpoint: no panic, no state, no answer longer than the question, and the connection
//! that is there does not notice (`spec/channeler.md` section 8).

use std::{sync::Arc, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use towline_channeler::{Capabilities, Config, Endpoint, EndpointLimits, Event, Handled, Route};

use crate::support::{
    program::UNIX_TIME,
    way::Path,
    world::{World, endpoint},
    writer::Plan,
};

const SECOND: Duration = Duration::from_secs(1);

fn stranger(number: u32) -> Route {
    let [a, b, c, d] = number.to_be_bytes();
    Route::datagram(([203, a ^ c, b, d], 9).into())
}

/// Everything that both hosts of a short conversation said, and who said it.
fn overheard() -> Vec<(usize, Vec<u8>)> {
    let mut world = World::new(61, Config::default());
    world.network.add_datagrams(Path::rtt(20), Path::rtt(20));
    world.network.tap = Some(Vec::new());
    world.connect(0);
    world.run(SECOND);
    let now = world.now;
    world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(100_000));
    world.run(SECOND);
    world.network.tap.take().unwrap()
}

/// What an endpoint makes of packets of strangers: connections begun, answers, and the most bytes answered to one.
fn feed(endpoint: &mut Endpoint, packets: impl Iterator<Item = (Route, Vec<u8>)>) -> (u64, u64) {
    let now = std::time::Instant::now();
    let mut out = Vec::new();
    let (mut begun, mut answers) = (0, 0);
    for (route, mut packet) in packets {
        let len = packet.len();
        match endpoint.handle(now, UNIX_TIME, route, &mut packet, &mut out) {
            Handled::Dropped => {}
            Handled::Respond(transmit) => {
                answers += 1;
                assert_eq!(transmit.route, route);
                assert!(out.len() <= len, "{} bytes for {len}", out.len());
            }
            Handled::New(handle, mut connection) => {
                begun += 1;
                connection.handle(now, route, None, &mut packet);
                let mut said = 0;
                loop {
                    out.clear();
                    if connection.poll_transmit(now, 10, &mut out).is_none() {
                        break;
                    }
                    said += out.len();
                }
                assert!(said <= len, "{said} bytes to an address that proved nothing, for {len}");
                while let Some(event) = connection.poll_endpoint_event() {
                    endpoint.on_event(handle, event);
                }
            }
            Handled::To(_) => panic!("nobody is connected"),
        }
    }
    (begun, answers)
}

#[test]
fn noise_is_dropped() {
    let mut endpoint = endpoint(1, &Arc::new(Config::default()), 62);
    let mut rng = StdRng::seed_from_u64(62);
    let noise = (0..20_000_u32).map(|number| {
        let mut packet = vec![0; rng.random_range(0..1500)];
        rng.fill_bytes(&mut packet);
        if let Some(first) = packet.first_mut().filter(|_| number % 2 == 0) {
            *first = [0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0e][number as usize / 2 % 6];
        }
        if packet.len() > 4 && number % 3 == 0 {
            packet[..4].copy_from_slice(&[0x0e, 0xd8, 0x67, 0x16]);
        }
        (stranger(number), packet)
    });
    let (begun, answers) = feed(&mut endpoint, noise);
    let counters = endpoint.counters();
    println!("20000 packets of noise: {counters:?}");
    assert_eq!((begun, answers), (0, counters.resets));
    assert!(answers > 0 && answers <= u64::from(EndpointLimits::default().resets_per_second));
    assert_eq!(endpoint.connections(), 0);
}

#[test]
fn every_size_field_and_every_length_of_a_first_packet() {
    let mut endpoint = endpoint(1, &Arc::new(Config::default()), 63);
    let (_, first) = overheard().into_iter().find(|(from, _)| *from == 0).unwrap();
    let mut bad = Vec::new();
    for len in 0..first.len() {
        bad.push(first[..len].to_vec());
    }
    // The size field, at bytes 42 and 43: below the least, above the datagram.
    for size in (0..=70_u16).chain([first.len() as u16 + 1, 0x7FFF, 0xFFFF]) {
        let mut packet = first.clone();
        packet[42..44].copy_from_slice(&size.to_be_bytes());
        bad.push(packet);
    }
    // The size of the payload, at bytes 46 and 47.
    for size in [0, 1, 7, first.len() as u16 - 51, 0xFFFF] {
        let mut packet = first.clone();
        packet[46..48].copy_from_slice(&size.to_be_bytes());
        bad.push(packet);
    }
    // Every byte another.
    for place in 0..first.len() {
        let mut packet = first.clone();
        packet[place] ^= 1 << (place % 8);
        bad.push(packet);
    }
    let packets = bad.into_iter().enumerate().map(|(number, packet)| (stranger(number as u32), packet));
    assert_eq!(feed(&mut endpoint, packets), (0, 0));
    assert_eq!(endpoint.connections(), 0);
}

#[test]
fn a_recorded_conversation_begins_nothing_elsewhere() {
    let mut third = endpoint(2, &Arc::new(Config::default()), 64);
    let packets = overheard().into_iter().map(|(_, packet)| (stranger(7), packet));
    let (begun, _) = feed(&mut third, packets);
    assert_eq!(begun, 0, "it is for somebody else");
    assert_eq!(third.connections(), 0);
}

#[test]
fn a_flood_of_first_packets_is_bounded() {
    let limits = EndpointLimits::default();
    let mut endpoint = endpoint(1, &Arc::new(Config::default()), 65);
    let (_, first) = overheard().into_iter().find(|(from, _)| *from == 0).unwrap();
    let flood = (0..5000).map(|number| (stranger(number), first.clone()));
    let (begun, answers) = feed(&mut endpoint, flood);
    println!("5000 copies of a first packet: {begun} handshakes begun, {answers} cookies asked for");
    assert!(begun <= limits.half_open as u64);
    assert!(endpoint.connections() <= limits.half_open);
}

/// Somebody on the way repeats, cuts, turns over and makes up packets in both directions, from the right addresses and others.
#[test]
fn an_attacker_on_the_way_is_not_noticed() {
    let mut world = World::on(66, &Path::bottleneck(50, 20));
    world.network.tap = Some(Vec::new());
    let mut rng = StdRng::seed_from_u64(66);
    let now = world.now;
    let size = 4 << 20;
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(size));
    let messages = Plan::Records { count: 300, every: Duration::from_millis(3), sizes: 30..=900 };
    let other = world.hosts[0].start(now, Capabilities::datagram(), messages);
    for _ in 0..100 {
        world.run(Duration::from_millis(10));
        let heard = world.network.tap.replace(Vec::new()).unwrap();
        for (from, packet) in &heard {
            let mut forged = packet.clone();
            match rng.random_range(0..8) {
                0 => forged.truncate(rng.random_range(0..packet.len())),
                1 => {
                    let place = rng.random_range(0..packet.len());
                    forged[place] ^= 1 << rng.random_range(0..8_u8);
                }
                2 => rng.fill_bytes(&mut forged[16..]),
                3 => forged.extend_from_slice(&[0; 40]),
                4 => {}
                _ => continue,
            }
            let to = if rng.random_bool(0.9) { 1 - from } else { *from };
            let route =
                if rng.random_bool(0.7) { world.network.route(0, to) } else { stranger(rng.random()) };
            // What comes from elsewhere comes after the packet that it copies.
            let wait = if route == world.network.route(0, to) { 0 } else { 11_000 };
            let at = world.now + Duration::from_micros(rng.random_range(wait..30_000));
            world.network.inject(at, to, route, forged);
        }
    }
    let done = world.run_until(20 * SECOND, |world| world.hosts[1].readers[&channel].finished);
    assert!(done && world.hosts[1].readers[&channel].bytes == size);
    world.run(SECOND);
    assert_eq!(world.hosts[1].readers[&other].records.len(), 300);
    for host in &mut world.hosts {
        assert_eq!(host.closed, None);
        assert_eq!(host.endpoint.connections(), 1);
        let stats = host.connection().stats();
        println!("host {}: {stats:?}", host.host);
        assert!(stats.undecryptable > 20 && stats.duplicates > 50, "{stats:?}");
    }
    let route = world.network.route(0, 1);
    let links: Vec<_> = world.hosts[1].connection().links().map(|link| link.route).collect();
    assert_eq!(links, [route], "the connection stayed where it was");
}

#[test]
fn replayed_handshakes_do_not_hurt_a_live_connection() {
    let mut world = World::new(67, Config::default());
    world.network.add_datagrams(Path::rtt(20), Path::rtt(20));
    world.network.tap = Some(Vec::new());
    world.connect(0);
    world.run(SECOND);
    let heard = world.network.tap.take().unwrap();
    for round in 0..20_u32 {
        for (from, packet) in &heard {
            let to = 1 - from;
            // From the right address: the endpoint must know that this handshake was done.
            let route = world.network.route(0, to);
            let at = world.now + Duration::from_millis(u64::from(round) * 50);
            world.network.inject(at, to, route, packet.clone());
        }
    }
    world.run(2 * SECOND);
    assert!(world.hosts[1].endpoint.connections() < 30);
    let now = world.now;
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(100_000));
    world.run(20 * SECOND);
    assert!(world.hosts[1].readers[&channel].finished);
    let connected = |host: &crate::support::program::Program| {
        host.events.iter().filter(|(_, e)| *e == Event::Connected).count()
    };
    assert_eq!(world.hosts.each_ref().map(connected), [1, 1]);
    assert_eq!(world.hosts[1].endpoint.connections(), 1);
}
