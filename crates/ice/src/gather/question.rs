//! One question to one server from one local address.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Server, ServerError, Via};
use crate::nat::Observation;
use crate::stun::{Framed, SplitError, Splitter, TransactionId};

/// The longest answer read from a connection, in bytes.
const MAX_ANSWER: usize = 2048;

#[derive(Debug, Clone, Copy)]
pub(super) enum State {
    Waiting,
    Connecting,
    Asked {
        due: Option<Instant>,
        interval: Duration,
        repeats_left: u32,
    },
    Answered(SocketAddr),
    Failed(ServerError),
    /// Others have answered what it was for.
    Spared,
}

impl State {
    pub(super) fn asked(now: Instant, rto: Duration, transmissions: u32) -> Self {
        let repeats_left = transmissions.saturating_sub(1);
        let due = (repeats_left > 0).then_some(now + rto);
        Self::Asked { due, interval: rto, repeats_left }
    }
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) server: Server,
    pub(super) base: SocketAddr,
    /// Asked only if others do not answer.
    pub(super) spare: bool,
    pub(super) transaction: TransactionId,
    pub(super) packet: Bytes,
    pub(super) state: State,
    /// An answer came from there, which was not asked.
    pub(super) strayed: Option<SocketAddr>,
    /// What came on the TCP connection; none once it is closed.
    pub(super) connection: Option<Splitter>,
}

impl Question {
    pub(super) fn new(
        server: Server,
        base: SocketAddr,
        spare: bool,
        transaction: TransactionId,
        packet: Bytes,
    ) -> Self {
        let connection = (server.via == Via::Tcp).then(|| Splitter::with_limit(MAX_ANSWER));
        Self { server, base, spare, transaction, packet, state: State::Waiting, strayed: None, connection }
    }

    /// Both ask how the same address of ours is seen.
    pub(super) fn asks_as(&self, other: &Self) -> bool {
        (self.server.via, self.base) == (other.server.via, other.base)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting | State::Connecting | State::Asked { .. })
    }

    /// There is a TCP connection, or one is being made.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_some()
            && matches!(self.state, State::Connecting | State::Asked { .. } | State::Answered(_))
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Asked { due, .. } => due,
            _ => None,
        }
    }

    /// Counts a repetition; false when there is none.
    pub(super) fn repeat(&mut self, now: Instant) -> bool {
        let State::Asked { due, interval, repeats_left, .. } = &mut self.state else { return false };
        if *repeats_left == 0 {
            return false;
        }
        *repeats_left -= 1;
        *interval *= 2;
        *due = (*repeats_left > 0).then_some(now + *interval);
        true
    }

    /// What its silence is called.
    pub(super) fn silence(&self) -> ServerError {
        match (self.state, self.strayed) {
            (State::Connecting, _) => ServerError::NotConnected,
            (_, Some(from)) => ServerError::Elsewhere(from),
            _ => ServerError::Silent,
        }
    }

    pub(super) fn mapped(&self) -> Option<SocketAddr> {
        match self.state {
            State::Answered(mapped) => Some(mapped),
            _ => None,
        }
    }

    /// Takes bytes of the connection; the first whole message is the answer.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<Option<Vec<u8>>, SplitError> {
        let Some(splitter) = &mut self.connection else { return Ok(None) };
        Ok(match splitter.split(&mut bytes)? {
            Some(Framed::Stun(packet)) => Some(packet.to_vec()),
            // No message of the kind that was asked for; its first byte says so.
            Some(Framed::Channel { number, .. }) => {
                return Err(SplitError::Kind { first: (number >> 8) as u8 });
            }
            None => None,
        })
    }

    pub(super) fn observation(&self) -> Option<Observation> {
        let mapped = self.mapped()?;
        Some(Observation { server: self.server.address, base: self.base, mapped })
    }
}
