//! Who waits for a channel.

use std::task::{Context, Waker};

use towline_channeler::Reason;

use crate::Wakes;

/// What the tasks know of a channel.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) read: Option<Waker>,
    pub(crate) write: Option<Waker>,
    /// Its writer is among those that wait until the driver has run.
    pub(crate) queued: bool,
    /// Those who wait for its acceptance or its end.
    pub(crate) status: Vec<Waker>,
    /// The peer's program accepted it.
    pub(crate) accepted: bool,
    /// The peer's direction was read to its end.
    pub(crate) finished: bool,
    pub(crate) ended: Option<Reason>,
    /// Halves that the program holds: the sending one, the receiving one.
    pub(crate) halves: u8,
}

impl Slot {
    /// A channel of which the program holds both halves.
    pub(crate) fn held() -> Self {
        Self { halves: 2, ..Self::default() }
    }

    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) {
        wakes.extend(self.read.take());
        wakes.extend(self.write.take());
        wakes.extend(self.status.drain(..));
    }

    /// Wakes this task when something about the channel as a whole changes.
    pub(crate) fn watch(&mut self, cx: &Context<'_>) {
        watch(&mut self.status, cx);
    }
}

/// Puts the waker of this task among others, once.
pub(crate) fn watch(waiting: &mut Vec<Waker>, cx: &Context<'_>) {
    if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
        waiting.push(cx.waker().clone());
    }
}

/// Puts the waker of this task into a place for one.
pub(crate) fn park(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}
