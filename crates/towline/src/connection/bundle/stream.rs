//! A TCP connection that is a path, or becomes one: packets of the transport in frames (RFC 4571), with STUN between them.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio_util::io::poll_read_buf;
use towline_ice::ConnectError;
use towline_net::{BoxFuture, TcpStream};

use crate::connection::buffers::{READ_MAX, READ_MIN};

/// Bytes of a frame's header.
const HEADER: usize = 2;

thread_local! {
    /// Buffers for whoever of a thread reads or writes next: a stream has one only as long as there is something in it.
    static INPUT: Cell<BytesMut> = Cell::default();
    static OUTPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer for frames. Comes back by [`Stream::push`], or by [`give_back`].
pub(super) fn buffer() -> Vec<u8> {
    OUTPUT.take()
}

/// Keeps the memory of a buffer that nobody needs any more.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    OUTPUT.set(buffer);
}

type Connecting = BoxFuture<'static, io::Result<Box<dyn TcpStream>>>;

enum State {
    Connecting(Connecting),
    Open(Box<dyn TcpStream>),
}

/// See the module.
pub(super) struct Stream {
    state: State,
    /// By which routes name it.
    pub(super) number: u32,
    /// The peer has proved itself on it: frames that are no STUN are packets of the transport.
    pub(super) proven: bool,
    /// Read by somebody else, and not looked at here yet.
    first: Vec<u8>,
    input: BytesMut,
    /// How much room the next read gets.
    read_size: usize,
    /// Framed bytes to write, of which the first are written.
    output: Vec<u8>,
    written: usize,
    /// Why nothing more can be written; what was received before is still read.
    broken: Option<io::ErrorKind>,
    /// Bytes read since it was last looked at.
    moved: usize,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut stream = f.debug_struct("Stream");
        if let State::Open(io) = &self.state {
            stream.field("io", io);
        }
        stream.field("number", &self.number).field("proven", &self.proven).finish_non_exhaustive()
    }
}

/// How far a TCP connection that is being made has come.
pub(super) enum Connected {
    /// It is there, or was before.
    Open,
    /// It just came to be, from this address.
    Now(std::net::SocketAddr),
    /// It will not.
    Failed(ConnectError),
}

impl Stream {
    fn new(state: State, number: u32) -> Self {
        Self {
            state,
            number,
            proven: false,
            first: Vec::new(),
            input: BytesMut::new(),
            read_size: READ_MIN,
            output: Vec::new(),
            written: 0,
            broken: None,
            moved: 0,
        }
    }

    pub(super) fn connecting(number: u32, connecting: Connecting) -> Self {
        Self::new(State::Connecting(connecting), number)
    }

    /// `first`: what was read from it already.
    pub(super) fn accepted(number: u32, io: Box<dyn TcpStream>, first: Vec<u8>) -> Self {
        Self { first, ..Self::new(State::Open(io), number) }
    }

    /// Moves a connection that is being made on.
    pub(super) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<Connected> {
        let State::Connecting(connecting) = &mut self.state else { return Poll::Ready(Connected::Open) };
        Poll::Ready(match ready!(connecting.as_mut().poll(cx)) {
            Ok(io) => {
                let local = io.local_addr();
                self.state = State::Open(io);
                Connected::Now(local)
            }
            Err(error) => Connected::Failed(connect_error(error.kind())),
        })
    }

    /// Bytes to write.
    pub(super) fn unsent(&self) -> usize {
        self.output.len() - self.written
    }

    /// Queues whole frames. If nothing waits, their buffer is taken over, and an empty one left.
    pub(super) fn push(&mut self, frames: &mut Vec<u8>) {
        if self.broken.is_some() {
            return;
        }
        if self.unsent() == 0 {
            std::mem::swap(&mut self.output, frames);
        } else {
            self.output.extend_from_slice(frames);
        }
    }

    /// Writes what is queued. Ready when nothing is left, or nothing more can be written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Open(io) = &mut self.state else { return Poll::Pending };
        while self.output.len() > self.written {
            match ready!(Pin::new(&mut **io).poll_write(cx, &self.output[self.written..])) {
                Ok(written @ 1..) => self.written += written,
                failed => {
                    self.broken =
                        Some(failed.map_or_else(|error| error.kind(), |_| io::ErrorKind::WriteZero));
                    self.written = self.output.len();
                }
            }
        }
        if self.written > 0 {
            self.written = 0;
            give_back(std::mem::take(&mut self.output));
        }
        Poll::Ready(())
    }

    /// Reads once. Ready with whether there may be much more, or with `None` at the end of the stream. A system tells an error
    /// once: the end behind a failed write is that failure.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<bool>>> {
        let State::Open(io) = &mut self.state else { return Poll::Pending };
        if !self.first.is_empty() {
            self.input.extend_from_slice(&std::mem::take(&mut self.first));
            return Poll::Ready(Ok(Some(false)));
        }
        if self.input.capacity() == 0 {
            self.input = INPUT.take();
        }
        self.input.reserve(self.read_size);
        let Poll::Ready(read) = poll_read_buf(Pin::new(&mut **io), cx, &mut self.input) else {
            if self.input.is_empty() {
                INPUT.set(std::mem::take(&mut self.input));
            }
            return Poll::Pending;
        };
        let read = read?;
        if let (0, Some(failure)) = (read, self.broken) {
            return Poll::Ready(Err(failure.into()));
        }
        self.moved += read;
        let full = read >= self.read_size;
        if full {
            self.read_size = (self.read_size * 4).min(READ_MAX);
        }
        Poll::Ready(Ok((read > 0).then_some(full)))
    }

    /// The payload of the first frame, if it is whole; [`advance`](Self::advance) takes it off. An error if it is longer
    /// than `limit`.
    pub(super) fn frame(&mut self, limit: usize) -> Result<Option<&mut [u8]>, ()> {
        let Some(header) = self.input.first_chunk::<HEADER>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(*header));
        if len > limit {
            return Err(());
        }
        Ok(self.input.get_mut(HEADER..HEADER + len))
    }

    /// Takes off a frame with a payload of this length.
    pub(super) fn advance(&mut self, payload: usize) {
        self.input.advance(HEADER + payload);
    }

    /// Ends our direction.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            // Whether or not the peer took it.
            State::Open(io) => Pin::new(&mut **io).poll_shutdown(cx).map(|_| ()),
            State::Connecting(_) => Poll::Ready(()),
        }
    }

    /// If less than `idle` bytes came since the last call, small reads do, and what there is of a frame needs no more memory than
    /// it has bytes.
    pub(super) fn look(&mut self, idle: usize) {
        if std::mem::take(&mut self.moved) < idle {
            self.read_size = READ_MIN;
            self.input = BytesMut::from(&self.input[..]);
        }
    }
}

fn connect_error(kind: io::ErrorKind) -> ConnectError {
    crate::path::connect_error(kind)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures_util::task::noop_waker_ref;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    /// Takes nothing any more, says so to writers, and then ends.
    #[derive(Debug)]
    struct Dead;

    impl AsyncRead for Dead {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Dead {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl TcpStream for Dead {
        fn local_addr(&self) -> SocketAddr {
            ([127, 0, 0, 1], 1).into()
        }

        fn peer_addr(&self) -> SocketAddr {
            ([127, 0, 0, 1], 2).into()
        }
    }

    #[test]
    fn the_end_behind_a_failed_write_is_that_failure() {
        let mut cx = Context::from_waker(noop_waker_ref());
        let mut stream = Stream::accepted(0, Box::new(Dead), Vec::new());
        assert!(matches!(stream.poll_fill(&mut cx), Poll::Ready(Ok(None))), "the end alone");
        stream.push(&mut vec![0; 100]);
        assert!(stream.poll_write(&mut cx).is_ready());
        assert_eq!(stream.unsent(), 0);
        let Poll::Ready(Err(error)) = stream.poll_fill(&mut cx) else { panic!("it failed") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        stream.push(&mut vec![0; 100]);
        assert_eq!(stream.unsent(), 0, "nothing is kept for it");
    }
}
