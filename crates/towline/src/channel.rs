//! Channels: named two-way byte streams inside a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use towline_mux::{Capabilities, Chunk, Code, Pool, Priority, Reason};

use crate::connection::carrier::ChannelId;
use crate::connection::command::{Command, Line};
use crate::connection::flow::{Flow, Half};
use crate::error::{ChannelError, CloseReason};
use crate::info::ConnectionId;
use crate::policy::Peer;

/// A reader that finds nothing more reports what it took, from this many bytes on: a quarter of the smallest window.
const WAITING_REPORT: usize = 1024;

/// A share from which on it is handed over in large pieces, in bytes.
const LARGE_SHARE: usize = 32 * 1024;

/// What does not change during the life of a channel.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) id: ChannelId,
    pub(crate) name: Box<str>,
    pub(crate) connection: ConnectionId,
    pub(crate) peer: Arc<Peer>,
    pub(crate) opened_here: bool,
    pub(crate) capabilities: Capabilities,
    pub(crate) line: Line,
    pub(crate) pool: Pool,
    pub(crate) flow: Arc<Flow>,
}

impl Card {
    /// Sends a command that must not be lost from a place that cannot wait.
    fn dropped(&self, half: Half) {
        if let Err(mpsc::error::TrySendError::Full(_)) =
            self.line.commands.try_send(Command::Dropped { id: self.id, half })
        {
            self.flow.set_dropped(half);
            self.line.sweep.request();
        }
    }
}

/// A named two-way byte stream to another device.
///
/// Reads and writes like a TCP stream: [`AsyncRead`] and [`AsyncWrite`], with [`shutdown`] ending our direction
/// while the other still flows (towards Jami peers, which know no half-close, it ends both). Dropping a channel
/// ends our direction after what was written, and tells the peer that nobody reads any more.
///
/// Errors are [`io::Error`]s that carry a [`ChannelError`].
///
/// [`shutdown`]: tokio::io::AsyncWriteExt::shutdown
#[derive(Debug)]
#[doc(alias = "ChannelSocket")]
pub struct Channel {
    reader: ReadHalf,
    writer: WriteHalf,
}

impl Channel {
    pub(crate) fn new(card: Arc<Card>, received: mpsc::Receiver<Bytes>) -> Self {
        Self {
            reader: ReadHalf {
                card: Arc::clone(&card),
                received,
                current: Bytes::new(),
                unreported: 0,
                reporter: PollSender::new(card.line.commands.clone()),
            },
            writer: WriteHalf {
                commands: PollSender::new(card.line.commands.clone()),
                card,
                state: WriteState::Open,
            },
        }
    }

    /// The name it was opened with.
    pub fn name(&self) -> &str {
        &self.writer.card.name
    }

    /// Its number on the wire.
    pub fn number(&self) -> u32 {
        self.writer.card.id.number()
    }

    /// The device at the other end.
    #[doc(alias = "peerCertificate")]
    pub fn peer(&self) -> &Peer {
        &self.writer.card.peer
    }

    /// The connection it runs on.
    pub fn connection(&self) -> ConnectionId {
        self.writer.card.connection
    }

    /// Whether this side opened it.
    #[doc(alias = "isInitiator")]
    pub fn opened_here(&self) -> bool {
        self.writer.card.opened_here
    }

    /// What the dialect of the connection can do.
    pub fn capabilities(&self) -> Capabilities {
        self.writer.card.capabilities
    }

    /// The two directions as values of their own, for two tasks.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        (self.reader, self.writer)
    }

    /// Puts two halves of the same channel together again.
    ///
    /// # Panics
    ///
    /// If they belong to different channels.
    pub fn unsplit(reader: ReadHalf, writer: WriteHalf) -> Self {
        assert!(Arc::ptr_eq(&reader.card, &writer.card), "the halves belong to different channels");
        Self { reader, writer }
    }

    /// Changes how its data is scheduled against that of other channels of the connection, from now on.
    ///
    /// Cancel safe.
    pub async fn set_priority(&self, priority: Priority) {
        let card = &self.writer.card;
        // A connection that is gone schedules nothing.
        let _ = card.line.commands.send(Command::SetPriority { id: card.id, priority }).await;
    }

    /// Gives the channel up: what is not yet sent or read is dropped, and the peer is told `code`
    /// (a Jami peer sees an end).
    ///
    /// If the future is dropped before it is ready, the channel is dropped without the code.
    pub async fn reset(mut self, code: u32) {
        let card = Arc::clone(&self.writer.card);
        let reason = Reason::from(Code::from(code));
        if let Ok(permit) = card.line.commands.reserve().await {
            permit.send(Command::Reset { id: card.id, reason });
            self.writer.state = WriteState::Done;
        }
    }
}

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writer).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_shutdown(cx)
    }
}

/// The receiving direction of a [`Channel`].
#[derive(Debug)]
pub struct ReadHalf {
    card: Arc<Card>,
    received: mpsc::Receiver<Bytes>,
    /// What the last buffer still holds.
    current: Bytes,
    /// Bytes taken by the program that the task does not know of yet.
    unreported: usize,
    reporter: PollSender<Command>,
}

impl ReadHalf {
    /// The next bytes as they came, without a copy; `None` at the end of the stream.
    ///
    /// Cancel safe.
    pub async fn next_bytes(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_bytes(cx)).await
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        ready!(self.poll_fill(cx))?;
        let bytes = std::mem::take(&mut self.current);
        self.unreported += bytes.len();
        Poll::Ready(Ok((!bytes.is_empty()).then_some(bytes)))
    }

    /// Makes `current` hold something, unless the stream is at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.current.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.unreported >= self.card.flow.report_at() {
            ready!(self.poll_report(cx));
        }
        loop {
            if let Ok(bytes) = self.received.try_recv() {
                self.current = bytes;
                return Poll::Ready(Ok(()));
            }
            // The queue is empty: the task may have found it full before, or the peer may have used up a window that
            // was made smaller meanwhile. Both wait for this report.
            if self.card.flow.take_stalled() || self.unreported >= WAITING_REPORT {
                if self.poll_report(cx).is_pending() {
                    self.card.flow.set_stalled();
                    return Poll::Pending;
                }
                continue;
            }
            match ready!(self.received.poll_recv(cx)) {
                Some(bytes) => {
                    self.current = bytes;
                    return Poll::Ready(Ok(()));
                }
                None => {
                    if let Some(bytes) = self.card.flow.take_rest() {
                        self.current = bytes;
                        return Poll::Ready(Ok(()));
                    }
                    return Poll::Ready(match self.card.flow.read_error() {
                        Some(error) => Err(error.clone().into()),
                        None => Ok(()),
                    });
                }
            }
        }
    }

    /// Tells the task how much was taken. Ready also when the task is gone, which is then seen elsewhere.
    fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let command = Command::Consumed { id: self.card.id, bytes: self.unreported };
        match self.card.line.commands.try_send(command) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {
                // An earlier attempt may still be in line, or have a place it will not use.
                self.reporter.abort_send();
            }
            Err(mpsc::error::TrySendError::Full(command)) => {
                if ready!(self.reporter.poll_reserve(cx)).is_ok() {
                    // Only a closed queue refuses, and there nobody counts any more.
                    let _ = self.reporter.send_item(command);
                }
            }
        }
        self.unreported = 0;
        Poll::Ready(())
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_fill(cx))?;
        // More than one buffer may fit: take what is there.
        loop {
            let taken = this.current.len().min(buf.remaining());
            buf.put_slice(&this.current[..taken]);
            this.current.advance(taken);
            this.unreported += taken;
            if buf.remaining() == 0
                || !this.current.is_empty()
                || this.unreported >= this.card.flow.report_at()
            {
                return Poll::Ready(Ok(()));
            }
            match this.received.try_recv() {
                Ok(bytes) => this.current = bytes,
                Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        self.card.dropped(Half::Reader);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteState {
    Open,
    /// The end of the stream is with the task.
    Finishing,
    Done,
}

/// The sending direction of a [`Channel`].
#[derive(Debug)]
pub struct WriteHalf {
    card: Arc<Card>,
    commands: PollSender<Command>,
    state: WriteState,
}

impl WriteHalf {
    fn error(&self) -> io::Error {
        let lost = ChannelError::Connection(CloseReason::Here);
        self.card.flow.write_error().cloned().unwrap_or(lost).into()
    }

    /// Hands a command over. An error means that the connection is gone.
    fn poll_command(&mut self, cx: &mut Context<'_>, make: impl FnOnce() -> Command) -> Poll<io::Result<()>> {
        if ready!(self.commands.poll_reserve(cx)).is_err() || self.commands.send_item(make()).is_err() {
            return Poll::Ready(Err(self.error()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.card.flow.write_error().is_some() {
            return Poll::Ready(Err(this.error()));
        }
        if this.state != WriteState::Open {
            return Poll::Ready(Err(ChannelError::EndedHere.into()));
        }
        let mut written = 0;
        while written < buf.len() {
            if !this.card.flow.has_room(this.card.line.share.get()) {
                if written > 0 {
                    break;
                }
                this.card.flow.register_writer(cx.waker());
                if this.card.flow.write_error().is_some() {
                    return Poll::Ready(Err(this.error()));
                }
                if !this.card.flow.has_room(this.card.line.share.get()) {
                    return Poll::Pending;
                }
            }
            let id = this.card.id;
            let flow = Arc::clone(&this.card.flow);
            let pool = this.card.pool.clone();
            // What has no frames to fit into goes in larger pieces, as far as its share allows.
            let share = this.card.line.share.get();
            let large = matches!(id, ChannelId::Bundle(_)) && share >= LARGE_SHARE;
            let rest = &buf[written..];
            let mut taken = 0;
            let sent = this.poll_command(cx, || {
                let chunk = if large {
                    Chunk::pooled_large(&pool, &rest[..rest.len().min(share)])
                } else {
                    Chunk::pooled(&pool, rest)
                };
                taken = chunk.len();
                flow.add_queued(taken);
                Command::Write { id, chunk }
            });
            match sent {
                Poll::Ready(Ok(())) => written += taken,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if written > 0 => {
                    this.commands.abort_send();
                    break;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(written))
    }

    /// Written bytes are always on their way; there is nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.card.flow.write_error() {
            Some(error) => Err(error.clone().into()),
            None => Ok(()),
        })
    }

    /// Ends this direction; ready when the end, and so everything before it, has been given to the connection. What
    /// the peer's window does not take yet still waits there; [`Node::shutdown`](crate::Node::shutdown) flushes.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.state == WriteState::Open {
            let id = this.card.id;
            ready!(this.poll_command(cx, || Command::Finish { id }))?;
            this.state = WriteState::Finishing;
        }
        this.card.flow.register_writer(cx.waker());
        if this.state == WriteState::Done || this.card.flow.finish_sent() {
            this.state = WriteState::Done;
            return Poll::Ready(Ok(()));
        }
        match this.card.flow.write_error() {
            Some(error) => Poll::Ready(Err(error.clone().into())),
            None => Poll::Pending,
        }
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        if self.state == WriteState::Open {
            self.card.dropped(Half::Writer);
        }
    }
}

/// A channel that another device asks for.
///
/// [`accept`](Self::accept) or [`refuse`](Self::refuse) it; dropping it refuses.
#[derive(Debug)]
#[must_use = "dropping it refuses the channel"]
pub struct IncomingChannel {
    /// `None` once decided.
    channel: Option<Channel>,
    card: Arc<Card>,
    priority: Priority,
}

impl IncomingChannel {
    pub(crate) fn new(card: Arc<Card>, received: mpsc::Receiver<Bytes>, priority: Priority) -> Self {
        Self { channel: Some(Channel::new(Arc::clone(&card), received)), card, priority }
    }

    /// The name asked for. Free text of the peer: check it before use.
    pub fn name(&self) -> &str {
        &self.card.name
    }

    /// The device that asks.
    pub fn peer(&self) -> &Peer {
        &self.card.peer
    }

    /// The connection it came on.
    pub fn connection(&self) -> ConnectionId {
        self.card.connection
    }

    /// What the dialect of the connection can do.
    pub fn capabilities(&self) -> Capabilities {
        self.card.capabilities
    }

    /// The priority the peer asked for.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Accepts the channel. Fails if the connection is gone.
    ///
    /// If the future is dropped before it is ready, the channel is refused.
    pub async fn accept(mut self) -> Result<Channel, ChannelError> {
        let lost = ChannelError::Connection(CloseReason::Here);
        let permit = self
            .card
            .line
            .commands
            .reserve()
            .await
            .map_err(|_| self.card.flow.write_error().cloned().unwrap_or(lost))?;
        permit.send(Command::Accept { id: self.card.id });
        Ok(self.channel.take().expect("only accept and refuse take it, and both consume self"))
    }

    /// Refuses the channel with a reason (a Jami peer learns only that it was refused).
    ///
    /// If the future is dropped before it is ready, the channel is refused without the reason.
    pub async fn refuse(mut self, code: Code, text: &str) {
        let reason = Reason::new(code, text);
        if let Ok(permit) = self.card.line.commands.reserve().await {
            permit.send(Command::Refuse { id: self.card.id, reason });
        }
        self.forget_channel();
    }

    /// The same without waiting. In the unlikely case that the connection has no room for the reason, the channel is
    /// refused without it.
    pub(crate) fn refuse_at_once(mut self, code: Code) {
        let refusal = Command::Refuse { id: self.card.id, reason: code.into() };
        if self.card.line.commands.try_send(refusal).is_ok() {
            self.forget_channel();
        }
    }

    /// Drops the halves without their saying anything to the task: the refusal is all there is to say.
    fn forget_channel(&mut self) {
        if let Some(mut channel) = self.channel.take() {
            channel.writer.state = WriteState::Done;
        }
    }
}

impl Drop for IncomingChannel {
    fn drop(&mut self) {
        if self.channel.is_some() {
            // The halves report their own drop; for a channel that is still undecided the task refuses it.
            self.channel = None;
        }
    }
}
