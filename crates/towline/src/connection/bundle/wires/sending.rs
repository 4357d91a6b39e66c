//! Sending, and the end.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use towline_channeler::{Connection, Route, Transmit};

use super::super::socket::Socket;
use super::super::stream::{buffer, give_back};
use super::Wires;
use crate::connection::buffers::GOODBYE;

/// Output for one stream is gathered up to this much before it is written.
const WRITE_TARGET: usize = 64 * 1024;
/// The most bytes that a system takes for one batch of datagrams, each of at most [`MAX_DATAGRAM`].
const MAX_BATCH: usize = 65_000;
const MAX_DATAGRAM: usize = 1452;
/// Bytes of ours that may wait on a stream that is no path. Checks and answers have about 120; a peer that makes us queue
/// more than this without reading is cut off.
const MAX_UNPROVEN: usize = 16 * 1024;

impl Wires {
    /// Prepares what the transport has to send; datagrams are sent at once.
    pub(in crate::connection::bundle) fn fill(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        inner: &mut Connection,
    ) {
        // The endpoint that began the connection has no other.
        while inner.poll_endpoint_event().is_some() {}
        for (transmit, payload) in std::mem::take(&mut self.held) {
            if self.send_datagrams(cx, &transmit, &payload) {
                inner.set_ready(transmit.route, true);
            } else {
                self.held.push((transmit, payload));
            }
        }
        let segments = self.segments();
        let mut packets = buffer();
        while let Some(transmit) = inner.poll_transmit(now, segments, &mut packets) {
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
                Route::Datagram { .. } => {
                    if !self.send_datagrams(cx, &transmit, &packets) {
                        inner.set_ready(transmit.route, false);
                        self.held.push((transmit, std::mem::take(&mut packets)));
                    }
                }
            }
            packets.clear();
        }
        give_back(packets);
    }

    /// How many datagrams to prepare at once: as many as the sockets of the best paths take. Those of relays take one, and are
    /// given more only if they are not the best.
    fn segments(&self) -> usize {
        let datagrams = || self.paths.values().filter(|path| !path.kind.is_tcp());
        let best = datagrams().map(|path| path.kind).min();
        let sockets =
            datagrams().filter(|path| Some(path.kind) == best).filter_map(|path| match path.route {
                Route::Datagram { socket, .. } => self.sockets.get(socket),
                Route::Stream(_) => None,
            });
        sockets.map(Socket::max_segments).min().unwrap_or(1).clamp(1, MAX_BATCH / MAX_DATAGRAM)
    }

    /// False if there is no room; the task is woken when there is.
    fn send_datagrams(&self, cx: &mut Context<'_>, transmit: &Transmit, payload: &[u8]) -> bool {
        let Route::Datagram { socket, local, remote } = transmit.route else { return true };
        let socket = self.sockets.get(socket);
        socket.is_none_or(|socket| socket.send(cx, transmit, local, remote, payload))
    }

    /// Bytes that wait for room in the streams.
    pub(in crate::connection::bundle) fn unsent(&self) -> usize {
        self.streams.values().map(|stream| stream.unsent()).sum()
    }

    /// Writes what is prepared. Ready if any of the streams can be given more.
    pub(in crate::connection::bundle) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        inner: &mut Connection,
    ) -> Poll<()> {
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
    pub(in crate::connection::bundle) fn poll_streams(&mut self, cx: &mut Context<'_>) -> bool {
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

    /// Writes the end and closes the streams, as far as the peer takes it within a second.
    pub(in crate::connection::bundle) async fn say_goodbye(&mut self, inner: &mut Connection) {
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
