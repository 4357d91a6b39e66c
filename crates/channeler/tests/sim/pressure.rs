//! Paths that answer too much pressure with loss and not with delay: goodput, and how much is overrun once it is known.

use std::time::Duration;

use towline_channeler::Capabilities;

use crate::support::{way::Path, world::World, writer::Plan};

const SECOND: Duration = Duration::from_secs(1);

/// Of seconds 2 to 12: the share of the rate that the reader got, and the share of packets that were dropped for exceeding it.
fn steady(seed: u64, forth: &Path) -> (f64, f64) {
    let back = Path { policed: false, loss: 0.0, ..forth.clone() };
    let mut world = World::connected(seed, towline_channeler::Config::default(), forth.clone(), back);
    let (now, began) = (world.now, world.time());
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(u64::MAX));
    world.run(2 * SECOND);
    let before = world.network.way(0, 0).tally;
    world.run(10 * SECOND);
    let after = world.network.way(0, 0).tally;
    let rate = world.hosts[1].readers[&channel].rate(began + 2 * SECOND, began + 12 * SECOND);
    let dropped = (after.overflowed - before.overflowed) as f64 / (after.sent - before.sent) as f64;
    (rate / forth.rate.unwrap() as f64, dropped)
}

#[test]
fn a_policer_is_not_overrun() {
    for bucket in [60_000, 400_000, 2_500_000] {
        let path = Path { policed: true, queue: bucket, ..Path::bottleneck(20, 40) };
        let (share, dropped) = steady(71, &path);
        println!(
            "policer of {bucket} bytes: {:.1} % goodput, {:.1} % dropped",
            share * 100.0,
            dropped * 100.0
        );
        assert!(share >= 0.85 && dropped <= 0.05, "{share} {dropped}");
    }
}

#[test]
fn a_short_queue_behind_random_loss_is_not_overrun() {
    let path = Path { queue: 30_000, ..Path::bottleneck(50, 100).with_loss(0.02) };
    for policed in [false, true] {
        let (share, dropped) = steady(72, &Path { policed, ..path.clone() });
        println!("policed {policed}: {:.1} % goodput, {:.1} % dropped", share * 100.0, dropped * 100.0);
        assert!(share >= 0.6 && dropped <= 0.05, "{share} {dropped}");
    }
}
