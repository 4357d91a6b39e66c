//! An address on a relay, shared by the attempts and connections of a node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinSet;
use towline_ice::stun::{Class, Message};
use towline_net::{BoxFuture, Burst, Net, Received, UdpSocket};
use towline_turn::{Config, Credentials, ServerTransport};
use towline_turn_tokio::{AllocateError, Options, RelaySocket};

use super::{Relay, RelayTransport};

/// An address that nobody uses is given back after this time.
const IDLE: Duration = Duration::from_mins(1);
/// Datagrams that wait for one user, in bytes; more are lost, as the network might have lost them.
const MAX_WAITING: usize = 1 << 20;
/// Longest datagram that is received.
const MAX_DATAGRAM: usize = 1 << 16;
/// Peers of one user that are remembered.
const MAX_PEERS: usize = 64;
/// How many datagrams a user may send at once.
const SEGMENTS: usize = 44;

/// The relays of a node, and the address that one of them gave.
#[derive(Debug)]
pub(super) struct Relays {
    net: Arc<dyn Net>,
    servers: Vec<Relay>,
    current: tokio::sync::Mutex<Weak<Hub>>,
    /// Distribute what comes. They end with the node.
    tasks: Mutex<JoinSet<()>>,
}

impl Relays {
    pub(super) fn new(net: Arc<dyn Net>, servers: Vec<Relay>) -> Self {
        Self { net, servers, current: tokio::sync::Mutex::default(), tasks: Mutex::default() }
    }

    /// A share for the agent with this user name fragment, of the address that there is or of a new one.
    pub(super) fn port(self: Arc<Self>, ufrag: String) -> BoxFuture<'static, Option<RelayPort>> {
        Box::pin(async move {
            // Who comes while an address is being asked for waits for the same.
            let mut current = self.current.lock().await;
            if let Some(port) = current.upgrade().and_then(|hub| Hub::port(&hub, &ufrag)) {
                return Some(port);
            }
            let hub = Arc::new(Hub { socket: self.race().await?, state: Mutex::default() });
            *current = Arc::downgrade(&hub);
            let port = Hub::port(&hub, &ufrag);
            let mut tasks = lock(&self.tasks);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(hub.distribute());
            port
        })
    }

    /// Asks all relays at once. The first that gives an address has it; the others get theirs back.
    async fn race(&self) -> Option<RelaySocket> {
        let mut asked: FuturesUnordered<_> =
            self.servers.iter().map(|relay| async move { (relay, self.allocate(relay).await) }).collect();
        while let Some((relay, outcome)) = asked.next().await {
            match outcome {
                Ok(socket) => {
                    tracing::debug!(%relay, address = %socket.local_addr(), "an address on a relay");
                    return Some(socket);
                }
                Err(error) => tracing::debug!(%relay, %error, "no address on a relay"),
            }
        }
        None
    }

    async fn allocate(&self, relay: &Relay) -> Result<RelaySocket, AllocateError> {
        let mut error = AllocateError::Unreachable(io::ErrorKind::NotFound);
        let found = self.net.resolve(&relay.server).await;
        for server in found.map_err(|error| AllocateError::Unreachable(error.kind()))? {
            let transport = match relay.transport {
                RelayTransport::Udp => ServerTransport::Udp,
                RelayTransport::Tcp => ServerTransport::Tcp,
            };
            let credentials = Some(Credentials::new(&relay.user, &relay.secret));
            let options = Options::new(Config { credentials, ..Config::new(server, transport) });
            match RelaySocket::allocate(Arc::clone(&self.net), &options).await {
                Ok(socket) => return Ok(socket),
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }

    /// Finds out whether the address still stands.
    pub(super) fn check(&self) {
        if let Ok(current) = self.current.try_lock()
            && let Some(hub) = current.upgrade()
        {
            hub.socket.check();
        }
    }
}

/// The address and its users.
#[derive(Debug)]
struct Hub {
    socket: RelaySocket,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    users: BTreeMap<u64, User>,
    /// Given back, or lost: there will be no more users.
    ended: bool,
}

#[derive(Debug)]
struct User {
    ufrag: String,
    /// Whom it has sent something.
    peers: BTreeSet<SocketAddr>,
    inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    waiting: usize,
    reader: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    fn port(hub: &Arc<Self>, ufrag: &str) -> Option<RelayPort> {
        let mut state = lock(&hub.state);
        if state.ended {
            return None;
        }
        let id = state.next;
        state.next += 1;
        let user = User {
            ufrag: ufrag.to_owned(),
            peers: BTreeSet::new(),
            inbox: VecDeque::new(),
            waiting: 0,
            reader: None,
        };
        state.users.insert(id, user);
        Some(RelayPort { hub: Arc::clone(hub), id })
    }

    /// Hands what comes to whom it is for, until the address is lost or was idle for long.
    async fn distribute(self: Arc<Self>) {
        let mut buf = vec![0; MAX_DATAGRAM];
        let mut idle = false;
        loop {
            let received = poll_fn(|cx| self.socket.poll_recv(cx, &mut buf));
            match tokio::time::timeout(IDLE / 2, received).await {
                Ok(Ok(Received { len, from })) => lock(&self.state).deliver(from, &buf[..len]),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the address on the relay is lost");
                    return lock(&self.state).end();
                }
                Err(_) => {
                    let mut state = lock(&self.state);
                    let unused = state.users.is_empty();
                    if unused && idle {
                        return state.end();
                    }
                    idle = unused;
                }
            }
        }
    }
}

impl State {
    fn end(&mut self) {
        self.ended = true;
        for user in self.users.values_mut() {
            if let Some(reader) = user.reader.take() {
                reader.wake();
            }
        }
    }

    /// A check names the agent it is for; whatever else comes is an answer to somebody who has sent something there.
    fn deliver(&mut self, from: SocketAddr, datagram: &[u8]) {
        let message = Message::decode(datagram).ok().filter(|message| message.class == Class::Request);
        let ours = message.as_ref().and_then(|message| message.username?.split(|byte| *byte == b':').next());
        for user in self.users.values_mut() {
            let meant = match ours {
                Some(ufrag) => ufrag == user.ufrag.as_bytes(),
                None => user.peers.contains(&from),
            };
            if meant && user.waiting + datagram.len() <= MAX_WAITING {
                user.waiting += datagram.len();
                user.inbox.push_back((from, datagram.to_vec()));
                if let Some(reader) = user.reader.take() {
                    reader.wake();
                }
            }
        }
    }
}

/// One user's share of an address on a relay.
#[derive(Debug)]
pub(crate) struct RelayPort {
    hub: Arc<Hub>,
    id: u64,
}

impl RelayPort {
    fn note(&self, peer: SocketAddr) {
        if let Some(user) = lock(&self.hub.state).users.get_mut(&self.id)
            && user.peers.len() < MAX_PEERS
        {
            user.peers.insert(peer);
        }
    }
}

impl Drop for RelayPort {
    fn drop(&mut self) {
        lock(&self.hub.state).users.remove(&self.id);
    }
}

impl UdpSocket for RelayPort {
    fn local_addr(&self) -> SocketAddr {
        self.hub.socket.local_addr()
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>> {
        let mut state = lock(&self.hub.state);
        let ended = state.ended;
        let Some(user) = state.users.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some((from, datagram)) = user.inbox.pop_front() {
            user.waiting -= datagram.len();
            let len = datagram.len().min(buf.len());
            buf[..len].copy_from_slice(&datagram[..len]);
            return Poll::Ready(Ok(Received { len, from }));
        }
        if ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        user.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_send(&self, cx: &mut Context<'_>, payload: &[u8], to: SocketAddr) -> Poll<io::Result<()>> {
        self.note(to);
        self.hub.socket.poll_send(cx, payload, to)
    }

    fn try_send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        self.note(to);
        self.hub.socket.try_send(payload, to)
    }

    /// All at once or, as far as there is no room, not at all: what waits for room waits in the transport.
    fn poll_send_batch(&self, cx: &mut Context<'_>, burst: &Burst<'_>) -> Poll<io::Result<()>> {
        self.note(burst.to);
        let segment = burst.segment.unwrap_or(burst.payload.len()).max(1);
        let mut outcome = Ok(());
        for (number, datagram) in burst.payload.chunks(segment).enumerate() {
            match self.hub.socket.poll_send(cx, datagram, burst.to) {
                Poll::Pending if number == 0 => return Poll::Pending,
                // The rest is lost, as the network might have lost it.
                Poll::Pending => break,
                Poll::Ready(sent) => outcome = sent,
            }
        }
        Poll::Ready(outcome)
    }

    fn max_segments(&self) -> usize {
        SEGMENTS
    }
}
