//! Channels on one perfect link.

use std::time::Duration;

use towline_channeler::{Capabilities, Event, OpenOptions, Read, Reason};

use crate::support::{way::Path, world::World, writer::Plan};

#[test]
fn a_connection_comes_to_be() {
    let mut world = World::on(1, &Path::rtt(20));
    assert!(world.time() < Duration::from_millis(60), "{:?}", world.time());
    for host in &mut world.hosts {
        assert_eq!(host.endpoint.connections(), 1);
        assert!(host.connection().peer().is_some());
    }
}

#[test]
fn bulk_data_arrives_in_order() {
    let mut world = World::on(2, &Path::rtt(10));
    let channel = world.hosts[0].start(world.now, Capabilities::stream(), Plan::Bulk(1 << 20));
    let done = world.run_until(Duration::from_secs(20), |world| {
        world.hosts[1].readers.get(&channel).is_some_and(|reader| reader.finished)
    });
    assert!(done, "{:?} {:?}", world.hosts[0].connection, world.hosts[1].connection);
    assert_eq!(world.hosts[1].readers[&channel].bytes, 1 << 20);
    world.run(Duration::from_secs(1));
    for host in &world.hosts {
        assert_eq!(host.readers[&channel].ended, Some(Reason::Finished));
    }
}

#[test]
fn data_rides_with_the_opening() {
    let mut world = World::on(3, &Path::rtt(20));
    let now = world.now;
    let connection = world.hosts[0].connection();
    let channel = connection.open(now, OpenOptions::default()).unwrap();
    connection.write(now, channel, b"hello").unwrap();
    world.hosts[1].manual = true;
    let began = world.now;
    let heard = world.run_until(Duration::from_secs(1), |world| {
        world.hosts[1].events.iter().any(|(_, event)| matches!(event, Event::Opened { .. }))
    });
    assert!(heard && world.now - began <= Duration::from_millis(11), "{:?}", world.now - began);
    assert_eq!(world.hosts[1].readers[&channel].bytes, 5);
    let _ = Read::Finished;
}
