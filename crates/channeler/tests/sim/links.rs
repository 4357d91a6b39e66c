//! Links that die, move and are taken turns with, under a steady flow.

use std::time::Duration;

use towline_channeler::{Capabilities, ChannelId, Event, LinkStatus, OpenOptions};

use crate::support::{figures::milliseconds, pattern, way::Path, world::World, writer::Plan};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn steady(every: Duration, count: u64) -> Plan {
    Plan::Records { count, every, sizes: 100..=300 }
}

/// The largest latency of what was written from then on, less the smallest.
fn stall(world: &World, channel: ChannelId, from: Duration) -> Duration {
    let records =
        || world.hosts[1].readers[&channel].records.iter().filter(|record| record.written + SECOND >= from);
    let least = records().map(|record| record.latency()).min().unwrap();
    records().map(|record| record.latency()).max().unwrap() - least
}

/// Two warm links with a round trip of 30 ms each, and a flow on them; then the one that carries it is silent.
fn silent_death(plan: Plan, seed: u64) -> Duration {
    let path = Path::bottleneck(50, 30);
    let mut world = World::on(seed, &path);
    let wire = world.network.add_datagrams(path.clone(), path);
    world.add_link(wire);
    let now = world.now;
    let channel = world.hosts[0].start(now, Capabilities::stream(), plan);
    world.run(SECOND);
    let before = [0, 1].map(|wire| world.network.way(wire, 0).tally.bytes);
    world.run(SECOND);
    let after = [0, 1].map(|wire| world.network.way(wire, 0).tally.bytes);
    let busiest = (0..2).max_by_key(|wire| after[*wire] - before[*wire]).unwrap();
    world.network.set_up(busiest, false);
    let died = world.time();
    world.run(3 * SECOND);
    let reader = &world.hosts[1].readers[&channel];
    let gap = reader.longest_gap(died.saturating_sub(50 * MS), died + 2 * SECOND);
    let other = world.network.way(1 - busiest, 0).tally;
    assert!(other.bytes > 10_000, "the other link carries it now: {other:?}");
    let dead = world.hosts[0].connection().links().any(|link| link.status == LinkStatus::Dead);
    assert!(dead, "its death is known");
    gap
}

#[test]
fn a_link_that_dies_in_silence_stalls_briefly() {
    for (name, plan) in [("100 packets/s", steady(10 * MS, 600)), ("bulk", Plan::Bulk(u64::MAX))] {
        for seed in 31..34 {
            let gap = silent_death(plan.clone(), seed);
            println!("{name}: nothing for {} ms after the death of a link", milliseconds(gap));
            assert!(gap <= 250 * MS, "{gap:?}");
        }
    }
}

#[test]
fn an_end_that_was_told_by_a_silent_link_is_told_by_another() {
    let mut world = World::on(44, &Path::rtt(30));
    let wire = world.network.add_datagrams(Path::rtt(60), Path::rtt(60));
    world.add_link(wire);
    let now = world.now;
    let channel = world.hosts[0].connection().open(now, OpenOptions::default()).unwrap();
    world.hosts[0].connection().write(now, channel, pattern::slice(0, 100)).unwrap();
    world.run(SECOND);
    // The faster one, which it takes.
    world.network.set_up(0, false);
    let now = world.now;
    world.hosts[0].connection().finish(now, channel).unwrap();
    let told = world.run_until(Duration::from_millis(150), |world| {
        world.hosts[1].events.iter().any(|(_, event)| *event == Event::Finished(channel))
    });
    assert!(told, "nothing was heard of the end");
}

#[test]
fn a_planned_switch_loses_nothing() {
    let mut world = World::on(35, &Path::bottleneck(50, 30));
    let wire = world.network.add_datagrams(Path::bottleneck(50, 40), Path::bottleneck(50, 40));
    let first = world.hosts[0].connection().links().next().unwrap().link;
    world.add_link(wire);
    let now = world.now;
    let channel = world.hosts[0].start(now, Capabilities::stream(), steady(5 * MS, 600));
    world.run(SECOND);
    let from = world.time();
    let now = world.now;
    world.hosts[0].connection().close_link(now, first);
    world.run(4 * SECOND);
    let gap = world.hosts[1].readers[&channel].longest_gap(from - 50 * MS, from + SECOND);
    let stall = stall(&world, channel, from);
    let lost = world.hosts[0].connection().stats().packets_lost;
    println!(
        "planned switch: {lost} lost, longest gap {} ms, latency + {} ms",
        milliseconds(gap),
        milliseconds(stall)
    );
    assert_eq!(lost, 0);
    assert!(gap <= 20 * MS, "{gap:?}");
    assert_eq!(world.hosts[1].readers[&channel].records.len(), 600);
    let left: Vec<_> = world.hosts[1].connection().links().map(|report| report.route).collect();
    assert_eq!(left, [world.network.route(wire, 1)]);
}

#[test]
fn a_new_address_after_an_outage_is_a_round_trip_away() {
    let mut world = World::on(36, &Path::rtt(30));
    let now = world.now;
    let channel = world.hosts[0].start(now, Capabilities::stream(), steady(10 * MS, 1000));
    world.run(SECOND);
    world.network.set_up(0, false);
    world.run(4 * SECOND);
    world.network.rebind(0);
    world.network.set_up(0, true);
    let (now, back) = (world.now, world.time());
    world.hosts[0].connection().network_changed(now);
    world.run(2 * SECOND);
    let reader = &world.hosts[1].readers[&channel];
    let first = reader.progress.iter().map(|entry| entry.0).find(|at| *at > back).unwrap() - back;
    println!("a new address after an outage: the first bytes after {} ms", milliseconds(first));
    assert!(first <= 30 * MS + 45 * MS, "{first:?}");
    world.run(10 * SECOND);
    assert_eq!(world.hosts[1].readers[&channel].records.len(), 1000);
}

/// Two links, of which one is down for so long. How long after it is up both sides know; host 0 may have a hint.
fn revival(seed: u64, down: Duration, hint: bool) -> Duration {
    let path = Path::bottleneck(50, 30);
    let mut world = World::on(seed, &path);
    let wire = world.network.add_datagrams(path.clone(), path);
    let link = world.add_link(wire);
    let now = world.now;
    world.hosts[0].start(now, Capabilities::stream(), steady(10 * MS, 100_000));
    world.run(2 * SECOND);
    let status =
        |world: &mut World, wanted| [0, 1].map(|host: usize| world.hosts[host].link(link).status == wanted);
    world.network.set_up(wire, false);
    world.run(down);
    // The other side may have had nothing to say by it.
    assert!(status(&mut world, LinkStatus::Dead)[0]);
    world.network.set_up(wire, true);
    let (now, up) = (world.now, world.time());
    if hint {
        world.hosts[0].connection().network_changed(now);
    }
    assert!(world.run_until(10 * SECOND, |world| status(world, LinkStatus::Active) == [true; 2]));
    world.time() - up
}

#[test]
fn a_link_that_is_back_is_used_soon() {
    for (down, hint, at_most) in [
        (3 * SECOND, false, SECOND + 75 * MS),
        (10_300 * MS, false, SECOND + 75 * MS),
        (29 * SECOND, false, SECOND + 75 * MS),
        (100 * SECOND, false, 5 * SECOND + 75 * MS),
        (10 * SECOND, true, 75 * MS),
        (100 * SECOND, true, 75 * MS),
    ] {
        let took = (37..42).map(|seed| revival(seed, down, hint)).max().unwrap();
        println!(
            "down for {down:?}, hint {hint}: used by both sides {} ms after it was up",
            milliseconds(took)
        );
        assert!(took <= at_most, "{took:?}");
    }
}
