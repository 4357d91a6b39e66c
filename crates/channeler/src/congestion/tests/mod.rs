//! Controllers on a simulated bottleneck.

mod sim;

use std::time::Duration;

use self::sim::{MBIT, Path, Source, World};
use super::{Algorithm, Controller};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn world(path: Path, flows: &[(Algorithm, u64)]) -> World {
    let mut world = World::new(path, 42);
    for (seed, &(algorithm, start)) in flows.iter().enumerate() {
        let start = SECOND * start as u32;
        let control = Controller::new(algorithm, world.began() + start, sim::MTU as u16, seed as u64);
        world.add(control, Source::Bulk, start);
    }
    world
}

const BBR: (Algorithm, u64) = (Algorithm::Bbr, 0);
const CUBIC: (Algorithm, u64) = (Algorithm::Cubic, 0);

#[test]
fn bbr_takes_no_random_loss_for_congestion() {
    for (loss, least) in [(0, 97), (1, 93), (2, 92), (5, 85)] {
        let mut world = world(Path::new(100, 50, 100).loss(loss), &[BBR]);
        let begin = world.run(5 * SECOND)[0];
        assert!(begin >= least - 8, "{loss} %: {begin} % in the first five seconds");
        let steady = world.run(20 * SECOND)[0];
        assert!(steady >= least, "{loss} %: {steady} %");
    }
}
