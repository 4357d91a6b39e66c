//! An endpoint: sockets, listeners and the connections over them.

mod handle;
mod sorter;

use std::{
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    sync::{Notify, Semaphore},
    task::AbortHandle,
};
use towline_channeler::{
    Code, ConnectionHandle, EndpointConfig, EndpointEvent, Handled, Peer, Route, Transmit,
};
use towline_net::{Burst, Net, UdpSocket};

pub use self::handle::{ConnectError, Endpoint, SocketId};
use self::sorter::Sorter;
use crate::{
    Connection,
    connection::{self, to_ecn},
    lock,
    socket::{self, Socket},
    stream,
};

/// Connections that are complete and that nobody has accepted yet. Further ones are closed with [`Code::LIMIT`].
const BACKLOG: usize = 1024;

/// What endpoint, tasks and connections share.
pub(crate) struct Shared {
    pub(crate) net: Arc<dyn Net>,
    /// Longest datagram of a connection.
    pub(crate) max_mtu: usize,
    /// Places for streams that have not said yet which connection they are for.
    pub(crate) strangers: Arc<Semaphore>,
    state: Mutex<State>,
    /// A connection was made, or none will be any more.
    accepted: Notify,
    /// The last connection is gone.
    idle: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("net", &self.net).finish_non_exhaustive()
    }
}

struct State {
    inner: towline_channeler::Endpoint,
    connections: Vec<Option<Arc<connection::Shared>>>,
    alive: usize,
    /// Each with the task that receives from it.
    sockets: Vec<Option<(Arc<Socket>, AbortHandle)>>,
    next_stream: u32,
    accepted: VecDeque<Connection>,
    closed: Option<(Code, String)>,
    tasks: Vec<AbortHandle>,
    /// The program has dropped its last handle.
    dropped: bool,
    /// Where answers that keep no state are written.
    answer: Vec<u8>,
}

impl State {
    fn end_tasks_if_unused(&mut self) {
        if self.dropped && self.alive == 0 {
            self.tasks.drain(..).for_each(|task| task.abort());
            self.sockets.drain(..).flatten().for_each(|(_, task)| task.abort());
        }
    }
}

impl Shared {
    fn new(net: Arc<dyn Net>, config: EndpointConfig) -> Self {
        let max_mtu = config.config.max_mtu.into();
        let state = State {
            inner: towline_channeler::Endpoint::new(config, net.seed()),
            connections: Vec::new(),
            alive: 0,
            sockets: Vec::new(),
            next_stream: 0,
            accepted: VecDeque::new(),
            closed: None,
            tasks: Vec::new(),
            dropped: false,
            answer: Vec::new(),
        };
        Self {
            net,
            max_mtu,
            strangers: stream::strangers(),
            state: Mutex::new(state),
            accepted: Notify::new(),
            idle: Notify::new(),
        }
    }

    fn unix_time(&self) -> i64 {
        self.net.unix_time().as_secs().try_into().unwrap_or(i64::MAX)
    }

    /// A number for a stream that none had before.
    pub(crate) fn next_stream(&self) -> u32 {
        let mut state = lock(&self.state);
        state.next_stream += 1;
        state.next_stream
    }

    /// The socket with this number.
    pub(crate) fn socket(&self, number: u16) -> Option<Arc<Socket>> {
        let state = lock(&self.state);
        let (socket, _) = state.sockets.get(usize::from(number))?.as_ref()?;
        Some(Arc::clone(socket))
    }

    /// The first socket for addresses of this family.
    pub(crate) fn socket_for(&self, addr: SocketAddr) -> Option<u16> {
        let state = lock(&self.state);
        let mut sockets = state.sockets.iter().flatten().map(|(socket, _)| socket);
        let fits = |socket: &&Arc<Socket>| socket.io.local_addr().is_ipv4() == addr.is_ipv4();
        sockets.find(fits).map(|socket| socket.number)
    }

    /// Does something with every connection.
    fn each(&self, act: impl Fn(&Arc<connection::Shared>)) {
        let connections: Vec<_> = lock(&self.state).connections.iter().flatten().cloned().collect();
        connections.iter().for_each(act);
    }

    /// Receives from a socket from now on.
    fn serve(self: &Arc<Self>, io: Box<dyn UdpSocket>) -> io::Result<u16> {
        let mut state = lock(&self.state);
        let number = u16::try_from(state.sockets.len())
            .map_err(|_| io::Error::new(io::ErrorKind::QuotaExceeded, "65,536 sockets were there already"))?;
        let socket = Arc::new(Socket::new(number, io));
        let (shared, served) = (Arc::clone(self), Arc::clone(&socket));
        let task = tokio::spawn(async move {
            let mut sorter = Sorter::default();
            let error = socket::receive(&served, |batch| sorter.sort(&shared, &served, batch)).await;
            tracing::warn!(%error, socket = ?served, "a socket failed");
            shared.socket_lost(served.number);
        });
        state.sockets.push(Some((socket, task.abort_handle())));
        Ok(number)
    }

    fn socket_lost(self: &Arc<Self>, number: u16) {
        let slot = lock(&self.state).sockets.get_mut(usize::from(number)).and_then(Option::take);
        if let Some((_, task)) = slot {
            task.abort();
            self.each(|connection| connection.socket_lost(number));
        }
    }

    fn begin(self: &Arc<Self>, peer: Peer, route: Route) -> Result<Connection, ConnectError> {
        let mut state = lock(&self.state);
        if state.closed.is_some() {
            return Err(ConnectError::Closed);
        }
        let (handle, inner) = state.inner.connect(towline_net::now(), self.unix_time(), peer, route)?;
        let shared = self.add(&mut state, handle, inner);
        drop(state);
        Ok(Connection::owner(shared))
    }

    fn add(
        self: &Arc<Self>,
        state: &mut State,
        handle: ConnectionHandle,
        inner: towline_channeler::Connection,
    ) -> Arc<connection::Shared> {
        let connection = connection::Shared::spawn(Arc::clone(self), handle, inner);
        if state.connections.len() <= handle.index() {
            state.connections.resize(handle.index() + 1, None);
        }
        state.connections[handle.index()] = Some(Arc::clone(&connection));
        state.alive += 1;
        connection
    }

    /// A peer begins a connection. Once the endpoint is closed it is not heard, or there would be no end.
    fn admit(
        self: &Arc<Self>,
        state: &mut State,
        handle: ConnectionHandle,
        mut inner: towline_channeler::Connection,
    ) -> Option<Arc<connection::Shared>> {
        if state.closed.is_none() {
            return Some(self.add(state, handle, inner));
        }
        inner.close(towline_net::now(), Code::GOING_AWAY, "");
        while let Some(event) = inner.poll_endpoint_event() {
            state.inner.on_event(handle, event);
        }
        None
    }

    /// A connection that a peer made is complete. Gives it back if nobody will accept it.
    pub(crate) fn offer(&self, connection: Connection) -> Result<(), (Connection, Code)> {
        let mut state = lock(&self.state);
        if state.closed.is_some() || state.dropped {
            return Err((connection, Code::GOING_AWAY));
        }
        if state.accepted.len() >= BACKLOG {
            return Err((connection, Code::LIMIT));
        }
        state.accepted.push_back(connection);
        drop(state);
        // One of those who wait takes it, and finds it there if nobody waits yet.
        self.accepted.notify_waiters();
        Ok(())
    }

    /// Takes what a connection has to say, and forgets it if nothing more will be said or heard.
    pub(crate) fn tell(&self, connection: ConnectionHandle, event: EndpointEvent, gone: bool) {
        let mut state = lock(&self.state);
        state.inner.on_event(connection, event);
        if !gone {
            return;
        }
        let slot = state.connections.get_mut(connection.index()).and_then(Option::take);
        if slot.is_some() {
            state.alive -= 1;
            if state.alive == 0 {
                self.idle.notify_waiters();
            }
            state.end_tasks_if_unused();
        }
    }

    /// Whose packet this is that came by a stream which belongs to nobody yet. An answer without state is left in `out`.
    pub(crate) fn identify(
        self: &Arc<Self>,
        route: Route,
        packet: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Option<Arc<connection::Shared>> {
        let mut state = lock(&self.state);
        let (now, unix_time) = (towline_net::now(), self.unix_time());
        out.clear();
        match state.inner.handle(now, unix_time, route, packet, out) {
            Handled::New(handle, inner) => self.admit(&mut state, handle, *inner),
            Handled::To(handle) => state.connections.get(handle.index())?.clone(),
            Handled::Respond(_) => None,
            Handled::Dropped => {
                out.clear();
                None
            }
        }
    }
}

/// What a socket is told to send.
pub(crate) fn burst<'a>(transmit: &Transmit, payload: &'a [u8]) -> Burst<'a> {
    let (to, from) = match transmit.route {
        Route::Datagram { local, remote, .. } => (remote, local),
        Route::Stream(_) => unreachable!("packets of streams are not sent by a socket"),
    };
    Burst { payload, segment: transmit.segment, to, from, ecn: transmit.ecn.map(to_ecn) }
}
