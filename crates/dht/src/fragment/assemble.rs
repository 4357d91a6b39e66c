//! The receiving side: sessions by source and transaction, parts in any order, all memory bounded.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::{Message, Part};

/// Bounds of an [`Assembler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssemblerLimits {
    /// Sessions open at once.
    pub sessions: usize,
    /// Sessions open at once for one IPv4 address or IPv6 /64.
    pub sessions_per_source: usize,
    /// Bytes announced or buffered by all sessions together.
    pub bytes: usize,
    /// Bytes announced or buffered by the sessions of one IPv4 address or IPv6 /64.
    pub bytes_per_source: usize,
    /// Bytes kept for one session whose header has not come.
    pub early_bytes: usize,
    /// Parts kept for one session whose header has not come.
    pub early_parts: usize,
    /// From the first datagram of a session to its end.
    pub overall: Duration,
    /// Between two datagrams of a session.
    pub gap: Duration,
}

impl Default for AssemblerLimits {
    fn default() -> Self {
        Self {
            sessions: 1024,
            sessions_per_source: 64,
            bytes: 64 * 1024 * 1024,
            bytes_per_source: 8 * 1024 * 1024,
            early_bytes: 122_912,
            early_parts: 98,
            overall: Duration::from_secs(10),
            gap: Duration::from_secs(3),
        }
    }
}

/// Why a datagram was not taken into a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// Too many sessions, overall or for this source.
    #[error("too many fragmented messages at once")]
    TooManySessions,
    /// Too many bytes, overall, for this source or before the header.
    #[error("too many bytes in fragmented messages at once")]
    TooManyBytes,
    /// Too many parts came before the header.
    #[error("too many parts before their header")]
    TooManyEarlyParts,
    /// A part belongs to no announced value of its header.
    #[error("a part of a value that was not announced")]
    UnknownValue,
    /// A part lies outside of its value.
    #[error("a part beyond the end of its value")]
    OutOfRange,
    /// A part disagrees with one that came before.
    #[error("overlapping parts")]
    Overlap,
    /// A second, different header for the same transaction.
    #[error("a second header for the same transaction")]
    SecondHeader,
}

/// Puts fragmented messages together.
#[derive(Debug)]
pub struct Assembler {
    _limits: AssemblerLimits,
}

impl Assembler {
    /// No sessions yet.
    pub fn new(limits: AssemblerLimits) -> Self {
        Self { _limits: limits }
    }

    /// Takes a message other than parts. One without announced values comes straight back; one with them
    /// opens a session and comes back, its values inline, when all parts are there.
    ///
    /// Before a fragmented *answer* is given in, check that it answers an open request to `source`.
    pub fn handle_message(
        &mut self,
        _now: Instant,
        _source: SocketAddr,
        _message: Message,
    ) -> Result<Option<Message>, FragmentError> {
        todo!()
    }

    /// Takes the parts in one datagram. Returns the message they complete, its values inline.
    pub fn handle_parts(
        &mut self,
        _now: Instant,
        _source: SocketAddr,
        _transaction: u32,
        _parts: Vec<Part>,
    ) -> Result<Option<Message>, FragmentError> {
        todo!()
    }

    /// When the next session ends by time.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Ends the sessions whose time is over.
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }
}
