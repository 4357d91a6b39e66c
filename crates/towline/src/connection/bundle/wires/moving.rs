//! What becomes of sockets and candidates when the host's addresses change, and when the session is restarted.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use towline_ice::{Candidate, CandidateKind, Description, host_candidates};

use super::super::socket::Socket;
use super::Wires;
use crate::path::{HostNow, datagram_socket};

/// How the addresses of a connection have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::connection::bundle) struct Change {
    /// Addresses that it had.
    pub(in crate::connection::bundle) gone: usize,
    /// Addresses that it has now.
    pub(in crate::connection::bundle) come: usize,
}

impl Wires {
    /// Leaves the addresses that are gone, and opens sockets on new ones, as far as there are none for all addresses.
    pub(in crate::connection::bundle) fn rebind(&mut self, now: Instant, host: &HostNow) -> Change {
        let own = self.agent.local_description().candidates;
        let of_host = |candidate: &&Candidate| candidate.kind != CandidateKind::Relayed;
        let mut known: Vec<IpAddr> =
            own.iter().filter(of_host).map(|candidate| candidate.base.ip()).collect();
        known.sort_unstable();
        known.dedup();
        let (kept, gone): (Vec<IpAddr>, Vec<IpAddr>) =
            known.into_iter().partition(|ip| host.all.contains(ip));
        let mut bases: Vec<SocketAddr> = own.iter().filter(of_host).map(|candidate| candidate.base).collect();
        bases.retain(|base| gone.contains(&base.ip()));
        for base in bases {
            self.agent.remove_local(now, base);
        }
        self.sockets.close_bound_to(&gone);
        self.closed.retain(|closed| !gone.contains(&closed.ip()));
        self.listeners.retain(|listener| !gone.contains(&listener.local_addr().ip()));
        if !gone.is_empty() {
            self.listen_again(now);
        }
        let come: Vec<IpAddr> = host.offered.iter().copied().filter(|ip| !kept.contains(ip)).collect();
        for ip in &come {
            let (tcp, udp) = (self.listen_on(*ip), self.open_on(*ip));
            for candidate in host_candidates(&[*ip], tcp, udp) {
                self.agent.add_local(now, candidate);
            }
        }
        if !gone.is_empty() || !come.is_empty() {
            tracing::debug!(?gone, ?come, "the host's addresses have changed");
            self.failure = None;
        }
        self.act();
        Change { gone: gone.len(), come: come.len() }
    }

    /// Opens the listeners that were closed while all was well, at the same ports if nobody has taken them.
    fn listen_again(&mut self, now: Instant) {
        for closed in std::mem::take(&mut self.closed) {
            match self.net.listen_tcp(closed) {
                Ok(listener) => self.listeners.push(listener),
                Err(_) => self.listen_elsewhere(now, closed.ip()),
            }
        }
    }

    fn listen_elsewhere(&mut self, now: Instant, ip: IpAddr) {
        let Ok(listener) = self.net.listen_tcp(SocketAddr::new(ip, 0)) else { return };
        let port = listener.local_addr().port();
        self.listeners.push(listener);
        let own = self.agent.local_description().candidates.into_iter().map(|candidate| candidate.base.ip());
        let serves = |own: &IpAddr| *own == ip || ip.is_unspecified() && own.is_ipv4() == ip.is_ipv4();
        let served: Vec<IpAddr> = own.filter(serves).collect();
        for candidate in host_candidates(&served, Some(port), None) {
            self.agent.add_local(now, candidate);
        }
    }

    /// The port of a listener that serves this address.
    fn listen_on(&mut self, ip: IpAddr) -> Option<u16> {
        let serves = |own: SocketAddr| own.ip().is_unspecified() && own.is_ipv4() == ip.is_ipv4();
        let mut listening = self.listeners.iter().map(|listener| listener.local_addr());
        if let Some(own) = listening.find(|own| serves(*own)) {
            return Some(own.port());
        }
        let listener = self.net.listen_tcp(SocketAddr::new(ip, 0));
        let listener = listener.inspect_err(|error| tracing::debug!(%ip, %error, "no listener")).ok()?;
        let port = listener.local_addr().port();
        self.listeners.push(listener);
        Some(port)
    }

    /// The same of a UDP socket.
    fn open_on(&mut self, ip: IpAddr) -> Option<u16> {
        if let Some(port) = self.sockets.port_for_all(ip) {
            return Some(port);
        }
        let socket = self.net.bind_udp(&datagram_socket(ip));
        let socket = socket.inspect_err(|error| tracing::debug!(%ip, %error, "no socket")).ok()?;
        let port = socket.local_addr().port();
        self.sockets.add(Socket::new(socket));
        Some(port)
    }

    /// Whether there is any address to be reached at.
    pub(in crate::connection::bundle) fn has_address(&self) -> bool {
        !self.agent.local_description().candidates.is_empty()
    }

    /// Restarts the session: new credentials, and everything is found out anew; what works goes on meanwhile. Returns what the
    /// peer is to be told.
    pub(in crate::connection::bundle) fn restart(&mut self, now: Instant) -> Description {
        self.listen_again(now);
        self.generation += 1;
        self.agent.remove_reflexive(now);
        self.agent.restart(now);
        self.outward.begin_anew(&mut self.agent);
        // There are listeners and questions that nobody has polled yet.
        self.more = true;
        self.act();
        self.agent.local_description()
    }

    /// The peer's description after a restart, or more of it.
    pub(in crate::connection::bundle) fn take_restart(&mut self, now: Instant, description: Description) {
        for (candidate, reason) in self.agent.set_remote(now, description) {
            tracing::debug!(%candidate, %reason, "remote candidate not used");
        }
        self.take_early(now);
        self.act();
    }
}
