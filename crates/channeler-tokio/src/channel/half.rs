//! What both halves of a channel have.

use std::{fmt, future::poll_fn, io, sync::Arc, task::Poll, time::Instant};

use towline_channeler::{Capabilities, ChannelId, Code, NoChannel, Reason};

use crate::connection::{Owner, Place, Shared, State};

/// One of the two halves of a channel: the part that both share.
pub(super) struct Half {
    pub(super) owner: Arc<Owner>,
    pub(super) id: ChannelId,
    pub(super) capabilities: Capabilities,
    pub(super) label: Arc<[u8]>,
}

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Half")
            .field("id", &self.id)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

impl Half {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.owner.shared()
    }

    pub(super) fn act(
        &self,
        act: impl FnOnce(&mut towline_channeler::Connection, Instant, ChannelId) -> Result<(), NoChannel>,
    ) {
        // A channel that has ended tells so when it is used.
        let _ = self.shared().with(|state, now| act(&mut state.inner, now, self.id));
    }

    pub(super) fn reset(&self, code: Code) {
        self.shared().with(|state, now| {
            if state.ended(self.id).is_none() {
                let _ = state.inner.reset(now, self.id, code);
                state.end(self.id, code);
            }
        });
    }

    /// Waits for its acceptance or its end.
    pub(super) async fn status<T>(&self, answer: impl Fn(&State) -> Option<T>) -> T {
        let mut place = Place::new(self.shared(), Some(self.id));
        poll_fn(|cx| {
            let mut state = self.shared().lock();
            if let Some(answer) = answer(&state) {
                return Poll::Ready(answer);
            }
            place.watch(&mut state, cx);
            Poll::Pending
        })
        .await
    }

    /// The program dropped this half. `act` does what it did not.
    pub(super) fn let_go(&self, act: impl FnOnce(&mut State)) {
        self.shared().with(|state, _| {
            if state.ended(self.id).is_none() {
                act(state);
            }
            if let Some(slot) = state.channels.get_mut(&self.id) {
                slot.halves -= 1;
                if slot.halves == 0 && slot.ended.is_some() {
                    state.channels.remove(&self.id);
                }
            }
        });
    }
}

/// What the error of a channel is called elsewhere.
pub(super) fn kind(reason: Reason) -> io::ErrorKind {
    match reason {
        Reason::Finished => io::ErrorKind::BrokenPipe,
        Reason::Local(_) => io::ErrorKind::ConnectionAborted,
        Reason::Peer(_) | Reason::Loss => io::ErrorKind::ConnectionReset,
        Reason::Connection => io::ErrorKind::NotConnected,
    }
}
