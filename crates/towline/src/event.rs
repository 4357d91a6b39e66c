//! What happens in a node, for programs that show it.

use std::time::Duration;

use towline_identity::DeviceId;

use crate::error::{CloseReason, ConnectError};
use crate::info::{ConnectionId, ConnectionState, PathInfo, Timeline};

/// Something happened. Events are a view: a program that never listens misses nothing it needs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The node became reachable: its certificate is on the DHT and it listens for connection requests.
    Registered,
    /// A device announced itself on the local network.
    SeenOnLan {
        /// The device.
        device: DeviceId,
    },
    /// A connection attempt moved on.
    Progress {
        /// The attempt.
        connection: ConnectionId,
        /// The remote device.
        device: DeviceId,
        /// The step it is in now.
        state: ConnectionState,
        /// Since the attempt began.
        elapsed: Duration,
    },
    /// A connection is up.
    Connected {
        /// The connection.
        connection: ConnectionId,
        /// The remote device.
        device: DeviceId,
        /// True if there was no other connection to the device.
        #[doc(alias = "onNewDeviceConnection")]
        first: bool,
        /// The path it uses.
        path: PathInfo,
        /// How long each step took.
        timeline: Timeline,
    },
    /// An attempt of ours came to nothing.
    ConnectFailed {
        /// The attempt.
        connection: ConnectionId,
        /// The remote device.
        device: DeviceId,
        /// The step that failed, with its evidence.
        error: ConnectError,
    },
    /// A device was turned away, or its attempt to connect to us failed.
    IncomingFailed {
        /// The remote device.
        device: DeviceId,
        /// Why.
        error: ConnectError,
    },
    /// A connection is gone, and its channels with it.
    Disconnected {
        /// The connection.
        connection: ConnectionId,
        /// The remote device.
        device: DeviceId,
        /// Why.
        reason: CloseReason,
    },
}
