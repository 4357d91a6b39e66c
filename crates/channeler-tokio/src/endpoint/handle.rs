//! An endpoint as the program holds it.

use std::{io, net::SocketAddr, sync::Arc};

use thiserror::Error;
use towline_channeler::{Code, ConnectionError, EndpointConfig, EndpointCounters, Peer, Route};
use towline_net::{Net, TcpConnect, UdpBind, UdpSocket};

use super::Shared;
use crate::{
    Connection, connection, lock,
    stream::{self, ByteStream},
};

/// A UDP socket of an endpoint, from [`Endpoint::add_socket`]. The first one, made by [`Endpoint::bind`], is
/// [`SocketId::FIRST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub(crate) u16);

impl SocketId {
    /// The socket that the endpoint was bound with.
    pub const FIRST: Self = Self(0);
}

/// Why a connection was not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// It could not be begun.
    #[error(transparent)]
    Begin(#[from] towline_channeler::ConnectError),
    /// It ended before it was complete.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The endpoint has no socket for addresses of this family.
    #[error("no socket for addresses such as {0}")]
    NoSocket(SocketAddr),
    /// The endpoint was closed.
    #[error("endpoint closed")]
    Closed,
    /// No TCP connection could be made.
    #[error("no connection of TCP: {0}")]
    Io(io::ErrorKind),
}

/// One's own place in the network: any number of connections, in both directions, over one UDP port or several, and over
/// byte streams.
///
/// A clone is the same endpoint. When the last clone is dropped, connections that exist live on, but nobody can connect
/// any more; with the last of them the sockets are closed. To take leave of every peer before the program ends, use
/// [`close`](Self::close) and [`wait_idle`](Self::wait_idle).
#[derive(Clone, Debug)]
pub struct Endpoint(Arc<Owner>);

/// The last one of those that the program holds ends the tasks when no connection is left.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        let waiting = {
            let mut state = lock(&self.0.state);
            state.dropped = true;
            state.end_tasks_if_unused();
            std::mem::take(&mut state.accepted)
        };
        drop(waiting);
    }
}

/// A socket that never fragments, whatever the options say.
fn bind(net: &dyn Net, options: &UdpBind) -> io::Result<Box<dyn UdpSocket>> {
    net.bind_udp(&UdpBind { dont_fragment: true, ..options.clone() })
}

impl Endpoint {
    /// Binds a UDP port; 0 takes a free one. What is received is answered by tasks of the runtime that this is called in.
    ///
    /// Unless `config` says what its [`instance`](EndpointConfig::instance) is, it is the number of the port, which tells endpoints
    /// of one key on one host apart, and is the same when a server is started again.
    pub fn bind(net: Arc<dyn Net>, addr: SocketAddr, mut config: EndpointConfig) -> io::Result<Self> {
        let io = bind(&*net, &UdpBind::new(addr))?;
        config.instance.get_or_insert(io.local_addr().port().into());
        let shared = Arc::new(Shared::new(net, config));
        let endpoint = Self(Arc::new(Owner(shared)));
        endpoint.0.0.serve(io)?;
        let shared = Arc::clone(&endpoint.0.0);
        let mut changes = shared.net.changes();
        let watch = tokio::spawn(async move {
            loop {
                changes.changed().await;
                shared.each(connection::Shared::network_changed);
            }
        });
        lock(&endpoint.0.0.state).tasks.push(watch.abort_handle());
        Ok(endpoint)
    }

    /// Binds a further UDP port, from which links can be added and on which peers are heard.
    ///
    /// Whatever `options` say, the socket never fragments. An endpoint has 65,536 in its life at most.
    pub fn add_socket(&self, options: &UdpBind) -> io::Result<SocketId> {
        self.0.0.serve(bind(&*self.0.0.net, options)?).map(SocketId)
    }

    /// Closes a socket. Links over it are gone, as if the network had taken them; the port is free as soon as the task that
    /// received from it has noticed.
    pub fn close_socket(&self, socket: SocketId) {
        self.0.0.socket_lost(socket.0);
    }

    /// The address a socket is bound to, with the real port. `None` once it was closed.
    pub fn local_addr(&self, socket: SocketId) -> Option<SocketAddr> {
        let state = lock(&self.0.0.state);
        state.sockets.get(usize::from(socket.0))?.as_ref().map(|(socket, _)| socket.io.local_addr())
    }

    /// Listens on a TCP address; port 0 takes a free one. Peers may connect over it, or add links to the connections that
    /// they have. Returns the address, with the real port.
    pub fn listen(&self, addr: SocketAddr) -> io::Result<SocketAddr> {
        let listener = self.0.0.net.listen_tcp(addr)?;
        let addr = listener.local_addr();
        let task = tokio::spawn(stream::listen(Arc::clone(&self.0.0), listener));
        lock(&self.0.0.state).tasks.push(task.abort_handle());
        Ok(addr)
    }

    /// Serves a byte stream by which a peer came: it begins a connection over it, or adds it to one as a link.
    ///
    /// A stream that says nothing of use for ten seconds is dropped.
    pub fn accept_stream(&self, stream: impl ByteStream) {
        stream::serve(&self.0.0, Box::new(stream));
    }

    /// Makes a connection to a peer over UDP. Dropping the future gives the attempt up.
    pub async fn connect(&self, peer: Peer, addr: SocketAddr) -> Result<Connection, ConnectError> {
        let socket = self.0.0.socket_for(addr).ok_or(ConnectError::NoSocket(addr))?;
        let route = Route::Datagram { socket, local: None, remote: addr };
        let connection = self.0.0.begin(peer, route)?;
        connection.established().await?;
        Ok(connection)
    }

    /// Makes a connection to a peer over a byte stream that leads to it.
    pub async fn connect_stream(
        &self,
        peer: Peer,
        stream: impl ByteStream,
    ) -> Result<Connection, ConnectError> {
        let number = self.0.0.next_stream();
        let connection = self.0.0.begin(peer, Route::Stream(number))?;
        stream::attach(connection.shared(), number, stream::Framed::new(Box::new(stream)));
        connection.established().await?;
        Ok(connection)
    }

    /// Makes a connection to a peer over TCP.
    pub async fn connect_tcp(&self, peer: Peer, addr: SocketAddr) -> Result<Connection, ConnectError> {
        let connecting = self.0.0.net.connect_tcp(addr, TcpConnect::default());
        let stream = connecting.await.map_err(|error| ConnectError::Io(error.kind()))?;
        self.connect_stream(peer, stream).await
    }

    /// The next connection that a peer made, complete and admitted. `None` once the endpoint is closed. Cancel safe.
    pub async fn accept(&self) -> Option<Connection> {
        loop {
            let news = self.0.0.accepted.notified();
            {
                let mut state = lock(&self.0.0.state);
                if let Some(connection) = state.accepted.pop_front() {
                    return Some(connection);
                }
                if state.closed.is_some() {
                    return None;
                }
            }
            news.await;
        }
    }

    /// Closes every connection with this code, and makes no more: who tries to make one is not answered.
    pub fn close(&self, code: Code, text: &str) {
        let waiting = {
            let mut state = lock(&self.0.0.state);
            state.closed.get_or_insert_with(|| (code, text.to_owned()));
            std::mem::take(&mut state.accepted)
        };
        drop(waiting);
        self.0.0.accepted.notify_waiters();
        self.0.0.each(|connection| connection.close(code, text));
    }

    /// Waits until no connection is left, so that the peers have been told.
    ///
    /// After [`close`](Self::close) that takes three probe timeouts of the slowest link of any connection: 100 ms at least, in
    /// case a peer did not hear it and must be told again, and 10 s at most, whatever peers and strangers do. Without it, it takes
    /// as long as connections live. Cancel safe.
    pub async fn wait_idle(&self) {
        loop {
            let news = self.0.0.idle.notified();
            if lock(&self.0.0.state).alive == 0 {
                return;
            }
            news.await;
        }
    }

    /// A hint that the network may be another one (waking up, a new interface): every link of every connection is probed
    /// at once. Changes that [`Net::changes`] tells are noticed without it.
    pub fn network_changed(&self) {
        self.0.0.each(connection::Shared::network_changed);
    }

    /// Connections that exist, those still being made or closed included.
    pub fn connections(&self) -> usize {
        lock(&self.0.0.state).alive
    }

    /// What was counted.
    pub fn counters(&self) -> EndpointCounters {
        lock(&self.0.0.state).inner.counters()
    }
}
