//! A relay for one's own use: a TURN server on sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use towline_net::{Net, TcpListener, TcpStream, UdpBind, UdpSocket, now, sleep_until};
use towline_turn::{Family, RelayId, Server, ServerAction, ServerConfig, ServerEvent, StreamId, ToPeer, Via};

use crate::server_link::{HANDSHAKE, Stream};

/// Longer datagrams do not exist.
const BUFFER: usize = 1 << 16;

/// Messages that wait for a stream to take them; more are lost, as datagrams may be.
const STREAM_QUEUE: usize = 256;

/// Places of that queue that data leaves free: answers come once on a stream, and a lost one ends the allocation.
const FOR_ANSWERS: usize = 32;

/// Events that wait to be taken; more are not told.
const EVENTS: usize = 1024;

/// Sockets that are tried for an even port.
const EVEN_ATTEMPTS: usize = 16;

/// How often the wall clock is looked at.
const WALL_CLOCK: Duration = Duration::from_mins(1);

/// Where a relay listens and relays.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Users, policy and bounds. Which families are relayed follows from the addresses below.
    pub config: ServerConfig,
    /// Where UDP and TCP are listened to. Port 0 takes a free one, the same for both.
    pub listen: Vec<SocketAddr>,
    /// Where TLS is listened to, and with which certificate ([`server_tls`](crate::server_tls)).
    pub tls: Option<(Vec<SocketAddr>, Arc<rustls::ServerConfig>)>,
    /// The address of this host from which IPv4 is relayed, if it is.
    pub relay_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub relay_v6: Option<Ipv6Addr>,
    /// The address by which peers reach `relay_v4`, if a NAT is between that leaves ports alone.
    pub external_v4: Option<Ipv4Addr>,
}

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub struct RelayServer {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    tasks: Vec<AbortHandle>,
    events: mpsc::Receiver<ServerEvent>,
}

struct Shared {
    net: Arc<dyn Net>,
    options: ServerOptions,
    listeners: Vec<Arc<dyn UdpSocket>>,
    state: Mutex<State>,
    /// The next timeout may have moved.
    timer: Notify,
    events: mpsc::Sender<ServerEvent>,
}

struct State {
    server: Server,
    relays: BTreeMap<RelayId, (Arc<dyn UdpSocket>, AbortHandle)>,
    streams: BTreeMap<StreamId, (mpsc::Sender<Bytes>, AbortHandle)>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl RelayServer {
    /// Begins to listen.
    pub fn start(net: Arc<dyn Net>, mut options: ServerOptions) -> io::Result<Self> {
        options.config.ipv4 = options.relay_v4.is_some();
        options.config.ipv6 = options.relay_v6.is_some();
        let (mut listeners, mut tcp) = (Vec::new(), Vec::new());
        for address in &options.listen {
            let (udp, stream) = listen_both(&*net, *address)?;
            listeners.push(Arc::from(udp));
            tcp.push((stream, None));
        }
        if let Some((addresses, config)) = &options.tls {
            for address in addresses {
                tcp.push((net.listen_tcp(*address)?, Some(TlsAcceptor::from(Arc::clone(config)))));
            }
        }
        let addresses = listeners.iter().map(|socket: &Arc<dyn UdpSocket>| socket.local_addr()).collect();
        let tls_addresses =
            tcp.iter().filter(|(_, tls)| tls.is_some()).map(|(socket, _)| socket.local_addr()).collect();
        let server = Server::new(options.config.clone(), now(), net.unix_time().as_secs(), net.seed());
        let (tell, events) = mpsc::channel(EVENTS);
        let state = State { server, relays: BTreeMap::new(), streams: BTreeMap::new() };
        let shared = Arc::new(Shared {
            net,
            options,
            listeners,
            state: Mutex::new(state),
            timer: Notify::new(),
            events: tell,
        });
        let mut tasks = vec![tokio::spawn(time(Arc::clone(&shared))).abort_handle()];
        for listener in 0..shared.listeners.len() {
            tasks.push(tokio::spawn(datagrams(Arc::clone(&shared), listener)).abort_handle());
        }
        for (listener, tls) in tcp {
            tasks.push(tokio::spawn(accept(Arc::clone(&shared), listener, tls)).abort_handle());
        }
        Ok(Self { shared, addresses, tls_addresses, tasks, events })
    }

    /// Where it listens for UDP and TCP, with the real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens for TLS, with the real ports.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Allocations at this time.
    pub fn allocations(&self) -> usize {
        self.shared.lock().server.allocations()
    }

    /// What happened next. Cancel safe.
    pub async fn event(&mut self) -> ServerEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The sender is in `shared`.
            None => std::future::pending().await,
        }
    }
}

impl Drop for RelayServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        let state = &mut *self.shared.lock();
        for (_, task) in state.relays.values() {
            task.abort();
        }
        for (_, task) in state.streams.values() {
            task.abort();
        }
    }
}

// UDP and TCP on one port; one that is free for UDP may be taken for TCP.
fn listen_both(net: &dyn Net, address: SocketAddr) -> io::Result<(Box<dyn UdpSocket>, Box<dyn TcpListener>)> {
    let mut attempts = if address.port() == 0 { 16 } else { 1 };
    loop {
        attempts -= 1;
        let udp = net.bind_udp(&UdpBind::new(address))?;
        match net.listen_tcp(udp.local_addr()) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if attempts == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Does what the server wants done.
    fn settle(self: &Arc<Self>, state: &mut State) {
        let mut acted = false;
        while let Some(action) = state.server.poll_action() {
            acted = true;
            match action {
                ServerAction::Send { via, bytes } => self.send(state, via, bytes),
                ServerAction::Bind { relay, family, even_port } => {
                    let bound = self.bind(family, even_port);
                    let address = bound.as_ref().map(|(_, outside)| *outside);
                    if let Some((socket, _)) = bound {
                        let socket: Arc<dyn UdpSocket> = Arc::from(socket);
                        let task = tokio::spawn(from_peers(Arc::clone(self), relay, Arc::clone(&socket)));
                        state.relays.insert(relay, (socket, task.abort_handle()));
                    }
                    state.server.relay_bound(now(), relay, address);
                }
                ServerAction::Unbind(relay) => {
                    if let Some((_, task)) = state.relays.remove(&relay) {
                        task.abort();
                    }
                }
                ServerAction::CloseStream(stream) => {
                    if let Some((_, task)) = state.streams.remove(&stream) {
                        task.abort();
                    }
                    state.server.handle_stream_end(stream);
                }
            }
        }
        while let Some(event) = state.server.poll_event() {
            // Not told, if nobody has listened for long.
            let _ = self.events.try_send(event);
        }
        // Timeouts move with requests and ends only, not with data.
        if acted {
            self.timer.notify_one();
        }
    }

    fn bind(&self, family: Family, even_port: bool) -> Option<(Box<dyn UdpSocket>, SocketAddr)> {
        let inside: IpAddr = match family {
            Family::V4 => self.options.relay_v4?.into(),
            Family::V6 => self.options.relay_v6?.into(),
        };
        let bind = || self.net.bind_udp(&UdpBind::new(SocketAddr::new(inside, 0)));
        let mut bound = bind();
        let mut attempts = if even_port { EVEN_ATTEMPTS } else { 0 };
        while attempts > 0 && bound.as_ref().is_ok_and(|socket| socket.local_addr().port() % 2 == 1) {
            attempts -= 1;
            bound = bind();
        }
        let socket = match bound {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, address = %inside, "no socket for an allocation");
                return None;
            }
        };
        let port = socket.local_addr().port();
        let outside = match family {
            Family::V4 => self.options.external_v4.map_or(inside, IpAddr::V4),
            Family::V6 => inside,
        };
        Some((socket, SocketAddr::new(outside, port)))
    }

    fn send(&self, state: &State, via: Via, bytes: Bytes) {
        match via {
            Via::Datagram { listener, from } => {
                if let Some(socket) = self.listeners.get(usize::from(listener)) {
                    // Lost, when it fails.
                    let _ = socket.try_send(&bytes, from);
                }
            }
            Via::Stream(stream) => {
                if let Some((queue, _)) = state.streams.get(&stream) {
                    let _ = queue.try_send(bytes);
                }
            }
        }
    }
}

fn relay(relays: &BTreeMap<RelayId, (Arc<dyn UdpSocket>, AbortHandle)>, out: ToPeer<'_>) {
    if let Some((socket, _)) = relays.get(&out.relay) {
        // Lost, when it fails.
        let _ = socket.try_send(out.payload, out.peer);
    }
}

async fn time(shared: Arc<Shared>) {
    let mut wall = now() + WALL_CLOCK;
    loop {
        let next = shared.lock().server.poll_timeout().map_or(wall, |at| at.min(wall));
        tokio::select! {
            biased;
            () = shared.timer.notified() => {}
            () = sleep_until(next) => {
                let mut state = shared.lock();
                if wall <= now() {
                    state.server.set_wall_clock(now(), shared.net.unix_time().as_secs());
                    wall = now() + WALL_CLOCK;
                }
                state.server.handle_timeout(now());
                shared.settle(&mut state);
            }
        }
    }
}

async fn datagrams(shared: Arc<Shared>, listener: usize) {
    let socket = Arc::clone(&shared.listeners[listener]);
    let mut buffer = vec![0; BUFFER];
    loop {
        let received = match socket.recv(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::error!(%error, address = %socket.local_addr(), "the relay no longer hears datagrams");
                return;
            }
        };
        let mut guard = shared.lock();
        let state = &mut *guard;
        let packet = &buffer[..received.len];
        match state.server.handle_datagram(now(), listener as u16, received.from, packet) {
            Some(out) => relay(&state.relays, out),
            None => shared.settle(state),
        }
    }
}

async fn from_peers(shared: Arc<Shared>, id: RelayId, socket: Arc<dyn UdpSocket>) {
    let mut buffer = vec![0; BUFFER];
    let mut message = Vec::new();
    while let Ok(received) = socket.recv(&mut buffer).await {
        let mut state = shared.lock();
        let payload = &buffer[..received.len];
        if let Some(via) = state.server.handle_peer(now(), id, received.from, payload, &mut message) {
            match via {
                Via::Datagram { listener, from } => {
                    let _ = shared.listeners[usize::from(listener)].try_send(&message, from);
                }
                Via::Stream(stream) => {
                    if let Some((queue, _)) = state.streams.get(&stream)
                        && queue.capacity() > FOR_ANSWERS
                    {
                        let _ = queue.try_send(Bytes::copy_from_slice(&message));
                    }
                }
            }
        }
    }
}

async fn accept(shared: Arc<Shared>, mut listener: Box<dyn TcpListener>, tls: Option<TlsAcceptor>) {
    loop {
        match listener.accept().await {
            Ok(tcp) => admit(&shared, tcp, tls.clone()),
            // A passing lack of something.
            Err(_) => sleep_until(now() + Duration::from_millis(100)).await,
        }
    }
}

fn admit(shared: &Arc<Shared>, tcp: Box<dyn TcpStream>, tls: Option<TlsAcceptor>) {
    let mut state = shared.lock();
    let Some(id) = state.server.handle_accepted(now(), tcp.peer_addr()) else { return };
    let (queue, out) = mpsc::channel(STREAM_QUEUE);
    let carried = Arc::clone(shared);
    let task = tokio::spawn(async move {
        if let Some(stream) = secured(tcp, tls).await {
            carry(&carried, id, stream, out).await;
        }
        let mut state = carried.lock();
        state.streams.remove(&id);
        state.server.handle_stream_end(id);
        carried.settle(&mut state);
    });
    state.streams.insert(id, (queue, task.abort_handle()));
    // Another may have to go.
    shared.settle(&mut state);
    shared.timer.notify_one();
}

async fn secured(tcp: Box<dyn TcpStream>, tls: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    let Some(tls) = tls else { return Some(Box::new(tcp)) };
    match tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(_)) | Err(_) => None,
    }
}

async fn carry(shared: &Arc<Shared>, id: StreamId, stream: Box<dyn Stream>, mut out: mpsc::Receiver<Bytes>) {
    let (mut input, mut output) = split(stream);
    let write = async move {
        while let Some(bytes) = out.recv().await {
            output.write_all(&bytes).await?;
            if out.is_empty() {
                output.flush().await?;
            }
        }
        io::Result::Ok(())
    };
    let read = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let len = match input.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(len) => len,
            };
            let mut guard = shared.lock();
            let state = &mut *guard;
            let mut rest = &buffer[..len];
            while !rest.is_empty() {
                if let Some(out) = state.server.handle_stream(now(), id, &mut rest) {
                    relay(&state.relays, out);
                }
            }
            shared.settle(state);
        }
    };
    tokio::select! {
        biased;
        () = read => {}
        _ = write => {}
    }
}
