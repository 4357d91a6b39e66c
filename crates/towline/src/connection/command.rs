//! What the program asks of the task of a connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use towline_mux::{Chunk, OpenOptions, Priority, Reason};

use crate::channel::Channel;
use crate::connection::carrier::ChannelId;
use crate::connection::flow::Half;
use crate::error::{ChannelError, CloseReason};
use crate::info::{ChannelInfo, LinkInfo};
use crate::path::HostNow;
use crate::report::View;

/// Commands to one connection. Everything a program does with a channel passes through here, in order.
#[derive(Debug)]
pub(crate) enum Command {
    /// Request a channel; the reply comes with the answer of the peer, or at once with `early`.
    Open { name: Box<str>, options: OpenOptions, reply: oneshot::Sender<Result<Channel, ChannelError>> },
    /// Accept a request of the peer.
    Accept { id: ChannelId },
    /// Refuse a request of the peer.
    Refuse { id: ChannelId, reason: Reason },
    /// Send these bytes.
    Write { id: ChannelId, chunk: Chunk },
    /// No more bytes will be written.
    Finish { id: ChannelId },
    /// The program took this many bytes.
    Consumed { id: ChannelId, bytes: usize },
    /// Give the channel up.
    Reset { id: ChannelId, reason: Reason },
    /// Change how its data is scheduled.
    SetPriority { id: ChannelId, priority: Priority },
    /// A half was dropped.
    Dropped { id: ChannelId, half: Half },
    /// List the channels.
    List { reply: oneshot::Sender<Vec<ChannelInfo>> },
    /// List the links.
    Links { reply: oneshot::Sender<Vec<LinkInfo>> },
    /// What the agent sees; nothing, if there is none.
    View { reply: oneshot::Sender<Option<View>> },
    /// Measure the round trip.
    Ping { reply: oneshot::Sender<Duration> },
    /// The network may have changed: move, or make sure that the peer is still there.
    NetworkChanged { host: Arc<HostNow> },
    /// There is another connection to the peer: make sure that this one works.
    Probe,
    /// Take no more requests, and close once no channel is left.
    Retire,
    /// Close now; what is queued is still sent, within the close timeout.
    Close { reason: Reason },
    /// Close now, because the peer may not be connected any more.
    Dismiss { reason: CloseReason },
}

/// Shared by the handles of one connection.
pub(crate) type CommandSender = tokio::sync::mpsc::Sender<Command>;

/// How handles reach the task.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) commands: CommandSender,
    pub(crate) sweep: Arc<super::flow::Sweep>,
    pub(crate) share: Arc<super::flow::SendShare>,
}
