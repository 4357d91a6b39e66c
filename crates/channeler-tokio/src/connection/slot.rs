//! Who waits for a channel.

use std::{
    collections::BTreeMap,
    task::{Context, Waker},
};

use towline_channeler::{ChannelId, Reason};

use super::{Shared, State};
use crate::Wakes;

/// What the tasks know of a channel.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) read: Option<Waker>,
    pub(crate) write: Option<Waker>,
    /// Its writer is among those that wait until the driver has run.
    pub(crate) queued: bool,
    /// Those who wait for its acceptance or its end.
    pub(crate) status: Waiters,
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
        wakes.extend(self.status.take());
    }
}

/// Those who wait for the same, by numbers that are never used again.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    wakers: BTreeMap<u64, Waker>,
    next: u64,
}

impl Waiters {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.wakers.len()
    }

    pub(crate) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.wakers).into_values()
    }
}

/// A place among those who wait for a channel of the peer, or for news of this one. Who is dropped waits no more.
pub(crate) struct Place<'a> {
    shared: &'a Shared,
    channel: Option<ChannelId>,
    number: Option<u64>,
}

impl<'a> Place<'a> {
    pub(crate) fn new(shared: &'a Shared, channel: Option<ChannelId>) -> Self {
        Self { shared, channel, number: None }
    }

    /// Wakes this task at the next news.
    pub(crate) fn watch(&mut self, state: &mut State, cx: &Context<'_>) {
        let Some(waiters) = state.waiters(self.channel) else { return };
        let number = *self.number.get_or_insert(waiters.next);
        waiters.next = waiters.next.max(number + 1);
        waiters.wakers.insert(number, cx.waker().clone());
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        // The waker may be the last of its task: it goes when the lock is free.
        let _waker = self.shared.lock().waiters(self.channel).and_then(|all| all.wakers.remove(&number));
    }
}

/// Puts the waker of this task into a place for one.
pub(crate) fn park(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}
