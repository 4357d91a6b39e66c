//! How much of a link a bulk transfer gets.

use std::time::Duration;

use towline_channeler::{Capabilities, Config};

use crate::support::{way::Path, world::World, writer::Plan};

const SECOND: Duration = Duration::from_secs(1);

/// Bytes per second that the program at the other end read in this window, over the rate of the path.
fn share(world: &mut World, rate: u64, from: Duration, to: Duration) -> f64 {
    let now = world.now;
    let began = world.time();
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(u64::MAX));
    world.run(to);
    world.hosts[1].readers[&channel].rate(began + from, began + to) / rate as f64
}

fn under_loss(loss: f64, least: f64) {
    let path = Path::bottleneck(100, 50).with_loss(loss);
    let mut world = World::on(11, &path);
    let share = share(&mut world, path.rate.unwrap(), 2 * SECOND, 7 * SECOND);
    println!("100 Mbit/s, 50 ms, {} % loss: {:.1} % goodput", loss * 100.0, share * 100.0);
    assert!(share >= least, "{share} of the rate");
}

#[test]
fn random_loss_of_1_percent_leaves_85() {
    under_loss(0.01, 0.85);
}

#[test]
fn random_loss_of_5_percent_leaves_70() {
    under_loss(0.05, 0.70);
}

#[test]
fn a_gigabit_across_a_continent_is_filled_with_default_windows() {
    let path = Path::bottleneck(1000, 100);
    let mut world = World::connected(12, Config::default(), path.clone(), path.clone());
    let share = share(&mut world, path.rate.unwrap(), 1500 * SECOND / 1000, 3 * SECOND);
    println!("1 Gbit/s, 100 ms: {:.1} % goodput", share * 100.0);
    assert!(share >= 0.90, "{share} of the rate");
}
