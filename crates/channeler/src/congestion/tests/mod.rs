//! Controllers on a simulated bottleneck.

mod arbitrary;
mod sharing;
mod sim;

use std::time::Duration;

use self::sim::{MBIT, MTU, Path, Source, World};
use super::{Algorithm, Controller, Ledbat};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Flows of these algorithms that begin at these seconds.
fn world(path: Path, flows: &[(Algorithm, u32)]) -> World {
    let mut world = World::new(path, 42);
    for (&(algorithm, start), seed) in flows.iter().zip(0..) {
        let start = SECOND * start;
        let control = Controller::new(algorithm, world.began() + start, MTU as u16, seed);
        world.add(control, Source::Bulk, start);
    }
    world
}

const BBR: (Algorithm, u32) = (Algorithm::Bbr, 0);
const CUBIC: (Algorithm, u32) = (Algorithm::Cubic, 0);

#[test]
fn bbr_takes_no_random_loss_for_congestion() {
    // What is lost behind the bottleneck took its part of it: 95 % is all that there is at 5 %.
    for (loss, begin, steady) in [(0, 90, 97), (1, 88, 95), (2, 85, 94), (5, 78, 88), (10, 70, 79)] {
        let mut world = world(Path::new(100, 50, 100).loss(loss), &[BBR]);
        let goodput = world.run(5 * SECOND)[0];
        assert!(goodput >= begin, "{loss} %: {goodput} % in the first five seconds");
        let goodput = world.run(20 * SECOND)[0];
        assert!(goodput >= steady, "{loss} %: {goodput} %");
    }
}

#[test]
fn bbr_fills_a_gigabit_over_a_tenth_of_a_second() {
    let mut world = world(Path { ack_every: 16, ..Path::new(1000, 100, 100) }, &[BBR]);
    let begin = world.run(3 * SECOND)[0];
    assert!(begin >= 60, "{begin} %");
    let steady = world.run(10 * SECOND)[0];
    assert!(steady >= 97, "{steady} %");
    assert!(world.seen.average() < 20 * MS, "{:?}", world.seen.average());
}

#[test]
fn cubic_reaches_and_keeps_a_clean_link() {
    for (buffer, least) in [(100, 98), (25, 97), (10, 88)] {
        let mut world = world(Path::new(100, 50, buffer), &[CUBIC]);
        world.run(5 * SECOND);
        let steady = world.run(25 * SECOND)[0];
        assert!(steady >= least, "buffer {buffer} %: {steady} %");
    }
}

#[test]
fn queue_of_bbr_is_short_however_deep_the_buffer() {
    for buffer in [100, 400] {
        let mut world = world(Path::new(100, 50, buffer), &[BBR]);
        world.run(3 * SECOND);
        let steady = world.run(20 * SECOND)[0];
        assert!(steady >= 97, "{steady} %");
        assert!(world.seen.average() < 4 * MS, "{:?}", world.seen.average());
        assert!(world.seen.longest < 35 * MS, "{:?}", world.seen.longest);
        assert_eq!(world.seen.dropped, 0);
    }
}

#[test]
fn bbr_on_short_buffers_loses_little() {
    for (buffer, least) in [(3, 82), (5, 85), (10, 92), (25, 96)] {
        let mut world = world(Path::new(100, 50, buffer), &[BBR]);
        world.run(3 * SECOND);
        let steady = world.run(20 * SECOND)[0];
        assert!(steady >= least, "buffer {buffer} %: {steady} %");
        assert!(world.seen.drop_rate() <= 5, "buffer {buffer} %: {} per thousand", world.seen.drop_rate());
    }
}

#[test]
fn bbr_follows_a_rate_that_falls_to_a_fifth_and_comes_back() {
    for buffer in [50, 200] {
        let mut world = world(Path::new(100, 50, buffer), &[BBR]);
        world.run(8 * SECOND);
        world.path.rate /= 5;
        world.run(10 * SECOND);
        let slow = world.run(15 * SECOND)[0];
        assert!(slow >= 95, "{slow} %");
        assert!(
            world.seen.longest < 60 * MS,
            "the queue is gone after two seconds: {:?}",
            world.seen.longest
        );
        world.path.rate *= 5;
        world.run(18 * SECOND);
        let fast = world.run(22 * SECOND)[0];
        assert!(fast >= 93, "{fast} %");
    }
}

#[test]
fn cubic_follows_a_rate_that_falls_to_a_fifth_and_comes_back() {
    let mut world = world(Path::new(100, 50, 100), &[CUBIC]);
    world.run(8 * SECOND);
    world.path.rate /= 5;
    world.run(10 * SECOND);
    let slow = world.run(15 * SECOND)[0];
    assert!(slow >= 97, "{slow} %");
    world.path.rate *= 5;
    world.run(20 * SECOND);
    let fast = world.run(25 * SECOND)[0];
    assert!(fast >= 90, "{fast} %");
}

#[test]
fn pause_loses_no_estimate() {
    for source in [Source::Bursts(2000), Source::Bursts(200)] {
        let mut world = World::new(Path::new(100, 50, 100), 7);
        let flow = world.add(Controller::new(Algorithm::Bbr, world.began(), MTU as u16, 1), Source::Bulk, MS);
        world.run(6 * SECOND);
        let known = world.flows[flow].control.pacing_rate().unwrap();
        world.flows[flow].source = source;
        // Nine or ten seconds without a byte, then the burst at 20 s.
        world.run(20 * SECOND);
        world.run(20 * SECOND + 50 * MS);
        let now = world.flows[flow].control.pacing_rate().unwrap();
        assert!(now >= known * 85 / 100, "{now} of {known}");
        let burst = world.run(20 * SECOND + 150 * MS)[0];
        assert!(burst >= 90, "{burst} % right after the pause");
    }
}

#[test]
fn little_traffic_loses_no_estimate() {
    let mut world = World::new(Path::new(100, 50, 100), 7);
    let flow = world.add(Controller::new(Algorithm::Bbr, world.began(), MTU as u16, 1), Source::Bulk, MS);
    world.run(6 * SECOND);
    world.flows[flow].source = Source::Steady(MBIT);
    world.flows[flow].restart_source();
    world.run(30 * SECOND);
    world.flows[flow].source = Source::Bulk;
    world.run(30 * SECOND + 200 * MS);
    let goodput = world.run(31 * SECOND)[0];
    assert!(goodput >= 93, "{goodput} %");
}

#[test]
fn acknowledgements_in_lumps_do_not_slow_it() {
    for every in [16, 64, 128] {
        for rtt in [10, 50] {
            let mut world = world(Path { ack_every: every, ..Path::new(100, rtt, 200) }, &[BBR]);
            world.run(3 * SECOND);
            let steady = world.run(10 * SECOND)[0];
            assert!(steady >= 96, "one for {every} packets, {rtt} ms: {steady} %");
        }
    }
}

#[test]
fn marks_keep_queues_short_without_loss() {
    for (algorithm, least) in [(BBR, 90), (CUBIC, 88)] {
        let mark = Some(100 * MBIT * 10 / 1000);
        let mut world = world(Path { mark, ..Path::new(100, 50, 400) }, &[algorithm]);
        world.run(5 * SECOND);
        let steady = world.run(20 * SECOND)[0];
        assert!(steady >= least, "{algorithm:?}: {steady} %");
        assert!(world.seen.longest < 40 * MS, "{algorithm:?}: {:?}", world.seen.longest);
        assert_eq!(world.seen.dropped, 0);
    }
}
