//! The receiving side: sessions by source and transaction, parts in any order, all memory bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::session::Session;
use crate::store::Source;
use crate::{Message, Part, ValueItem};

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
    /// The bounds per session and the times are those of OpenDHT 4.3; the rest is ours.
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
    /// A part overlaps another that is not the same.
    #[error("overlapping parts")]
    Overlap,
    /// A second, different header for the same transaction.
    #[error("a second header for the same transaction")]
    SecondHeader,
}

/// Puts fragmented messages together.
///
/// A session is named by source address and transaction id. Its memory is charged in full when its header announces
/// it, to all sessions and to the source, so nobody can take more than a share.
#[derive(Debug)]
pub struct Assembler {
    limits: AssemblerLimits,
    sessions: BTreeMap<SessionKey, Session>,
    deadlines: BTreeSet<(Instant, SessionKey)>,
    bytes: usize,
    sources: BTreeMap<Source, Usage>,
}

type SessionKey = (SocketAddr, u32);

/// What one source holds.
#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    sessions: usize,
    bytes: usize,
}

impl Assembler {
    /// No sessions yet.
    pub const fn new(limits: AssemblerLimits) -> Self {
        Self {
            limits,
            sessions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            bytes: 0,
            sources: BTreeMap::new(),
        }
    }

    /// Takes a message other than parts. One without announced values comes straight back; one with them
    /// opens a session and comes back, its values inline, when all parts are there.
    ///
    /// Before a fragmented *answer* is given in, check that it answers an open request to `source`. A header that
    /// repeats the one before it (a retry) changes nothing; an error leaves the session as it was.
    pub fn handle_message(
        &mut self,
        now: Instant,
        source: SocketAddr,
        message: Message,
    ) -> Result<Option<Message>, FragmentError> {
        if !message.values().iter().any(|item| matches!(item, ValueItem::Announced(_))) {
            return Ok(Some(message));
        }
        self.handle_timeout(now);
        let key = (source, message.transaction);
        let mut session = self.take(now, key)?;
        let before = session.charge();
        let outcome = session.handle_header(message);
        self.settle(now, key, session, before, outcome)
    }

    /// Takes the parts in one datagram. Returns the message they complete, its values inline.
    pub fn handle_parts(
        &mut self,
        now: Instant,
        source: SocketAddr,
        transaction: u32,
        parts: Vec<Part>,
    ) -> Result<Option<Message>, FragmentError> {
        self.handle_timeout(now);
        let key = (source, transaction);
        let mut session = self.take(now, key)?;
        let before = session.charge();
        let outcome = session.handle_parts(parts, &self.limits);
        self.settle(now, key, session, before, outcome)
    }

    /// When the next session ends by time.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Ends the sessions whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, key)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            if let Some(session) = self.sessions.remove(&key) {
                self.release(key, &session, session.charge());
            }
        }
    }

    /// Takes the session out, or opens it if there is room for one more.
    fn take(&mut self, now: Instant, key: SessionKey) -> Result<Session, FragmentError> {
        if let Some(session) = self.sessions.remove(&key) {
            return Ok(session);
        }
        let source = Source::of(key.0.ip());
        let own = self.sources.get(&source).map_or(0, |usage| usage.sessions);
        if own >= self.limits.sessions_per_source || (self.is_full() && !self.drop_early()) {
            return Err(FragmentError::TooManySessions);
        }
        self.sources.entry(source).or_default().sessions += 1;
        let session = Session::new(now, self.limits.gap.min(self.limits.overall));
        self.deadlines.insert((session.deadline, key));
        Ok(session)
    }

    fn is_full(&self) -> bool {
        self.sessions.len() >= self.limits.sessions
    }

    /// Drops the session without header that is nearest to its end, so that parts from made-up sources cannot keep
    /// everybody else out. Whether there was one.
    fn drop_early(&mut self) -> bool {
        let early = |(_, key): &&(Instant, SessionKey)| self.sessions.get(key).is_some_and(Session::is_early);
        let Some(&(_, key)) = self.deadlines.iter().find(early) else { return false };
        if let Some(session) = self.sessions.remove(&key) {
            self.release(key, &session, session.charge());
        }
        true
    }

    /// Charges what the session took, then keeps it, returns its message or ends it.
    fn settle(
        &mut self,
        now: Instant,
        key: SessionKey,
        mut session: Session,
        before: usize,
        outcome: Result<(), FragmentError>,
    ) -> Result<Option<Message>, FragmentError> {
        let charge = session.charge();
        let usage = self.sources.entry(Source::of(key.0.ip())).or_default();
        let more = charge.saturating_sub(before);
        let fits =
            usage.bytes + more <= self.limits.bytes_per_source && self.bytes + more <= self.limits.bytes;
        if !fits {
            self.release(key, &session, before);
            return Err(FragmentError::TooManyBytes);
        }
        usage.bytes = usage.bytes + charge - before;
        self.bytes = self.bytes + charge - before;
        if outcome.is_err() && charge == 0 {
            self.release(key, &session, 0);
            return outcome.map(|()| None);
        }
        if session.is_complete() {
            self.release(key, &session, charge);
            return Ok(session.finish());
        }
        if outcome.is_ok() {
            self.deadlines.remove(&(session.deadline, key));
            session.deadline = (now + self.limits.gap).min(session.started + self.limits.overall);
            self.deadlines.insert((session.deadline, key));
        }
        self.sessions.insert(key, session);
        outcome.map(|()| None)
    }

    /// Gives back what a session held.
    fn release(&mut self, key: SessionKey, session: &Session, charged: usize) {
        self.deadlines.remove(&(session.deadline, key));
        self.bytes -= charged;
        let source = Source::of(key.0.ip());
        if let Some(usage) = self.sources.get_mut(&source) {
            usage.sessions -= 1;
            usage.bytes -= charged;
            if usage.sessions == 0 {
                self.sources.remove(&source);
            }
        }
    }
}
