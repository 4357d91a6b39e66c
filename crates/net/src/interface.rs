//! Interfaces of a host and the news that they changed.

use std::net::IpAddr;

use tokio::sync::watch;

/// An address of an interface with the length of its network prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress {
    /// The address.
    pub addr: IpAddr,
    /// Length of the network prefix in bits: at most 32 (IPv4) or 128 (IPv6).
    pub prefix: u8,
}

/// A network interface as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The system's name of it (`eth0`).
    pub name: String,
    /// The system's number of it; also the scope id of its IPv6 link-local addresses. Never 0.
    pub index: u32,
    /// Its addresses, sorted.
    pub addresses: Vec<InterfaceAddress>,
    /// Reaches only this host.
    pub loopback: bool,
    /// Administratively up.
    pub up: bool,
    /// Carries multicast.
    pub multicast: bool,
}

/// A router that this host sends packets for the internet to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gateway {
    /// The router's address in the network that it shares with this host.
    pub router: IpAddr,
    /// This host's address in that network.
    pub local: IpAddr,
    /// [`Interface::index`] of the interface to it.
    pub interface: u32,
}

/// A subscription to changes of the interfaces of a host, from [`Net::changes`](crate::Net::changes).
///
/// Changes are merged: any number of them before the next wait is one.
#[derive(Debug, Clone)]
pub struct Changes(watch::Receiver<u64>);

impl Changes {
    /// A subscription fed by a counter: each new value is a change. Ends never if the sender is dropped.
    pub fn new(generation: watch::Receiver<u64>) -> Self {
        Self(generation)
    }

    /// Waits until interfaces or addresses differ from what they were when this was subscribed, or when this
    /// last returned. Cancel safe.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
