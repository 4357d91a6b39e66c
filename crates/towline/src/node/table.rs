//! The established connections of a node, and which one of several to a device is preferred.

use std::collections::BTreeMap;
use std::sync::RwLock;

use towline_identity::DeviceId;
use towline_mux::Dialect;

use crate::connection::Connection;
use crate::info::{ConnectionId, Origin};

/// Read by every `connect`, written by the node's task only. Not on the data path.
#[derive(Debug)]
pub(crate) struct Table {
    own: DeviceId,
    connections: RwLock<BTreeMap<DeviceId, Vec<Connection>>>,
}

impl Table {
    pub(crate) fn new(own: DeviceId) -> Self {
        Self { own, connections: RwLock::new(BTreeMap::new()) }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<DeviceId, Vec<Connection>>> {
        self.connections.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<DeviceId, Vec<Connection>>> {
        self.connections.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The connection to open channels on, if there is one that takes any.
    pub(crate) fn preferred(&self, device: DeviceId) -> Option<Connection> {
        self.read().get(&device)?.iter().find(|connection| connection.is_usable()).cloned()
    }

    /// The preferred connection to the device, be it one that takes no channels.
    pub(crate) fn first(&self, device: DeviceId) -> Option<Connection> {
        self.read().get(&device)?.first().cloned()
    }

    /// Whether there is any connection to the device, be it one that is being left.
    pub(crate) fn knows(&self, device: DeviceId) -> bool {
        self.read().contains_key(&device)
    }

    pub(crate) fn all(&self) -> Vec<Connection> {
        self.read().values().flatten().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.read().values().map(Vec::len).sum()
    }

    /// Adds a connection. Returns all to the same device, the preferred first.
    pub(crate) fn insert(&self, connection: Connection) -> Vec<Connection> {
        let mut table = self.write();
        let list = table.entry(connection.peer().device).or_default();
        // The newest first among equals: its device would not have dialled again if it still had the others.
        list.insert(0, connection);
        list.sort_by_key(|connection| self.rank(connection));
        list.clone()
    }

    pub(crate) fn remove(&self, device: DeviceId, id: ConnectionId) {
        let mut table = self.write();
        if let Some(list) = table.get_mut(&device) {
            list.retain(|connection| connection.id() != id);
            if list.is_empty() {
                table.remove(&device);
            }
        }
    }

    /// First what the device with the smaller id asked for: two devices that dial each other at the same time so agree
    /// on one of the two connections.
    fn rank(&self, connection: &Connection) -> bool {
        let requester_is_smaller = match connection.shared.origin {
            Origin::Dialled => self.own < connection.peer().device,
            Origin::Answered => connection.peer().device < self.own,
        };
        !requester_is_smaller
    }
}

/// Connections behind the preferred one that both sides can let go of once nothing runs on them: those the other side
/// asked for. Several that one side asked for come of restarts, or of several programs with one identity, each of which
/// has only its own. A Jami peer may prefer another than we do, so its connections stay.
pub(crate) fn superseded(connections: &[Connection]) -> impl Iterator<Item = &Connection> {
    let preferred = connections.first().map(|connection| connection.shared.origin);
    connections.iter().skip(1).filter(move |connection| {
        connection.shared.info.dialect == Dialect::Native && Some(connection.shared.origin) != preferred
    })
}
