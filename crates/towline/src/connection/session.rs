//! Channels by a mux on TLS on one TCP connection: towards Jami, and towards Towlines that know nothing else.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use towline_identity::Chain;
use towline_mux::{ChannelId, Chunk, Mux, PeerFault, Pool, Priority, Reason};

use super::carrier::{self, Event, Filled, PingId, WriteError};
use super::transport::{ReadOutcome, Transport, TransportError, WRITE_TARGET};
use crate::error::CloseReason;
use crate::info::ChannelInfo;

/// A mux and what it runs on.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) transport: Transport,
    pub(super) mux: Mux,
    /// What came right behind the handshake.
    pub(super) plaintext: Vec<u8>,
    /// Reused by the mux for gathering small frames.
    scratch: Vec<u8>,
}

impl Session {
    pub(crate) fn new(transport: Transport, mux: Mux, plaintext: Vec<u8>) -> Self {
        Self { transport, mux, plaintext, scratch: Vec::new() }
    }

    #[must_use]
    pub(super) fn with_pool(self, pool: Pool) -> Self {
        Self { mux: self.mux.with_pool(pool), ..self }
    }

    pub(super) fn begin(&mut self, now: Instant) -> Result<(), CloseReason> {
        let plaintext = std::mem::take(&mut self.plaintext);
        self.mux.handle_data(now, &plaintext).map_err(CloseReason::Fault)
    }

    pub(super) fn peer_chain(&self) -> Option<&Chain> {
        self.transport.session().peer_chain()
    }

    pub(super) fn accept(&mut self, now: Instant, id: ChannelId) {
        let _ = self.mux.accept(now, id);
    }

    pub(super) fn refuse(&mut self, _: Instant, id: ChannelId, reason: &Reason) {
        let _ = self.mux.refuse(id, reason.clone());
    }

    pub(super) fn write(&mut self, _: Instant, id: ChannelId, chunk: Chunk) -> Result<(), WriteError> {
        self.mux.write(id, chunk).map_err(|error| match error {
            towline_mux::WriteError::Full(chunk) => WriteError::Full(chunk),
            // The reason was or will be reported by an event.
            _ => WriteError::Ended,
        })
    }

    pub(super) fn finish(&mut self, _: Instant, id: ChannelId) {
        let _ = self.mux.finish(id);
    }

    pub(super) fn reset(&mut self, _: Instant, id: ChannelId, reason: &Reason) {
        let _ = self.mux.reset(id, reason.clone());
    }

    pub(super) fn stop(&mut self, _: Instant, id: ChannelId, reason: &Reason) {
        let _ = self.mux.stop(id, reason.clone());
    }

    pub(super) fn read(&mut self, _: Instant, id: ChannelId) -> Option<Bytes> {
        self.mux.read(id)
    }

    pub(super) fn consumed(&mut self, now: Instant, id: ChannelId, bytes: usize) {
        self.mux.consumed(now, id, bytes as u64);
    }

    pub(super) fn rest(
        &mut self,
        _: Instant,
        id: ChannelId,
        ended: bool,
        undelivered: bool,
    ) -> (VecDeque<Bytes>, bool) {
        let rest = std::iter::from_fn(|| self.mux.read(id)).collect();
        // A mux that was closed first has dropped what was not read.
        (rest, ended && !(undelivered && self.mux.is_closed()))
    }

    pub(super) fn receive_window(&self, id: ChannelId) -> Option<u64> {
        self.mux.info(id).and_then(|info| info.receive_window)
    }

    pub(super) fn set_priority(&mut self, id: ChannelId, priority: Priority) {
        self.mux.set_priority(id, priority);
    }

    pub(super) fn list(&self) -> Vec<ChannelInfo> {
        let info = |info: towline_mux::ChannelInfo<'_>| ChannelInfo {
            id: info.number.into(),
            name: info.name.to_owned(),
            opened_here: info.opened_by_us,
            sent: info.bytes_sent,
            received: info.bytes_received,
        };
        self.mux.channels().map(info).collect()
    }

    pub(super) fn has_channels(&self) -> bool {
        self.mux.channels().next().is_some()
    }

    pub(super) fn ping(&mut self, now: Instant) -> Option<PingId> {
        self.mux.ping(now).ok().map(PingId::Session)
    }

    pub(super) fn probe(&mut self, now: Instant) {
        // A peer that does not answer beacons cannot be probed; TCP is all there is.
        let _ = self.mux.liveness_probe(now);
    }

    pub(super) fn go_away(&mut self, _: Instant, reason: Reason) {
        self.mux.go_away(reason);
    }

    pub(super) fn close(&mut self, _: Instant, say: &Reason) {
        self.mux.close(say.clone());
    }

    pub(super) fn owes(&self) -> bool {
        self.mux.queued() > 0
    }

    pub(super) fn poll_event(&mut self, _: Instant) -> Option<Event> {
        use carrier::ChannelId::Session as Id;
        use towline_mux::Event as Mux;
        Some(match self.mux.poll_event()? {
            Mux::Requested { id, name, priority } => Event::Requested { id: Id(id), name, priority },
            Mux::Accepted { id } => Event::Accepted { id: Id(id) },
            Mux::Refused { id, reason } => Event::Refused { id: Id(id), reason },
            Mux::Readable { id } => Event::Readable { id: Id(id) },
            Mux::Writable { id } => Event::Writable { id: Id(id) },
            Mux::Finished { id } => Event::Finished { id: Id(id) },
            Mux::Stopped { id, reason } => Event::Stopped { id: Id(id), reason },
            Mux::Reset { id, reason } => Event::Reset { id: Id(id), reason },
            Mux::Closed { id } => Event::Closed { id: Id(id) },
            Mux::Pong { id, rtt } => Event::Pong { id: PingId::Session(id), rtt },
            Mux::GoAway { reason } => Event::GoAway { reason },
            // The mux has no others, but may come to have.
            _ => Event::Dead,
        })
    }

    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        if !self.mux.wants_data() {
            return Ok(false);
        }
        let Self { transport, mux, .. } = self;
        let mut fault: Option<PeerFault> = None;
        let mut sink = |plaintext: &[u8]| {
            if fault.is_none() {
                fault = mux.handle_data(now, plaintext).err();
            }
        };
        let outcome = transport.poll_read(cx, &mut sink);
        if let Some(fault) = fault {
            return Err(CloseReason::Fault(fault));
        }
        match outcome {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(ReadOutcome::Progress)) => Ok(true),
            Poll::Ready(Ok(ReadOutcome::Closed)) => Err(CloseReason::Peer),
            Poll::Ready(Err(error)) => Err(close_reason(error)),
        }
    }

    pub(super) fn fill(&mut self, now: Instant) -> Result<Filled, CloseReason> {
        self.transport.flush_session();
        while self.transport.unsent() < WRITE_TARGET {
            let Some(transmit) = self.mux.poll_transmit(now, &mut self.scratch) else {
                return Ok(Filled::All);
            };
            self.transport.send(&transmit).map_err(close_reason)?;
        }
        Ok(Filled::Full)
    }

    pub(super) fn unsent(&self) -> usize {
        self.transport.unsent()
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        self.transport.poll_write(cx).map_err(close_reason)
    }

    pub(super) fn settle(&mut self) {
        self.mux.set_blocked(self.transport.unsent() > 0);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.mux.poll_timeout(), self.transport.poll_timeout()].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.mux.poll_timeout().is_some_and(|at| at <= now) {
            self.mux.handle_timeout(now);
        }
        if self.transport.poll_timeout().is_some_and(|at| at <= now) && self.transport.handle_timeout(now) {
            self.scratch = Vec::new();
        }
    }

    pub(super) async fn end(&mut self, reason: &CloseReason) {
        match reason {
            CloseReason::Transport(_) | CloseReason::Truncated => {}
            CloseReason::Tls(_) => self.transport.end().await,
            _ => self.transport.say_goodbye().await,
        }
    }
}

fn close_reason(error: TransportError) -> CloseReason {
    match error {
        TransportError::Io(kind) => CloseReason::Transport(kind),
        TransportError::Tls(error) => CloseReason::Tls(error),
        TransportError::Truncated => CloseReason::Truncated,
    }
}
