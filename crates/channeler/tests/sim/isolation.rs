//! What happens to one channel leaves another alone.

use std::time::Duration;

use towline_channeler::{Capabilities, ChannelId};

use crate::support::{
    figures::{milliseconds, percentile},
    way::Path,
    world::World,
    writer::Plan,
};

const SECOND: Duration = Duration::from_secs(1);

/// Latencies of the small packets of channel B, while all packets as large as those of channel A vanish or not, in the ten seconds
/// from second 3 to second 13.
fn latencies(blackout: bool, a: &Plan, path: &Path) -> Vec<Duration> {
    let mut world = World::on(7, path);
    let now = world.now;
    let a = world.hosts[0].start(now, Capabilities::stream(), a.clone());
    let steady = Plan::Records { count: 1500, every: Duration::from_millis(10), sizes: 100..=200 };
    let b = world.hosts[0].start(now, Capabilities::stream(), steady);
    let from = world.time() + 3 * SECOND;
    world.run(3 * SECOND);
    if blackout {
        world.network.each_way(0, |path| path.hole = Some((600, 65_535)));
        let now = world.now;
        world.hosts[0].connection().update_keys(now, a).unwrap();
    }
    let before = world.hosts[1].readers[&a].bytes;
    world.run(10 * SECOND);
    let during = world.hosts[1].readers[&a].bytes - before;
    assert_eq!(during < 500_000, blackout, "{during} bytes of channel A");
    world.network.each_way(0, |path| path.hole = None);
    world.run(10 * SECOND);
    let after = world.hosts[1].readers[&a].bytes - before;
    assert!(after > 100_000, "channel A goes on afterwards: {after} bytes");
    let records = &world.hosts[1].readers[&b].records;
    assert_eq!(records.len(), 1500);
    let within =
        |record: &&crate::support::reader::Record| (from..from + 10 * SECOND).contains(&record.written);
    records.iter().filter(within).map(|record| record.latency()).collect()
}

fn compare(name: &str, a: &Plan, path: &Path) {
    let [clear, black] = [false, true].map(|blackout| latencies(blackout, a, path));
    let mean = |values: &[Duration]| values.iter().sum::<Duration>() / values.len() as u32;
    for (what, clear, black) in [
        ("mean", mean(&clear), mean(&black)),
        ("p99", percentile(&clear, 0.99), percentile(&black, 0.99)),
        ("max", percentile(&clear, 1.0), percentile(&black, 1.0)),
    ] {
        println!(
            "{name}: {what} of B {} ms, while A loses all {} ms",
            milliseconds(clear),
            milliseconds(black)
        );
        assert!(black <= clear.mul_f64(1.01), "{name}: {what} {clear:?} became {black:?}");
    }
}

#[test]
fn a_channel_that_loses_everything_does_not_delay_another() {
    let plan = Plan::Records { count: 5000, every: Duration::from_millis(5), sizes: 1000..=1000 };
    compare("steady", &plan, &Path::rtt(50));
}

#[test]
fn a_bulk_channel_that_loses_everything_does_not_delay_another() {
    compare("bulk", &Plan::Bulk(200 << 20), &Path::bottleneck(20, 50));
}

#[test]
fn a_program_that_does_not_read_stops_only_its_channel() {
    let mut world = World::on(8, &Path::bottleneck(50, 40));
    let now = world.now;
    let a = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(100 << 20));
    let steady = Plan::Records { count: 400, every: Duration::from_millis(10), sizes: 100..=200 };
    let b = world.hosts[0].start(now, Capabilities::stream(), steady);
    let opened = |world: &mut World, channel: &ChannelId| world.hosts[1].readers.contains_key(channel);
    assert!(world.run_until(SECOND, |world| opened(world, &a)));
    world.hosts[1].readers.get_mut(&a).unwrap().paused = true;
    world.run(4 * SECOND);
    let late = world.hosts[1].readers[&b].records.iter().filter(|record| record.written > SECOND);
    let worst = late.map(|record| record.latency()).max().unwrap();
    println!("beside a channel that is not read: at most {} ms", milliseconds(worst));
    assert!(worst < Duration::from_millis(45));
    assert!(world.hosts[1].readers[&a].bytes < 1 << 20);
}
