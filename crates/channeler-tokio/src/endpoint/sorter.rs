//! Whose datagrams have come.

use std::sync::Arc;

use towline_channeler::{ConnectionHandle, Handled, Route};
use towline_net::Arrival;

use super::{Shared, State, burst};
use crate::{
    connection::{self, from_ecn},
    lock,
    socket::Socket,
};

/// Finds out whose datagrams have come, and hands them over.
#[derive(Debug, Default)]
pub(super) struct Sorter {
    /// For each datagram of a buffer, whose it is.
    owners: Vec<Option<ConnectionHandle>>,
    /// Those of them, each once, most buffers have one.
    connections: Vec<(ConnectionHandle, Arc<connection::Shared>)>,
}

impl Sorter {
    pub(super) fn sort(
        &mut self,
        shared: &Arc<Shared>,
        socket: &Arc<Socket>,
        batch: &mut [(Arrival, &mut [u8])],
    ) {
        let (now, unix_time) = (towline_net::now(), shared.unix_time());
        for (arrival, buf) in batch {
            let local = arrival.to.filter(|_| socket.any);
            let route = Route::Datagram { socket: socket.number, local, remote: arrival.from };
            {
                let mut state = lock(&shared.state);
                self.owners.clear();
                for datagram in arrival.datagrams(buf) {
                    let State { inner, answer, .. } = &mut *state;
                    let handled = inner.handle(now, unix_time, route, datagram, answer);
                    let owner = match handled {
                        Handled::To(handle) => Some(handle),
                        Handled::New(handle, inner) => {
                            shared.admit(&mut state, handle, *inner).map(|_| handle)
                        }
                        Handled::Respond(transmit) => {
                            socket.try_send(&burst(&transmit, answer));
                            None
                        }
                        Handled::Dropped => None,
                    };
                    let Some(handle) = owner else {
                        self.owners.push(None);
                        continue;
                    };
                    if !self.connections.iter().any(|(known, _)| *known == handle) {
                        let found = state.connections.get(handle.index()).and_then(Option::as_ref);
                        self.connections.extend(found.map(|found| (handle, Arc::clone(found))));
                    }
                    self.owners.push(Some(handle));
                }
            }
            let ecn = arrival.ecn.map(from_ecn);
            let mut datagrams = arrival.datagrams(buf).zip(&self.owners).peekable();
            while let Some((datagram, owner)) = datagrams.next() {
                let found = self.connections.iter().find(|(handle, _)| Some(*handle) == *owner);
                let Some((_, connection)) = found else { continue };
                // Those that follow one another belong to one connection, but for a collision of addresses.
                connection.handle(|inner| {
                    inner.handle(now, route, ecn, datagram);
                    while let Some((datagram, _)) = datagrams.next_if(|(_, next)| *next == owner) {
                        inner.handle(now, route, ecn, datagram);
                    }
                });
            }
        }
        for (_, connection) in self.connections.drain(..) {
            connection.flush();
        }
    }
}
