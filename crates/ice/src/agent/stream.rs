//! TCP connections: those we open, and those anybody may open to us (spec 9.1 nos. 19, 20).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::check::Purpose;
use super::pair::{Link, State};
use super::request::Arrival;
use super::{Agent, CloseReason, Disposition, DropReason, PairId, Phase, Refused, StreamId};
use crate::addr::canonical;
use crate::candidate::CandidateKind;
use crate::framing::{self, PayloadKind};
use crate::report::{ConnectError, PairError};

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) state: StreamState,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum StreamState {
    /// Being opened for a pair.
    Connecting { pair: PairId },
    /// Open; nothing authentic came yet. Its check is on its way and bounds the time.
    Opened { pair: PairId, bytes: usize },
    /// From anybody; nothing authentic came yet.
    Accepted { local: usize, deadline: Instant, bytes: usize },
    /// The peer has authenticated on it.
    Proven { pair: PairId },
}

impl StreamState {
    fn pair(self) -> Option<PairId> {
        match self {
            Self::Connecting { pair } | Self::Opened { pair, .. } | Self::Proven { pair } => Some(pair),
            Self::Accepted { .. } => None,
        }
    }
}

impl Agent {
    /// A listener of this session accepted a connection; `local` and `remote` are its ends.
    ///
    /// On an error close the connection: it counts against nobody. Whatever the limits, connections that have
    /// authenticated are never given up for new ones, so a flood costs the flooder's connections only.
    pub fn handle_tcp_accepted(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<StreamId, Refused> {
        let candidate = self.admit_connection(local, remote).inspect_err(|_| {
            self.refused_connections = self.refused_connections.saturating_add(1);
        })?;
        let stream = self.new_stream();
        let deadline = now + self.config.unauthenticated_timeout;
        let state = StreamState::Accepted { local: candidate, deadline, bytes: 0 };
        self.streams.insert(stream, Box::new(Stream { local, remote, state }));
        Ok(stream)
    }

    /// The local candidate such a connection belongs to.
    fn admit_connection(&self, local: SocketAddr, remote: SocketAddr) -> Result<usize, Refused> {
        if !self.is_looking() && !matches!(self.phase, Phase::Gathering) {
            return Err(Refused::Over);
        }
        self.config.policy.permits(remote).map_err(|_| Refused::Policy)?;
        let passive = || self.locals.iter().enumerate().filter(|(_, c)| c.accepts());
        let exact = passive().find(|(_, c)| canonical(c.base) == canonical(local));
        // A listener on all interfaces also accepts on addresses that were never announced.
        let candidate = exact.or_else(|| passive().find(|(_, c)| c.base.port() == local.port()));
        let (candidate, _) = candidate.ok_or(Refused::NoPassiveCandidate)?;

        let ip = remote.ip().to_canonical();
        let announced = |ip: IpAddr| {
            self.remotes.iter().any(|r| !r.learnt && r.candidate.address.ip().to_canonical() == ip)
        };
        let unproven = || {
            let open = self.streams.values().filter(|s| matches!(s.state, StreamState::Accepted { .. }));
            open.map(|s| s.remote.ip().to_canonical())
        };
        if unproven().filter(|&other| other == ip).count() >= self.config.max_unauthenticated_per_address {
            return Err(Refused::TooManyFromAddress);
        }
        // Half of the places are kept for addresses the peer announced.
        let strangers = self.config.max_unauthenticated.div_ceil(2);
        if unproven().count() >= self.config.max_unauthenticated
            || (!announced(ip) && unproven().filter(|&other| !announced(other)).count() >= strangers)
        {
            return Err(Refused::TooManyUnauthenticated);
        }
        let accepted =
            self.pairs().filter(|p| matches!(p.link, Link::Accepted(s) if self.streams.contains_key(&s)));
        if accepted.count() >= self.config.max_accepted {
            return Err(Refused::TooMany);
        }
        Ok(candidate)
    }

    /// A connect of ours succeeded; `local` is the address it left from. Unknown streams are ignored.
    pub fn handle_tcp_connected(&mut self, now: Instant, stream: StreamId, local: SocketAddr) {
        let Some(open) = self.streams.get_mut(&stream) else { return };
        let StreamState::Connecting { pair } = open.state else { return };
        open.local = local;
        open.state = StreamState::Opened { pair, bytes: 0 };
        self.send_check(now, pair, Purpose::Ordinary);
        self.advance(now);
    }

    /// A connect of ours failed. Unknown streams are ignored.
    pub fn handle_tcp_failed(&mut self, now: Instant, stream: StreamId, error: ConnectError) {
        let Some(StreamState::Connecting { pair: id }) = self.streams.get(&stream).map(|s| s.state) else {
            return;
        };
        self.streams.remove(&stream);
        let relayed = self.remotes[self.pair(id).remote].candidate.kind == CandidateKind::Relayed;
        let simultaneous = self.is_simultaneous(self.pair(id));
        let delay = if simultaneous { self.config.so_retry_delay } else { self.config.relay_retry_delay };
        let pair = self.pair_mut(id);
        pair.link = Link::Opened(None);
        // A relay refuses us until the peer's permission for us is in place (spec 4.5). With simultaneous open the peer,
        // or a NAT in between, refuses until it has sent a SYN of its own.
        let early = if simultaneous {
            error != ConnectError::TimedOut
        } else {
            relayed && matches!(error, ConnectError::Refused | ConnectError::Reset)
        };
        let again = early && pair.retries_left > 0;
        if again {
            pair.retries_left -= 1;
            self.set_state(id, State::Retrying { at: now + delay });
        } else {
            let error = match error {
                ConnectError::Refused => PairError::Refused,
                ConnectError::Unreachable => PairError::Unreachable,
                ConnectError::TimedOut => PairError::ConnectTimeout,
                ConnectError::Reset | ConnectError::Other => PairError::ConnectFailed,
            };
            self.fail_pair(now, id, error);
        }
        self.advance(now);
    }

    /// A connection ended, whoever ended it. Unknown streams are ignored, those the agent closed among them.
    pub fn handle_tcp_closed(&mut self, now: Instant, stream: StreamId) {
        let Some(closed) = self.streams.remove(&stream) else { return };
        let Some(pair) = closed.state.pair() else { return };
        if self.ends_with_its_path()
            && matches!(&self.phase, Phase::Selected(selected) if selected.pair == pair)
        {
            self.set_state(pair, State::Failed(PairError::Closed));
            self.lose(super::LossReason::StreamClosed);
        } else {
            self.fail_pair(now, pair, PairError::Closed);
            self.advance(now);
        }
    }

    /// One RFC 4571 payload, as [`framing::Decoder`] yields it.
    pub fn handle_tcp_frame(&mut self, now: Instant, stream: StreamId, payload: &[u8]) -> Disposition {
        let outcome = self.frame(now, stream, payload);
        self.dispose(outcome)
    }

    fn frame(&mut self, now: Instant, id: StreamId, payload: &[u8]) -> Result<Disposition, DropReason> {
        if matches!(self.phase, Phase::Over) {
            return Err(DropReason::Over);
        }
        let stream = self.streams.get_mut(&id).ok_or(DropReason::UnknownStream)?;
        let kind = framing::classify(payload);
        let proven = match &mut stream.state {
            StreamState::Connecting { .. } => return Err(DropReason::UnknownStream),
            StreamState::Proven { pair } => Some(*pair),
            StreamState::Opened { bytes, pair: _ } | StreamState::Accepted { bytes, .. } => {
                *bytes += framing::HEADER_LEN + payload.len();
                if *bytes > self.config.unauthenticated_bytes {
                    self.drop_stream(now, id, CloseReason::TooMuchUnauthenticated);
                    return Err(DropReason::Unauthenticated);
                }
                None
            }
        };
        match (kind, proven) {
            (PayloadKind::Stun, _) => self.handle_stun(now, Arrival::Tcp(id), payload),
            (PayloadKind::Data, None) => Err(DropReason::Unauthenticated),
            (PayloadKind::Data, Some(pair)) => {
                let outcome = self.data(now, pair, payload.len());
                if outcome == Err(DropReason::TooMuchEarlyData) {
                    // A byte stream with a hole in it is worth nothing.
                    self.drop_stream(now, id, CloseReason::TooMuchEarlyData);
                }
                outcome
            }
        }
    }

    /// The limit for the [`framing::Decoder`] of a connection, in bytes: small until the peer has authenticated.
    ///
    /// Ask again after each [`Disposition::Consumed`].
    pub fn frame_limit(&self, stream: StreamId) -> usize {
        match self.streams.get(&stream).map(|s| s.state) {
            Some(StreamState::Proven { .. }) => framing::MAX_PAYLOAD,
            _ => self.config.unauthenticated_bytes.min(framing::MAX_PAYLOAD),
        }
    }

    /// Closes a connection on our side, its pair with it.
    pub(super) fn drop_stream(&mut self, now: Instant, id: StreamId, reason: CloseReason) {
        let pair = self.streams.get(&id).and_then(|s| s.state.pair());
        self.close(id, reason);
        if let Some(pair) = pair {
            self.fail_pair(now, pair, PairError::Closed);
            self.advance(now);
        }
    }
}
