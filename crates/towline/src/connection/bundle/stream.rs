//! A TCP connection that is a link: packets in frames (RFC 4571), with STUN between them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio_util::io::poll_read_buf;
use towline_ice::StreamId;
use towline_net::TcpStream;

/// Room for reading at the start; a handful of control messages.
const READ_MIN: usize = 4 * 1024;
/// Room for reading when data flows.
const READ_MAX: usize = 128 * 1024;
/// Bytes of a frame's header.
const HEADER: usize = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    io: Box<dyn TcpStream>,
    /// By which the ICE agent knows it.
    pub(super) id: StreamId,
    input: BytesMut,
    /// How much room the next read gets.
    read_size: usize,
    /// Framed bytes to write, of which the first are written.
    output: Vec<u8>,
    written: usize,
    /// Nothing more can be written; what was received before is still read.
    broken: bool,
    /// Bytes read and written since it was last looked at.
    moved: usize,
}

impl Stream {
    /// `unread` was read from it and not handled; `unsent` is to be written first. Both are frames.
    pub(super) fn new(io: Box<dyn TcpStream>, id: StreamId, unread: BytesMut, unsent: Vec<u8>) -> Self {
        Self {
            io,
            id,
            input: unread,
            read_size: READ_MIN,
            output: unsent,
            written: 0,
            broken: false,
            moved: 0,
        }
    }

    /// Bytes to write.
    pub(super) fn unsent(&self) -> usize {
        self.output.len() - self.written
    }

    /// Queues whole frames. A buffer that is worth it is taken over in exchange for an empty one.
    pub(super) fn push(&mut self, frames: &mut Vec<u8>) {
        if self.broken {
            return;
        }
        if self.unsent() == 0 {
            self.output.clear();
            self.written = 0;
            std::mem::swap(&mut self.output, frames);
        } else {
            self.output.extend_from_slice(frames);
        }
    }

    /// Writes what is queued. Ready when nothing is left, or nothing more can be written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.unsent() > 0 {
            match ready!(Pin::new(&mut *self.io).poll_write(cx, &self.output[self.written..])) {
                Ok(written @ 1..) => {
                    self.written += written;
                    self.moved += written;
                }
                _ => {
                    self.broken = true;
                    self.output = Vec::new();
                    self.written = 0;
                }
            }
        }
        Poll::Ready(())
    }

    /// Reads once. Ready with `None` at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<()>>> {
        self.input.reserve(self.read_size);
        let read = ready!(poll_read_buf(Pin::new(&mut *self.io), cx, &mut self.input))?;
        self.moved += read;
        if read >= self.read_size {
            self.read_size = (self.read_size * 4).min(READ_MAX);
        }
        Poll::Ready(Ok((read > 0).then_some(())))
    }

    /// Hands the payload of each whole frame that was read to `handle`.
    pub(super) fn frames(&mut self, mut handle: impl FnMut(StreamId, &mut [u8])) {
        while let Some(header) = self.input.first_chunk::<HEADER>() {
            let len = HEADER + usize::from(u16::from_be_bytes(*header));
            if self.input.len() < len {
                break;
            }
            handle(self.id, &mut self.input[HEADER..len]);
            self.input.advance(len);
        }
    }

    /// Ends our direction.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }

    /// Gives back the memory of buffers if less than `idle` bytes moved since the last call.
    pub(super) fn look(&mut self, idle: usize) {
        if std::mem::take(&mut self.moved) < idle {
            self.read_size = READ_MIN;
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            if self.unsent() == 0 {
                (self.output, self.written) = (Vec::new(), 0);
            }
        }
    }
}
