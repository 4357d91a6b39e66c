//! What happens to one channel leaves another alone.

use std::time::Duration;

use towline_channeler::{Capabilities, ChannelId};

use crate::support::{figures::milliseconds, way::Path, world::World, writer::Plan};

const SECOND: Duration = Duration::from_secs(1);

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
