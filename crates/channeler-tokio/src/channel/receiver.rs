//! The receiving half of a channel.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};
use towline_channeler::{ChannelId, Code, Read, ReadError, Reason};

use super::half::{Half, kind};
use crate::{Wakes, connection::park};

/// Bytes read before the driver has a look at the windows.
const LOOK: usize = 64 << 10;

/// The receiving half of a channel.
///
/// Dropped before the end was read, it asks the peer to send no more ([`Code::DROPPED`]).
#[derive(Debug)]
pub struct Receiver {
    half: Half,
    finished: bool,
}

impl Receiver {
    pub(super) fn new(half: Half) -> Self {
        Self { half, finished: false }
    }

    /// The channel's id.
    pub fn id(&self) -> ChannelId {
        self.half.id
    }

    /// Receives one message, or some bytes of a stream, and says how many bytes; `None` at the end.
    ///
    /// A message that is longer than `buf` stays where it is, and the error says how long it is. Cancel safe.
    pub async fn recv(&mut self, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        poll_fn(|cx| self.poll_recv(cx, buf)).await
    }

    /// Receives one message of any length, or what there is of a stream; `None` at the end. Cancel safe.
    pub async fn message(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let mut message = Vec::new();
        poll_fn(|cx| {
            let (shared, id) = (self.half.shared(), self.half.id);
            let len = shared.lock().inner.readable(id).unwrap_or_default();
            message.resize(len.max(1), 0);
            self.poll_recv(cx, &mut message).map_ok(|received| {
                received.map(|len| {
                    message.truncate(len);
                    std::mem::take(&mut message)
                })
            })
        })
        .await
    }

    /// [`recv`](Self::recv), to be polled.
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<Option<usize>, ReadError>> {
        if self.finished {
            return Poll::Ready(Ok(None));
        }
        let (shared, id) = (self.half.shared(), self.half.id);
        let mut guard = shared.lock();
        let state = &mut *guard;
        let mut wakes = Wakes::default();
        let read = match state.inner.read(towline_net::now(), id, buf) {
            // The connection speaks of the channel as a whole, and forgets it when it has ended.
            Err(error @ (ReadError::Ended(_) | ReadError::Unknown)) => {
                state.settle(shared, &mut wakes);
                match state.ended(id) {
                    _ if state.is_read(id) => Ok(Read::Finished),
                    Some(reason) => Err(ReadError::Ended(reason)),
                    None => Err(error),
                }
            }
            // Nothing more will come.
            Err(ReadError::Blocked) => {
                state.ended(id).map_or(Err(ReadError::Blocked), |reason| Err(ReadError::Ended(reason)))
            }
            read => read,
        };
        let (outcome, look) = match read {
            Ok(Read::Data(len)) => {
                // Messages have a window of their own.
                state.consumed += len.max(LOOK / 64);
                (Poll::Ready(Ok(Some(len))), state.consumed >= LOOK)
            }
            Ok(Read::Finished) => {
                self.finished = true;
                (Poll::Ready(Ok(None)), true)
            }
            Err(ReadError::Blocked) => {
                if let Some(slot) = state.channels.get_mut(&id) {
                    park(&mut slot.read, cx);
                }
                (Poll::Pending, state.consumed > 0)
            }
            Err(error) => (Poll::Ready(Err(error)), false),
        };
        if look {
            wakes.extend(state.kick());
        }
        drop(guard);
        wakes.wake();
        outcome
    }

    /// Asks the peer to send no more; what it sends is dropped. The own direction goes on.
    pub fn stop(&mut self, code: Code) {
        self.finished = true;
        let id = self.half.id;
        let _ = self.half.shared().with(|state, now| state.inner.stop(now, id, code));
    }

    /// Waits until the channel has ended, and says how.
    pub async fn closed(&self) -> Reason {
        self.half.status(|state| state.ended(self.half.id)).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let (id, finished) = (self.half.id, self.finished);
        self.half.let_go(|state| {
            if !finished {
                let _ = state.inner.stop(towline_net::now(), id, Code::DROPPED);
            }
        });
    }
}

fn read_error(error: ReadError) -> io::Error {
    let kind = match error {
        ReadError::Ended(reason) => kind(reason),
        ReadError::TooShort(_) => io::ErrorKind::InvalidInput,
        ReadError::Blocked | ReadError::Unknown => io::ErrorKind::NotConnected,
    };
    io::Error::new(kind, error)
}

/// Bytes of a stream, or a whole message at a time.
impl AsyncRead for Receiver {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unfilled = buf.initialize_unfilled();
        if unfilled.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.poll_recv(cx, unfilled)
            .map_ok(|received| buf.advance(received.unwrap_or_default()))
            .map_err(read_error)
    }
}
