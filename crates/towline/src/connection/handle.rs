//! A handle to an established connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use towline_mux::{Code, OpenOptions, Reason};

use super::command::{Command, Line};
use super::flow::Sweep;
use super::task::Counters;
use crate::channel::Channel;
use crate::error::{ChannelError, CloseReason};
use crate::info::{
    ChannelInfo, ConnectionId, ConnectionInfo, ConnectionState, EstablishedInfo, LinkInfo, Origin,
};
use crate::path::HostNow;
use crate::policy::Peer;
use crate::report::{Journal, Report};

/// An established connection to a device. Cheap to clone; the connection lives until it is closed or lost, and its
/// handles do not keep it open beyond the node.
#[derive(Debug, Clone)]
#[doc(alias = "MultiplexedSocket")]
pub struct Connection {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: ConnectionId,
    pub(crate) peer: Arc<Peer>,
    pub(crate) origin: Origin,
    /// The policy admitted the peer when the connection came up.
    pub(crate) admitted: bool,
    /// As it was when it came up; counters are filled in on reading.
    pub(crate) info: EstablishedInfo,
    pub(crate) counters: Arc<Counters>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) line: Line,
}

impl Connection {
    /// Its id, the same on both sides.
    pub fn id(&self) -> ConnectionId {
        self.shared.id
    }

    /// The device at the other end.
    pub fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// Opens a channel; ready when the peer's program has accepted it.
    ///
    /// Dropping the future gives the request up.
    pub async fn open(&self, name: &str) -> Result<Channel, ChannelError> {
        self.open_with(name, OpenOptions::default()).await
    }

    /// Opens a channel with options. With [`OpenOptions::early`] (native dialect) the channel is ready at once and
    /// what is written goes out with the request; if the peer refuses, reads and writes fail with
    /// [`ChannelError::Refused`] and the data is lost.
    ///
    /// Dropping the future gives the request up.
    pub async fn open_with(&self, name: &str, options: OpenOptions) -> Result<Channel, ChannelError> {
        let (reply, answer) = oneshot::channel();
        let mut awaited = Awaited { answer, sweep: &self.shared.line.sweep };
        // Without a reason of its own it ended with the node.
        let gone = || {
            let ended = self.shared.counters.ended.get();
            ChannelError::Connection(ended.cloned().unwrap_or(CloseReason::Here))
        };
        let command = Command::Open { name: name.into(), options, reply };
        self.shared.line.commands.send(command).await.map_err(|_| gone())?;
        (&mut awaited.answer).await.map_err(|_| gone())?
    }

    /// The open channels. Empty if the connection is gone.
    #[doc(alias = "getChannelList")]
    pub async fn channels(&self) -> Vec<ChannelInfo> {
        let (reply, answer) = oneshot::channel();
        if self.shared.line.commands.send(Command::List { reply }).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// The paths that the connection uses or keeps in reserve, and which is for what. Empty if it is gone, or runs on TLS: then it
    /// has the one path that [`info`](Self::info) tells.
    pub async fn links(&self) -> Vec<LinkInfo> {
        let (reply, answer) = oneshot::channel();
        if self.shared.line.commands.send(Command::Links { reply }).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// All that is known of it: how it came to be, the candidates of both sides, what each pair of them did, which path carries
    /// data and why not the others, and what keeps it from a better one.
    pub async fn report(&self) -> Report {
        let (reply, view) = oneshot::channel();
        let asked = self.shared.line.commands.send(Command::View { reply }).await;
        let view = if asked.is_ok() { view.await.ok().flatten() } else { None };
        self.shared.journal.report(towline_net::now(), view, self.links().await)
    }

    /// Measures the round trip. `None` if the peer cannot answer, or the connection is gone.
    #[doc(alias = "sendBeacon")]
    pub async fn ping(&self) -> Option<Duration> {
        let (reply, answer) = oneshot::channel();
        self.shared.line.commands.send(Command::Ping { reply }).await.ok()?;
        answer.await.ok()
    }

    /// Tells of the host's addresses: the connection moves if they have changed, and looks whether the peer is still there.
    pub(crate) fn network_changed(&self, host: &Arc<HostNow>) {
        let _ = self.shared.line.commands.try_send(Command::NetworkChanged { host: Arc::clone(host) });
    }

    /// Makes sure that the peer is still there: if it does not answer in time, the connection ends.
    pub(crate) fn probe(&self) {
        let _ = self.shared.line.commands.try_send(Command::Probe);
    }

    /// No new channels; ends when the last is gone.
    pub(crate) fn retire(&self) {
        // A full queue means that it is in use; the next connection to the device asks again.
        let _ = self.shared.line.commands.try_send(Command::Retire);
    }

    /// Closes the connection and all its channels. What they have written is still sent, within
    /// [`Limits::close_timeout`](crate::Limits::close_timeout).
    pub async fn close(&self) {
        let reason = Reason::from(Code::GoingAway);
        let _ = self.shared.line.commands.send(Command::Close { reason }).await;
        self.closed().await;
    }

    /// Ends the connection for a reason that leaves nothing to be said: what its channels have written is not sent any
    /// more, but the session is closed properly. Ready when it has ended.
    pub(crate) async fn dismiss(&self, reason: CloseReason) {
        let _ = self.shared.line.commands.send(Command::Dismiss { reason }).await;
        self.closed().await;
    }

    /// Ready when the connection has ended.
    pub async fn closed(&self) {
        self.shared.line.commands.closed().await;
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.line.commands.is_closed()
    }

    /// Whether channels can be opened on it.
    pub(crate) fn is_usable(&self) -> bool {
        let counters = &self.shared.counters;
        let lost = counters.leaving.load(Ordering::Acquire) || counters.adrift.load(Ordering::Relaxed);
        !self.is_closed() && !lost
    }

    /// The connection as a plain value.
    pub fn info(&self) -> ConnectionInfo {
        let counters = &self.shared.counters;
        let established = EstablishedInfo {
            sent: counters.sent.load(Ordering::Relaxed),
            received: counters.received.load(Ordering::Relaxed),
            channels: counters.channels.load(Ordering::Relaxed),
            ..self.shared.info.clone()
        };
        ConnectionInfo {
            id: self.shared.id,
            device: self.shared.peer.device,
            account: Some(self.shared.peer.account),
            origin: self.shared.origin,
            state: ConnectionState::Established,
            established: Some(established),
        }
    }
}

/// The wait for the answer to a channel request.
struct Awaited<'a> {
    answer: oneshot::Receiver<Result<Channel, ChannelError>>,
    sweep: &'a Sweep,
}

impl Drop for Awaited<'_> {
    /// Given up before the answer came, the task withdraws the request.
    fn drop(&mut self) {
        if !self.answer.is_terminated() {
            self.answer.close();
            self.sweep.request();
        }
    }
}
