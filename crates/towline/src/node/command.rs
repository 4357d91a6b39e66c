//! What the handles ask of the node's task.

use tokio::sync::oneshot;
use towline_identity::{Chain, DeviceId};

use super::known::Known;
use super::target::Target;
use crate::connection::Connection;
use crate::error::ConnectError;
use crate::info::ConnectionInfo;
use crate::report::Report;

/// Where the outcome of a dial goes.
pub(super) type Reply = oneshot::Sender<Result<Connection, ConnectError>>;

#[derive(Debug)]
pub(super) enum Command {
    Dial {
        device: DeviceId,
        reply: Reply,
    },
    /// The chain of a device comes from the program, or was looked up for it.
    Remember {
        known: Known,
    },
    /// The chain that the node would dial this device with.
    Recall {
        wanted: crate::eras::DeviceIds,
        reply: oneshot::Sender<Option<Chain>>,
    },
    CloseWith {
        target: Target,
        done: oneshot::Sender<()>,
    },
    EnforcePolicy {
        done: oneshot::Sender<()>,
    },
    Attempts {
        reply: oneshot::Sender<Vec<ConnectionInfo>>,
    },
    /// The attempt at a device that is under way, or failed last.
    Report {
        device: DeviceId,
        reply: oneshot::Sender<Option<Report>>,
    },
    ConnectivityChanged,
    Shutdown {
        done: oneshot::Sender<()>,
    },
}
