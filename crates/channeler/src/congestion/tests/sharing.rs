//! Flows that meet in one bottleneck: 100 Mbit/s, 50 ms; the second begins seven seconds after the first.

use super::*;

/// Shares in percent in each of these spans of seconds.
fn shares(buffer: u64, flows: [Algorithm; 2], spans: &[(u32, u32)]) -> Vec<[u64; 2]> {
    let mut world = world(Path::new(100, 50, buffer), &[(flows[0], 0), (flows[1], 7)]);
    let mut span = |&(from, to): &(u32, u32)| {
        world.run(SECOND * from);
        let shares = world.run(SECOND * to);
        assert!(shares[0] + shares[1] >= 88, "{flows:?}, buffer {buffer} %: {shares:?}");
        [shares[0], shares[1]]
    };
    spans.iter().map(&mut span).collect()
}

fn assert_within(factor: u64, shares: [u64; 2], what: &str) {
    assert!(shares[0] <= factor * shares[1] && shares[1] <= factor * shares[0], "{what}: {shares:?}");
}

#[test]
fn two_of_bbr_converge() {
    for buffer in [10, 50, 100, 400] {
        let shares = shares(buffer, [Algorithm::Bbr; 2], &[(17, 27), (37, 52)]);
        assert_within(4, shares[0], &format!("buffer {buffer} % after ten seconds"));
        assert_within(2, shares[1], &format!("buffer {buffer} % after half a minute"));
    }
}

#[test]
fn bbr_and_cubic_live_together() {
    for buffer in [10, 50, 100, 400] {
        for flows in [[Algorithm::Bbr, Algorithm::Cubic], [Algorithm::Cubic, Algorithm::Bbr]] {
            let shares = shares(buffer, flows, &[(20, 45)]);
            assert_within(4, shares[0], &format!("{flows:?}, buffer {buffer} %"));
        }
    }
}

#[test]
fn background_uses_an_idle_link() {
    for buffer in [50, 400] {
        let mut world = World::new(Path::new(100, 50, buffer), 3);
        world.add(Ledbat::new(world.began(), MTU as u16), Source::Bulk, Duration::ZERO);
        world.run(SECOND * 5);
        let share = world.run(SECOND * 15)[0];
        assert!(share >= 85, "buffer {buffer} %: {share} %");
        assert!(world.seen.longest < 12 * MS, "{:?}", world.seen.longest);
    }
}

#[test]
fn background_gives_way_and_comes_back() {
    for algorithm in [Algorithm::Bbr, Algorithm::Cubic] {
        for (buffer, most) in [(50, 12), (400, 12), (10, 40)] {
            let mut world = world(Path::new(100, 50, buffer), &[(algorithm, 6)]);
            let back = world.add(Ledbat::new(world.began(), MTU as u16), Source::Bulk, Duration::ZERO);
            world.stop(0, SECOND * 30);
            world.run(SECOND * 14);
            let shares = world.run(SECOND * 30);
            assert!(shares[back] <= most, "{algorithm:?}, buffer {buffer} %: {shares:?}");
            world.run(SECOND * 50);
            let alone = world.run(SECOND * 55)[back];
            assert!(alone >= 45, "{algorithm:?}, buffer {buffer} %: {alone} % afterwards");
        }
    }
}

#[test]
fn background_that_comes_later_takes_little() {
    for algorithm in [Algorithm::Bbr, Algorithm::Cubic] {
        let mut world = world(Path::new(100, 50, 100), &[(algorithm, 0)]);
        world.add(Ledbat::new(world.began(), MTU as u16), Source::Bulk, SECOND * 10);
        world.run(SECOND * 12);
        let shares = world.run(SECOND * 40);
        assert!(shares[1] <= 12 && shares[0] >= 85, "{algorithm:?}: {shares:?}");
    }
}
