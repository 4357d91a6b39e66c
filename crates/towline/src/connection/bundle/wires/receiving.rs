//! Accepting, connecting and receiving.

use std::io;
use std::ops::Bound;
use std::task::{Context, Poll};
use std::time::Instant;

use towline_channeler::{Connection, Route};
use towline_ice::framing::{PayloadKind, classify, classify_datagram};
use towline_ice::{Disposition, StreamId};

use super::super::stream::{Connected, Stream};
use super::timed::Timed;
use super::{Handle, Wires};
use crate::error::CloseReason;
use crate::reach::Caller;

/// Batches of datagrams that are received from one socket, and reads from one stream, before others get their turn.
const TURN: usize = 16;

impl Wires {
    /// Accepts, connects and receives. True if anything came; whether there may be more, [`Wires::has_more`] tells.
    pub(in crate::connection::bundle) fn poll_packets(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        handle: Handle<'_>,
    ) -> bool {
        self.more = false;
        self.more |= self.look_outward(cx, now);
        self.act();
        for (route, ecn, mut packet) in std::mem::take(&mut self.early) {
            handle(route, ecn, &mut packet);
            self.more = true;
        }
        self.more |= self.accept(cx, now);
        let mut received = false;
        let mut next = self.sockets.from(0);
        while let Some(number) = next {
            received |= self.receive_datagrams(cx, now, number, handle);
            next = number.checked_add(1).and_then(|after| self.sockets.from(after));
        }
        self.more |= self.punch(cx, now);
        let mut next = self.streams.keys().next().copied();
        while let Some(id) = next {
            received |= self.receive_stream(cx, now, id, handle);
            next = self.streams.range((Bound::Excluded(id), Bound::Unbounded)).next().map(|(id, _)| *id);
        }
        self.act();
        self.more || received
    }

    /// Whether there is something to do, since the last call or because of it, that nobody is woken for: streams that nobody has
    /// polled yet, actions and news.
    pub(in crate::connection::bundle) fn has_more(&self) -> bool {
        self.more || !self.agent.is_drained() || !self.news.is_empty()
    }

    fn accept(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut accepted = false;
        for index in 0..self.listeners.len() {
            for _ in 0..TURN {
                match self.listeners[index].poll_accept(cx) {
                    Poll::Ready(Ok(io)) => {
                        accepted = true;
                        self.let_in(now, Caller { io, first: Vec::new() });
                    }
                    // Of one connection that vanished, and the next is there; or the system has no room, and asking at once would be for
                    // nothing: then the next timer asks again.
                    Poll::Ready(Err(error)) => tracing::debug!(%error, "no connection accepted"),
                    Poll::Pending => break,
                }
            }
        }
        while let Poll::Ready(caller) = self.outward.poll_caller(cx) {
            accepted = true;
            self.let_in(now, caller);
        }
        accepted
    }

    fn let_in(&mut self, now: Instant, Caller { io, first }: Caller) {
        let (local, remote) = (io.local_addr(), io.peer_addr());
        match self.agent.handle_tcp_accepted(now, local, remote) {
            Ok(id) => {
                let stream = Stream::accepted(self.number(), io, first);
                self.streams.insert(id, Box::new(stream));
            }
            Err(reason) => tracing::debug!(%remote, %reason, "connection refused"),
        }
    }

    fn receive_datagrams(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        number: u16,
        handle: Handle<'_>,
    ) -> bool {
        let Self { agent, sockets, outward, heard, .. } = self;
        let Some(socket) = sockets.get(number) else { return false };
        let mut moved = false;
        for _ in 0..TURN {
            let received = socket.poll_receive(cx, |datagram| {
                let route = Route::Datagram {
                    socket: number,
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
                Poll::Ready(true) => moved = true,
                Poll::Pending | Poll::Ready(false) => return moved,
            }
        }
        // There may be more.
        cx.waker().wake_by_ref();
        moved
    }

    /// Moves one TCP connection on and reads from it, at most what is much. True if anything came.
    fn receive_stream(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        id: StreamId,
        handle: Handle<'_>,
    ) -> bool {
        let Self { agent, streams, failure, heard, more, .. } = self;
        let Some(stream) = streams.get_mut(&id) else { return false };
        match stream.poll_connected(cx) {
            Poll::Pending => return false,
            Poll::Ready(Connected::Open) => {}
            Poll::Ready(Connected::Now(local)) => {
                agent.handle_tcp_connected(now, id, local);
                *more = true;
                return true;
            }
            Poll::Ready(Connected::Failed(error)) => {
                streams.remove(&id);
                agent.handle_tcp_failed(now, id, error);
                *more = true;
                return true;
            }
        }
        let mut reads = 0;
        let end = loop {
            match stream.poll_fill(cx) {
                Poll::Pending => return reads > 0,
                Poll::Ready(Ok(Some(much))) => {
                    reads += 1;
                    *heard |= stream.proven;
                    if take_frames(agent, now, id, stream, handle).is_err() {
                        break CloseReason::Transport(io::ErrorKind::InvalidData);
                    }
                    // Who sends little by little, but as fast as it is read, must not hold up the others either.
                    if much || reads == TURN {
                        *more = true;
                        return true;
                    }
                }
                Poll::Ready(Ok(None)) => break CloseReason::Truncated,
                // Nobody has confirmed what was sent, for as long as the system was ready to wait.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                    break CloseReason::Dead;
                }
                Poll::Ready(Err(error)) => break CloseReason::Transport(error.kind()),
            }
        };
        if stream.proven {
            *failure = Some(end);
        }
        streams.remove(&id);
        agent.handle_tcp_closed(now, id);
        *more = true;
        true
    }

    pub(in crate::connection::bundle) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        inner: &mut Connection,
    ) -> bool {
        self.poll_packets(cx, now, &mut |route, ecn, packet| inner.handle(now, route, ecn, packet))
    }
}

/// A frame that is longer than may be, as long as its sender is not proven.
struct TooLong;

/// Sorts the whole frames that were read.
fn take_frames(
    agent: &mut Timed,
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
