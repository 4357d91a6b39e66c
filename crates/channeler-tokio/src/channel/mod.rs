//! A channel as the program holds it.

mod half;
mod receiver;
mod sender;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use towline_channeler::{Capabilities, ChannelId, Code, Placement, Priority, ReadError, Reason, WriteError};

use self::half::Half;
pub use self::{receiver::Receiver, sender::Sender};
use crate::connection::{Owner, Shared};

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

impl Channel {
    pub(crate) fn new(owner: Arc<Owner>, id: ChannelId, capabilities: Capabilities, label: Vec<u8>) -> Self {
        let label: Arc<[u8]> = label.into();
        let half = |owner, label| Half { owner, id, capabilities, label };
        Self {
            sender: Sender::new(half(Arc::clone(&owner), Arc::clone(&label))),
            receiver: Receiver::new(half(owner, label)),
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
        self.sender.half.act(|inner, now, id| inner.update_keys(now, id).map(drop));
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
