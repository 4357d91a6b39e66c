//! The sockets under a connection: the ICE agent finds paths over them for as long as the connection lives, and the packets of the
//! transport take those that work.

mod acting;
mod moving;
mod receiving;
mod sending;
mod timed;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use towline_channeler::{Ecn, Route, Transmit};
use towline_ice::{Description, FailureReport, PairError, PairId, Paths, Role, StreamId};
use towline_net::{Net, TcpListener};

use super::openings::Openings;
use super::outward::{Later, Outward};
use super::sockets::Sockets;
use super::stream::Stream;
use crate::alarm::is_past;
use crate::error::CloseReason;
use crate::info::{PathInfo, PathTransport};
use crate::path::{Gathered, NegotiationError, PathKind};
use crate::reach::Punching;
use crate::report::{Journal, View};
use crate::signal::Plight;

/// Packets of the peer kept that come before this side knows of a path.
const MAX_EARLY: usize = 16;

/// A path that works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    pub(super) route: Route,
    pub(super) kind: PathKind,
    /// Relays on the way: one of either side, or none.
    pub(super) relays: u8,
    /// Grows with each restart.
    pub(super) generation: u32,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The greater the better, among paths of one kind. Both sides count alike.
    pub(super) priority: u64,
}

pub(super) use moving::Change;
use timed::Timed;

/// What the agent found out.
#[derive(Debug, Clone, Copy)]
pub(super) enum News {
    /// A path works.
    Works,
    /// It does not any more.
    Lost(Route, PairError),
    /// Both sides agree on one, the first or a better one.
    Selected,
    /// The peer has another relay: the one that it had may be gone.
    PeerMoves,
}

/// A packet of the transport, and how it came.
pub(super) type Handle<'a> = &'a mut dyn FnMut(Route, Option<Ecn>, &mut [u8]);

/// The first path, and which side begins on it.
#[derive(Debug)]
pub(crate) struct First {
    pub(super) path: Path,
    pub(super) role: Role,
}

impl First {
    /// For people.
    pub(crate) fn info(&self) -> PathInfo {
        self.path.info()
    }
}

impl Path {
    pub(super) fn info(&self) -> PathInfo {
        let transport = if self.kind.is_tcp() { PathTransport::Tcp } else { PathTransport::Udp };
        PathInfo { transport, local: self.local, remote: self.remote }
    }

    /// Whether packets of this route take this path. Whoever received packets first may know its own address better or less,
    /// and a peer has one address for our socket and for that of a relay.
    pub(super) fn is_of(&self, route: Route) -> bool {
        match (self.route, route) {
            (Route::Datagram { socket, remote, .. }, Route::Datagram { socket: own, remote: its, .. }) => {
                (socket, remote) == (own, its)
            }
            (path, route) => path == route,
        }
    }
}

/// See the module.
pub(crate) struct Wires {
    pub(super) net: Arc<dyn Net>,
    pub(super) agent: Timed,
    listeners: Vec<Box<dyn TcpListener>>,
    /// Where there were listeners that a restart opens again.
    closed: Vec<SocketAddr>,
    /// Restarts so far.
    pub(super) generation: u32,
    pub(super) sockets: Sockets,
    pub(super) outward: Outward,
    pub(super) openings: Openings,
    /// Boxed, as paths: a map has room for eleven from the first.
    streams: BTreeMap<StreamId, Box<Stream>>,
    /// The number of the next stream.
    next: u32,
    pub(super) paths: BTreeMap<PairId, Box<Path>>,
    news: VecDeque<News>,
    /// What was selected first, what is now, and the failure of everything.
    selected: Option<(PairId, Role)>,
    current: Option<PairId>,
    failed: Option<FailureReport>,
    /// Packets that came before anybody could take them.
    early: Vec<(Route, Option<Ecn>, Vec<u8>)>,
    /// Datagrams that there was no room for.
    held: Vec<(Transmit, Vec<u8>)>,
    /// What befell the stream that was lost last.
    failure: Option<CloseReason>,
    /// Something came from the peer since this was last asked.
    heard: bool,
    /// See [`Wires::has_more`].
    pub(super) more: bool,
    /// Where the attempt writes down how things look.
    pub(in crate::connection::bundle) journal: Arc<Journal>,
    /// Something has happened since it was last written down.
    unseen: bool,
    /// What this side meets with that the peer should know.
    pub(in crate::connection::bundle) plight: Option<Plight>,
}

impl std::fmt::Debug for Wires {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wires")
            .field("streams", &self.streams)
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

impl Wires {
    /// Begins to look for paths to `remote`, over TCP and UDP; `later` brings and takes what is found out meanwhile.
    pub(crate) fn new(
        gathered: Gathered,
        remote: Description,
        later: Later,
        journal: Arc<Journal>,
    ) -> Box<Self> {
        let Gathered { net, mut agent, listeners, datagrams, mapped, outside, means } = gathered;
        let now = towline_net::now();
        agent.set_paths(Paths::Many);
        let outward = Outward::new(outside, means, later, agent.policy(), now);
        let sockets = outward.prepare(&mut agent, now, datagrams, mapped);
        for (candidate, reason) in agent.set_remote(now, remote) {
            tracing::debug!(%candidate, %reason, "remote candidate not used");
        }
        let mut wires = Box::new(Self {
            net,
            agent: Timed::new(agent),
            listeners,
            closed: Vec::new(),
            generation: 0,
            sockets,
            outward,
            openings: Openings::default(),
            streams: BTreeMap::new(),
            next: 0,
            paths: BTreeMap::new(),
            news: VecDeque::new(),
            selected: None,
            current: None,
            failed: None,
            early: Vec::new(),
            held: Vec::new(),
            failure: None,
            heard: false,
            more: false,
            journal,
            unseen: false,
            plight: None,
        });
        wires.note(now);
        wires
    }

    /// Looks until there is a path that both sides agree on. Others may follow.
    pub(crate) async fn first(&mut self, limit: Duration) -> Result<First, NegotiationError> {
        let timer = tokio::time::sleep_until(towline_net::now().into());
        tokio::pin!(timer);
        let found = poll_fn(|cx| {
            loop {
                let now = towline_net::now();
                let mut early = std::mem::take(&mut self.early);
                let mut moved = self.poll_packets(cx, now, &mut |route, ecn, packet| {
                    if early.len() < MAX_EARLY {
                        early.push((route, ecn, packet.to_vec()));
                    }
                });
                self.early = early;
                moved |= self.poll_streams(cx);
                if let Some(report) = self.failed.take().or_else(|| self.cut_off(now)) {
                    self.journal.view(now, self.view());
                    return Poll::Ready(Err(NegotiationError::Failed(report)));
                }
                if let Some((pair, role)) = self.selected
                    && let Some(path) = self.paths.get(&pair)
                {
                    return Poll::Ready(Ok(First { path: **path, role }));
                }
                match self.poll_timeout() {
                    Some(at) if at <= now => {
                        self.handle_timeout(now);
                        moved = true;
                    }
                    Some(at) => moved |= is_past(timer.as_mut(), cx, at),
                    None => {}
                }
                if !moved {
                    return Poll::Pending;
                }
            }
        });
        tokio::time::timeout(limit, found).await.unwrap_or(Err(NegotiationError::TimedOut))
    }

    /// How things look now.
    pub(in crate::connection::bundle) fn view(&self) -> View {
        let punch = self.outward.punching.as_ref().map(Punching::report);
        View { ice: self.agent.report(), nat: self.outward.nat(), punch }
    }

    /// Something has happened: writes down how things look, now or when it is time.
    pub(in crate::connection::bundle) fn note(&mut self, now: Instant) {
        let next = self.journal.next_view();
        self.unseen = next.is_some_and(|at| at > now);
        if next.is_some_and(|at| at <= now) {
            self.journal.view(now, self.view());
            self.plight = self.journal.plight(now).or(self.plight);
        }
    }

    pub(super) fn failure(&self) -> Option<CloseReason> {
        self.failure.clone()
    }

    /// Whether anything came from the peer since this was last asked.
    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Something came from the peer.
    pub(super) fn note_life(&mut self) {
        self.heard = true;
    }

    /// Whether this path works.
    pub(super) fn has(&self, route: Route) -> bool {
        self.paths.values().any(|path| path.route == route)
    }

    /// What the agent found out since the last call.
    pub(super) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// The path that both sides agree on now.
    pub(super) fn selected(&self) -> Option<(PairId, Path)> {
        let pair = self.current?;
        Some((pair, **self.paths.get(&pair)?))
    }

    /// Lets nobody connect any more, until a restart.
    pub(super) fn stop_listening(&mut self) {
        self.closed.extend(self.listeners.drain(..).map(|listener| listener.local_addr()));
    }

    /// The paths that work, and which pair of candidates each is.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (PairId, &Path)> {
        self.paths.iter().map(|(&pair, path)| (pair, &**path))
    }

    /// The paths that work.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.values().map(|path| &**path)
    }
}
