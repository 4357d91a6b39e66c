//! Two unequal links at once.

use std::time::Duration;

use towline_channeler::Capabilities;

use crate::support::{way::Path, world::World, writer::Plan};

const SECOND: Duration = Duration::from_secs(1);

/// Bytes per second of a bulk transfer from second 2 to 7, over one or two wires.
fn rate(first: &Path, second: Option<&Path>) -> f64 {
    let mut world = World::on(21, first);
    if let Some(second) = second {
        let wire = world.network.add_datagrams(second.clone(), second.clone());
        world.add_link(wire);
    }
    let (now, began) = (world.now, world.time());
    let channel = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(u64::MAX));
    world.run(7 * SECOND);
    world.hosts[1].readers[&channel].rate(began + 2 * SECOND, began + 7 * SECOND)
}

#[test]
fn two_links_carry_the_sum() {
    let (first, second) = (Path::bottleneck(50, 20), Path::bottleneck(20, 60));
    let sum = (first.rate.unwrap() + second.rate.unwrap()) as f64;
    let share = rate(&first, Some(&second)) / sum;
    println!("50 Mbit/s at 20 ms and 20 Mbit/s at 60 ms: {:.1} % of the sum", share * 100.0);
    assert!(share >= 0.85, "{share}");
}

#[test]
fn a_lossy_second_link_costs_nothing() {
    let first = Path::bottleneck(50, 20);
    let single = rate(&first, None);
    for loss in [0.02, 0.1, 0.3] {
        let both = rate(&first, Some(&Path::bottleneck(20, 60).with_loss(loss)));
        println!("second link loses {} %: {:.1} % of the first alone", loss * 100.0, both / single * 100.0);
        assert!(both >= single, "{both} of {single}");
    }
}
