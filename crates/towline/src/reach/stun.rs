//! The STUN servers of a node: where they are, and what became of asking them.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use towline_ice::gather::{Server, Via};
use towline_net::Net;

use super::memory::{Memory, ServerError, ServerKind, ServerReport};
use super::with_port;

/// Servers that count; further ones are not asked.
const MAX_SERVERS: usize = 8;
/// Addresses of one family that are asked by datagrams in one attempt, and on TCP: two are enough to know how a NAT maps.
const MAX_UDP: usize = 4;
const MAX_TCP: usize = 2;
/// All that are asked in one attempt.
pub(super) const MAX_TARGETS: usize = 2 * (MAX_UDP + MAX_TCP);
/// Names of servers are looked up again after this time, and sooner if one was not found.
const LOOK_UP_AGAIN: Duration = Duration::from_hours(1);
const RETRY: Duration = Duration::from_secs(10);
/// A name that takes longer than this to be found is told to be unknown, until it is.
const LOOK_UP: Duration = Duration::from_millis(1500);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct StunServers(Vec<Arc<StunServer>>);

/// One of them.
#[derive(Debug)]
pub(super) struct StunServer {
    name: String,
    addresses: Mutex<Vec<SocketAddr>>,
    by_udp: Memory,
    by_tcp: Memory,
}

impl StunServers {
    /// Looks all names up, each by itself: one that is not found keeps no other waiting.
    pub(super) fn start(net: &Arc<dyn Net>, servers: &[String], tasks: &mut JoinSet<()>) -> Self {
        let names = servers.iter().filter_map(|name| with_port(name)).take(MAX_SERVERS);
        let server = |name: String| {
            let server = Arc::new(StunServer::new(name));
            tasks.spawn(look_up(Arc::clone(net), Arc::clone(&server)));
            server
        };
        Self(names.map(server).collect())
    }

    /// Whom to ask: of every server the first address of each family before the second of any.
    pub(super) fn targets(&self) -> Vec<(Server, Arc<StunServer>)> {
        let mut ranked = Vec::new();
        for server in &self.0 {
            let (mut v4, mut v6) = (0, 0);
            for &address in server.lock().iter() {
                let rank = if address.is_ipv4() { &mut v4 } else { &mut v6 };
                ranked.push((*rank, address, server));
                *rank += 1;
            }
        }
        ranked.sort_by_key(|(rank, ..)| *rank);
        // Two names may be of one host, whose addresses of both families lie between each other.
        let mut seen = BTreeSet::new();
        ranked.retain(|(_, address, _)| seen.insert(*address));
        let by = |via, most| {
            let target = move |&(_, address, server): &(_, SocketAddr, &Arc<StunServer>)| {
                (Server { address, via }, Arc::clone(server))
            };
            let of = |v4: bool| ranked.iter().filter(move |(_, address, _)| address.is_ipv4() == v4);
            of(true).take(most).chain(of(false).take(most)).map(target)
        };
        by(Via::Udp, MAX_UDP).chain(by(Via::Tcp, MAX_TCP)).collect()
    }

    /// What is known of each.
    pub(super) fn reports(&self, now: Instant) -> impl Iterator<Item = ServerReport> {
        self.0.iter().flat_map(move |server| [server.by_udp.report(now), server.by_tcp.report(now)])
    }
}

impl StunServer {
    fn new(name: String) -> Self {
        Self {
            addresses: Mutex::default(),
            by_udp: Memory::new(name.clone(), ServerKind::Stun(Via::Udp)),
            by_tcp: Memory::new(name.clone(), ServerKind::Stun(Via::Tcp)),
            name,
        }
    }

    pub(super) fn memory(&self, via: Via) -> &Memory {
        match via {
            Via::Udp => &self.by_udp,
            Via::Tcp => &self.by_tcp,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SocketAddr>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name was not found. Where it was, it may still be.
    fn not_found(&self, why: io::ErrorKind) {
        if self.lock().is_empty() {
            for memory in [&self.by_udp, &self.by_tcp] {
                memory.failed(towline_net::now(), ServerError::NotFound(why));
            }
        }
    }
}

async fn look_up(net: Arc<dyn Net>, server: Arc<StunServer>) {
    loop {
        let mut looking = net.resolve(&server.name);
        let found = match tokio::time::timeout(LOOK_UP, &mut looking).await {
            Ok(found) => found,
            Err(_) => {
                server.not_found(io::ErrorKind::TimedOut);
                looking.await
            }
        };
        let pause = match found {
            Ok(addresses) => {
                *server.lock() = addresses;
                LOOK_UP_AGAIN
            }
            Err(error) => {
                server.not_found(error.kind());
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_one_host_leave_room_for_another() {
        let all = ["192.0.2.1:3478", "192.0.2.2:3478", "[2001:db8::1]:3478", "[2001:db8::2]:3478"];
        let [one_v4, two_v4, one_v6, two_v6] = all.map(|address| address.parse::<SocketAddr>().unwrap());
        let server = |name: &str, addresses: [SocketAddr; 2]| {
            let server = StunServer::new(name.to_owned());
            *server.lock() = addresses.to_vec();
            Arc::new(server)
        };
        let one = [one_v4, one_v6];
        let servers = [server("one", one), server("alias", one), server("two", [two_v4, two_v6])];
        let targets = StunServers(servers.to_vec()).targets();
        for via in [Via::Udp, Via::Tcp] {
            let asked = targets.iter().filter(|(server, _)| server.via == via);
            let asked: Vec<SocketAddr> = asked.map(|(server, _)| server.address).collect();
            assert_eq!(asked, [one_v4, two_v4, one_v6, two_v6], "{via:?}");
        }
    }
}
