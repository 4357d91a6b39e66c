//! Channels in the background take what others leave, on their own connection and on another.

use std::time::Duration;

use towline_channeler::{
    Algorithm::{self, Bbr, Cubic},
    Capabilities, OpenOptions, Priority,
};

use crate::support::{
    course::{Course, Flow},
    figures::{milliseconds, percentile},
    way::Path,
    world::World,
    writer::Plan,
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn background() -> OpenOptions {
    OpenOptions {
        capabilities: Capabilities::stream(),
        priority: Priority::BACKGROUND,
        ..OpenOptions::default()
    }
}

/// Shares of a bulk transfer and of one in the background on another connection, between these milliseconds.
fn shares(algorithm: Algorithm, queue: usize, begins: [u64; 2], span: (u64, u64)) -> [f64; 2] {
    let path = Path { queue, ..Path::bottleneck(40, 50) };
    let flows = [Flow::new(algorithm, begins[0]), Flow::new(algorithm, begins[1]).background()];
    let seen = Course::new("background", path).flows(&flows).span(span.0, span.1).run(31);
    println!("{algorithm:?}, queue of {queue} bytes: {:.3} and {:.3}", seen.shares[0], seen.shares[1]);
    [seen.shares[0], seen.shares[1]]
}

#[test]
fn background_fills_a_link_that_nobody_uses() {
    let path = Path::bottleneck(40, 50);
    let seen =
        Course::new("background", path).flows(&[Flow::new(Bbr, 0).background()]).span(5000, 15_000).run(32);
    println!("alone: {:.3}, queue {:.1} ms", seen.goodput, milliseconds(seen.queue));
    assert!(seen.goodput >= 0.75 && seen.queue <= 15 * MS, "{seen:?}");
}

#[test]
fn background_gives_way_to_another_connection() {
    for algorithm in [Bbr, Cubic] {
        for queue in [125_000, 250_000, 1_000_000] {
            for begins in [[0, 3000], [3000, 0]] {
                let [front, back] = shares(algorithm, queue, begins, (6000, 16_000));
                // A BBR whose startup ended at a loss in a short queue makes no queue afterwards that LEDBAT++ could see: it
                // gets the larger part, not all.
                let unseen = algorithm == Bbr && queue == 125_000 && begins[0] > 0;
                let (least, most) = if unseen { (0.55, 0.36) } else { (0.8, 0.12) };
                assert!(front >= least && back <= most, "{algorithm:?}, {queue}, {begins:?}: {front} {back}");
            }
        }
    }
}

#[test]
fn background_gives_way_on_its_own_connection() {
    for queue in [125_000, 250_000, 1_000_000] {
        let path = Path { queue, ..Path::bottleneck(40, 50) };
        let mut world = World::on(33, &path);
        let (now, began) = (world.now, world.time());
        let back = world.hosts[0].start_with(now, &background(), Plan::Bulk(u64::MAX), true);
        world.run(4 * SECOND);
        let now = world.now;
        let front = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(u64::MAX));
        world.run(6 * SECOND);
        let rate = |channel| {
            let reader = &world.hosts[1].readers[&channel];
            reader.rate(began + 5 * SECOND, began + 10 * SECOND) / path.rate.unwrap() as f64
        };
        let (front, back) = (rate(front), rate(back));
        println!("one connection, queue of {queue} bytes: {front:.3} and {back:.3}");
        assert!(front >= 0.88 && back <= 0.05, "queue {queue}: {front} {back}");
    }
}

#[test]
fn background_does_not_delay_what_is_urgent() {
    let path = Path { queue: 1_000_000, ..Path::bottleneck(40, 50) };
    let mut world = World::on(34, &path);
    let now = world.now;
    world.hosts[0].start_with(now, &background(), Plan::Bulk(u64::MAX), true);
    let steady = Plan::Records { count: 1000, every: 10 * MS, sizes: 100..=200 };
    let small = world.hosts[0].start(now, Capabilities::stream(), steady);
    world.run(11 * SECOND);
    let records = &world.hosts[1].readers[&small].records;
    let times: Vec<_> =
        records.iter().filter(|record| record.written > SECOND).map(|record| record.latency()).collect();
    let [half, most] = [0.5, 0.99].map(|share| percentile(&times, share));
    println!("beside the background: median {} ms, p99 {} ms", milliseconds(half), milliseconds(most));
    assert!(half <= 30 * MS && most <= 50 * MS, "{half:?} {most:?}");
}

/// Each of many channels with a packet's worth now and then has nothing on its way: together they are no less in the
/// background than one.
#[test]
fn many_quiet_channels_in_the_background_give_way_together() {
    let path = Path { queue: 1_000_000, ..Path::bottleneck(10, 50) };
    let mut world = World::on(35, &path);
    let (now, began) = (world.now, world.time());
    // 60 channels of 25 packets a second are 14 Mbit/s.
    for _ in 0..60 {
        let plan = Plan::Records { count: 10_000, every: 40 * MS, sizes: 1150..=1200 };
        world.hosts[0].start_with(now, &background(), plan, true);
    }
    world.run(4 * SECOND);
    let now = world.now;
    let front = world.hosts[0].start(now, Capabilities::stream(), Plan::Bulk(u64::MAX));
    world.run(6 * SECOND);
    let rate = world.hosts[1].readers[&front].rate(began + 5 * SECOND, began + 10 * SECOND);
    let share = rate / path.rate.unwrap() as f64;
    println!("beside many quiet channels: {share:.3}");
    assert!(share >= 0.85, "{share}");
}
