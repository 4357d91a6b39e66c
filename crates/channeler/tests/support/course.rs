//! One path, what goes through it and what becomes of it: a line of the table in `courses`.

use std::time::{Duration, Instant};

use towline_channeler::{Algorithm, Capabilities, ChannelId, Config, OpenOptions, Priority};

use super::{figures::percentile, way::Path, world::World, writer::Plan};

/// How often the queue is looked at.
const TICK: Duration = Duration::from_millis(5);

/// A bulk transfer by a connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub algorithm: Algorithm,
    pub priority: Priority,
    /// Milliseconds from the start at which it begins.
    pub begins: u64,
    /// Milliseconds of its round trip, if it is not that of the path.
    pub rtt: Option<u64>,
}

impl Flow {
    /// Begins at this many milliseconds.
    pub fn new(algorithm: Algorithm, begins: u64) -> Self {
        Self { algorithm, priority: Priority::default(), begins, rtt: None }
    }

    /// With a round trip of its own, in milliseconds.
    pub fn rtt(self, rtt: u64) -> Self {
        Self { rtt: Some(rtt), ..self }
    }

    pub fn background(self) -> Self {
        Self { priority: Priority::BACKGROUND, ..self }
    }
}

/// What becomes of the way forth in mid-flow.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Megabits per second. The queue has as many bytes as before.
    Rate(u64),
    /// Whether anything passes.
    Up(bool),
    /// Datagrams longer than that vanish.
    Mtu(usize),
}

/// What must hold for every seed of the proofs.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Share of what the bottleneck could carry that readers got, together.
    pub goodput: f64,
    /// Share of packets that a full queue or a policer dropped, at most.
    pub dropped: f64,
    /// Milliseconds of queue that 95 of 100 moments do not exceed.
    pub queue: u64,
    /// What the poorest flow got of an equal share.
    pub poorest: f64,
}

/// A path, and flows through it.
#[derive(Clone, Debug)]
pub struct Course {
    pub name: &'static str,
    pub forth: Path,
    pub back: Path,
    pub flows: Vec<Flow>,
    /// At these milliseconds.
    pub changes: Vec<(u64, Change)>,
    /// Milliseconds between which it is measured.
    pub span: (u64, u64),
    pub floor: Floor,
}

/// What one run showed.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub goodput: f64,
    pub dropped: f64,
    pub queue: Duration,
    /// What each flow got of what the bottleneck could carry.
    pub shares: Vec<f64>,
}

impl Figures {
    /// What the poorest flow got of an equal share.
    pub fn poorest(&self) -> f64 {
        self.shares.iter().copied().fold(f64::INFINITY, f64::min) * self.shares.len() as f64
    }
}

impl Course {
    /// One flow of BBR, measured from second 2 to 10.
    pub fn new(name: &'static str, path: Path) -> Self {
        let back =
            Path { delay: path.delay, rate: path.rate, queue: path.queue.max(100_000), ..Path::default() };
        Self {
            name,
            forth: path,
            back,
            flows: vec![Flow::new(Algorithm::Bbr, 0)],
            changes: Vec::new(),
            span: (2000, 10_000),
            floor: Floor { goodput: 0.9, dropped: 0.02, queue: 1000, poorest: 0.0 },
        }
    }

    pub fn span(self, from: u64, to: u64) -> Self {
        Self { span: (from, to), ..self }
    }

    pub fn back(self, back: impl FnOnce(&mut Path)) -> Self {
        let mut course = self;
        back(&mut course.back);
        course
    }

    pub fn flows(self, flows: &[Flow]) -> Self {
        Self { flows: flows.to_vec(), ..self }
    }

    pub fn changes(self, changes: &[(u64, Change)]) -> Self {
        Self { changes: changes.to_vec(), ..self }
    }

    /// Goodput at least, dropped at most, both in percent, and milliseconds of queue at most.
    pub fn floor(self, goodput: u32, dropped: f64, queue: u64) -> Self {
        let floor =
            Floor { goodput: f64::from(goodput) / 100.0, dropped: dropped / 100.0, queue, ..self.floor };
        Self { floor, ..self }
    }

    /// Percent of an equal share that every flow gets at least.
    pub fn poorest(self, percent: u32) -> Self {
        Self { floor: Floor { poorest: f64::from(percent) / 100.0, ..self.floor }, ..self }
    }

    /// Bytes that the bottleneck could carry while it is measured.
    fn capacity(&self) -> f64 {
        let mut rate = self.forth.rate.expect("a course has a rate") as f64;
        let (mut up, mut since, mut sum) = (1.0, 0, 0.0);
        let (from, to) = self.span;
        let end = (to, Change::Up(true));
        for &(at, change) in self.changes.iter().chain([&end]) {
            let time = at.clamp(from, to) - u64::max(since, from).min(at.clamp(from, to));
            sum += rate * up * time as f64 / 1000.0;
            since = at;
            match change {
                Change::Rate(megabits) => rate = megabits as f64 * 125_000.0,
                Change::Up(is) => up = f64::from(u8::from(is)),
                Change::Mtu(_) => {}
            }
        }
        sum
    }

    fn worlds(&self, start: Instant, seed: u64) -> Vec<World> {
        let mut worlds: Vec<World> = Vec::new();
        for (number, flow) in self.flows.iter().enumerate() {
            let with = |path: &Path| {
                let delay = flow.rtt.map_or(path.delay, |rtt| Duration::from_micros(rtt * 500));
                Path { delay, ..path.clone() }
            };
            let config = Config { congestion: flow.algorithm, ..Config::default() };
            let seed = seed + 1000 * number as u64;
            let mut world = World::at(start, seed, config).connect_by(with(&self.forth), with(&self.back));
            if let Some(first) = worlds.first_mut() {
                for from in 0..2 {
                    world.network.way(0, from).share_queue(first.network.way(0, from));
                }
            }
            worlds.push(world);
        }
        worlds
    }

    fn apply(worlds: &mut [World], now: Instant, change: Change) {
        for (number, world) in worlds.iter_mut().enumerate() {
            let way = world.network.way(0, 0);
            match change {
                Change::Rate(megabits) if number == 0 => way.set_rate(now, megabits * 125_000),
                Change::Rate(megabits) => way.path.rate = Some(megabits * 125_000),
                Change::Up(up) => way.path.up = up,
                Change::Mtu(mtu) => way.path.mtu = mtu,
            }
        }
    }

    /// One run. The same seed gives the same figures.
    pub fn run(&self, seed: u64) -> Figures {
        let mut worlds = self.worlds(Instant::now(), seed);
        let start = worlds.iter().map(|world| world.now).max().expect("at least one flow");
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let (from, to) = (at(self.span.0), at(self.span.1));
        let mut channels: Vec<Option<ChannelId>> = vec![None; worlds.len()];
        let mut changes = self.changes.iter().peekable();
        let (mut now, mut waits, mut before) = (start, Vec::new(), Vec::new());
        loop {
            while let Some((_, change)) = changes.next_if(|(when, _)| at(*when) <= now) {
                Self::apply(&mut worlds, now, *change);
            }
            for (number, (world, channel)) in worlds.iter_mut().zip(&mut channels).enumerate() {
                let Flow { priority, begins, .. } = self.flows[number];
                if channel.is_none() && at(begins) <= now {
                    world.now = now;
                    let options = OpenOptions {
                        capabilities: Capabilities::stream(),
                        priority,
                        ..OpenOptions::default()
                    };
                    *channel = Some(world.hosts[0].start_with(now, &options, Plan::Bulk(u64::MAX), true));
                }
            }
            if now == from {
                before = worlds.iter_mut().map(|world| world.network.way(0, 0).tally).collect();
            }
            if now >= to {
                break;
            }
            now += TICK;
            World::run_together(&mut worlds, now);
            if now > from && !self.forth.policed {
                waits.push(worlds[0].network.way(0, 0).waiting(now));
            }
        }
        let capacity = self.capacity();
        let (mut sent, mut dropped, mut shares) = (0, 0, Vec::new());
        for ((world, channel), before) in worlds.iter_mut().zip(channels).zip(before) {
            let channel = channel.expect("every flow began");
            let (from, to) = (from - world.start, to - world.start);
            let rate = world.hosts[1].readers.get(&channel).map_or(0.0, |reader| reader.rate(from, to));
            shares.push(rate * (to - from).as_secs_f64() / capacity);
            let tally = world.network.way(0, 0).tally;
            sent += tally.sent - before.sent;
            dropped += tally.overflowed - before.overflowed;
        }
        Figures {
            goodput: shares.iter().sum(),
            dropped: dropped as f64 / sent.max(1) as f64,
            queue: if waits.is_empty() { Duration::ZERO } else { percentile(&waits, 0.95) },
            shares,
        }
    }
}

impl Floor {
    /// What of it does not hold.
    pub fn broken(&self, seen: &Figures) -> Vec<String> {
        let mut broken = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                broken.push(what);
            }
        };
        check(seen.goodput >= self.goodput, format!("goodput {:.3} < {:.3}", seen.goodput, self.goodput));
        check(seen.dropped <= self.dropped, format!("dropped {:.4} > {:.4}", seen.dropped, self.dropped));
        let queue = Duration::from_millis(self.queue);
        check(seen.queue <= queue, format!("queue {:?} > {queue:?}", seen.queue));
        let poorest = seen.poorest();
        check(poorest >= self.poorest, format!("poorest {poorest:.3} < {:.3}", self.poorest));
        broken
    }
}
