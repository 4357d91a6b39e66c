//! TCP ports at which every attempt of the node is met, beside the one that each takes for itself.
//!
//! One listener serves them all, so whoever connects must say whom he wants: by his first check, whose user name begins with the
//! fragment of one of our agents (RFC 8445 section 7.2.2, as RFC 6544 has checks on connections, too). Until then he is a stranger,
//! with bounds of his own (`reception.rs`). How a port is seen from outside is found out once for all (`view.rs`): two connections
//! from one port to one server cannot be.

mod reception;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use towline_ice::candidate::priority;
use towline_ice::{Candidate, CandidateKind, TcpType, Transport, WEB_PORT};
use towline_net::{Net, TcpListener, TcpStream};

use super::Base;
use super::outside::Finding;
use super::share::lock;
use crate::path::HostAddresses;
use reception::Reception;
pub(super) use view::View;

/// The most ports.
const MAX_PORTS: usize = 8;
/// Connections that wait for one attempt to take them.
const MAX_ARRIVED: usize = 8;
/// These candidates are numbered from here: whatever else there is of a kind is tried before.
const BEHIND: u16 = 256;

/// Why a TCP port of [`Reach::tcp_ports`](super::Reach::tcp_ports) cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The system keeps it for programs with more rights.
    #[error(
        "TCP port {port} takes more rights: the capability CAP_NET_BIND_SERVICE for this program, or \
         net.ipv4.ip_unprivileged_port_start set to {port} or less by sysctl"
    )]
    NotPermitted {
        /// The port.
        port: u16,
    },
    /// Another program listens there.
    #[error("TCP port {port} is in use: another program listens there")]
    InUse {
        /// The port.
        port: u16,
    },
    /// Peers do not connect to such a port.
    #[error("TCP port {port} is of no use: below 1024 peers try none but {WEB_PORT}, and never 0")]
    NotTried {
        /// The port.
        port: u16,
    },
    /// There are too many.
    #[error("there are more than {MAX_PORTS} TCP ports to listen on")]
    TooMany,
    /// Something else is in the way.
    #[error("nobody can listen on TCP port {port}: {why}")]
    Failed {
        /// The port.
        port: u16,
        /// What the system says.
        why: io::ErrorKind,
    },
}

/// Listens on each of these ports, for IPv4 and IPv6 as far as the host has them.
pub(crate) fn listen(
    net: &dyn Net,
    ports: &[u16],
    which: HostAddresses,
) -> Result<Vec<Box<dyn TcpListener>>, ListenError> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    if ports.len() > MAX_PORTS {
        return Err(ListenError::TooMany);
    }
    let ips: [IpAddr; 2] = match which {
        HostAddresses::Routable => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        HostAddresses::Loopback => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    };
    let mut listeners = Vec::new();
    for port in ports {
        if port < 1024 && port != WEB_PORT {
            return Err(ListenError::NotTried { port });
        }
        let (before, mut missing) = (listeners.len(), io::ErrorKind::AddrNotAvailable);
        for ip in ips {
            match net.listen_tcp(SocketAddr::new(ip, port)).map_err(|error| error.kind()) {
                Ok(listener) => listeners.push(listener),
                Err(io::ErrorKind::PermissionDenied) => return Err(ListenError::NotPermitted { port }),
                Err(io::ErrorKind::AddrInUse) => return Err(ListenError::InUse { port }),
                // A host may well lack a family.
                Err(why) => missing = why,
            }
        }
        if listeners.len() == before {
            return Err(ListenError::Failed { port, why: missing });
        }
    }
    Ok(listeners)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Doors {
    ports: Vec<u16>,
    /// Whether there is anybody to ask how they are seen.
    asks: bool,
    shared: Shared,
}

type Shared = Arc<Mutex<State>>;

/// What the attempts have in common.
#[derive(Debug, Default)]
struct State {
    next: u64,
    guests: BTreeMap<u64, Guest>,
    /// How ports are seen from outside; found anew in each round.
    seen: Vec<Candidate>,
    round: u64,
    /// No more will be found in this round, as far as is known.
    settled: bool,
    /// Addresses of the host, as who came last knows them, until that was taken in.
    entered: Option<Vec<IpAddr>>,
    /// Whoever accepts and asks.
    reception: Option<Waker>,
}

/// An attempt.
#[derive(Debug)]
struct Guest {
    /// The user name fragment of its agent.
    ufrag: String,
    /// Who has asked for it.
    callers: mpsc::Sender<Caller>,
    /// That there is something new in what is common, once for all that is.
    news: mpsc::Sender<()>,
}

/// A connection whose first check asks for one of the attempts.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) io: Box<dyn TcpStream>,
    /// What was read from it: the check, and what came with it.
    pub(crate) first: Vec<u8>,
}

impl Doors {
    /// None without a listener. Its task ends with the node.
    pub(super) fn open(
        listeners: Vec<Box<dyn TcpListener>>,
        view: impl FnOnce(&[u16]) -> View,
        asks: bool,
        tasks: &mut JoinSet<()>,
    ) -> Option<Self> {
        let mut ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().port()).collect();
        ports.dedup();
        if ports.is_empty() {
            return None;
        }
        let shared = Shared::default();
        tasks.spawn(Reception::new(listeners, Arc::clone(&shared), view(&ports)).run());
        Some(Self { ports, asks, shared })
    }

    /// Whether it is one of these ports.
    pub(super) fn has(&self, base: &Base) -> bool {
        base.transport == towline_portmap::Transport::Tcp && self.ports.contains(&base.address.port())
    }

    /// From now on the agent with this user name fragment is met here, at these addresses of the host.
    pub(super) fn enter(&self, ufrag: &str, mut ips: Vec<IpAddr>) -> Door {
        ips.sort_unstable();
        ips.dedup();
        let at = |&port: &u16| ips.iter().map(move |ip| SocketAddr::new(*ip, port));
        let hosts = self.ports.iter().flat_map(at).enumerate().map(|(n, at)| host(at, n)).collect();
        let mut state = lock(&self.shared);
        let id = state.next;
        state.next += 1;
        let (callers, its_callers) = mpsc::channel(MAX_ARRIVED);
        let (news, its_news) = mpsc::channel(1);
        state.guests.insert(id, Guest { ufrag: ufrag.to_owned(), callers, news });
        state.settled = !self.asks;
        state.entered = Some(ips);
        let round = state.round;
        state.wake_reception();
        // What is known already is news to it.
        state.tell_guests();
        let shared = Arc::clone(&self.shared);
        Door { shared, id, callers: its_callers, news: its_news, hosts, round, told: 0 }
    }
}

/// The candidate of the port itself. A port of an attempt's own is better wherever it works.
fn host(at: SocketAddr, number: usize) -> Candidate {
    let index = BEHIND.saturating_add(u16::try_from(number).unwrap_or(u16::MAX));
    let candidate = Candidate::host(Transport::Tcp(TcpType::Passive), at, index);
    Candidate { priority: priority(CandidateKind::ServerReflexive, u16::MAX - index, 1), ..candidate }
}

impl State {
    fn wake_reception(&mut self) {
        if let Some(waker) = self.reception.take() {
            waker.wake();
        }
    }

    fn tell_guests(&self) {
        for guest in self.guests.values() {
            // Who has not heard of the last news will see these with them.
            let _ = guest.news.try_send(());
        }
    }

    /// How the ports are seen is found out anew.
    fn begin_round(&mut self) {
        self.seen.clear();
        self.round += 1;
    }

    /// A port is seen so. Under another number it is what each attempt's own port is, too: then it is not worth the packets.
    fn see(&mut self, candidate: Candidate) {
        if candidate.address.port() != candidate.base.port() {
            return;
        }
        let behind = candidate.priority.saturating_sub(u32::from(BEHIND) << 8);
        self.seen.push(Candidate { priority: behind, ..candidate });
        self.tell_guests();
    }

    fn settle(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.tell_guests();
        }
    }

    /// Hands a connection to whom its first check asks for. False, and it is closed, if that is nobody, or busy.
    fn hand_over(&self, ufrag: &[u8], caller: Caller) -> bool {
        let wanted = self.guests.values().find(|guest| guest.ufrag.as_bytes() == ufrag);
        wanted.is_some_and(|guest| guest.callers.try_send(caller).is_ok())
    }
}

/// One attempt's share of the ports. Whoever asks for it later finds nobody once this is dropped.
#[derive(Debug)]
pub(super) struct Door {
    shared: Shared,
    id: u64,
    /// These are looked at with every packet of a connection: what is common is locked only when there is news of it.
    callers: mpsc::Receiver<Caller>,
    news: mpsc::Receiver<()>,
    hosts: Vec<Candidate>,
    round: u64,
    /// How many of the round's addresses have been told.
    told: usize,
}

impl Door {
    /// Takes in how the ports are seen by now. True if there was anything.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, findings: &mut VecDeque<Finding>) -> bool {
        let Poll::Ready(Some(())) = self.news.poll_recv(cx) else { return false };
        let state = lock(&self.shared);
        if self.round != state.round {
            (self.round, self.told) = (state.round, 0);
        }
        let seen = state.seen.get(self.told..).unwrap_or_default();
        let found = self.hosts.drain(..).chain(seen.iter().cloned());
        findings.extend(found.map(Finding::Candidate));
        self.told = state.seen.len();
        // The next news wakes only who has looked for them.
        true
    }

    /// The next connection whose first check is for this attempt.
    pub(super) fn poll_caller(&mut self, cx: &mut Context<'_>) -> Poll<Caller> {
        match self.callers.poll_recv(cx) {
            Poll::Ready(Some(caller)) => Poll::Ready(caller),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Nobody is left who could tell more.
    pub(super) fn is_settled(&self) -> bool {
        self.hosts.is_empty() && lock(&self.shared).settled
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        lock(&self.shared).guests.remove(&self.id);
    }
}
