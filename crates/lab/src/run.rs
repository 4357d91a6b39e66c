//! Running a story in virtual time.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::shared::World;

/// How a story is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// Virtual time that the story may take. Default: one day.
    pub limit: Duration,
    /// Wall clock at the start, since 1970. Default: 1,800,000,000 s, which is in January 2027.
    pub unix_start: Duration,
    /// Bytes that each end of a TCP connection buffers in each direction. Default: 1 MiB.
    pub tcp_buffer: usize,
    /// Events that the timeline of the trace keeps. Default: 10,000.
    pub timeline: usize,
}

impl Options {
    /// The defaults with this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            limit: Duration::from_hours(24),
            unix_start: Duration::from_hours(500_000),
            tcp_buffer: 1 << 20,
            timeline: 10_000,
        }
    }

    /// Runs a story to its end.
    ///
    /// Must not be called from within a tokio runtime. Tasks that the story spawned end with it.
    pub fn run<F: Future>(self, story: impl FnOnce(World) -> F) -> Result<F::Output, RunError> {
        let idle = Arc::new(Idle::default());
        let hook = Arc::clone(&idle);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_park(move || hook.parked())
            .build()
            .map_err(|error| RunError::Runtime(error.kind()))?;
        runtime.block_on(async move {
            let start = Instant::now();
            let limit = self.limit;
            let world = World::new(self);
            let pump = tokio::spawn(pump(world.clone(), start, idle));
            let story = story(world.clone());
            tokio::select! {
                biased;
                output = story => Ok(output),
                () = sleep_until(start + limit) => {
                    let last = world.trace().timeline().last().map(ToString::to_string);
                    Err(RunError::Limit { limit, last: last.unwrap_or_default() })
                }
                stopped = pump => match stopped {
                    Ok(never) => match never {},
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
            }
        })
    }
}

/// Why a story was not run to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunError {
    /// The runtime could not be made.
    #[error("no runtime: {0}")]
    Runtime(io::ErrorKind),
    /// It took too long, or waits for what never comes.
    #[error("the story has not ended after {limit:?} of virtual time; the last event was: {last}")]
    Limit {
        /// The limit that was set.
        limit: Duration,
        /// The last line of the timeline.
        last: String,
    },
}

/// Runs a story to its end with the default [`Options`].
///
/// # Panics
///
/// If it takes more than a day of virtual time, which in most cases means that it waits for what never comes.
pub fn run<F: Future>(seed: u64, story: impl FnOnce(World) -> F) -> F::Output {
    Options::new(seed).run(story).unwrap_or_else(|error| panic!("{error}"))
}

/// The news that every task waits.
#[derive(Debug, Default)]
struct Idle {
    wanted: AtomicBool,
    came: Notify,
}

impl Idle {
    /// The runtime has nothing to run and is about to wait for a timer.
    fn parked(&self) {
        if self.wanted.swap(false, Ordering::Relaxed) {
            self.came.notify_one();
        }
    }

    /// Waits until every other task waits.
    async fn wait(&self) {
        self.wanted.store(true, Ordering::Relaxed);
        self.came.notified().await;
    }
}

/// Tokio's timers fire at whole milliseconds.
const TICK: Duration = Duration::from_millis(1);

/// Moves the world through time: the one task behind all packets.
///
/// Between whole milliseconds no timer of tokio can fire, so there the clock is moved by hand to exactly the next
/// packet, whenever all tasks wait. Over longer gaps tokio moves it, from timer to timer; it is then
/// at a whole millisecond again, since this never leaves a millisecond unfinished.
async fn pump(world: World, start: Instant, idle: Arc<Idle>) -> std::convert::Infallible {
    loop {
        let next = world.with(|state| {
            state.happen();
            state.queue.next()
        });
        let now = start.elapsed();
        let tick_start = Duration::from_millis(now.as_millis() as u64);
        let tick_end = tick_start + TICK;
        if now == tick_start && next.is_none_or(|next| next >= tick_end) {
            // Nothing within this millisecond.
            let Some(next) = next else {
                world.kicked().await;
                continue;
            };
            let whole = Duration::from_millis(next.as_millis() as u64);
            tokio::select! {
                biased;
                () = world.kicked() => {}
                () = sleep_until(start + whole) => {}
            }
        } else {
            idle.wait().await;
            // While the others ran, something may have been sent that arrives earlier.
            let next = world.with(|state| state.queue.next());
            let target = next.map_or(tick_end, |next| next.min(tick_end));
            tokio::time::advance(target.saturating_sub(now)).await;
        }
    }
}
