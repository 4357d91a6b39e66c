//! Whom a command means.

use towline_identity::{AccountId, DeviceId};

use crate::info::ConnectionId;

/// Whom [`Node::close_with`](crate::Node::close_with) means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// One device.
    Device(DeviceId),
    /// All devices of an account.
    Account(AccountId),
    /// One connection.
    Connection(ConnectionId),
}

impl From<DeviceId> for Target {
    fn from(device: DeviceId) -> Self {
        Self::Device(device)
    }
}

impl From<AccountId> for Target {
    fn from(account: AccountId) -> Self {
        Self::Account(account)
    }
}

impl From<ConnectionId> for Target {
    fn from(connection: ConnectionId) -> Self {
        Self::Connection(connection)
    }
}

impl Target {
    /// Whether a connection or an attempt is meant. The account of an attempt is unknown until its certificate was seen.
    pub(super) fn matches(self, device: DeviceId, id: ConnectionId, account: Option<AccountId>) -> bool {
        match self {
            Self::Device(wanted) => wanted == device,
            Self::Connection(wanted) => wanted == id,
            Self::Account(wanted) => account == Some(wanted),
        }
    }
}
