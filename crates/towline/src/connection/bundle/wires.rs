//! The sockets under a connection: the ICE agent finds paths over them for as long as the connection lives, and the packets of the
//! transport take those that work.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use towline_channeler::{Connection, Ecn, Route, Transmit};
use towline_ice::framing::{PayloadKind, classify, classify_datagram};
use towline_ice::{
    Action, Agent, Description, Disposition, Event, FailureReport, PairId, Paths, Role, SelectedPath,
    StreamId, ValidPair,
};
use towline_net::{Net, TcpConnect, TcpListener};

use super::outward::{Later, Outward, socket_for};
use super::socket::Socket;
use super::stream::{Connected, Stream};
use crate::error::CloseReason;
use crate::info::{PathInfo, PathTransport};
use crate::path::{Gathered, NegotiationError, PathKind};

/// Output for one stream is gathered up to this much before it is written.
const WRITE_TARGET: usize = 64 * 1024;
/// The most bytes that a system takes for one batch of datagrams, each of at most [`MAX_DATAGRAM`].
const MAX_BATCH: usize = 65_000;
const MAX_DATAGRAM: usize = 1452;
/// Batches of datagrams that are received from one socket before others get their turn.
const TURN: usize = 16;
/// Bytes of ours that may wait on a stream that is no path. Checks and answers have about 120; a peer that makes us queue
/// more than this without reading is cut off.
const MAX_UNPROVEN: usize = 16 * 1024;
/// Packets of the peer kept that come before this side knows of a path.
const MAX_EARLY: usize = 16;
/// How long a peer may take to take the end.
const GOODBYE: Duration = Duration::from_secs(1);
/// A connection that moves less between two keep-alives is idle: its own keep-alives and pings are less.
const IDLE_BYTES: usize = 4 * 1024;
/// Space kept by an idle buffer of packets.
const IDLE_CAPACITY: usize = 4 * 1024;

/// A path that works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    pub(super) route: Route,
    pub(super) kind: PathKind,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// What the agent found out.
#[derive(Debug)]
pub(super) enum News {
    /// A path works.
    Works,
    /// It does not any more.
    Lost(Route),
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
}

/// See the module.
pub(crate) struct Wires {
    net: Arc<dyn Net>,
    pub(super) agent: Agent,
    listeners: Vec<Box<dyn TcpListener>>,
    pub(super) sockets: Vec<Socket>,
    pub(super) outward: Outward,
    streams: BTreeMap<StreamId, Stream>,
    /// The number of the next stream.
    next: u32,
    paths: BTreeMap<PairId, Path>,
    news: VecDeque<News>,
    /// What was selected first, and the failure of everything.
    selected: Option<(PairId, Role)>,
    failed: Option<FailureReport>,
    /// Packets that came before anybody could take them.
    early: Vec<(Route, Option<Ecn>, Vec<u8>)>,
    /// Where packets are written.
    packets: Vec<u8>,
    /// Datagrams that there was no room for.
    held: Vec<(Transmit, Vec<u8>)>,
    /// What befell the stream that was lost last.
    failure: Option<CloseReason>,
    /// Something came from the peer since this was last asked.
    heard: bool,
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
    pub(crate) fn new(gathered: Gathered, remote: Description, later: Later) -> Box<Self> {
        let Gathered { net, mut agent, listeners, datagrams, mapped, outside } = gathered;
        let now = towline_net::now();
        agent.set_paths(Paths::Many);
        let outward = Outward::new(outside, later);
        let sockets = outward.prepare(&mut agent, now, datagrams, mapped);
        for (candidate, reason) in agent.set_remote(now, remote) {
            tracing::debug!(%candidate, %reason, "remote candidate not used");
        }
        Box::new(Self {
            net,
            agent,
            listeners,
            sockets,
            outward,
            streams: BTreeMap::new(),
            next: 0,
            paths: BTreeMap::new(),
            news: VecDeque::new(),
            selected: None,
            failed: None,
            early: Vec::new(),
            packets: Vec::new(),
            held: Vec::new(),
            failure: None,
            heard: false,
        })
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
                if let Some(report) = self.failed.take() {
                    return Poll::Ready(Err(NegotiationError::Failed(report)));
                }
                if let Some((pair, role)) = self.selected
                    && let Some(&path) = self.paths.get(&pair)
                {
                    return Poll::Ready(Ok(First { path, role }));
                }
                match self.poll_timeout() {
                    Some(at) if at <= now => {
                        self.handle_timeout(now);
                        moved = true;
                    }
                    Some(at) => {
                        timer.as_mut().reset(at.into());
                        moved |= timer.as_mut().poll(cx).is_ready();
                    }
                    None => {}
                }
                if !moved {
                    return Poll::Pending;
                }
            }
        });
        tokio::time::timeout(limit, found).await.unwrap_or(Err(NegotiationError::TimedOut))
    }

    pub(super) fn failure(&self) -> Option<CloseReason> {
        self.failure.clone()
    }

    /// Whether anything came from the peer since this was last asked.
    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Whether this path works.
    pub(super) fn has(&self, route: Route) -> bool {
        self.paths.values().any(|path| path.route == route)
    }

    /// What the agent found out since the last call.
    pub(super) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// The paths that work.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.values()
    }

    /// Does what the agent asks for, and takes in what it found. True if there was anything.
    fn act(&mut self) -> bool {
        let mut acted = false;
        while let Some(action) = self.agent.poll_action() {
            acted = true;
            match action {
                Action::Connect { stream, local, remote } => {
                    let options = TcpConnect { local: Some(local), ..TcpConnect::default() };
                    let connecting = Stream::connecting(self.number(), self.net.connect_tcp(remote, options));
                    self.streams.insert(stream, connecting);
                }
                Action::SendFrame { stream, payload } => {
                    if let Some(stream) = self.streams.get_mut(&stream) {
                        stream.push(&mut payload.to_vec());
                    }
                }
                Action::CloseStream { stream, reason } => {
                    tracing::trace!(%stream, %reason, "connection closed");
                    self.streams.remove(&stream);
                }
                Action::SendUdp { local, remote, payload } => {
                    if let Some(number) = socket_for(&self.sockets, local) {
                        self.sockets[number].send_check(&payload, remote);
                    }
                }
            }
        }
        while let Some(event) = self.agent.poll_event() {
            acted = true;
            match event {
                Event::PairValid(valid) => self.on_valid(&valid),
                Event::PairLost { pair, reason } => {
                    if let Some(path) = self.paths.remove(&pair) {
                        tracing::debug!(local = %path.local, remote = %path.remote, %reason, "path lost");
                        self.news.push_back(News::Lost(path.route));
                    }
                }
                Event::Selected { pair, role, .. } => {
                    self.selected.get_or_insert((pair, role));
                }
                Event::Failed(report) => self.failed = Some(report),
                other => tracing::trace!(event = ?other, "paths"),
            }
        }
        acted
    }

    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn on_valid(&mut self, valid: &ValidPair) {
        let (local, remote) = (valid.path.local(), valid.path.remote());
        let route = match valid.path {
            SelectedPath::Tcp { stream, .. } => {
                let Some(stream) = self.streams.get_mut(&stream) else { return };
                stream.proven = true;
                Route::Stream(stream.number)
            }
            SelectedPath::Udp { local, remote } => {
                let Some(socket) = socket_for(&self.sockets, local) else {
                    return;
                };
                Route::Datagram { socket: socket as u16, local: Some(local.ip()), remote }
            }
        };
        tracing::debug!(%local, %remote, "path works");
        let path = Path { route, kind: PathKind::of(route.is_stream(), valid.is_relayed()), local, remote };
        self.paths.insert(valid.pair, path);
        self.news.push_back(News::Works);
    }

    /// Accepts, connects and receives. True if anything came.
    pub(super) fn poll_packets(&mut self, cx: &mut Context<'_>, now: Instant, handle: Handle<'_>) -> bool {
        let mut moved = self.look_outward(cx, now);
        moved |= self.act();
        for (route, ecn, mut packet) in std::mem::take(&mut self.early) {
            handle(route, ecn, &mut packet);
            moved = true;
        }
        moved |= self.accept(cx, now);
        for number in 0..self.sockets.len() {
            moved |= self.receive_datagrams(cx, now, number, handle);
        }
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            moved |= self.receive_stream(cx, now, id, handle);
        }
        if moved {
            self.act();
        }
        moved
    }

    fn accept(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut accepted = false;
        for index in 0..self.listeners.len() {
            // An error here is that of one connection that vanished; the listener goes on.
            while let Poll::Ready(Ok(io)) = self.listeners[index].poll_accept(cx) {
                accepted = true;
                let (local, remote) = (io.local_addr(), io.peer_addr());
                match self.agent.handle_tcp_accepted(now, local, remote) {
                    Ok(id) => {
                        let stream = Stream::accepted(self.number(), io);
                        self.streams.insert(id, stream);
                    }
                    Err(reason) => tracing::debug!(%remote, %reason, "connection refused"),
                }
            }
        }
        accepted
    }

    fn receive_datagrams(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        number: usize,
        handle: Handle<'_>,
    ) -> bool {
        let Self { agent, sockets, outward, heard, .. } = self;
        let mut moved = false;
        for _ in 0..TURN {
            let received = sockets[number].poll_receive(cx, |datagram| {
                let route = Route::Datagram {
                    socket: number as u16,
                    local: Some(datagram.local.ip()).filter(|ip| !ip.is_unspecified()),
                    remote: datagram.remote,
                };
                if outward.takes(now, datagram.local, datagram.remote, datagram.bytes) {
                    return;
                }
                let disposition = agent.handle_udp(now, datagram.local, datagram.remote, datagram.bytes);
                *heard |= !matches!(disposition, Disposition::Dropped(_));
                match disposition {
                    Disposition::Data | Disposition::Early => handle(route, datagram.ecn, datagram.bytes),
                    Disposition::Consumed => {}
                    Disposition::Dropped(reason) => {
                        let stun = classify_datagram(datagram.bytes) == PayloadKind::Stun;
                        tracing::debug!(remote = %datagram.remote, stun, %reason, "datagram dropped");
                    }
                }
            });
            match received {
                Poll::Pending => return moved,
                Poll::Ready(works) => {
                    moved |= works;
                    if !works {
                        return moved;
                    }
                }
            }
        }
        // There may be more.
        cx.waker().wake_by_ref();
        moved
    }

    /// Moves one TCP connection on and reads from it once.
    fn receive_stream(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        id: StreamId,
        handle: Handle<'_>,
    ) -> bool {
        let Self { agent, streams, failure, heard, .. } = self;
        let Some(stream) = streams.get_mut(&id) else { return false };
        match stream.poll_connected(cx) {
            Poll::Pending => return false,
            Poll::Ready(Connected::Open) => {}
            Poll::Ready(Connected::Now(local)) => {
                agent.handle_tcp_connected(now, id, local);
                return true;
            }
            Poll::Ready(Connected::Failed(error)) => {
                streams.remove(&id);
                agent.handle_tcp_failed(now, id, error);
                return true;
            }
        }
        let end = match stream.poll_fill(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(Some(()))) => {
                *heard |= stream.proven;
                match take_frames(agent, now, id, stream, handle) {
                    Ok(()) => return true,
                    Err(TooLong) => CloseReason::Transport(io::ErrorKind::InvalidData),
                }
            }
            Poll::Ready(Ok(None)) => CloseReason::Truncated,
            // Nobody has confirmed what was sent, for as long as the system was ready to wait.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => CloseReason::Dead,
            Poll::Ready(Err(error)) => CloseReason::Transport(error.kind()),
        };
        if stream.proven {
            *failure = Some(end);
        }
        streams.remove(&id);
        agent.handle_tcp_closed(now, id);
        true
    }

    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        inner: &mut Connection,
    ) -> bool {
        self.poll_packets(cx, now, &mut |route, ecn, packet| inner.handle(now, route, ecn, packet))
    }

    /// Prepares what the transport has to send; datagrams are sent at once.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>, now: Instant, inner: &mut Connection) {
        // The endpoint that began the connection has no other.
        while inner.poll_endpoint_event().is_some() {}
        for (transmit, payload) in std::mem::take(&mut self.held) {
            inner.set_ready(transmit.route, true);
            self.send_datagrams(cx, inner, transmit, &payload);
        }
        let segments = self.sockets.iter().map(Socket::max_segments).min().unwrap_or(1);
        let segments = segments.clamp(1, MAX_BATCH / MAX_DATAGRAM);
        loop {
            let mut packets = std::mem::take(&mut self.packets);
            packets.clear();
            let Some(transmit) = inner.poll_transmit(now, segments, &mut packets) else {
                self.packets = packets;
                break;
            };
            match transmit.route {
                Route::Stream(number) => {
                    match self.streams.values_mut().find(|stream| stream.number == number) {
                        Some(stream) => {
                            stream.push(&mut packets);
                            if stream.unsent() >= WRITE_TARGET {
                                inner.set_ready(transmit.route, false);
                            }
                        }
                        None => inner.link_lost(now, transmit.route),
                    }
                }
                Route::Datagram { .. } => self.send_datagrams(cx, inner, transmit, &packets),
            }
            self.packets = packets;
        }
    }

    fn send_datagrams(
        &mut self,
        cx: &mut Context<'_>,
        inner: &mut Connection,
        transmit: Transmit,
        payload: &[u8],
    ) {
        let Route::Datagram { socket, local, remote } = transmit.route else { return };
        let Some(socket) = self.sockets.get(usize::from(socket)) else { return };
        if !socket.send(cx, &transmit, local, remote, payload) {
            inner.set_ready(transmit.route, false);
            self.held.push((transmit, payload.to_vec()));
        }
    }

    /// Bytes that wait for room in the streams.
    pub(super) fn unsent(&self) -> usize {
        self.streams.values().map(Stream::unsent).sum()
    }

    /// Writes what is prepared. Ready if any of the streams can be given more.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, inner: &mut Connection) -> Poll<()> {
        let mut room = false;
        for stream in self.streams.values_mut() {
            if stream.unsent() > 0 && stream.poll_write(cx).is_ready() {
                room = true;
                inner.set_ready(Route::Stream(stream.number), true);
            }
        }
        if room { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Writes what is queued, before there is a connection. True if anything was written.
    pub(super) fn poll_streams(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let Self { streams, agent, .. } = self;
        streams.retain(|&id, stream| {
            if !stream.proven && stream.unsent() > MAX_UNPROVEN {
                agent.handle_tcp_closed(towline_net::now(), id);
                return false;
            }
            moved |= stream.unsent() > 0 && stream.poll_write(cx).is_ready();
            true
        });
        moved
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.agent.poll_timeout().into_iter().chain(self.outward.poll_timeout()).min()
    }

    /// Checks and keep-alives; also the moment to give back the memory of buffers that were not used since the last one.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.outward.handle_timeout(now);
        if self.agent.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.agent.handle_timeout(now);
        self.act();
        self.streams.values_mut().for_each(|stream| stream.look(IDLE_BYTES));
        if self.packets.capacity() > IDLE_CAPACITY {
            self.packets = Vec::new();
        }
    }

    /// Writes the end and closes the streams, as far as the peer takes it within a second.
    pub(super) async fn say_goodbye(&mut self, inner: &mut Connection) {
        let goodbye = async {
            poll_fn(|cx| {
                loop {
                    self.fill(cx, towline_net::now(), inner);
                    if self.unsent() == 0 {
                        return Poll::Ready(());
                    }
                    if self.poll_write(cx, inner).is_pending() {
                        return Poll::Pending;
                    }
                }
            })
            .await;
            for stream in self.streams.values_mut() {
                poll_fn(|cx| stream.poll_shutdown(cx)).await;
            }
            // What the peer still sends is taken: left unread, it would make of this a reset, which can cost the peer
            // what we said last.
            poll_fn(|cx| {
                while self.poll_packets(cx, towline_net::now(), &mut |_, _, _| {}) {}
                let last = self.streams.values().all(|stream| !stream.proven);
                if last { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// A frame that is longer than may be, as long as its sender is not proven.
struct TooLong;

/// Sorts the whole frames that were read.
fn take_frames(
    agent: &mut Agent,
    now: Instant,
    id: StreamId,
    stream: &mut Stream,
    handle: Handle<'_>,
) -> Result<(), TooLong> {
    let (route, proven) = (Route::Stream(stream.number), stream.proven);
    let limit = if proven { usize::from(u16::MAX) } else { agent.frame_limit(id) };
    while let Some(payload) = stream.frame(limit).map_err(|()| TooLong)? {
        let len = payload.len();
        if proven && classify(payload) != PayloadKind::Stun {
            handle(route, None, payload);
        } else {
            match agent.handle_tcp_frame(now, id, payload) {
                Disposition::Early | Disposition::Data => handle(route, None, payload),
                Disposition::Dropped(reason) => tracing::debug!(stream = %id, %reason, "frame dropped"),
                Disposition::Consumed => {}
            }
        }
        stream.advance(len);
    }
    Ok(())
}
