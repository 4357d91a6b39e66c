//! An agent whose next deadline is remembered.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use towline_ice::Agent;

/// An agent, and when it wants to be called. To find that out it looks at each of its pairs, and it is asked with every packet of a
/// connection; so that is done anew only after somebody had a hand on it.
#[derive(Debug)]
pub(in crate::connection::bundle) struct Timed {
    agent: Agent,
    due: Cell<Due>,
}

/// What is known of the next deadline.
#[derive(Debug, Clone, Copy)]
enum Due {
    Unknown,
    At(Option<Instant>),
}

impl Timed {
    pub(super) fn new(agent: Agent) -> Self {
        Self { agent, due: Cell::new(Due::Unknown) }
    }

    /// The same as [`Agent::poll_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if let Due::At(due) = self.due.get() {
            return due;
        }
        let due = self.agent.poll_timeout();
        self.due.set(Due::At(due));
        due
    }
}

impl Deref for Timed {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        &self.agent
    }
}

impl DerefMut for Timed {
    fn deref_mut(&mut self) -> &mut Agent {
        self.due.set(Due::Unknown);
        &mut self.agent
    }
}
