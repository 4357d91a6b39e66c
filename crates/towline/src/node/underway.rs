//! Attempts as the node's task sees them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use towline_identity::DeviceId;

use super::command::Reply;
use super::progress::Progress;
use crate::info::{ConnectionId, ConnectionState, Origin};
use crate::signal::Incoming;

/// How long a dial gives way to an answer that has found no path yet. A request can be minutes old.
const GIVE_WAY: Duration = Duration::from_secs(5);

/// A dial and those who wait for it.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) id: ConnectionId,
    pub(super) waiters: Vec<Reply>,
    /// Where the answer goes; taken by the first one.
    pub(super) answer: Option<oneshot::Sender<Incoming>>,
    pub(super) attempt: Underway,
}

/// An attempt in its task.
#[derive(Debug)]
pub(super) struct Underway {
    pub(super) task: AbortHandle,
    /// Asks the attempt to end; it says goodbye where there is somebody to say it to.
    pub(super) stop: CancellationToken,
    pub(super) progress: Arc<Progress>,
    /// Nothing was known of the device when it began.
    pub(super) stranger: bool,
    /// The device is no Towline, so its request and ours must not cross.
    pub(super) yields: bool,
    /// Closed when the attempt is over.
    pub(super) over: watch::Sender<()>,
}

impl Underway {
    /// Ends the attempt. One that is securing its path ends by itself, within a second.
    pub(super) fn end(&self) {
        self.stop.cancel();
        if self.progress.state() != ConnectionState::Securing {
            self.task.abort();
        }
    }

    /// What another attempt at the same device waits for.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome { over: self.over.subscribe(), progress: Arc::clone(&self.progress) }
    }
}

/// The end of an attempt, to come.
#[derive(Debug)]
pub(super) struct Outcome {
    over: watch::Receiver<()>,
    progress: Arc<Progress>,
}

impl Outcome {
    /// Ready when the attempt has come to nothing, or has not found a path in time.
    pub(super) async fn failed(mut self) {
        let ended = async { while self.over.changed().await.is_ok() {} };
        tokio::pin!(ended);
        if tokio::time::timeout(GIVE_WAY, &mut ended).await.is_err()
            && self.progress.state() == ConnectionState::Securing
        {
            ended.await;
        }
    }
}

/// The key of an attempt: both sides may choose the same id.
pub(super) type AttemptKey = (DeviceId, ConnectionId, OriginKey);

/// [`Origin`] with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OriginKey {
    Dialled,
    Answered,
}

impl From<OriginKey> for Origin {
    fn from(origin: OriginKey) -> Self {
        match origin {
            OriginKey::Dialled => Self::Dialled,
            OriginKey::Answered => Self::Answered,
        }
    }
}
