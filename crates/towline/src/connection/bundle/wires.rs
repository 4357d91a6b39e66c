//! The sockets under a connection: packets of the transport in, packets out, and the ICE agent that watches them.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use towline_channeler::{Connection, Route};
use towline_ice::framing::{PayloadKind, classify};
use towline_ice::{Action, Agent, Disposition};

use super::stream::Stream;
use crate::error::CloseReason;
use crate::path::Selected;

/// Output for one stream is gathered up to this much before it is written.
const WRITE_TARGET: usize = 64 * 1024;
/// How long a peer may take to take the end.
const GOODBYE: Duration = Duration::from_secs(1);
/// A connection that moves less between two keep-alives is idle: its own keep-alives and pings are less.
const IDLE_BYTES: usize = 4 * 1024;
/// Space kept by an idle buffer of packets.
const IDLE_CAPACITY: usize = 4 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Wires {
    agent: Agent,
    streams: BTreeMap<u32, Stream>,
    /// Where packets are written.
    packets: Vec<u8>,
    /// What befell the stream that was lost last.
    failure: Option<CloseReason>,
}

impl Wires {
    /// The path that was selected, as stream 0, and what the peer said on it already.
    pub(super) fn new(selected: Selected) -> (Self, Vec<BytesMut>) {
        let stream = Stream::new(selected.stream, selected.id, selected.unread, selected.unsent);
        let wires = Self {
            agent: selected.agent,
            streams: BTreeMap::from([(0, stream)]),
            packets: Vec::new(),
            failure: None,
        };
        (wires, selected.early)
    }

    /// Whether there is none left.
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    pub(super) fn failure(&self) -> Option<CloseReason> {
        self.failure.clone()
    }

    /// Reads once from each. True if anything came.
    pub(super) fn poll_packets(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        handle: &mut dyn FnMut(Route, &mut [u8]),
        lost: &mut dyn FnMut(Route),
    ) -> bool {
        let mut moved = false;
        let Self { agent, streams, failure, .. } = self;
        streams.retain(|&number, stream| {
            let route = Route::Stream(number);
            let mut take = |stream: &mut Stream| {
                stream.frames(|id, payload| {
                    if classify(payload) == PayloadKind::Stun {
                        if let Disposition::Dropped(reason) = agent.handle_tcp_frame(now, id, payload) {
                            tracing::debug!(%reason, "STUN message dropped");
                        }
                    } else {
                        handle(route, payload);
                    }
                });
            };
            // What came with the path.
            take(stream);
            let end = match stream.poll_fill(cx) {
                Poll::Pending => return true,
                Poll::Ready(Ok(Some(()))) => {
                    moved = true;
                    take(stream);
                    return true;
                }
                Poll::Ready(Ok(None)) => CloseReason::Truncated,
                // Nobody has confirmed what was sent, for as long as the system was ready to wait.
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::TimedOut => CloseReason::Dead,
                Poll::Ready(Err(error)) => CloseReason::Transport(error.kind()),
            };
            moved = true;
            *failure = Some(end);
            agent.handle_tcp_closed(now, stream.id);
            lost(route);
            false
        });
        self.act();
        moved
    }

    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        inner: &mut Connection,
    ) -> bool {
        let mut gone = Vec::new();
        let moved = self.poll_packets(
            cx,
            now,
            &mut |route, packet| inner.handle(now, route, None, packet),
            &mut |route| gone.push(route),
        );
        for route in gone {
            inner.link_lost(now, route);
        }
        moved
    }

    /// Prepares what the transport has to send.
    pub(super) fn fill(&mut self, _: &mut Context<'_>, now: Instant, inner: &mut Connection) {
        // The endpoint that began the connection has no other.
        while inner.poll_endpoint_event().is_some() {}
        loop {
            self.packets.clear();
            let Some(transmit) = inner.poll_transmit(now, 1, &mut self.packets) else { break };
            if let Route::Stream(number) = transmit.route {
                self.push(number);
                if self.streams.get(&number).is_some_and(|stream| stream.unsent() >= WRITE_TARGET) {
                    inner.set_ready(transmit.route, false);
                }
            }
        }
    }

    /// Queues frames for a stream: those in `packets`.
    fn push(&mut self, number: u32) {
        // One that is gone has been told to the transport.
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.push(&mut self.packets);
        }
    }

    pub(super) fn unsent(&self) -> usize {
        self.streams.values().map(Stream::unsent).sum()
    }

    /// Writes what is prepared. Ready if any of the streams can be given more.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, inner: &mut Connection) -> Poll<()> {
        let mut room = false;
        for (&number, stream) in &mut self.streams {
            if stream.unsent() > 0 && stream.poll_write(cx).is_ready() {
                room = true;
                inner.set_ready(Route::Stream(number), true);
            }
        }
        if room { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Writes what is queued, before there is a connection.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut left = false;
        for stream in self.streams.values_mut() {
            left |= stream.poll_write(cx).is_pending();
        }
        if left { Poll::Pending } else { Poll::Ready(()) }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    /// Keep-alives; also the moment to give back the memory of buffers that were not used since the last one.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
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

    /// Queues the agent's frames.
    fn act(&mut self) {
        while let Some(action) = self.agent.poll_action() {
            if let Action::SendFrame { stream: id, payload } = action
                && let Some(stream) = self.streams.values_mut().find(|stream| stream.id == id)
            {
                stream.push(&mut payload.to_vec());
            }
        }
        while let Some(event) = self.agent.poll_event() {
            tracing::trace!(?event, "path");
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
                let _ = poll_fn(|cx| stream.poll_shutdown(cx)).await;
            }
            // What the peer still sends is taken: left unread, it would make of this a reset, which can cost the peer
            // what we said last.
            poll_fn(|cx| {
                while self.poll_packets(cx, towline_net::now(), &mut |_, _| {}, &mut |_| {}) {}
                if self.streams.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}
