//! Every place against every other, again and again: how many dials find a path, how soon, and of which kind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use towline_lab::Place;

use super::tally::{kinds, times};
use super::trial::{self, Meeting};
use crate::args::Cell;
use crate::event::{LabCell, LabEvent, LabMatrix, LabMiss};
use crate::failure::Failure;
use crate::output::Output;

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

/// Why no direct path is found from one place to the other, whoever looks for it: there is none, or it would cost others too much.
fn barrier([a, b]: [Place; 2]) -> Option<&'static str> {
    let either = |place: Place| a == place || b == place;
    let other_port = [Place::Symmetric, Place::SequentialSymmetric, Place::DoubleNat].into_iter().any(either);
    if either(Place::WebOnly) && other_port {
        Some("only TCP to port 443 leaves, and the NAT of the other gives another port")
    } else if either(Place::WebOnly) {
        None
    } else if either(Place::UdpBlocked) && either(Place::Symmetric) {
        Some("only TCP leaves, and random ports are not looked for by TCP")
    } else if a == b && a == Place::Symmetric {
        Some("both NATs have a random port for each destination")
    } else if either(Place::Symmetric) && either(Place::SequentialSymmetric) {
        Some("one NAT has a random port for each destination, and the other one another")
    } else {
        None
    }
}

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
    meeting: Result<Meeting, Failure>,
}

impl Played {
    /// The two take turns in dialling.
    fn new([a, b]: [Place; 2], seed: u64) -> Self {
        let places = if seed % 2 == 1 { [a, b] } else { [b, a] };
        Self { seed, places, meeting: trial::play(places, seed).map(|outcome| outcome.meeting) }
    }
}

/// Puts trials together, and tells each cell when it is complete, in their order.
fn collect(
    told: mpsc::Receiver<(usize, Played)>,
    cells: &[[Place; 2]],
    request: &Request,
    output: &Output,
) -> Result<Vec<LabCell>, Failure> {
    let mut waiting: BTreeMap<usize, BTreeMap<u64, ([Place; 2], Meeting)>> = BTreeMap::new();
    let mut done = Vec::new();
    for (cell, Played { seed, places, meeting }) in told {
        waiting.entry(cell).or_default().insert(seed, (places, meeting?));
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

fn summary(places: [Place; 2], trials: &BTreeMap<u64, ([Place; 2], Meeting)>) -> LabCell {
    let meetings: Vec<&Meeting> = trials.values().map(|(_, meeting)| meeting).collect();
    let (connected, direct) = times(&meetings);
    let missed = trials.iter().filter(|(_, (_, meeting))| meeting.direct.is_none());
    // Where none does, one stands for all.
    let told = if direct.is_none() { 1 } else { MOST_MISSES };
    let misses = missed.take(told).map(|(seed, (places, meeting))| LabMiss {
        seed: *seed,
        dialler: places[0].name().to_owned(),
        answerer: places[1].name().to_owned(),
        connected: meeting.connected.is_ok(),
        why: meeting.connected.as_ref().err().or(meeting.why.as_ref()).cloned(),
    });
    LabCell {
        places: places.map(|place| place.name().to_owned()),
        tcp_ports: trial::ports(places).to_vec(),
        trials: trials.len(),
        connected,
        relayed: meetings.iter().filter(|meeting| meeting.is_relayed()).count(),
        kinds: kinds(&meetings),
        misses: misses.collect(),
        barrier: barrier(places).map(str::to_owned),
        direct,
    }
}
