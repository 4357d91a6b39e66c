//! What carries the channels of a connection: TLS on one TCP connection, or the channeler transport.
//!
//! [`Session`] is what Jami speaks, and what Towlines spoke before; [`Bundle`] is what two Towlines speak. The rest of the
//! connection does not know which of the two it has.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use towline_identity::Chain;
use towline_mux::{Capabilities, Chunk, OpenError, OpenOptions, Pool, Priority, Reason};

use super::bundle::Bundle;
use super::session::Session;
use crate::error::CloseReason;
use crate::info::{ChannelInfo, LinkInfo};
use crate::path::HostNow;
use crate::report::View;

/// A channel of one connection. Never used again in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ChannelId {
    /// Of the mux on TLS.
    Session(towline_mux::ChannelId),
    /// Of the channeler transport.
    Bundle(towline_channeler::ChannelId),
}

impl ChannelId {
    /// The number on the wire, the same on both sides.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Session(id) => id.number().into(),
            Self::Bundle(id) => {
                id.serial() << 1 | u32::from(id.opener() == towline_channeler::Side::Responder)
            }
        }
    }
}

/// A ping of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PingId {
    Session(towline_mux::PingId),
    Bundle(u64),
}

/// What happened on a connection. The meaning is that of [`towline_mux::Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Requested { id: ChannelId, name: Box<str>, priority: Priority },
    Accepted { id: ChannelId },
    Refused { id: ChannelId, reason: Reason },
    Readable { id: ChannelId },
    Writable { id: ChannelId },
    Finished { id: ChannelId },
    Stopped { id: ChannelId, reason: Reason },
    Reset { id: ChannelId, reason: Reason },
    Closed { id: ChannelId },
    Pong { id: PingId, rtt: Duration },
    GoAway { reason: Reason },
    Dead,
}

/// Why a chunk was not taken.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// There is no room for it, or for what is left of it; [`Event::Writable`] follows.
    Full(Chunk),
    /// The channel takes no more. Another event tells why.
    Ended,
}

/// See the module.
#[derive(Debug)]
pub(crate) enum Carrier {
    Session(Box<Session>),
    Bundle(Box<Bundle>),
}

/// Does the same to whichever it is.
macro_rules! either {
    ($carrier:expr, $it:ident => $act:expr) => {
        match $carrier {
            Carrier::Session($it) => $act,
            Carrier::Bundle($it) => $act,
        }
    };
}

/// An id of the other kind, which no connection has.
const STRANGE: &str = "ids stay with the connection that made them";

/// Passes an operation on a channel on.
macro_rules! on_channel {
    ($carrier:expr, $id:expr, $it:ident, $known:ident => $act:expr) => {
        match ($carrier, $id) {
            (Carrier::Session($it), ChannelId::Session($known)) => $act,
            (Carrier::Bundle($it), ChannelId::Bundle($known)) => $act,
            _ => unreachable!("{STRANGE}"),
        }
    };
}

impl Carrier {
    /// Which it is.
    pub(crate) fn kind(&self) -> crate::info::Carrier {
        match self {
            Self::Session(_) => crate::info::Carrier::Tls,
            Self::Bundle(_) => crate::info::Carrier::Channeler,
        }
    }

    /// Handles what came right behind the handshake.
    pub(crate) fn begin(&mut self, now: Instant) -> Result<(), CloseReason> {
        match self {
            Self::Session(session) => session.begin(now),
            Self::Bundle(_) => Ok(()),
        }
    }

    /// The same with its buffers from `pool`.
    #[must_use]
    pub(crate) fn with_pool(self, pool: Pool) -> Self {
        match self {
            Self::Session(session) => Self::Session(Box::new(session.with_pool(pool))),
            Self::Bundle(bundle) => Self::Bundle(Box::new(bundle.with_pool(pool))),
        }
    }

    /// The chain that the peer presented, if it did.
    pub(crate) fn peer_chain(&self) -> Option<&Chain> {
        either!(self, it => it.peer_chain())
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        match self {
            Self::Session(session) => session.mux.capabilities(),
            Self::Bundle(_) => {
                Capabilities { half_close: true, windows: true, reasons: true, early: true, ping: true }
            }
        }
    }

    pub(crate) fn open(
        &mut self,
        now: Instant,
        name: &str,
        options: OpenOptions,
    ) -> Result<ChannelId, OpenError> {
        match self {
            Self::Session(session) => session.mux.open(now, name, options).map(ChannelId::Session),
            Self::Bundle(bundle) => bundle.open(now, name, options).map(ChannelId::Bundle),
        }
    }

    /// Accepts a request. It may have been withdrawn meanwhile; the channel then shows that.
    pub(crate) fn accept(&mut self, now: Instant, id: ChannelId) {
        on_channel!(self, id, it, id => it.accept(now, id));
    }

    pub(crate) fn refuse(&mut self, now: Instant, id: ChannelId, reason: &Reason) {
        on_channel!(self, id, it, id => it.refuse(now, id, reason));
    }

    pub(crate) fn write(&mut self, now: Instant, id: ChannelId, chunk: Chunk) -> Result<(), WriteError> {
        on_channel!(self, id, it, id => it.write(now, id, chunk))
    }

    pub(crate) fn finish(&mut self, now: Instant, id: ChannelId) {
        on_channel!(self, id, it, id => it.finish(now, id));
    }

    pub(crate) fn reset(&mut self, now: Instant, id: ChannelId, reason: &Reason) {
        on_channel!(self, id, it, id => it.reset(now, id, reason));
    }

    pub(crate) fn stop(&mut self, now: Instant, id: ChannelId, reason: &Reason) {
        on_channel!(self, id, it, id => it.stop(now, id, reason));
    }

    pub(crate) fn read(&mut self, now: Instant, id: ChannelId) -> Option<Bytes> {
        on_channel!(self, id, it, id => it.read(now, id))
    }

    /// The program took `bytes` of what was read.
    pub(crate) fn consumed(&mut self, now: Instant, id: ChannelId, bytes: usize) {
        on_channel!(self, id, it, id => it.consumed(now, id, bytes));
    }

    /// What is still there to be read when the connection has ended, and whether it is all that the peer had to say.
    pub(crate) fn rest(
        &mut self,
        now: Instant,
        id: ChannelId,
        ended: bool,
        undelivered: bool,
    ) -> (VecDeque<Bytes>, bool) {
        on_channel!(self, id, it, id => it.rest(now, id, ended, undelivered))
    }

    /// How much a channel may have that the program did not take; `None` where there are no windows.
    pub(crate) fn receive_window(&self, id: ChannelId) -> Option<u64> {
        on_channel!(self, id, it, id => it.receive_window(id))
    }

    pub(crate) fn set_priority(&mut self, id: ChannelId, priority: Priority) {
        on_channel!(self, id, it, id => it.set_priority(id, priority));
    }

    /// The channels as typed values.
    pub(crate) fn list(&self) -> Vec<ChannelInfo> {
        either!(self, it => it.list())
    }

    /// The links as typed values; none with TLS, which has the one path that it was established on.
    pub(crate) fn links(&self) -> Vec<LinkInfo> {
        match self {
            Self::Session(_) => Vec::new(),
            Self::Bundle(bundle) => bundle.link_list(),
        }
    }

    /// What the agent sees; nothing with TLS, where it has done its work.
    pub(crate) fn view(&self) -> Option<View> {
        match self {
            Self::Session(_) => None,
            Self::Bundle(bundle) => Some(bundle.view()),
        }
    }

    pub(crate) fn has_channels(&self) -> bool {
        either!(self, it => it.has_channels())
    }

    /// Asks for a sign of life. `None` if the peer does not answer such questions.
    pub(crate) fn ping(&mut self, now: Instant) -> Option<PingId> {
        either!(self, it => it.ping(now))
    }

    /// Ends in [`Event::Dead`] unless the peer gives a sign of life soon.
    pub(crate) fn probe(&mut self, now: Instant) {
        either!(self, it => it.probe(now));
    }

    /// The host's addresses may have changed.
    pub(crate) fn network_changed(&mut self, now: Instant, host: &HostNow) {
        match self {
            Self::Session(session) => session.probe(now),
            Self::Bundle(bundle) => bundle.network_changed(now, host),
        }
    }

    /// No path works at the moment, and others are looked for.
    pub(crate) fn is_adrift(&self) -> bool {
        match self {
            Self::Session(_) => false,
            Self::Bundle(bundle) => bundle.is_adrift(),
        }
    }

    /// Takes no more requests, and tells the peer.
    pub(crate) fn go_away(&mut self, now: Instant, reason: Reason) {
        either!(self, it => it.go_away(now, reason));
    }

    /// After [`Event::GoAway`]: whether the last request of the peer has come.
    pub(crate) fn has_heard_all(&self) -> bool {
        match self {
            // Said behind it, on the same stream.
            Self::Session(_) => true,
            Self::Bundle(bundle) => bundle.has_heard_all(),
        }
    }

    /// The end of all channels; what was not sent is dropped.
    pub(crate) fn close(&mut self, now: Instant, say: &Reason) {
        either!(self, it => it.close(now, say));
    }

    /// Whether the peer may still miss something that was written.
    pub(crate) fn owes(&self) -> bool {
        either!(self, it => it.owes())
    }

    pub(crate) fn poll_event(&mut self, now: Instant) -> Option<Event> {
        either!(self, it => it.poll_event(now))
    }

    /// Reads, if there is room for what comes. True if there may be more to do without being woken for it; an error is the end.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        either!(self, it => it.poll_receive(cx, now))
    }

    /// Whether [`poll_receive`](Self::poll_receive) has something to do again after events were handled, and something was written
    /// or not.
    pub(crate) fn is_unsettled(&self, wrote: bool) -> bool {
        match self {
            // There may be room for what comes.
            Self::Session(_) => wrote,
            Self::Bundle(bundle) => bundle.is_unsettled(),
        }
    }

    /// Prepares what is to be written next. More than a portion is only prepared when all before it is written, so that
    /// an urgent channel never waits behind more than that.
    pub(crate) fn fill(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Filled, CloseReason> {
        match self {
            Self::Session(session) => session.fill(now),
            Self::Bundle(bundle) => Ok(bundle.fill(cx, now)),
        }
    }

    /// Bytes prepared and not written.
    pub(crate) fn unsent(&self) -> usize {
        either!(self, it => it.unsent())
    }

    /// Writes what is prepared. Ready when nothing is left.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        either!(self, it => it.poll_write(cx))
    }

    /// To be called when all that could be was written.
    pub(crate) fn settle(&mut self) {
        if let Self::Session(session) = self {
            session.settle();
        }
    }

    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        either!(self, it => it.poll_timeout())
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        either!(self, it => it.handle_timeout(now));
    }

    /// The end, for this reason: says farewell, as far as the peer takes it within a second.
    pub(crate) async fn end(&mut self, reason: &CloseReason) {
        either!(self, it => it.end(reason).await);
    }
}

/// What [`Carrier::fill`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// There is as much as is to be written at once.
    Full,
    /// There was no more.
    All,
}
