//! Bulk transfers across everything that moves: no byte is lost or comes twice (the reader compares each).

use std::time::Duration;

use towline_channeler::{Capabilities, Config, LinkStatus};

use crate::support::{figures::milliseconds, way::Path, world::World, writer::Plan};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn from_udp_to_a_stream_and_back() {
    let size = 40 << 20;
    let path = Path::bottleneck(100, 20);
    let mut world = World::on(41, &path);
    let now = world.now;
    let udp = world.hosts[0].connection().links().next().unwrap().link;
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(size));
    world.run(SECOND);

    let stream = world.network.add_stream(path.clone(), path.clone(), 256 << 10);
    let tcp = world.add_link(stream);
    let now = world.now;
    world.hosts[0].connection().close_link(now, udp);
    let switched = world.time();
    world.run(SECOND);
    let on_stream = world.network.way(stream, 0).tally.bytes;
    let gap = world.hosts[1].readers[&channel].longest_gap(switched - 50 * MS, switched + SECOND);
    println!("UDP to stream: nothing for {} ms, then {on_stream} bytes in a second", milliseconds(gap));
    assert!(on_stream > 5 << 20 && gap <= SECOND);

    let wire = world.network.add_datagrams(path.clone(), path);
    world.add_link(wire);
    let now = world.now;
    world.hosts[0].connection().close_link(now, tcp);
    let switched = world.time();
    let done = world.run_until(20 * SECOND, |world| world.hosts[1].readers[&channel].finished);
    let reader = &world.hosts[1].readers[&channel];
    let gap = reader.longest_gap(switched - 50 * MS, switched + SECOND);
    println!("stream to UDP: nothing for {} ms", milliseconds(gap));
    assert!(gap <= SECOND);
    assert!(done && reader.bytes == size, "{} bytes", reader.bytes);
}

#[test]
fn a_stream_that_breaks_or_dies_in_silence() {
    for silent in [false, true] {
        let size = 30 << 20;
        let path = Path::bottleneck(100, 20);
        let mut world = World::on(42, &path);
        let stream = world.network.add_stream(path.clone(), path, 256 << 10);
        world.add_link(stream);
        let now = world.now;
        let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(size));
        world.run(SECOND);
        assert!(world.network.way(stream, 0).tally.bytes > 1 << 20, "the stream carries its part");
        if silent {
            world.network.set_up(stream, false);
        } else {
            let now = world.now;
            world.network.break_stream(now, stream);
        }
        let died = world.time();
        let done = world.run_until(20 * SECOND, |world| world.hosts[1].readers[&channel].finished);
        let reader = &world.hosts[1].readers[&channel];
        let gap = reader.longest_gap(died - 50 * MS, died + 3 * SECOND);
        println!("stream dies, silent {silent}: nothing for {} ms", milliseconds(gap));
        assert!(done && reader.bytes == size, "{} bytes", reader.bytes);
        assert!(gap <= 500 * MS);
    }
}

#[test]
fn a_hole_for_large_packets_opens_in_the_middle() {
    let size = 20 << 20;
    let mut world = World::on(44, &Path::bottleneck(50, 20));
    let now = world.now;
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(size));
    world.run(SECOND);
    let report = world.hosts[0].connection().links().next().unwrap();
    println!("packets of {} bytes on a path that takes 1500", report.mtu);
    assert!(report.mtu >= 1400, "{report:?}");
    world.network.each_way(0, |path| path.mtu = 1280);
    let shrunk = world.time();
    let done = world.run_until(20 * SECOND, |world| world.hosts[1].readers[&channel].finished);
    let reader = &world.hosts[1].readers[&channel];
    let gap = reader.longest_gap(shrunk - 50 * MS, shrunk + 5 * SECOND);
    let report = world.hosts[0].connection.as_ref().unwrap().links().next().unwrap();
    println!("path shrinks to 1280: nothing for {} ms, then packets of {}", milliseconds(gap), report.mtu);
    assert!(done && reader.bytes == size, "{} bytes", reader.bytes);
    assert!(gap <= SECOND && (1200..=1280).contains(&report.mtu));
}

#[test]
fn a_rebinding_in_the_middle() {
    let size = 20 << 20;
    let mut world = World::on(45, &Path::bottleneck(50, 20));
    let now = world.now;
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(size));
    // The other way, too: the one that does not move must follow.
    world.run(500 * MS);
    let moved = world.time();
    world.network.rebind(0);
    world.run(500 * MS);
    world.network.rebind(0);
    let done = world.run_until(20 * SECOND, |world| world.hosts[1].readers[&channel].finished);
    let reader = &world.hosts[1].readers[&channel];
    let gap = reader.longest_gap(moved - 50 * MS, moved + 2 * SECOND);
    println!("rebinding: nothing for {} ms", milliseconds(gap));
    assert!(done && reader.bytes == size, "{} bytes", reader.bytes);
    assert!(gap <= 200 * MS);
}

#[test]
fn a_rebinding_while_the_other_side_sends() {
    let size = 20 << 20;
    let mut world = World::on(46, &Path::bottleneck(50, 20));
    world.hosts[1].replies.insert(b"records".to_vec(), Plan::Bulk(size));
    let now = world.now;
    let plan = Plan::Records { count: 1000, every: 10 * MS, sizes: 50..=50 };
    let options = towline_channeler::OpenOptions::default();
    let channel = world.hosts[0].start_with(now, &options, plan, true);
    let reader = crate::support::reader::Reader::new(channel, Capabilities::stream(), b"bulk");
    world.hosts[0].readers.insert(channel, reader);
    world.run(500 * MS);
    let moved = world.time();
    world.network.rebind(0);
    let done = world.run_until(20 * SECOND, |world| world.hosts[0].readers[&channel].finished);
    let reader = &world.hosts[0].readers[&channel];
    let gap = reader.longest_gap(moved - 50 * MS, moved + 2 * SECOND);
    println!("rebinding of the receiver: nothing for {} ms", milliseconds(gap));
    assert!(done && reader.bytes == size, "{} bytes", reader.bytes);
    assert!(gap <= 300 * MS);
}

#[test]
fn an_outage_of_the_only_link() {
    let size = 10 << 20;
    let mut world = World::on(47, &Path::bottleneck(50, 20));
    let now = world.now;
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(size));
    world.run(500 * MS);
    world.network.set_up(0, false);
    world.run(5 * SECOND);
    assert!(world.hosts[0].connection().links().all(|link| link.status == LinkStatus::Dead));
    world.network.set_up(0, true);
    let back = world.time();
    let done = world.run_until(20 * SECOND, |world| world.hosts[1].readers[&channel].finished);
    let reader = &world.hosts[1].readers[&channel];
    let first = reader.progress.iter().map(|entry| entry.0).find(|at| *at > back).unwrap() - back;
    println!("an outage of 5 s: bytes again after {} ms", milliseconds(first));
    assert!(done && reader.bytes == size, "{} bytes", reader.bytes);
    assert!(first <= SECOND + 50 * MS);
}

#[test]
fn all_over_one_stream_link() {
    let mut world = World::new(43, Config::default());
    let path = Path::bottleneck(100, 20);
    let stream = world.network.add_stream(path.clone(), path, 256 << 10);
    world.connect(stream);
    let began = world.time();
    world.run(200 * MS);
    let now = world.now;
    let size = 20 << 20;
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(size));
    let done = world.run_until(10 * SECOND, |world| {
        world.hosts[1].readers.get(&channel).is_some_and(|reader| reader.finished)
    });
    let took = world.time() - began - 200 * MS;
    let share = size as f64 / took.as_secs_f64() / 12_500_000.0;
    println!("over one stream: {:.1} % of its rate", share * 100.0);
    assert!(done && world.hosts[1].readers[&channel].bytes == size);
    assert!(share > 0.93, "{share}");
    assert_eq!(world.hosts[0].connection().stats().packets_lost, 0);
}
