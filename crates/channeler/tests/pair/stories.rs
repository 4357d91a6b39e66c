//! Endings, messages, links and keys.

use std::time::Duration;

use towline_channeler::{
    Capabilities, ChannelId, Code, Config, ConnectionError, Event, LinkStatus, OpenError, OpenOptions,
    Placement, Read, ReadError, Reason, Resend, WriteError,
};

use crate::support::{pattern, way::Path, world::World, writer::Plan};

fn opened(world: &World, host: usize) -> Option<ChannelId> {
    world.hosts[host].events.iter().find_map(|(_, event)| match event {
        Event::Opened { channel, .. } => Some(*channel),
        _ => None,
    })
}

fn ended(world: &World, host: usize, channel: ChannelId) -> Option<Reason> {
    world.hosts[host].events.iter().find_map(|(_, event)| match event {
        Event::Ended(ended, reason) if *ended == channel => Some(*reason),
        _ => None,
    })
}

/// A channel that the first host opened and wrote three bytes to; the second has it, too.
fn with_channel(seed: u64) -> (World, ChannelId) {
    let mut world = World::on(seed, &Path::rtt(20));
    world.hosts[1].manual = true;
    let now = world.now;
    let connection = world.hosts[0].connection();
    let channel = connection.open(now, OpenOptions::default()).unwrap();
    connection.write(now, channel, b"abc").unwrap();
    assert!(world.run_until(Duration::from_secs(1), |world| opened(world, 1).is_some()));
    (world, channel)
}

#[test]
fn accept_is_heard() {
    let (mut world, channel) = with_channel(10);
    let now = world.now;
    world.hosts[1].connection().accept(now, channel).unwrap();
    world.run(Duration::from_millis(50));
    let accepted =
        world.hosts[0].events.iter().filter(|(_, event)| *event == Event::Accepted(channel)).count();
    assert_eq!(accepted, 1);
}

#[test]
fn refusal_ends_both_ends() {
    let (mut world, channel) = with_channel(11);
    let now = world.now;
    world.hosts[1].connection().refuse(now, channel, Code::REFUSED).unwrap();
    world.run(Duration::from_millis(100));
    assert_eq!(ended(&world, 0, channel), Some(Reason::Peer(Code::REFUSED)));
    assert_eq!(ended(&world, 1, channel), Some(Reason::Local(Code::REFUSED)));
    let now = world.now;
    for host in &mut world.hosts {
        // Forgotten altogether: nothing names it any more.
        assert_eq!(host.connection().write(now, channel, b"x"), Err(WriteError::Unknown));
    }
}

#[test]
fn reset_before_anything_was_sent() {
    let mut world = World::on(12, &Path::rtt(20));
    let now = world.now;
    let connection = world.hosts[0].connection();
    let channel = connection.open(now, OpenOptions::default()).unwrap();
    connection.reset(now, channel, Code(300)).unwrap();
    world.run(Duration::from_secs(1));
    assert_eq!(opened(&world, 1), None);
    assert_eq!(ended(&world, 0, channel), Some(Reason::Local(Code(300))));
    let now = world.now;
    assert_eq!(world.hosts[0].connection().write(now, channel, b"x"), Err(WriteError::Unknown));
}

#[test]
fn stop_ends_one_direction() {
    let (mut world, channel) = with_channel(13);
    let now = world.now;
    world.hosts[1].connection().stop(now, channel, Code(301)).unwrap();
    world.hosts[1].connection().write(now, channel, b"still here").unwrap();
    world.hosts[1].connection().finish(now, channel).unwrap();
    world.run(Duration::from_millis(200));
    assert_eq!(world.hosts[0].readers.get(&channel).map(|reader| reader.bytes), None);
    assert_eq!(ended(&world, 0, channel), None, "not before it was read");
    let now = world.now;
    let mut buf = [0; 32];
    let connection = world.hosts[0].connection();
    assert_eq!(connection.write(now, channel, b"x"), Err(WriteError::Ended(Reason::Peer(Code(301)))));
    assert_eq!(connection.read(now, channel, &mut buf), Ok(Read::Data(10)));
    assert_eq!(connection.read(now, channel, &mut buf), Ok(Read::Finished));
    world.run(Duration::from_millis(200));
    assert!(ended(&world, 0, channel).is_some() && ended(&world, 1, channel).is_some());
}

#[test]
fn every_kind_of_channel_carries_its_records() {
    for (number, resend) in
        [Resend::No, Resend::Tries(3), Resend::Until(Duration::from_secs(1)), Resend::Forever]
            .into_iter()
            .enumerate()
    {
        for ordered in [false, true] {
            let mut world = World::on(20 + number as u64, &Path::rtt(20));
            let capabilities = Capabilities { ordered, resend, close_on_loss: false };
            let plan = Plan::Records { count: 500, every: Duration::from_millis(1), sizes: 20..=5000 };
            let channel = world.hosts[0].start(world.now, capabilities, plan);
            let done = world.run_until(Duration::from_secs(20), |world| {
                world
                    .hosts
                    .iter()
                    .all(|host| host.readers.get(&channel).is_some_and(|reader| reader.ended.is_some()))
            });
            assert!(done, "{capabilities:?} {:?}", world.hosts[0].connection);
            assert_eq!(world.hosts[1].readers[&channel].records.len(), 500);
        }
    }
}

#[test]
fn loss_is_repaired() {
    for seed in 30..33 {
        let mut world = World::on(seed, &Path::rtt(20).with_loss(0.05));
        let channel = world.hosts[0].start(world.now, Capabilities::stream(), Plan::Bulk(1 << 20));
        let done = world.run_until(Duration::from_mins(1), |world| {
            world
                .hosts
                .iter()
                .all(|host| host.readers.get(&channel).is_some_and(|reader| reader.ended.is_some()))
        });
        assert!(done, "{:?}", world.hosts[0].connection);
        assert_eq!(world.hosts[1].readers[&channel].bytes, 1 << 20);
    }
}

#[test]
fn a_close_is_heard_and_everything_is_forgotten() {
    let (mut world, channel) = with_channel(40);
    let now = world.now;
    world.hosts[0].connection().close(now, Code(400), "good night");
    world.run(Duration::from_millis(50));
    let by_peer = ConnectionError::ClosedByPeer { code: Code(400), text: "good night".into() };
    assert_eq!(world.hosts[0].closed, Some(ConnectionError::ClosedHere));
    assert_eq!(world.hosts[1].closed, Some(by_peer));
    world.run(Duration::from_secs(20));
    let now = world.now;
    let mut buf = [0; 8];
    for host in &mut world.hosts {
        assert!(host.connection().is_drained());
        assert_eq!(host.endpoint.connections(), 0);
    }
    // What had come can still be read.
    let connection = world.hosts[1].connection();
    assert_eq!(connection.read(now, channel, &mut buf), Err(ReadError::Ended(Reason::Connection)));
    assert_eq!(connection.open(now, OpenOptions::default()), Err(OpenError::Closed));
}

#[test]
fn silence_ends_it() {
    let config = Config { idle_timeout: Duration::from_secs(3), keep_alive: false, ..Config::default() };
    let mut world = World::connected(41, config, Path::rtt(20), Path::rtt(20));
    world.network.set_up(0, false);
    world.run(Duration::from_secs(10));
    for host in &world.hosts {
        assert_eq!(host.closed, Some(ConnectionError::TimedOut));
        assert_eq!(host.endpoint.connections(), 0);
    }
}

#[test]
fn nobody_answers() {
    let mut world = World::new(42, Config::default());
    world.network.add_datagrams(Path::rtt(20).with_loss(1.0), Path::rtt(20));
    world.connect(0);
    world.run(Duration::from_secs(15));
    assert_eq!(world.hosts[0].closed, Some(ConnectionError::NoAnswer));
    assert_eq!(world.hosts[0].endpoint.connections(), 0);
}

#[test]
fn what_is_opened_before_the_answer_leaves_with_it() {
    let mut world = World::new(43, Config::default());
    world.network.add_datagrams(Path::rtt(20), Path::rtt(20));
    world.hosts[1].manual = true;
    world.connect(0);
    let now = world.now;
    let connection = world.hosts[0].connection();
    let capabilities = Capabilities::datagram();
    let options = OpenOptions { label: b"bulk".to_vec(), ..OpenOptions::default() };
    let message = connection.open(now, OpenOptions { capabilities, ..options.clone() }).unwrap();
    connection.write(now, message, pattern::slice(0, 3000)).unwrap();
    let stream = connection.open(now, options).unwrap();
    connection.write(now, stream, pattern::slice(0, 3000)).unwrap();
    let heard = world.run_until(Duration::from_secs(1), |world| {
        world.hosts[1].readers.get(&stream).is_some_and(|reader| reader.bytes == 3000)
            && world.hosts[1].readers.get(&message).is_some_and(|reader| reader.bytes == 3000)
    });
    assert!(heard, "{:?}", world.hosts[0].connection);
    assert!(world.time() <= Duration::from_millis(35), "{:?}", world.time());
}

#[test]
fn over_a_stream() {
    let mut world = World::new(44, Config::default());
    world.network.add_stream(Path::rtt(20), Path::rtt(20), 1 << 20);
    world.connect(0);
    let channel = {
        let up = world.run_until(Duration::from_secs(3), |world| {
            world.hosts.iter().all(|host| host.events.iter().any(|(_, event)| *event == Event::Connected))
        });
        assert!(up, "{:?}", world.hosts[0].closed);
        world.hosts[0].start(world.now, Capabilities::stream(), Plan::Bulk(8 << 20))
    };
    let done = world.run_until(Duration::from_secs(20), |world| {
        world.hosts.iter().all(|host| host.readers.get(&channel).is_some_and(|reader| reader.ended.is_some()))
    });
    assert!(done, "{:?}", world.hosts[0].connection);
    assert_eq!(world.hosts[1].readers[&channel].bytes, 8 << 20);
    let stats = world.hosts[0].connection().stats();
    assert!(stats.packets_sent < 700, "large packets: {stats:?}");
    assert_eq!(stats.packets_lost, 0);
}

#[test]
fn a_second_link_takes_over() {
    let mut world = World::on(50, &Path::bottleneck(20, 20));
    let wire = world.network.add_datagrams(Path::bottleneck(20, 30), Path::bottleneck(20, 30));
    let second = world.add_link(wire);
    let channel = world.hosts[0].start(world.now, Capabilities::stream(), Plan::Bulk(10 << 20));
    world.run(Duration::from_secs(1));
    world.network.set_up(0, false);
    let done = world.run_until(Duration::from_secs(20), |world| {
        world.hosts.iter().all(|host| host.readers.get(&channel).is_some_and(|reader| reader.ended.is_some()))
    });
    assert!(done, "{:?}", world.hosts[0].connection);
    assert_eq!(world.hosts[1].readers[&channel].bytes, 10 << 20);
    assert_eq!(world.hosts[0].link(second).status, LinkStatus::Active);
    let stall = world.hosts[1].readers[&channel].longest_gap(Duration::ZERO, world.time());
    assert!(stall <= Duration::from_millis(250), "{stall:?}");
}

#[test]
fn a_planned_switch_loses_nothing() {
    let mut world = World::on(51, &Path::rtt(20));
    let wire = world.network.add_datagrams(Path::rtt(20), Path::rtt(20));
    let first = world.hosts[0].connection().links().next().unwrap().link;
    world.add_link(wire);
    let plan = Plan::Records { count: 400, every: Duration::from_millis(5), sizes: 100..=1000 };
    let capabilities = Capabilities { ordered: true, resend: Resend::No, close_on_loss: true };
    let channel = world.hosts[0].start(world.now, capabilities, plan);
    world.run(Duration::from_secs(1));
    let now = world.now;
    world.hosts[0].connection().close_link(now, first);
    world.run(Duration::from_secs(3));
    assert_eq!(world.hosts[1].readers[&channel].records.len(), 400);
    let longest = world.hosts[1].readers[&channel].records.iter().map(|record| record.latency()).max();
    assert!(longest <= Some(Duration::from_millis(20)), "{longest:?}");
    for host in &mut world.hosts {
        assert_eq!(host.connection().links().count(), 1);
        assert_eq!(host.connection().stats().packets_lost, 0);
    }
}

#[test]
fn each_packet_goes_twice() {
    let mut world = World::on(52, &Path::rtt(20).with_loss(0.2));
    let wire = world.network.add_datagrams(Path::rtt(30).with_loss(0.2), Path::rtt(30).with_loss(0.2));
    world.add_link(wire);
    let plan = Plan::Records { count: 500, every: Duration::from_millis(5), sizes: 100..=1000 };
    let capabilities = Capabilities::datagram();
    let options = OpenOptions { capabilities, placement: Placement::Duplicate, ..OpenOptions::default() };
    let channel = world.hosts[0].start_with(world.now, &options, plan, true);
    world.run(Duration::from_secs(5));
    let got = world.hosts[1].readers[&channel].records.len();
    assert!((460..500).contains(&got), "about one in 25 is lost twice: {got}");
}

#[test]
fn the_nat_forgets() {
    let mut world = World::on(53, &Path::rtt(20));
    let channel = world.hosts[0].start(
        world.now,
        Capabilities::stream(),
        Plan::Records { count: 300, every: Duration::from_millis(10), sizes: 100..=1000 },
    );
    world.run(Duration::from_secs(1));
    world.network.rebind(0);
    world.run(Duration::from_secs(5));
    assert_eq!(world.hosts[1].readers[&channel].records.len(), 300);
    let worst = world.hosts[1].readers[&channel].records.iter().map(|record| record.latency()).max();
    assert!(worst <= Some(Duration::from_millis(200)), "{worst:?}");
    assert_eq!(world.hosts[0].closed, None);
}

#[test]
fn keys_are_renewed_while_data_flows() {
    let mut world = World::on(54, &Path::rtt(20).with_loss(0.02));
    let channel = world.hosts[0].start(
        world.now,
        Capabilities::stream(),
        Plan::Records { count: 1000, every: Duration::from_millis(10), sizes: 100..=1000 },
    );
    let mut updates = 0;
    for _ in 0..20 {
        world.run(Duration::from_millis(500));
        let now = world.now;
        updates += u32::from(world.hosts[0].connection().update_keys(now, channel).unwrap_or(false));
    }
    world.run(Duration::from_secs(3));
    assert!(updates >= 3, "{updates}");
    assert_eq!(world.hosts[1].readers[&channel].records.len(), 1000);
    assert_eq!(world.hosts[1].connection().stats().undecryptable, 0);
}

#[test]
fn channels_come_and_go() {
    let config = Config { max_channels: 20, ..Config::default() };
    let mut world = World::connected(55, config, Path::rtt(20), Path::rtt(20));
    let mut opened = 0;
    let mut refused = 0;
    for _ in 0..3000 {
        let now = world.now;
        let connection = world.hosts[0].connection();
        match connection.open(now, OpenOptions { label: b"bulk".to_vec(), ..OpenOptions::default() }) {
            Ok(channel) => {
                connection.write(now, channel, pattern::slice(0, 1)).unwrap();
                connection.finish(now, channel).unwrap();
                opened += 1;
            }
            Err(OpenError::TooMany) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        world.run(Duration::from_millis(1));
        world.hosts[0].events.clear();
        for channel in std::mem::take(&mut world.hosts[1].readers).into_keys() {
            let now = world.now;
            let _ = world.hosts[0].connection().read(now, channel, &mut [0; 1]);
        }
    }
    assert!(opened > 500 && refused > 0, "{opened} {refused}");
    assert_eq!(world.hosts[0].closed, None);
}
