//! Many whole devices in one network; random pairs dial each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{sleep, timeout};
use towline::dht::NodeMode;
use towline_lab::{Link, Options, Place, World};

use super::keys;
use super::tally::{kinds, times};
use super::town::{Device, Town};
use super::trial::{self, Meeting};
use crate::event::{LabCrowd, LabEvent, STEPS};
use crate::failure::Failure;
use crate::output::Output;
use crate::text::milliseconds;

/// How many of a hundred devices are where. The last four places are hard: thirty of a hundred.
const MIX: [(Place, u16); 10] = [
    (Place::Open, 10),
    (Place::FullCone, 10),
    (Place::RestrictedCone, 10),
    (Place::PortRestricted, 30),
    (Place::CarrierGrade, 5),
    (Place::DoubleNat, 5),
    (Place::Symmetric, 16),
    (Place::SequentialSymmetric, 8),
    (Place::UdpBlocked, 4),
    (Place::WebOnly, 2),
];
/// Time between two devices that start.
const STARTING: Duration = Duration::from_millis(20);
/// Time that the DHT gets to put what it holds where it belongs, when all are there.
const SETTLING: Duration = Duration::from_secs(30);
/// Time between two dials.
const DIALLING: Duration = Duration::from_millis(20);
/// Virtual time it may take.
const LONGEST: Duration = Duration::from_hours(1);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) nodes: u16,
    pub(super) dials: u16,
    /// Of a hundred devices so many serve the DHT wherever they are.
    pub(super) stubborn: u8,
    pub(super) seed: u64,
}

/// Plays it to its end.
pub(super) fn play(request: Request, output: &Output, stop: Arc<AtomicBool>) -> Result<(), Failure> {
    let begun = Instant::now();
    let options = Options { limit: LONGEST, timeline: 0, ..Options::new(request.seed) };
    let played = options.run(|world| {
        Box::pin(async move {
            tokio::select! {
                biased;
                crowd = crowd(world, request) => crowd,
                () = stopped(stop) => Err(Failure::Interrupted),
            }
        })
    });
    let crowd = played.map_err(|error| Failure::Internal(format!("the scene did not end: {error}")))?;
    output.say(&LabEvent::Crowd(LabCrowd { seconds: begun.elapsed().as_secs_f64(), ..crowd? }).into());
    Ok(())
}

/// Ready when nobody waits for the end any more.
async fn stopped(stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        sleep(Duration::from_secs(1)).await;
    }
}

async fn crowd(world: World, request: Request) -> Result<LabCrowd, Failure> {
    let mut chance = StdRng::seed_from_u64(request.seed);
    let town = Town::build(&world, false).await?;
    let mut devices = Vec::new();
    let mut places = BTreeMap::new();
    for (number, place) in (0..usize::from(request.nodes)).zip(mixed()) {
        let line = Link {
            jitter: Duration::from_millis(chance.random_range(0..5)),
            ..Link::delay(Duration::from_millis(chance.random_range(3..44)))
        };
        let name = format!("device-{number}");
        let mode = if is_stubborn(number, request.stubborn) { NodeMode::Full } else { NodeMode::Automatic };
        devices.push(town.device(&name, place, line, keys::device(number)?, mode, &[]).await?);
        *places.entry(place.name().to_owned()).or_default() += 1;
        sleep(STARTING).await;
    }
    let waiting = devices.iter().map(|device| timeout(trial::JOINING, device.node.registered()));
    let joined = join_all(waiting).await.into_iter().flatten().count();
    sleep(SETTLING).await;
    for device in &devices {
        tokio::spawn(trial::answer(device.node.clone()));
    }
    let pairs = pairs(&mut chance, request);
    let dials =
        pairs.iter().zip(0u32..).map(|((from, to), number)| dial(&devices[*from], &devices[*to], number));
    let meetings = join_all(dials).await;
    let meetings: Vec<&Meeting> = meetings.iter().collect();
    let (connected, direct) = times(&meetings);
    let mut steps = vec![0; STEPS.len() + 1];
    let mut failures = BTreeMap::new();
    for meeting in &meetings {
        match &meeting.connected {
            Ok(took) => steps[STEPS.partition_point(|step| *step < milliseconds(*took))] += 1,
            // Without the evidence, which differs from dial to dial.
            Err(why) => *failures.entry(why.split(": ").next().unwrap_or(why).to_owned()).or_default() += 1,
        }
    }
    Ok(LabCrowd {
        seed: request.seed,
        stubborn: request.stubborn,
        places,
        joined,
        dials: meetings.len(),
        connected,
        steps,
        direct,
        kinds: kinds(&meetings),
        failures,
        packets: world.trace().sent(),
        world_seconds: world.elapsed().as_secs_f64(),
        seconds: 0.0,
        trace: format!("{:016x}", world.trace().hash()),
    })
}

/// A place for each device, so that any hundred in a row are mixed as all are.
fn mixed() -> impl Iterator<Item = Place> {
    let hundred: Vec<Place> =
        MIX.iter().flat_map(|(place, count)| std::iter::repeat_n(*place, usize::from(*count))).collect();
    // 37 and 100 have no common divisor: every place comes.
    (0..).map(move |number| hundred[number * 37 % hundred.len()])
}

/// Whether the device with this number serves the DHT wherever it is, if so many of a hundred do: some at each place.
fn is_stubborn(number: usize, of_hundred: u8) -> bool {
    // Another order than that of the places, and another one in each hundred.
    (number * 63 + number / 100 * 29) % 100 < usize::from(of_hundred)
}

/// Who dials whom, no two twice.
fn pairs(chance: &mut StdRng, request: Request) -> Vec<(usize, usize)> {
    let nodes = usize::from(request.nodes);
    let most = usize::from(request.dials).min(nodes * (nodes - 1) / 2);
    let (mut pairs, mut known) = (Vec::new(), BTreeSet::new());
    while pairs.len() < most {
        let (from, to) = (chance.random_range(0..nodes), chance.random_range(0..nodes));
        if from != to && known.insert((from.min(to), from.max(to))) {
            pairs.push((from, to));
        }
    }
    pairs
}

/// The dial with this number, in its turn. What stands afterwards is closed.
async fn dial(from: &Device, to: &Device, number: u32) -> Meeting {
    sleep(DIALLING * number).await;
    let meeting = trial::meet(&from.node, &to.node).await;
    if let Some(connection) = from.node.connection(to.node.device()) {
        connection.close().await;
    }
    meeting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_ten_places_are_hard() {
        let hard: Vec<Place> = MIX[6..].iter().map(|(place, _)| *place).collect();
        assert_eq!(MIX.iter().map(|(_, count)| count).sum::<u16>(), 100);
        for from in [0, 40, 900] {
            let found = mixed().skip(from).take(100).filter(|place| hard.contains(place)).count();
            assert_eq!(found, 30);
        }
    }

    #[test]
    fn the_stubborn_are_everywhere() {
        for share in [0, 20, 50, 100] {
            let stubborn = |place| {
                let all = mixed().take(1000).enumerate().filter(|(_, other)| *other == place);
                let (count, stubborn) = all.fold((0, 0), |(count, stubborn), (number, _)| {
                    (count + 1, stubborn + usize::from(is_stubborn(number, share)))
                });
                (count, stubborn)
            };
            let of: Vec<(usize, usize)> = MIX.iter().map(|(place, _)| stubborn(*place)).collect();
            assert_eq!(of.iter().map(|it| it.1).sum::<usize>(), usize::from(share) * 10);
            assert!(of.iter().all(|(count, it)| it * 100 >= count * usize::from(share) * 2 / 3), "{of:?}");
        }
    }

    #[test]
    fn nobody_dials_itself_and_no_pair_comes_twice() {
        let request = Request { nodes: 5, dials: 100, stubborn: 0, seed: 1 };
        let pairs = pairs(&mut StdRng::seed_from_u64(1), request);
        assert_eq!(pairs.len(), 10);
        assert!(pairs.iter().all(|(from, to)| from != to));
    }
}
