//! The eight combinations of the axes in all kinds of weather: order, no duplicates, no silent loss, and an end exactly when it
//! was promised.

use std::time::Duration;

use towline_channeler::{Capabilities, Reason, Resend};

use crate::support::{
    way::{Burst, Path, Reorder},
    world::World,
    writer::Plan,
};

const COUNT: u64 = 200;

#[derive(Clone, Copy, Debug)]
enum Weather {
    Scattered,
    Burst,
    Reorder,
    Duplicate,
}

impl Weather {
    fn path(self, loss: f64) -> Path {
        let path = Path::rtt(30);
        match self {
            Self::Scattered => path.with_loss(loss),
            Self::Burst => Path { burst: (loss > 0.0).then(|| Burst::of(loss, 5.0)), ..path },
            Self::Reorder => {
                let reorder = Some(Reorder { share: 0.1, by: Duration::from_millis(9) });
                Path { reorder, ..path }.with_loss(loss)
            }
            Self::Duplicate => Path { duplicate: 0.2, ..path }.with_loss(loss),
        }
    }
}

/// What became of the records of one channel.
#[derive(Debug)]
struct Outcome {
    missing: u64,
    /// As the writing side said, and as the reading side said.
    lost: [u64; 2],
    ended: Reason,
}

fn run(capabilities: Capabilities, weather: Weather, loss: f64, seed: u64) -> Outcome {
    let mut world = World::on(seed, &Path::rtt(30));
    world.network.each_way(0, |path| *path = weather.path(loss));
    let plan = Plan::Records { count: COUNT, every: Duration::from_millis(4), sizes: 30..=2600 };
    let now = world.now;
    let channel = world.hosts[0].start(now, capabilities, plan);
    let told = |world: &mut World| {
        world.hosts.iter().all(|host| host.readers.get(&channel).is_some_and(|reader| reader.ended.is_some()))
    };
    let ended = world.run_until(Duration::from_mins(2), told);
    let about = || format!("{capabilities:?}, {weather:?} {loss}, seed {seed}");
    assert!(ended, "{}: no end, {:?}", about(), world.hosts[1].readers.get(&channel));
    for host in &world.hosts {
        assert_eq!(host.closed, None, "{}", about());
    }
    let reasons = world.hosts.each_ref().map(|host| host.readers[&channel].ended.unwrap());
    assert_eq!(reasons[0], reasons[1], "{}: both sides say the same", about());
    let told = |host: usize, side: usize| world.hosts[host].lost.get(&channel).map_or(0, |lost| lost[side]);
    Outcome {
        missing: COUNT - world.hosts[1].readers[&channel].records.len() as u64,
        lost: [told(0, 0), told(1, 1)],
        ended: reasons[0],
    }
}

fn check(capabilities: Capabilities, loss: f64) {
    for weather in [Weather::Scattered, Weather::Burst, Weather::Reorder, Weather::Duplicate] {
        let seed = (loss * 100.0) as u64;
        let outcome = run(capabilities, weather, loss, seed);
        let about = format!("{capabilities:?}, {weather:?} {loss}: {outcome:?}");
        let Outcome { missing, lost: [sender, receiver], ended } = outcome;
        let repaired = capabilities.resend != Resend::No;
        if capabilities.resend == Resend::Forever {
            assert_eq!((missing, sender, receiver, ended), (0, 0, 0, Reason::Finished), "{about}");
        } else if capabilities.close_on_loss {
            match ended {
                Reason::Finished => assert_eq!((missing, sender, receiver), (0, 0, 0), "{about}"),
                Reason::Loss => assert!(sender + receiver > 0, "{about}"),
                other => panic!("{other:?}: {about}"),
            }
        } else {
            assert_eq!(ended, Reason::Finished, "{about}");
            assert_eq!(receiver, missing, "the reader hears of each: {about}");
            assert!(!repaired || sender >= missing, "the writer hears of each: {about}");
        }
        if loss == 0.0 && !matches!(weather, Weather::Reorder) {
            assert_eq!((missing, sender, ended), (0, 0, Reason::Finished), "{about}");
        }
        if loss >= 0.05 && !repaired {
            assert!(missing > 0, "so many packets are lost that messages are: {about}");
        }
        println!("{about}");
    }
}

/// One test per combination, each with all losses.
macro_rules! combinations {
    ($($name:ident: $ordered:expr, $close:expr, $resends:expr;)*) => {$(
        #[test]
        fn $name() {
            for resend in $resends {
                for loss in [0.0, 0.01, 0.05, 0.2] {
                    check(Capabilities { ordered: $ordered, resend, close_on_loss: $close }, loss);
                }
            }
        }
    )*};
}

const REPAIRS: [Resend; 3] = [Resend::Tries(2), Resend::Until(Duration::from_millis(120)), Resend::Forever];

combinations! {
    unordered_without_repair: false, false, [Resend::No];
    unordered_without_repair_until_loss: false, true, [Resend::No];
    ordered_without_repair: true, false, [Resend::No];
    ordered_without_repair_until_loss: true, true, [Resend::No];
    unordered_with_repair: false, false, REPAIRS;
    unordered_with_repair_until_loss: false, true, REPAIRS;
    ordered_with_repair: true, false, REPAIRS;
    ordered_with_repair_until_loss: true, true, REPAIRS;
}
