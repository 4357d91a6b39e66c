//! A secured byte stream: TLS records in RFC 4571 frames on a TCP connection, with STUN between them.
//!
//! Spec: `connection.md` 4.6, 4.8, 5. Sans-IO parts (the ICE agent and the TLS session) meet the socket here.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio_util::io::poll_read_buf;
use towline_ice::framing::{PayloadKind, classify};
use towline_ice::{Action, Agent, Disposition, StreamId};
use towline_net::TcpStream;
use towline_tls::{Session, TlsError};

use super::buffers::{GOODBYE, IDLE_BYTES, IDLE_CAPACITY, READ_MAX, READ_MIN};
use super::output::Output;
use crate::path::Selected;

/// Output is gathered up to this much before it is written.
pub(crate) const WRITE_TARGET: usize = 128 * 1024;
/// Bytes of a TLS record that has not arrived whole; TLS bounds records at 16 KiB + 256, a frame holds 64 KiB.
const MAX_PARTIAL: usize = 96 * 1024;

/// Why the transport is of no further use.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TransportError {
    Io(io::ErrorKind),
    Tls(TlsError),
    /// The stream ended without the peer's close_notify.
    Truncated,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// Something arrived; the plaintext went to the sink.
    Progress,
    /// The peer closed the session properly.
    Closed,
}

/// The stream and everything between it and plaintext.
#[derive(Debug)]
pub(crate) struct Transport {
    stream: Box<dyn TcpStream>,
    id: StreamId,
    agent: Agent,
    /// See [`Selected::losers`].
    losers: Vec<Box<dyn TcpStream>>,
    session: Session,
    /// Framed bytes read.
    input: BytesMut,
    /// How much room the next read gets.
    read_size: usize,
    /// The head of a TLS record whose rest comes in a later frame.
    partial: Vec<u8>,
    /// Framed bytes to write.
    output: Output,
    /// Bytes read and written since the last keep-alive.
    moved: usize,
}

impl Transport {
    /// Sets out on a selected path with a fresh session.
    pub(crate) fn new(selected: Selected, session: Session) -> Self {
        Self {
            stream: selected.stream,
            id: selected.id,
            agent: selected.agent,
            losers: selected.losers,
            session,
            input: selected.unread,
            read_size: READ_MIN,
            partial: selected.early.concat(),
            output: Output::new(selected.unsent),
            moved: IDLE_BYTES,
        }
    }

    /// Closes the connections that were not selected. Only a peer of our own kind does not mind.
    pub(crate) fn close_losers(&mut self) {
        self.losers = Vec::new();
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Handles bytes that came with the selected path, before anything is read.
    pub(crate) fn handle_leftovers(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(), TransportError> {
        let early = std::mem::take(&mut self.partial);
        self.handle_records(early, sink)?;
        self.handle_frames(sink)
    }

    /// Reads once and hands plaintext to `sink`. Pending when nothing is there.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Poll<Result<ReadOutcome, TransportError>> {
        if self.session.peer_closed() {
            return Poll::Ready(Ok(ReadOutcome::Closed));
        }
        self.input.reserve(self.read_size);
        let read = match ready!(poll_read_buf(Pin::new(&mut *self.stream), cx, &mut self.input)) {
            Ok(read) => read,
            Err(error) => return Poll::Ready(Err(self.failed(TransportError::Io(error.kind())))),
        };
        if read == 0 {
            return Poll::Ready(if self.session.peer_closed() {
                Ok(ReadOutcome::Closed)
            } else {
                Err(self.failed(TransportError::Truncated))
            });
        }
        self.moved += read;
        if read >= self.read_size {
            self.read_size = (self.read_size * 4).min(READ_MAX);
        }
        self.handle_frames(sink)?;
        if self.session.peer_closed() {
            return Poll::Ready(Ok(ReadOutcome::Closed));
        }
        Poll::Ready(Ok(ReadOutcome::Progress))
    }

    /// Everything whole in `input`.
    fn handle_frames(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(), TransportError> {
        let mut input = std::mem::take(&mut self.input);
        let result = self.handle_frames_of(&mut input, sink);
        self.input = input;
        result
    }

    fn handle_frames_of(
        &mut self,
        input: &mut BytesMut,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), TransportError> {
        while let Some(header) = input.first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*header));
            if input.len() < 2 + len {
                break;
            }
            let payload = &mut input[2..2 + len];
            if classify(payload) == PayloadKind::Stun {
                let disposition = self.agent.handle_tcp_frame(towline_net::now(), self.id, payload);
                if let Disposition::Dropped(reason) = disposition {
                    tracing::debug!(%reason, "STUN message dropped");
                }
                self.act();
            } else if self.partial.is_empty() {
                // The usual case: whole records, decrypted where they lie.
                let used = self.session.receive(payload, sink).map_err(TransportError::Tls)?;
                self.partial.extend_from_slice(&payload[used..]);
            } else {
                let mut records = std::mem::take(&mut self.partial);
                records.extend_from_slice(payload);
                self.handle_records(records, sink)?;
            }
            input.advance(2 + len);
        }
        Ok(())
    }

    /// Decrypts what is whole in `records` and keeps the rest.
    fn handle_records(
        &mut self,
        mut records: Vec<u8>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), TransportError> {
        let used = self.session.receive(&mut records, sink).map_err(TransportError::Tls)?;
        records.drain(..used);
        if records.len() > MAX_PARTIAL {
            return Err(TransportError::Tls(TlsError::Misbehaved));
        }
        if records.is_empty() && records.capacity() > IDLE_CAPACITY {
            records = Vec::new();
        }
        self.partial = records;
        Ok(())
    }

    /// Encrypts `plaintext`, at most one record of it, and queues the record as a frame.
    pub(crate) fn send(&mut self, plaintext: &[u8]) -> Result<(), TransportError> {
        let Self { session, output, .. } = self;
        let most = session.sealed_len(plaintext.len());
        output.push_with(most, |room| session.seal(plaintext, room)).map_err(TransportError::Tls)
    }

    /// Queues what the session has to say by itself: handshake messages, alerts, key updates.
    pub(crate) fn flush_session(&mut self) {
        let mut said = Vec::new();
        self.session.poll_transmit(&mut said);
        self.output.push_payload(&said);
    }

    /// Queues close_notify.
    pub(crate) fn close(&mut self) {
        let mut said = Vec::new();
        self.session.close(&mut said);
        self.output.push_payload(&said);
    }

    /// Bytes queued and not written.
    pub(crate) fn unsent(&self) -> usize {
        self.output.len()
    }

    /// Writes what is queued. Ready when nothing is left.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        while self.unsent() > 0 {
            match ready!(Pin::new(&mut *self.stream).poll_write(cx, self.output.bytes())) {
                Ok(0) => return Poll::Ready(Err(self.failed(TransportError::Io(io::ErrorKind::WriteZero)))),
                Ok(written) => {
                    self.output.written(written);
                    self.moved += written;
                }
                Err(error) => return Poll::Ready(Err(self.failed(TransportError::Io(error.kind())))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends our direction of the TCP connection.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }

    /// Writes what is queued and ends the TCP connection, as far as the peer takes it within a second.
    pub(crate) async fn end(&mut self) {
        self.flush_session();
        let goodbye = async {
            if poll_fn(|cx| self.poll_write(cx)).await.is_ok() {
                let _ = poll_fn(|cx| self.poll_shutdown(cx)).await;
                // What the peer still sends is taken: left unread, it would make of this a reset, which can cost the
                // peer what we said last.
                while poll_fn(|cx| self.poll_read(cx, &mut |_| {})).await == Ok(ReadOutcome::Progress) {}
            }
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }

    /// Closes the session properly: peers keep what was not closed for alive, Jami's daemon for 24 s.
    pub(crate) async fn say_goodbye(&mut self) {
        self.close();
        self.end().await;
    }

    /// When the agent wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    /// Keep-alives; also the moment to give back the memory of buffers that were not used since the last one.
    ///
    /// True if next to nothing moved.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        self.agent.handle_timeout(now);
        self.act();
        let idle = std::mem::take(&mut self.moved) < IDLE_BYTES;
        if idle {
            self.read_size = READ_MIN;
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            self.output.release();
        }
        idle
    }

    /// Queues the agent's frames. Every other stream of its is gone already.
    fn act(&mut self) {
        while let Some(action) = self.agent.poll_action() {
            if let Action::SendFrame { stream, payload } = action
                && stream == self.id
            {
                self.output.push_frames(&payload);
            }
        }
        while let Some(event) = self.agent.poll_event() {
            tracing::trace!(?event, "path");
        }
    }

    fn failed(&mut self, error: TransportError) -> TransportError {
        self.agent.handle_tcp_closed(towline_net::now(), self.id);
        error
    }
}
