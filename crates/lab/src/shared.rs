//! The world: one state behind one lock.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng, rngs::StdRng};
use tokio::sync::Notify;

use crate::{
    network::Segment,
    node::{Node, NodeId, Port},
    queue::Queue,
    run::Options,
    trace::{Record, Trace},
};

/// A simulated network: hosts, the networks they are attached to, and routers between those.
///
/// A cheap handle; all clones are one world. [`run`](crate::run()) makes it.
#[derive(Clone)]
pub struct World(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    kick: Notify,
}

/// Everything there is. All of it is reached through [`World::with`].
pub(crate) struct State {
    pub(crate) options: Options,
    start: Instant,
    now: Duration,
    pub(crate) chance: StdRng,
    pub(crate) queue: Queue,
    pub(crate) nodes: Vec<Node>,
    pub(crate) ports: Vec<Port>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) trace: Trace,
    /// To be woken when the lock is free again.
    pub(crate) wake: Vec<Waker>,
    last_id: u64,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let state = State {
            start: towline_net::now(),
            now: Duration::ZERO,
            chance: StdRng::seed_from_u64(options.seed),
            queue: Queue::default(),
            nodes: Vec::new(),
            ports: Vec::new(),
            segments: Vec::new(),
            trace: Trace::new(options.timeline),
            wake: Vec::new(),
            last_id: 0,
            options,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), kick: Notify::new() }))
    }

    /// Acts on the state, then wakes whom that concerns.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A story that panics poisons nothing that matters: its world ends with it.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = towline_net::now().saturating_duration_since(state.start);
        let outcome = act(&mut state);
        let wake = std::mem::take(&mut state.wake);
        let earlier = state.queue.take_earlier();
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        if earlier {
            self.0.kick.notify_one();
        }
        outcome
    }

    /// Waits until the next thing to happen may be another than before.
    pub(crate) async fn kicked(&self) {
        self.0.kick.notified().await;
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.with(|state| state.now())
    }

    /// The record of everything that moved so far.
    pub fn trace(&self) -> Trace {
        self.with(|state| state.trace.clone())
    }

    /// What a host or router is called.
    pub fn name(&self, node: NodeId) -> String {
        self.with(|state| state.nodes[node.0].name.clone())
    }

    /// Puts a line into the trace, so that it is part of what two runs must have in common.
    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        self.with(|state| state.trace.record(Record::Note { at: state.now, text }));
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl State {
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// A seed for something in the world, other than that of a host.
    pub(crate) fn next_seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.chance.fill_bytes(&mut seed);
        seed
    }

    /// An id that was never used before.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}
