//! A channel as the program holds it.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use towline_channeler::{
    Capabilities, ChannelId, Code, NoChannel, Placement, Priority, Read, ReadError, Reason, WriteError,
};

use crate::connection::{Owner, Shared, State, park};

/// Bytes written before the driver has its turn: what is written is encrypted while it lies in the caches.
const TURN: usize = 256 << 10;

/// Bytes read before the driver has a look at the windows.
const LOOK: usize = 64 << 10;

/// One of the two halves of a channel: the part that both share.
struct Half {
    owner: Arc<Owner>,
    id: ChannelId,
    capabilities: Capabilities,
    label: Arc<[u8]>,
}

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Half").field("id", &self.id).field("capabilities", &self.capabilities).finish()
    }
}

impl Half {
    fn shared(&self) -> &Arc<Shared> {
        self.owner.shared()
    }

    fn act(&self, act: impl FnOnce(&mut towline_channeler::Connection, ChannelId) -> Result<(), NoChannel>) {
        // A channel that has ended tells so when it is used.
        let _ = self.shared().with(|state, _| act(&mut state.inner, self.id));
    }

    fn reset(&self, code: Code) {
        self.shared().with(|state, now| {
            if state.ended(self.id).is_none() {
                let _ = state.inner.reset(now, self.id, code);
                state.end(self.id, code);
            }
        });
    }

    /// Waits for its acceptance or its end.
    async fn status<T>(&self, answer: impl Fn(&State) -> Option<T>) -> T {
        poll_fn(|cx| {
            let mut state = self.shared().lock();
            if let Some(answer) = answer(&state) {
                return Poll::Ready(answer);
            }
            if let Some(slot) = state.channels.get_mut(&self.id) {
                slot.watch(cx);
            }
            Poll::Pending
        })
        .await
    }

    /// The program dropped this half. `act` does what it did not.
    fn let_go(&self, act: impl FnOnce(&mut State)) {
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

/// A channel: an independent conversation within a connection, with its own order, repair and end.
///
/// A byte stream ([`Capabilities::stream`]) is read and written as [`AsyncRead`] and [`AsyncWrite`]; on every other channel
/// messages are sent and received. Both can be used on both: [`send`](Self::send) on a stream writes all bytes, and
/// [`recv`](Self::recv) reads some.
///
/// # The end
///
/// [`finish`](Self::finish) (or `shutdown`) ends the own direction in order: what was written still arrives. A channel that is
/// dropped unfinished is reset with [`Code::DROPPED`], so that nobody takes half of something for the whole; one that was
/// finished but not read to its end asks the peer to stop.
#[derive(Debug)]
pub struct Channel {
    sender: Sender,
    receiver: Receiver,
}

/// The sending half of a channel.
///
/// Dropped unfinished, it resets the channel, in both directions, with [`Code::DROPPED`].
#[derive(Debug)]
pub struct Sender {
    half: Half,
    finished: bool,
}

/// The receiving half of a channel.
///
/// Dropped before the end was read, it asks the peer to send no more ([`Code::DROPPED`]).
#[derive(Debug)]
pub struct Receiver {
    half: Half,
    finished: bool,
}

impl Channel {
    pub(crate) fn new(owner: Arc<Owner>, id: ChannelId, capabilities: Capabilities, label: Vec<u8>) -> Self {
        let label: Arc<[u8]> = label.into();
        let half = |owner, label| Half { owner, id, capabilities, label };
        Self {
            sender: Sender { half: half(Arc::clone(&owner), Arc::clone(&label)), finished: false },
            receiver: Receiver { half: half(owner, label), finished: false },
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.sender.half.shared()
    }

    /// Its id, the same on both sides.
    pub fn id(&self) -> ChannelId {
        self.sender.half.id
    }

    /// Order, repair and close-on-loss, as its opener chose.
    pub fn capabilities(&self) -> Capabilities {
        self.sender.half.capabilities
    }

    /// What it is for, as its opener said.
    pub fn label(&self) -> &[u8] {
        &self.sender.half.label
    }

    /// Both halves, for two tasks.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Sends a message: see [`Sender::send`].
    pub async fn send(&mut self, message: &[u8]) -> Result<(), WriteError> {
        self.sender.send(message).await
    }

    /// Sends a message now or not: see [`Sender::try_send`].
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), WriteError> {
        self.sender.try_send(message)
    }

    /// Receives a message: see [`Receiver::recv`].
    pub async fn recv(&mut self, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        self.receiver.recv(buf).await
    }

    /// Receives a message of any length: see [`Receiver::message`].
    pub async fn message(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        self.receiver.message().await
    }

    /// Ends the own direction in order: see [`Sender::finish`].
    pub fn finish(&mut self) {
        self.sender.finish();
    }

    /// Ends the channel at once in both directions; what was not delivered is lost. The peer is told the code.
    pub fn reset(&mut self, code: Code) {
        self.sender.half.reset(code);
    }

    /// Asks the peer to send no more: see [`Receiver::stop`].
    pub fn stop(&mut self, code: Code) {
        self.receiver.stop(code);
    }

    /// Changes its place in the order of sending.
    pub fn set_priority(&self, priority: Priority) {
        self.sender.set_priority(priority);
    }

    /// Changes the links that its packets take.
    pub fn set_placement(&self, placement: Placement) {
        self.sender.set_placement(placement);
    }

    /// Begins a new generation of its keys.
    pub fn update_keys(&self) {
        self.sender.half.act(towline_channeler::Connection::update_keys);
    }

    /// Waits until the program of the peer has accepted the channel, which needs not be waited for.
    pub async fn accepted(&self) -> Result<(), Reason> {
        self.sender.accepted().await
    }

    /// Waits until the channel has ended, and says how: [`Reason::Finished`] means that all of both directions has arrived.
    pub async fn closed(&self) -> Reason {
        self.sender.closed().await
    }
}

impl Sender {
    /// The channel's id.
    pub fn id(&self) -> ChannelId {
        self.half.id
    }

    /// Sends one message, or all these bytes of a stream. Waits while there is no room.
    ///
    /// Cancel safe on a channel of messages: a message is taken whole or not at all. On a stream some of the bytes may have
    /// been taken. It is sent, not delivered, when this returns.
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
            state.unsent_writers.push(id);
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
            driver.wake();
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
        self.half.act(|inner, id| inner.set_priority(id, priority));
    }

    /// Changes the links that its packets take.
    pub fn set_placement(&self, placement: Placement) {
        self.half.act(|inner, id| inner.set_placement(id, placement));
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

impl Receiver {
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
        let read = match state.inner.read(towline_net::now(), id, buf) {
            // The connection forgets a channel that has ended.
            Err(ReadError::Unknown) => match state.ended(id) {
                Some(Reason::Finished) => Ok(Read::Finished),
                Some(reason) => Err(ReadError::Ended(reason)),
                None => Err(ReadError::Unknown),
            },
            // Nothing more will come.
            Err(ReadError::Blocked) if state.ended(id).is_some() => {
                Err(ReadError::Ended(state.ended(id).unwrap_or(Reason::Connection)))
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
        let driver = if look { state.kick() } else { None };
        drop(guard);
        if let Some(driver) = driver {
            driver.wake();
        }
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

fn kind(reason: Reason) -> io::ErrorKind {
    match reason {
        Reason::Finished => io::ErrorKind::BrokenPipe,
        Reason::Local(_) => io::ErrorKind::ConnectionAborted,
        Reason::Peer(_) | Reason::Loss => io::ErrorKind::ConnectionReset,
        Reason::Connection => io::ErrorKind::NotConnected,
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

fn write_error(error: WriteError) -> io::Error {
    let kind = match error {
        WriteError::Ended(reason) => kind(reason),
        WriteError::TooLong(_) => io::ErrorKind::InvalidInput,
        WriteError::Finished => io::ErrorKind::BrokenPipe,
        WriteError::Blocked | WriteError::Unknown => io::ErrorKind::NotConnected,
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

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.receiver).poll_read(cx, buf)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.sender).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sender).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sender).poll_shutdown(cx)
    }
}
