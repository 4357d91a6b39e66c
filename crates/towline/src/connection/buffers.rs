//! How large buffers are, and for how long, whatever carries the connection.

use std::time::Duration;

/// Room for reading at the start; a handful of control messages.
pub(super) const READ_MIN: usize = 4 * 1024;
/// Room for reading when data flows.
pub(super) const READ_MAX: usize = 128 * 1024;
/// Space kept by idle buffers.
pub(super) const IDLE_CAPACITY: usize = 4 * 1024;
/// A connection that moves less between two keep-alives is idle: its own keep-alives and pings are less.
pub(super) const IDLE_BYTES: usize = 4 * 1024;
/// How long a peer may take to take the end.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);
