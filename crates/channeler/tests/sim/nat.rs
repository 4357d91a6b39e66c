//! Idle connections behind a NAT that forgets.

use std::time::Duration;

use towline_channeler::{Capabilities, Config};

use crate::support::{figures::milliseconds, way::Path, world::World, writer::Plan};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Idles for an hour. The times between the packets of the host behind the NAT, but for those of less than a second.
fn silences(world: &mut World) -> Vec<Duration> {
    let (mut silences, mut last, mut sent) = (Vec::new(), world.time(), 0);
    world.run_until(3600 * SECOND, |world| {
        let now = world.network.way(0, 0).tally.sent;
        if now != sent {
            let silence = world.time() - last;
            silences.extend((silence > SECOND).then_some(silence));
            (sent, last) = (now, world.time());
        }
        false
    });
    silences
}

/// The host outside reaches the one inside, however long it was silent. The longest that it took.
fn reached(world: &mut World) -> Duration {
    let mut longest = Duration::ZERO;
    for wait in [1, 13, 17, 29, 44, 59, 71, 118].map(Duration::from_secs) {
        world.run(wait);
        let (now, from) = (world.now, world.time());
        let channel = world.hosts[1].start(now, Capabilities::stream(), Plan::Bulk(1000));
        let heard =
            |world: &mut World| world.hosts[0].readers.get(&channel).is_some_and(|reader| reader.finished);
        assert!(world.run_until(10 * SECOND, heard), "unreachable after {wait:?}");
        longest = longest.max(world.time() - from);
    }
    longest
}

#[test]
fn an_idle_connection_outlives_the_mappings_of_a_nat_and_learns_how_long_they_last() {
    for (memory, idle_timeout, range) in [
        // The connection itself does not live longer in silence: half of that at most.
        (20, 30, 15.0..=15.0),
        (45, 30, 15.0..=15.0),
        (120, 30, 15.0..=15.0),
        // With the time to try it, the interval settles below what the NAT remembers.
        (20, 120, 12.0..=19.9),
        (45, 120, 30.0..=44.9),
        (120, 120, 60.0..=60.0),
        (90, 600, 60.0..=89.9),
    ] {
        let idle_timeout = Duration::from_secs(idle_timeout);
        let config = Config { idle_timeout, ..Config::default() };
        let mut world = World::connected(91, config, Path::rtt(50), Path::rtt(50));
        world.network.set_memory(0, Duration::from_secs(memory));
        let silences = silences(&mut world);
        let learned = silences.last().unwrap().as_secs_f64();
        let forgot = world.network.forgot(0);
        let took = reached(&mut world);
        println!(
            "NAT remembers {memory} s, idle timeout {idle_timeout:?}: every {learned:.1} s in the end, {} packets in an hour, forgotten \
             {forgot} times; reached within {} ms",
            silences.len(),
            milliseconds(took)
        );
        assert_eq!(world.hosts.each_ref().map(|host| host.closed.clone()), [None, None]);
        assert!(range.contains(&((learned * 10.0).round() / 10.0)), "{silences:?}");
        assert!(forgot <= 3, "it learned slowly");
        assert!(took <= 200 * MS, "{took:?}");
    }
}
