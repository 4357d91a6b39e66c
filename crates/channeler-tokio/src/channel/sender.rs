//! The sending half of a channel.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;
use towline_channeler::{ChannelId, Code, Placement, Priority, Reason, WriteError};

use super::half::{Half, kind};
use crate::{
    connection::{State, park},
    wakes::wake_last,
};

/// Bytes written before the driver has its turn: what is written is encrypted while it lies in the caches.
const TURN: usize = 256 << 10;

/// The sending half of a channel.
///
/// Dropped unfinished, it resets the channel, in both directions, with [`Code::DROPPED`].
#[derive(Debug)]
pub struct Sender {
    pub(super) half: Half,
    finished: bool,
}

impl Sender {
    pub(super) fn new(half: Half) -> Self {
        Self { half, finished: false }
    }

    /// The channel's id.
    pub fn id(&self) -> ChannelId {
        self.half.id
    }

    /// Sends one message, or all these bytes of a stream. Waits while there is no room.
    ///
    /// Cancel safe on a channel of messages: a message is taken whole or not at all. On a stream some of the bytes may have
    /// been taken.
    ///
    /// When this returns, the bytes are queued, neither sent nor delivered. What the tasks that are ready write goes out together
    /// when they have run: a task that writes and then computes holds its packet back, and what others do on this connection
    /// meanwhile may wait with it. `tokio::task::yield_now().await` after the write lets it go.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), WriteError> {
        let mut rest = message;
        loop {
            let written = poll_fn(|cx| self.poll_send(cx, rest)).await?;
            rest = &rest[written..];
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends one message if there is room, or fails with [`WriteError::Blocked`]. On a stream as many bytes as there is room
    /// for are taken and the rest is dropped: use it for messages.
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), WriteError> {
        self.half.shared().with(|state, now| match state.inner.write(now, self.half.id, message) {
            Ok(_) => Ok(()),
            Err(WriteError::Unknown) => {
                Err(state.ended(self.half.id).map_or(WriteError::Unknown, WriteError::Ended))
            }
            Err(error) => Err(error),
        })
    }

    /// Writes some bytes of a stream, or one whole message, and says how many bytes were taken. Or arranges to be woken
    /// when there is room.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, WriteError>> {
        let (shared, id) = (self.half.shared(), self.half.id);
        let mut guard = shared.lock();
        let state = &mut *guard;
        if let Some(reason) = state.ended(id) {
            return Poll::Ready(Err(WriteError::Ended(reason)));
        }
        let written = if state.unsent >= TURN {
            state.queue_writer(id);
            Err(WriteError::Blocked)
        } else {
            state.inner.write(towline_net::now(), id, bytes)
        };
        let outcome = match written {
            Err(WriteError::Blocked) => {
                let slot = state.channels.get_mut(&id).expect("a channel that has not ended is known");
                park(&mut slot.write, cx);
                Poll::Pending
            }
            Ok(written) => {
                state.unsent += written;
                Poll::Ready(Ok(written))
            }
            Err(error) => Poll::Ready(Err(error)),
        };
        let driver = state.kick();
        drop(guard);
        if let Some(driver) = driver {
            wake_last(&driver);
        }
        outcome
    }

    /// Ends this direction: what was written still arrives, as long as the connection lives, and then the peer reads the end.
    pub fn finish(&mut self) {
        self.finished = true;
        let id = self.half.id;
        // A channel that has ended tells so when it is used.
        let _ = self.half.shared().with(|state, now| state.inner.finish(now, id));
    }

    /// Ends the channel at once, in both directions; what was not delivered is lost.
    pub fn reset(&mut self, code: Code) {
        self.half.reset(code);
    }

    /// Changes the channel's place in the order of sending.
    pub fn set_priority(&self, priority: Priority) {
        self.half.act(|inner, _, id| inner.set_priority(id, priority));
    }

    /// Changes the links that its packets take.
    pub fn set_placement(&self, placement: Placement) {
        self.half.act(|inner, _, id| inner.set_placement(id, placement));
    }

    /// Waits until the program of the peer has accepted the channel.
    pub async fn accepted(&self) -> Result<(), Reason> {
        let id = self.half.id;
        let answer = |state: &State| match state.channels.get(&id) {
            Some(slot) if slot.accepted => Some(Ok(())),
            _ => state.ended(id).map(Err),
        };
        self.half.status(answer).await
    }

    /// Waits until the channel has ended, and says how.
    pub async fn closed(&self) -> Reason {
        self.half.status(|state| state.ended(self.half.id)).await
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let (id, finished) = (self.half.id, self.finished);
        self.half.let_go(|state| {
            if !finished {
                let _ = state.inner.reset(towline_net::now(), id, Code::DROPPED);
                state.end(id, Code::DROPPED);
            }
        });
    }
}

fn write_error(error: WriteError) -> io::Error {
    let kind = match error {
        WriteError::Ended(reason) => kind(reason),
        WriteError::TooLong(_) => io::ErrorKind::InvalidInput,
        WriteError::Finished => io::ErrorKind::BrokenPipe,
        WriteError::Blocked | WriteError::Unknown => io::ErrorKind::NotConnected,
    };
    io::Error::new(kind, error)
}

/// Each write is a message, if the channel is one of messages. Flushing does nothing, as writing is enough; `shutdown`
/// finishes.
impl AsyncWrite for Sender {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes).map_err(write_error)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}
