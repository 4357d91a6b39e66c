//! The UDP sockets of a connection, its own and those on relays, by the numbers that routes name them by.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::socket::Socket;

/// See the module. A number stays with its socket, and is not soon given to another.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    open: BTreeMap<u16, Socket>,
    next: u16,
}

impl Sockets {
    pub(super) fn add(&mut self, socket: Socket) {
        // There are never more than a few.
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        self.open.insert(self.next, socket);
        self.next = self.next.wrapping_add(1);
    }

    pub(super) fn get(&self, number: u16) -> Option<&Socket> {
        self.open.get(&number)
    }

    /// The smallest number from this one on.
    pub(super) fn from(&self, number: u16) -> Option<u16> {
        self.open.range(number..).next().map(|(number, _)| *number)
    }

    /// The socket that sends from this address. That of a relay may have the port of one of ours.
    pub(super) fn sending_from(&self, local: SocketAddr) -> Option<u16> {
        let exact = self.open.iter().find(|(_, socket)| socket.local() == local);
        let any = || {
            self.open.iter().find(|(_, socket)| {
                let own = socket.local();
                own.ip().is_unspecified() && own.port() == local.port() && own.is_ipv4() == local.is_ipv4()
            })
        };
        exact.or_else(any).map(|(number, _)| *number)
    }

    /// The port of a socket for all addresses of the family of this one.
    pub(super) fn port_for_all(&self, ip: IpAddr) -> Option<u16> {
        let all = |own: &SocketAddr| own.ip().is_unspecified() && own.is_ipv4() == ip.is_ipv4();
        self.open.values().map(Socket::local).find(all).map(|own| own.port())
    }

    /// Closes those that are bound to an address that is gone.
    pub(super) fn close_bound_to(&mut self, gone: &[IpAddr]) {
        self.open.retain(|_, socket| !gone.contains(&socket.local().ip()));
    }

    /// Closes the one at this address. False if there is none.
    pub(super) fn close(&mut self, local: SocketAddr) -> bool {
        let before = self.open.len();
        self.open.retain(|_, socket| socket.local() != local);
        self.open.len() < before
    }
}
