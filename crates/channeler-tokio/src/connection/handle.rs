//! A connection as the program holds it.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use towline_channeler::{
    AddLinkError, Capabilities, ChannelId, Code, ConnectionError, ConnectionStats, LinkId, LinkReport,
    LinkStatus, OpenError, OpenOptions, PeerIdentity, Route, Side,
};
use towline_net::TcpConnect;

use super::{Events, Place, Shared, Slot, State};
use crate::{
    Channel, SocketId,
    stream::{self, ByteStream},
};

/// How long a link waits for the peer to give out an id for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a link did not come to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// It could not be added.
    #[error(transparent)]
    Add(#[from] AddLinkError),
    /// The peer did not answer on it, or it was dropped.
    #[error("the link was dropped")]
    Dropped,
    /// The connection has ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The endpoint has no socket for addresses of this family.
    #[error("no socket for addresses such as {0}")]
    NoSocket(SocketAddr),
    /// No TCP connection could be made, or no socket bound.
    #[error("no way there: {0}")]
    Io(io::ErrorKind),
}

/// The last one of those that the program holds of a connection, its channels included, lets it go.
#[derive(Debug)]
pub(crate) struct Owner(Arc<Shared>);

impl Owner {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// An authenticated connection to a peer: channels, over any number of links.
///
/// A clone is the same connection. It stays open as long as the program holds a clone or a channel of it. When the last of
/// them is dropped, what was finished is still delivered, for five seconds at most, and the connection is closed with
/// [`Code::DONE`].
#[derive(Clone, Debug)]
pub struct Connection(Arc<Owner>);

impl Connection {
    pub(crate) fn owner(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Owner(shared)))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.0.shared()
    }

    /// Waits until the handshake is complete.
    pub(crate) async fn established(&self) -> Result<(), ConnectionError> {
        self.until(|state| state.connected.then_some(())).await
    }

    /// Waits until there is an answer, which may change when the connection or a link does.
    async fn until<T>(&self, answer: impl Fn(&mut State) -> Option<T>) -> Result<T, ConnectionError> {
        loop {
            let news = self.shared().changed.notified();
            {
                let mut state = self.shared().lock();
                if let Some(answer) = answer(&mut state) {
                    return Ok(answer);
                }
                if let Some(error) = &state.error {
                    return Err(error.clone());
                }
            }
            news.await;
        }
    }

    /// Who the peer proved to be.
    pub fn peer(&self) -> PeerIdentity {
        let state = self.shared().lock();
        state.inner.peer().cloned().expect("a connection is complete when the program gets it")
    }

    /// Which end this is.
    pub fn side(&self) -> Side {
        self.shared().lock().inner.side()
    }

    /// Opens a channel. It can be written to at once: opening and data travel in the same packet, without a round trip.
    ///
    /// Waits while as many channels are open as the peer allows. Cancel safe.
    pub async fn open(&self, options: OpenOptions) -> Result<Channel, OpenError> {
        loop {
            let news = self.shared().progress.notified();
            match self.try_open(options.clone()) {
                Err(OpenError::TooMany) => {}
                outcome => return outcome,
            }
            let _waiting = Waiting::new(self.shared());
            news.await;
        }
    }

    /// Opens a channel, or fails at once with [`OpenError::TooMany`] where [`open`](Self::open) would wait.
    pub fn try_open(&self, options: OpenOptions) -> Result<Channel, OpenError> {
        let (capabilities, label) = (options.capabilities, options.label.clone());
        let channel = self.shared().with(|state, now| {
            let channel = state.inner.open(now, options)?;
            state.channels.insert(channel, Slot::held());
            Ok(channel)
        })?;
        Ok(Channel::new(Arc::clone(&self.0), channel, capabilities, label))
    }

    /// The next channel that the peer opened, in the order of opening. Fails when the connection has ended. Cancel safe.
    pub async fn accept(&self) -> Result<Incoming, ConnectionError> {
        let mut place = Place::new(self.shared(), None);
        let opened = poll_fn(|cx| self.shared().lock().poll_opened(&mut place, cx)).await?;
        let channel = Channel::new(Arc::clone(&self.0), opened.channel, opened.capabilities, opened.label);
        Ok(Incoming { channel: Some(channel) })
    }

    /// News of windows, losses and links from now on.
    pub fn events(&self) -> Events {
        Events::new(&self.0)
    }

    /// What is known about each link now.
    pub fn links(&self) -> Vec<LinkReport> {
        self.shared().lock().inner.links().collect()
    }

    /// Adds a link from the endpoint's first socket of that family to an address of the peer, and waits until the peer has
    /// answered on it.
    ///
    /// If the future is dropped, the link stays.
    pub async fn add_link(&self, remote: SocketAddr) -> Result<LinkId, LinkError> {
        let socket = self.shared().endpoint.socket_for(remote).ok_or(LinkError::NoSocket(remote))?;
        self.add_link_from(SocketId(socket), remote).await
    }

    /// [`add_link`](Self::add_link) from a certain socket of the endpoint.
    pub async fn add_link_from(&self, socket: SocketId, remote: SocketAddr) -> Result<LinkId, LinkError> {
        let route = Route::Datagram { socket: socket.0, local: None, remote };
        let link = self.add_route(route).await?;
        self.link_active(link).await?;
        Ok(link)
    }

    /// Adds a link over a byte stream that leads to the peer's endpoint, and waits until the peer has answered on it.
    ///
    /// The stream may be anything that keeps order and loses nothing: TCP, a relayed connection, TLS. When it ends or
    /// fails, what was on its way is repeated on the other links.
    pub async fn add_stream(&self, stream: impl ByteStream) -> Result<LinkId, LinkError> {
        let number = self.shared().endpoint.next_stream();
        stream::attach(self.shared(), number, stream::Framed::new(Box::new(stream)));
        let added = self.add_route(Route::Stream(number)).await;
        if added.is_err() {
            stream::detach(self.shared(), number);
        }
        let link = added?;
        self.link_active(link).await?;
        Ok(link)
    }

    /// Connects by TCP to an address on which the peer's endpoint listens, and adds the stream as a link.
    pub async fn add_tcp(&self, addr: SocketAddr) -> Result<LinkId, LinkError> {
        let connecting = self.shared().endpoint.net.connect_tcp(addr, TcpConnect::default());
        let stream = connecting.await.map_err(|error| LinkError::Io(error.kind()))?;
        self.add_stream(stream).await
    }

    /// Waits until a link works.
    pub async fn link_active(&self, link: LinkId) -> Result<LinkReport, LinkError> {
        let known = self.until(|state| {
            let report = state.inner.links().find(|report| report.link == link);
            match report.map(|report| report.status) {
                Some(LinkStatus::Validating) => None,
                Some(LinkStatus::Closed) | None => Some(None),
                Some(LinkStatus::Active | LinkStatus::Suspect | LinkStatus::Dead) => Some(report),
            }
        });
        known.await?.ok_or(LinkError::Dropped)
    }

    async fn add_route(&self, route: Route) -> Result<LinkId, LinkError> {
        let adding = async {
            loop {
                let news = self.shared().progress.notified();
                match self.shared().with(|state, now| state.inner.add_link(now, route)) {
                    Err(AddLinkError::NoId) => {}
                    outcome => return outcome,
                }
                let _waiting = Waiting::new(self.shared());
                news.await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, adding).await;
        Ok(outcome.unwrap_or(Err(AddLinkError::NoId))?)
    }

    /// Drops a link on both sides. What was on its way is repeated on others: a planned switch loses nothing.
    pub fn close_link(&self, link: LinkId) {
        self.shared().with(|state, now| state.inner.close_link(now, link));
    }

    /// Whether the peer is to use this link: one that is not available is kept warm as a backup.
    pub fn set_available(&self, link: LinkId, available: bool) {
        self.shared().with(|state, _| state.inner.set_available(link, available));
    }

    /// A hint that the network may be another one: every link is probed at once.
    pub fn network_changed(&self) {
        self.shared().network_changed();
    }

    /// Ends the connection now: what was not delivered is lost, and the peer is told. The text is cut to 256 bytes.
    pub fn close(&self, code: Code, text: &str) {
        self.shared().close(code, text);
    }

    /// Waits until the connection ends, and says why it did.
    pub async fn closed(&self) -> ConnectionError {
        match self.until(|_| None::<std::convert::Infallible>).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Why the connection ended, if it did.
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.shared().lock().error.clone()
    }

    /// What was counted.
    pub fn stats(&self) -> ConnectionStats {
        self.shared().lock().inner.stats()
    }
}

/// Somebody waits for what the peer must allow.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.lock().waiting += 1;
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

/// A channel that the peer opened. Dropping it refuses it.
#[derive(Debug)]
pub struct Incoming {
    /// There until it was decided about.
    channel: Option<Channel>,
}

impl Incoming {
    fn channel(&self) -> &Channel {
        self.channel.as_ref().expect("it is there until it was decided about")
    }

    /// Its id.
    pub fn id(&self) -> ChannelId {
        self.channel().id()
    }

    /// What the opener chose.
    pub fn capabilities(&self) -> Capabilities {
        self.channel().capabilities()
    }

    /// What it is for, as the peer says.
    pub fn label(&self) -> &[u8] {
        self.channel().label()
    }

    /// Takes it. The peer learns so, and may have sent already.
    pub fn accept(mut self) -> Channel {
        let channel = self.channel.take().expect("it is there until it was decided about");
        // It may have ended meanwhile, which the channel tells.
        let _ = channel.shared().with(|state, now| state.inner.accept(now, channel.id()));
        channel
    }

    /// Ends it in both directions, with a reason.
    pub fn refuse(mut self, code: Code) {
        self.decline(code);
    }

    fn decline(&mut self, code: Code) {
        let Some(channel) = self.channel.take() else { return };
        channel.shared().with(|state, now| {
            // It may have ended meanwhile.
            let _ = state.inner.refuse(now, channel.id(), code);
            state.end(channel.id(), code);
        });
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.decline(Code::REFUSED);
    }
}
