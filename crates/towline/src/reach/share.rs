//! An address on a relay, shared by the attempts and connections of a node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use towline_ice::stun::{Class, Message};
use towline_net::{BoxFuture, Burst, Received, UdpSocket};
use towline_turn::Failure;
use towline_turn_tokio::{Ended, RelaySocket};

/// An allocation that nobody uses is given back after this time.
const IDLE: Duration = Duration::from_mins(1);
/// The server is not asked more often whether an allocation stands.
const CHECK_AGAIN: Duration = Duration::from_secs(1);
/// Datagrams that wait for one user, in bytes; more are lost, as the network might have lost them.
const MAX_WAITING: usize = 1 << 20;
/// Longest datagram that is received.
const MAX_DATAGRAM: usize = 1 << 16;
/// Peers of one user that are remembered.
const MAX_PEERS: usize = 64;
/// User name fragments of one user: the newest, and that of before the last restart.
const MAX_NAMES: usize = 2;
/// How many datagrams a user may send at once.
const SEGMENTS: usize = 44;

/// An allocation and its users.
#[derive(Debug)]
pub(super) struct Hub {
    socket: RelaySocket,
    /// Where peers reach it: an address of each family at most.
    addresses: Vec<SocketAddr>,
    state: Mutex<State>,
    /// Somebody distributes what comes.
    runs: AtomicBool,
    /// True once there is nothing any more.
    over: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    users: BTreeMap<u64, User>,
    checked: Option<Instant>,
    /// Given back, or lost: there will be no more users.
    ended: bool,
}

#[derive(Debug)]
struct User {
    /// The user name fragments of its agent, the newest last.
    ufrags: VecDeque<String>,
    /// Of one family: who sends to it is of the same.
    local: SocketAddr,
    /// Whom it has sent something.
    peers: BTreeSet<SocketAddr>,
    inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    waiting: usize,
    reader: Option<Waker>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(super) fn new(socket: RelaySocket, addresses: Vec<SocketAddr>) -> Arc<Self> {
        let (over, _) = watch::channel(false);
        Arc::new(Self { socket, addresses, state: Mutex::default(), runs: AtomicBool::new(false), over })
    }

    /// A share of each address for the agent with this user name fragment; none when the allocation is over.
    pub(super) fn ports(hub: &Arc<Self>, ufrag: &str) -> Option<Vec<RelayPort>> {
        let mut state = lock(&hub.state);
        if state.ended {
            return None;
        }
        let port = |&local: &SocketAddr| {
            let id = state.next;
            state.next += 1;
            let user = User {
                ufrags: VecDeque::from([ufrag.to_owned()]),
                local,
                peers: BTreeSet::new(),
                inbox: VecDeque::new(),
                waiting: 0,
                reader: None,
            };
            state.users.insert(id, user);
            RelayPort { hub: Arc::clone(hub), id, local }
        };
        Some(hub.addresses.iter().map(port).collect())
    }

    /// The agent with the one user name fragment has another one, too, after a restart.
    pub(super) fn rename(&self, before: &str, ufrag: &str) {
        for user in lock(&self.state).users.values_mut() {
            if user.ufrags.iter().any(|own| own == before) {
                if user.ufrags.len() == MAX_NAMES {
                    user.ufrags.pop_front();
                }
                user.ufrags.push_back(ufrag.to_owned());
            }
        }
    }

    /// Ready when the allocation is over. Keeps nothing alive.
    pub(super) fn over(&self) -> BoxFuture<'static, ()> {
        let mut over = self.over.subscribe();
        Box::pin(async move {
            // Without anybody who could say so it is over, too.
            let _ = over.wait_for(|over| *over).await;
        })
    }

    /// Asks the server whether the allocation stands, unless that was asked just now.
    pub(super) fn check(&self, now: Instant) {
        let mut state = lock(&self.state);
        if state.checked.is_none_or(|at| at + CHECK_AGAIN <= now) {
            state.checked = Some(now);
            self.socket.check();
        }
    }

    /// True for the first who asks: who is to call [`Hub::distribute`].
    pub(super) fn begins(&self) -> bool {
        !self.runs.swap(true, Ordering::Relaxed)
    }

    /// Hands what comes to whom it is for, until the allocation was idle for long, or is lost; `tell` hears of that first, and why
    /// if it is lost.
    pub(super) async fn distribute(self: Arc<Self>, tell: impl FnOnce(Option<Failure>)) {
        let mut buf = vec![0; MAX_DATAGRAM];
        let mut idle = false;
        let lost = loop {
            let received = poll_fn(|cx| self.socket.poll_recv(cx, &mut buf));
            match tokio::time::timeout(IDLE / 2, received).await {
                Ok(Ok(Received { len, from })) => lock(&self.state).deliver(from, &buf[..len]),
                Ok(Err(_)) => {
                    break match self.socket.ended().await {
                        Ended::Lost(reason) => Some(reason),
                        Ended::Closed => None,
                    };
                }
                Err(_) => {
                    let mut state = lock(&self.state);
                    let unused = state.users.is_empty();
                    if unused && idle {
                        state.ended = true;
                        break None;
                    }
                    idle = unused;
                }
            }
        };
        tell(lost);
        lock(&self.state).ended = true;
        self.over.send_replace(true);
    }
}

impl State {
    /// A check names the agent it is for; whatever else comes is an answer to somebody who has sent something there.
    fn deliver(&mut self, from: SocketAddr, datagram: &[u8]) {
        let message = Message::decode(datagram).ok().filter(|message| message.class == Class::Request);
        let ours = message.as_ref().and_then(|message| message.username?.split(|byte| *byte == b':').next());
        for user in self.users.values_mut().filter(|user| user.local.is_ipv4() == from.is_ipv4()) {
            let meant = match ours {
                Some(ufrag) => user.ufrags.iter().any(|own| own.as_bytes() == ufrag),
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
///
/// When the address is lost nothing comes any more; who wants to know waits for [`Granted::over`](super::relay::Granted).
#[derive(Debug)]
pub(crate) struct RelayPort {
    hub: Arc<Hub>,
    id: u64,
    local: SocketAddr,
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
        self.local
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>> {
        let mut state = lock(&self.hub.state);
        let Some(user) = state.users.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some((from, datagram)) = user.inbox.pop_front() {
            user.waiting -= datagram.len();
            let len = datagram.len().min(buf.len());
            buf[..len].copy_from_slice(&datagram[..len]);
            return Poll::Ready(Ok(Received { len, from }));
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

    /// As far as there is room. Without any nothing is sent, and the burst waits in the transport; else the rest of it is lost.
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
