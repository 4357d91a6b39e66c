//! Every place against every other, again and again: how many dials find a path, how soon, and of which kind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use towline::PathKind;
use towline_lab::Place;

use super::trial::{self, Outcome};
use crate::args::Cell;
use crate::event::{LabCell, LabEvent, LabMatrix, LabMiss, LabSpread};
use crate::failure::Failure;
use crate::output::Output;
use crate::text::milliseconds;

/// The rows and columns.
const PLACES: [Place; 8] = [
    Place::Open,
    Place::FullCone,
    Place::PortRestricted,
    Place::Symmetric,
    Place::SequentialSymmetric,
    Place::DoubleNat,
    Place::UdpBlocked,
    Place::WebOnly,
];
/// Trials of a cell that are told one by one if they found no direct path and others did.
const MOST_MISSES: usize = 5;

/// Trials that wait to be put together; who has played more waits.
const WAITING: usize = 64;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) seeds: u64,
    /// Only these; all if empty.
    pub(super) cells: Vec<Cell>,
    /// The table as it stands in a README.
    pub(super) markdown: bool,
}

/// Plays all trials on all processors.
pub(super) fn play(request: &Request, output: &Output, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let pairs = (0..PLACES.len()).flat_map(|a| (a..PLACES.len()).map(move |b| [PLACES[a], PLACES[b]]));
    let cells: Vec<[Place; 2]> = if request.cells.is_empty() {
        pairs.collect()
    } else {
        request.cells.iter().map(|cell| cell.0).collect()
    };
    let (begun, next) = (Instant::now(), AtomicUsize::new(0));
    let (tell, told) = mpsc::sync_channel(WAITING);
    let seeds = request.seeds as usize;
    let work = |tell: mpsc::SyncSender<(usize, Played)>| {
        while !stop.load(Ordering::Relaxed) {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let Some(places) = cells.get(job / seeds) else { return };
            let played = Played::new(*places, (job % seeds) as u64 + 1);
            if tell.send((job / seeds, played)).is_err() {
                return;
            }
        }
    };
    let table = std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let tell = tell.clone();
            scope.spawn(move || work(tell));
        }
        drop(tell);
        collect(told, &cells, request, output)
    })?;
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::Interrupted);
    }
    let places = if request.cells.is_empty() {
        PLACES.map(|place| place.name().to_owned()).to_vec()
    } else {
        Vec::new()
    };
    let matrix =
        LabMatrix { places, seeds: request.seeds, seconds: begun.elapsed().as_secs_f64(), cells: table };
    if request.markdown {
        output.plain(&matrix.markdown());
    } else {
        output.say(&LabEvent::Matrix(matrix).into());
    }
    Ok(())
}

/// A trial that was played.
struct Played {
    seed: u64,
    /// Who dialled comes first.
    places: [Place; 2],
    outcome: Result<Outcome, Failure>,
}

impl Played {
    /// The two take turns in dialling.
    fn new([a, b]: [Place; 2], seed: u64) -> Self {
        let places = if seed % 2 == 1 { [a, b] } else { [b, a] };
        Self { seed, places, outcome: trial::play(places, seed) }
    }
}

/// Puts trials together, and tells each cell when it is complete, in their order.
fn collect(
    told: mpsc::Receiver<(usize, Played)>,
    cells: &[[Place; 2]],
    request: &Request,
    output: &Output,
) -> Result<Vec<LabCell>, Failure> {
    let mut waiting: BTreeMap<usize, BTreeMap<u64, ([Place; 2], Outcome)>> = BTreeMap::new();
    let mut done = Vec::new();
    for (cell, Played { seed, places, outcome }) in told {
        waiting.entry(cell).or_default().insert(seed, (places, outcome?));
        while let Some(complete) = waiting.remove(&done.len()) {
            if complete.len() < request.seeds as usize {
                waiting.insert(done.len(), complete);
                break;
            }
            let cell = summary(cells[done.len()], &complete);
            if !request.markdown {
                output.say(&LabEvent::Cell(cell.clone()).into());
            }
            done.push(cell);
        }
    }
    Ok(done)
}

fn summary(places: [Place; 2], trials: &BTreeMap<u64, ([Place; 2], Outcome)>) -> LabCell {
    let outcomes = || trials.values().map(|(_, outcome)| outcome);
    let connected = outcomes().filter_map(|outcome| outcome.connected.as_ref().ok().copied()).collect();
    let direct: Vec<Duration> = outcomes().filter_map(|outcome| outcome.direct).collect();
    let mut kinds = BTreeMap::new();
    for kind in outcomes().filter_map(|outcome| outcome.last) {
        *kinds.entry(word(kind).to_owned()).or_default() += 1;
    }
    let missed = trials.iter().filter(|(_, (_, outcome))| outcome.direct.is_none());
    // Where none does, one stands for all.
    let told = if direct.is_empty() { 1 } else { MOST_MISSES };
    let misses = missed.take(told).map(|(seed, (places, outcome))| LabMiss {
        seed: *seed,
        dialler: places[0].name().to_owned(),
        answerer: places[1].name().to_owned(),
        why: outcome.connected.as_ref().err().cloned(),
    });
    LabCell {
        places: places.map(|place| place.name().to_owned()),
        trials: trials.len(),
        connected: LabSpread::of(connected),
        direct: LabSpread::of(direct),
        relayed: outcomes().filter(|outcome| outcome.is_relayed()).count(),
        kinds,
        misses: misses.collect(),
    }
}

/// A kind of path in a few letters.
pub(super) fn word(kind: PathKind) -> &'static str {
    match (kind.is_tcp(), kind.is_relayed()) {
        (true, false) => "tcp",
        (false, false) => "udp",
        (true, true) => "relayed tcp",
        (false, true) => "relayed udp",
    }
}

impl LabSpread {
    /// `None` if there is nothing to be told.
    pub(super) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        // The smallest time that this share of all does not exceed.
        let at = |percent: usize| {
            milliseconds(times[(times.len() * percent).div_ceil(100).clamp(1, last + 1) - 1])
        };
        Some(Self { count: times.len(), p50_ms: at(50), p95_ms: at(95), p99_ms: at(99) })
    }
}
