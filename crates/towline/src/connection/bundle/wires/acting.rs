//! What the agent asks for, and what it found.

use std::time::Instant;

use towline_channeler::Route;
use towline_ice::{Action, CandidateKind, Event, SelectedPath, ValidPair};
use towline_net::TcpConnect;

use super::super::stream::Stream;
use super::{News, Path, Wires};
use crate::connection::buffers::IDLE_BYTES;
use crate::path::PathKind;

/// Bytes that may wait on a stream beyond which nothing of the agent is added: more than packets of the transport ever are.
const MAX_UNREAD: usize = 256 * 1024;

impl Wires {
    /// Does what the agent asks for, and takes in what it found.
    pub(in crate::connection::bundle) fn act(&mut self) {
        if self.agent.is_drained() {
            return;
        }
        self.more = true;
        while let Some(action) = self.agent.poll_action() {
            match action {
                Action::Connect { stream, local, remote } => {
                    let options = TcpConnect { local: Some(local), ..TcpConnect::default() };
                    let connecting = Stream::connecting(self.number(), self.net.connect_tcp(remote, options));
                    self.streams.insert(stream, Box::new(connecting));
                }
                Action::SendFrame { stream, payload } => {
                    // Who does not read gets no answers: the agent repeats its own questions.
                    let stream = self.streams.get_mut(&stream);
                    if let Some(stream) = stream.filter(|stream| stream.unsent() < MAX_UNREAD) {
                        stream.push(&mut payload.to_vec());
                    }
                }
                Action::CloseStream { stream, reason } => {
                    tracing::trace!(%stream, %reason, "connection closed");
                    self.streams.remove(&stream);
                }
                Action::SendUdp { local, remote, payload } => {
                    let number = self.sockets.sending_from(local);
                    if let Some(socket) = number.and_then(|number| self.sockets.get(number)) {
                        socket.send_check(&payload, remote);
                    }
                }
            }
        }
        while let Some(event) = self.agent.poll_event() {
            match event {
                Event::PairValid(valid) => self.on_valid(&valid),
                Event::PairLost { pair, reason } => {
                    if let Some(path) = self.paths.remove(&pair) {
                        tracing::debug!(local = %path.local, remote = %path.remote, %reason, "path lost");
                        // After a restart there may be another by the same route.
                        if !self.has(path.route) {
                            self.news.push_back(News::Lost(path.route, reason));
                        }
                    }
                }
                Event::Selected { pair, role, .. } => {
                    self.selected.get_or_insert((pair, role));
                    self.current = Some(pair);
                    self.news.push_back(News::Selected);
                }
                Event::Failed(report) => self.failed = Some(report),
                other => tracing::trace!(event = ?other, "paths"),
            }
        }
        self.note(towline_net::now());
    }

    pub(super) fn number(&mut self) -> u32 {
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
                let Some(socket) = self.sockets.sending_from(local) else { return };
                Route::Datagram { socket, local: Some(local.ip()), remote }
            }
        };
        tracing::debug!(%local, %remote, "path works");
        self.outward.works();
        let kind = PathKind::of(route.is_stream(), valid.is_relayed());
        let relays = [valid.local, valid.remote].map(|end| u8::from(end == CandidateKind::Relayed));
        let (generation, priority) = (valid.generation, valid.priority);
        let path = Path { route, kind, relays: relays[0] + relays[1], generation, local, remote, priority };
        // What befell others before does not matter any more.
        self.failure = None;
        self.paths.insert(valid.pair, Box::new(path));
        self.news.push_back(News::Works);
    }

    /// The peer tells of a relay of its own. What came from there before it was known for that is no direct path.
    pub(in crate::connection::bundle) fn on_relay_of_peer(&mut self) {
        let remotes = self.agent.report().remote;
        let relays = remotes.iter().filter(|candidate| candidate.kind == CandidateKind::Relayed);
        let relays: Vec<_> = relays.map(|candidate| candidate.address).collect();
        for path in self.paths.values_mut().filter(|path| relays.contains(&path.remote)) {
            path.kind = PathKind::of(path.route.is_stream(), true);
        }
        self.news.push_back(News::PeerMoves);
    }

    pub(in crate::connection::bundle) fn poll_timeout(&self) -> Option<Instant> {
        let view = if self.unseen { self.journal.next_view() } else { None };
        self.agent
            .poll_timeout()
            .into_iter()
            .chain(self.outward.poll_timeout(towline_net::now()))
            .chain(view)
            .min()
    }

    /// Checks and keep-alives; also the moment to see which streams are idle.
    pub(in crate::connection::bundle) fn handle_timeout(&mut self, now: Instant) {
        self.outward.handle_timeout(now);
        if self.unseen {
            self.note(now);
        }
        if self.agent.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.agent.handle_timeout(now);
        self.act();
        self.streams.values_mut().for_each(|stream| stream.look(IDLE_BYTES));
    }
}
