//! One ICE negotiation as a future: sockets on one side, the agent on the other.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;
use towline_ice::{
    Action, Agent, CloseReason, Description, Disposition, Event, FailureReport, SelectedPath, StreamId,
};
use towline_net::{BoxFuture, Net, TcpConnect, TcpListener, TcpStream};

use super::{Gathered, Selected, connect_error};
use crate::alarm::is_past;
use crate::report::{Journal, View};

/// Connections taken from a listener in a row.
const TURN: usize = 16;
/// Bytes read from a stream at once while negotiating: checks are small.
const READ_SIZE: usize = 4096;
/// Bytes of ours that may wait on one stream. Checks and answers have about 120; a peer that makes us queue more
/// than this without reading is cut off.
const MAX_UNSENT: usize = 16 * 1024;

type Connecting = BoxFuture<'static, io::Result<Box<dyn TcpStream>>>;

/// A TCP connection of the negotiation.
struct Link {
    state: LinkState,
    /// Framed bytes read and not handled.
    input: BytesMut,
    /// Framed bytes to write.
    output: Vec<u8>,
    /// Payloads with application bytes received before a path was selected. The agent bounds them.
    early: Vec<BytesMut>,
}

enum LinkState {
    Connecting(Connecting),
    Open(Box<dyn TcpStream>),
}

impl Link {
    fn new(state: LinkState) -> Self {
        Self { state, input: BytesMut::new(), output: Vec::new(), early: Vec::new() }
    }
}

impl Link {
    fn into_open(self) -> Option<Box<dyn TcpStream>> {
        match self.state {
            LinkState::Open(stream) => Some(stream),
            LinkState::Connecting(_) => None,
        }
    }
}

/// Runs until the agent selects a path or gives up.
pub(crate) struct Negotiation {
    net: Arc<dyn Net>,
    /// Taken out with the selected path.
    agent: Option<Agent>,
    listeners: Vec<Box<dyn TcpListener>>,
    links: BTreeMap<StreamId, Link>,
    /// Open connections that were not selected.
    losers: Vec<Box<dyn TcpStream>>,
    timer: Pin<Box<Sleep>>,
    journal: Arc<Journal>,
    /// Something has happened since it was last written down.
    unseen: bool,
}

impl Negotiation {
    pub(super) fn new(gathered: Gathered, remote: Description, journal: Arc<Journal>) -> Self {
        let Gathered { net, mut agent, listeners, .. } = gathered;
        let now = towline_net::now();
        for (candidate, reason) in agent.set_remote(now, remote) {
            tracing::debug!(%candidate, %reason, "remote candidate not used");
        }
        let timer = Box::pin(tokio::time::sleep_until(now.into()));
        let (links, losers) = (BTreeMap::new(), Vec::new());
        let unseen = false;
        let mut negotiation =
            Self { net, agent: Some(agent), listeners, links, losers, timer, journal, unseen };
        negotiation.note();
        negotiation
    }

    /// Writes down how things look.
    fn note(&mut self) {
        let view = View { ice: self.agent().report(), nat: None, punch: None };
        self.journal.view(towline_net::now(), view);
        self.unseen = false;
    }

    fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("taken only when the future is done")
    }

    /// Does what the agent asks for. True if there was anything.
    fn act(&mut self) -> bool {
        let mut acted = false;
        while let Some(action) = self.agent().poll_action() {
            acted = true;
            match action {
                Action::Connect { stream, local, remote } => {
                    let local = Some(SocketAddr::new(local.ip(), 0));
                    let options = TcpConnect { local, ..TcpConnect::default() };
                    let connect = self.net.connect_tcp(remote, options);
                    self.links.insert(stream, Link::new(LinkState::Connecting(connect)));
                }
                Action::SendFrame { stream, payload } => {
                    if let Some(link) = self.links.get_mut(&stream) {
                        link.output.extend_from_slice(&payload);
                    }
                }
                Action::CloseStream { stream, reason } => {
                    tracing::trace!(%stream, %reason, "connection closed");
                    let link = self.links.remove(&stream);
                    if reason == CloseReason::NotSelected {
                        self.losers.extend(link.and_then(Link::into_open));
                    }
                }
                // There is no UDP candidate among ours, so no datagram can leave.
                Action::SendUdp { .. } => {}
            }
        }
        acted
    }

    /// The outcome, once there is one.
    fn outcome(&mut self) -> Option<Result<Selected, FailureReport>> {
        while let Some(event) = self.agent().poll_event() {
            match event {
                Event::Selected { path: SelectedPath::Tcp { stream, local, remote }, role, rtt, .. } => {
                    tracing::debug!(%local, %remote, ?rtt, "path selected");
                    // What the agent still wants to say on this stream belongs to it.
                    self.act();
                    let Some(Link { state: LinkState::Open(io), input, output, early }) =
                        self.links.remove(&stream)
                    else {
                        continue;
                    };
                    self.note();
                    let agent = self.agent.take().expect("there until the future is done");
                    let losers = std::mem::take(&mut self.losers);
                    return Some(Ok(Selected {
                        stream: io,
                        id: stream,
                        agent,
                        local,
                        remote,
                        role,
                        early,
                        unread: input,
                        unsent: output,
                        losers,
                    }));
                }
                Event::Failed(report) => {
                    self.note();
                    return Some(Err(report));
                }
                other => tracing::trace!(event = ?other, "negotiation"),
            }
        }
        None
    }

    /// Accepts what comes in.
    fn accept(&mut self, cx: &mut Context<'_>) -> bool {
        let mut accepted = false;
        for index in 0..self.listeners.len() {
            for _ in 0..TURN {
                let Poll::Ready(result) = self.listeners[index].poll_accept(cx) else { break };
                // Of one connection that vanished, and the next is there; or the system has no room, which a timer finds out again.
                let Ok(stream) = result else { continue };
                accepted = true;
                let (local, remote) = (stream.local_addr(), stream.peer_addr());
                match self.agent().handle_tcp_accepted(towline_net::now(), local, remote) {
                    Ok(id) => {
                        self.links.insert(id, Link::new(LinkState::Open(stream)));
                    }
                    Err(reason) => tracing::debug!(%remote, %reason, "connection refused"),
                }
            }
        }
        accepted
    }

    /// Moves one connection on. `Ok(true)` if anything happened; stops early when a path is selected.
    fn drive_link(&mut self, id: StreamId, cx: &mut Context<'_>) -> Drive {
        let now = towline_net::now();
        let Self { agent, links, .. } = self;
        let agent = agent.as_mut().expect("taken only when the future is done");
        let Some(link) = links.get_mut(&id) else { return Drive::Idle };
        let mut moved = false;
        if let LinkState::Connecting(connect) = &mut link.state {
            match connect.as_mut().poll(cx) {
                Poll::Pending => return Drive::Idle,
                Poll::Ready(Ok(stream)) => {
                    agent.handle_tcp_connected(now, id, stream.local_addr());
                    link.state = LinkState::Open(stream);
                    return Drive::Moved;
                }
                Poll::Ready(Err(error)) => {
                    links.remove(&id);
                    agent.handle_tcp_failed(now, id, connect_error(error.kind()));
                    return Drive::Moved;
                }
            }
        }
        let LinkState::Open(stream) = &mut link.state else { return Drive::Idle };
        let mut closed = link.output.len() > MAX_UNSENT;
        while !link.output.is_empty() && !closed {
            match Pin::new(&mut **stream).poll_write(cx, &link.output) {
                Poll::Ready(Ok(written @ 1..)) => {
                    link.output.drain(..written);
                    moved = true;
                }
                Poll::Ready(_) => closed = true,
                Poll::Pending => break,
            }
        }
        while !closed {
            match take_frame(agent, id, link) {
                Ok(true) => return Drive::Moved,
                Ok(false) => {}
                Err(()) => {
                    closed = true;
                    break;
                }
            }
            link.input.reserve(READ_SIZE);
            let LinkState::Open(stream) = &mut link.state else { break };
            match poll_read_buf(Pin::new(&mut **stream), cx, &mut link.input) {
                Poll::Ready(Ok(1..)) => moved = true,
                Poll::Ready(_) => closed = true,
                Poll::Pending => break,
            }
        }
        if closed {
            links.remove(&id);
            agent.handle_tcp_closed(now, id);
            moved = true;
        }
        if moved { Drive::Moved } else { Drive::Idle }
    }
}

#[derive(PartialEq, Eq)]
enum Drive {
    Idle,
    Moved,
}

/// Hands one whole frame to the agent. `Ok(false)` when none is whole, an error when it is too long.
fn take_frame(agent: &mut Agent, id: StreamId, link: &mut Link) -> Result<bool, ()> {
    let Some(header) = link.input.first_chunk::<2>() else { return Ok(false) };
    let len = usize::from(u16::from_be_bytes(*header));
    if len > agent.frame_limit(id) {
        tracing::debug!(stream = %id, len, "frame longer than allowed before the path is proved");
        return Err(());
    }
    if link.input.len() < 2 + len {
        return Ok(false);
    }
    link.input.advance(2);
    let frame = link.input.split_to(len);
    match agent.handle_tcp_frame(towline_net::now(), id, &frame) {
        Disposition::Early | Disposition::Data => link.early.push(frame),
        Disposition::Dropped(reason) => tracing::debug!(stream = %id, %reason, "frame dropped"),
        Disposition::Consumed => {}
    }
    Ok(true)
}

impl Future for Negotiation {
    type Output = Result<Selected, FailureReport>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let mut moved = this.act();
            if let Some(outcome) = this.outcome() {
                return Poll::Ready(outcome);
            }
            moved |= this.accept(cx);
            let ids: Vec<StreamId> = this.links.keys().copied().collect();
            for id in ids {
                // Each step may select the path; what follows on that stream is not the agent's any more.
                while this.drive_link(id, cx) == Drive::Moved {
                    moved = true;
                    this.act();
                    if let Some(outcome) = this.outcome() {
                        return Poll::Ready(outcome);
                    }
                }
            }
            let now = towline_net::now();
            this.unseen |= moved;
            let view = this.journal.next_view().filter(|_| this.unseen);
            if view.is_some_and(|at| at <= now) {
                this.note();
            }
            let view = view.filter(|at| *at > now);
            match this.agent().poll_timeout().into_iter().chain(view).min() {
                Some(at) if at <= now => {
                    this.agent().handle_timeout(now);
                    moved = true;
                }
                Some(at) => moved |= is_past(this.timer.as_mut(), cx, at),
                None => {}
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }
}
