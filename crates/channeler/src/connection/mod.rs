//! One connection: a peer, its channels, and the links to it.

mod stats;

use std::time::Instant;

use thiserror::Error;

pub use self::stats::ConnectionStats;
use crate::{
    ChannelId, Code, ConnectionError, Ecn, Event, LinkId, LinkReport, OpenError, OpenOptions, Placement,
    Priority, Read, ReadError, Route, Side, Transmit, WriteError, endpoint::EndpointEvent,
    handshake::PeerIdentity,
};

/// A channel was named that does not exist, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no such channel")]
pub struct NoChannel;

/// Why a link could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddLinkError {
    /// The handshake is not complete.
    #[error("not connected yet")]
    NotConnected,
    /// The connection has ended.
    #[error("connection closed")]
    Closed,
    /// As many links as this side or the peer allows.
    #[error("as many links as the limits allow")]
    TooMany,
    /// A link takes this route already.
    #[error("a link takes this route already")]
    RouteTaken,
    /// The peer has not given out a further connection id yet: try again a round trip later.
    #[error("no connection id of the peer left")]
    NoId,
}

/// One connection. Made by [`Endpoint::connect`](crate::Endpoint::connect) and [`Endpoint::handle`](crate::Endpoint::handle).
///
/// # Driving it
///
/// * Packets for it go to [`handle`](Self::handle): all that are there, before anything else.
/// * After anything was called, call [`poll_event`](Self::poll_event), [`poll_transmit`](Self::poll_transmit) and
///   [`poll_endpoint_event`](Self::poll_endpoint_event) until they return `None`, then
///   [`poll_timeout`](Self::poll_timeout), and [`handle_timeout`](Self::handle_timeout) when that has come.
/// * Without a route that takes packets, tell [`set_ready`](Self::set_ready) and stop polling for it.
#[derive(Debug)]
pub struct Connection {
    side: Side,
}

impl Connection {
    /// Takes a packet that [`Endpoint::handle`](crate::Endpoint::handle) assigned to this connection. It is decrypted in place.
    /// Packets that do not authenticate are counted and dropped.
    pub fn handle(&mut self, now: Instant, route: Route, ecn: Option<Ecn>, packet: &mut [u8]) {
        let _ = (now, route, ecn, packet);
    }

    /// Does what time brought about.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if nothing else happens before.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }

    /// Appends to `buf` the next packets to send, at most `max_segments` datagrams of one route and one length (the last one may be
    /// shorter), or for a stream up to about 64 KiB of packets, each behind its length. `buf` should be empty.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let _ = (now, max_segments, buf);
        None
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// What the endpoint must know.
    pub fn poll_endpoint_event(&mut self) -> Option<EndpointEvent> {
        None
    }

    /// Opens a channel. It can be written to at once: the first packet carries both the opening and data.
    pub fn open(&mut self, now: Instant, options: OpenOptions) -> Result<ChannelId, OpenError> {
        let _ = (now, options);
        Err(OpenError::Closed)
    }

    /// Tells the peer that the program here took its channel; its side hears [`Event::Accepted`]. Nothing waits for it.
    pub fn accept(&mut self, now: Instant, channel: ChannelId) -> Result<(), NoChannel> {
        let _ = (now, channel);
        Err(NoChannel)
    }

    /// Ends a channel of the peer in both directions, with a code such as [`Code::REFUSED`].
    pub fn refuse(&mut self, now: Instant, channel: ChannelId, code: Code) -> Result<(), NoChannel> {
        let _ = (now, channel, code);
        Err(NoChannel)
    }

    /// Writes to a channel: as many bytes of a stream as there is room for, or one whole message. Returns how many bytes were taken.
    pub fn write(&mut self, now: Instant, channel: ChannelId, bytes: &[u8]) -> Result<usize, WriteError> {
        let _ = (now, channel, bytes);
        Err(WriteError::Unknown)
    }

    /// Reads bytes of a stream, or one message.
    pub fn read(&mut self, now: Instant, channel: ChannelId, buf: &mut [u8]) -> Result<Read, ReadError> {
        let _ = (now, channel, buf);
        Err(ReadError::Unknown)
    }

    /// Ends this side's direction: what was written still arrives, then the peer reads the end.
    pub fn finish(&mut self, now: Instant, channel: ChannelId) -> Result<(), NoChannel> {
        let _ = (now, channel);
        Err(NoChannel)
    }

    /// Ends a channel at once in both directions; what was not delivered is lost.
    pub fn reset(&mut self, now: Instant, channel: ChannelId, code: Code) -> Result<(), NoChannel> {
        let _ = (now, channel, code);
        Err(NoChannel)
    }

    /// Asks the peer to send no more on a channel; what it sends is dropped. Own direction goes on.
    pub fn stop(&mut self, now: Instant, channel: ChannelId, code: Code) -> Result<(), NoChannel> {
        let _ = (now, channel, code);
        Err(NoChannel)
    }

    /// Changes the place of a channel in the order of sending.
    pub fn set_priority(&mut self, channel: ChannelId, priority: Priority) -> Result<(), NoChannel> {
        let _ = (channel, priority);
        Err(NoChannel)
    }

    /// Changes the links that a channel's packets take from here to the peer.
    pub fn set_placement(&mut self, channel: ChannelId, placement: Placement) -> Result<(), NoChannel> {
        let _ = (channel, placement);
        Err(NoChannel)
    }

    /// Begins a new generation of keys for a channel's packets to the peer, which follows with its own.
    pub fn update_keys(&mut self, channel: ChannelId) -> Result<(), NoChannel> {
        let _ = channel;
        Err(NoChannel)
    }

    /// Length of the next message to read, or of the bytes of a stream that are there; `None` if nothing is.
    pub fn readable(&self, channel: ChannelId) -> Option<usize> {
        let _ = channel;
        None
    }

    /// Adds a way to the peer, which becomes active when the peer answered on it.
    pub fn add_link(&mut self, now: Instant, route: Route) -> Result<LinkId, AddLinkError> {
        let _ = (now, route);
        Err(AddLinkError::NotConnected)
    }

    /// Drops a link on both sides. What was on its way is repeated on others, so that a planned switch loses nothing.
    pub fn close_link(&mut self, now: Instant, link: LinkId) {
        let _ = (now, link);
    }

    /// Whether the peer is to use this link: one that is not available is kept warm as a backup. Links start available.
    pub fn set_available(&mut self, now: Instant, link: LinkId, available: bool) {
        let _ = (now, link, available);
    }

    /// Whether the driver can take packets for this route. Routes start ready.
    pub fn set_ready(&mut self, route: Route, ready: bool) {
        let _ = (route, ready);
    }

    /// The driver's socket or stream broke: the links on it are closed and what was on its way is repeated on others.
    pub fn link_lost(&mut self, now: Instant, route: Route) {
        let _ = (now, route);
    }

    /// A hint that addresses changed (another network, waking up): every link is probed at once.
    pub fn network_changed(&mut self, now: Instant) {
        let _ = now;
    }

    /// What is known about each link.
    pub fn links(&self) -> impl Iterator<Item = LinkReport> + '_ {
        std::iter::empty()
    }

    /// Ends the connection: everything not delivered is lost, and the peer is told. The text is cut to 256 bytes.
    pub fn close(&mut self, now: Instant, code: Code, text: &str) {
        let _ = (now, code, text);
    }

    /// What was counted.
    pub fn stats(&self) -> ConnectionStats {
        ConnectionStats::default()
    }

    /// Who the peer proved to be; `None` before [`Event::Connected`].
    pub fn peer(&self) -> Option<&PeerIdentity> {
        None
    }

    /// Which end this is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Why the connection ended, if it did.
    pub fn closed(&self) -> Option<&ConnectionError> {
        None
    }

    /// Whether everything is said: it can be forgotten.
    pub fn is_drained(&self) -> bool {
        true
    }
}
