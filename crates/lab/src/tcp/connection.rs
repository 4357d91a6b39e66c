//! One end of a connection.

use std::{io, net::SocketAddr, task::Waker, time::Duration};

use super::{
    INITIAL_RTO, KEEPALIVE, KEEPALIVE_INTERVAL, ORPHAN_LINGER, USER_TIMEOUT, receive::Receiving,
    send::Sending,
};
use crate::packet::Segment;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// We asked and wait for the answer.
    Asked { next: Duration, tries: u32, since: Duration },
    /// They asked, we answered and wait for any sign that they know.
    Answered { next: Duration, tries: u32, since: Duration },
    /// Bytes flow.
    Open,
    /// Over, for this reason.
    Dead(io::ErrorKind),
}

/// Who holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The program: as a stream or an attempt to connect.
    Program,
    /// A listener, until it is accepted.
    Listener(u64),
    /// Nobody any more, since then: it ends by itself.
    Nobody { since: Duration },
}

/// One end of a connection. What it has to say is polled by [`next_segment`](Self::next_segment).
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) owner: Owner,
    pub(crate) phase: Phase,
    /// A timer event is in the queue for this time.
    pub(crate) timer: Option<Duration>,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    /// Owed to the other side, oldest first: at most a few, since every event is followed by polling.
    owed: Vec<Segment>,
    heard: Duration,
    probed: Duration,
}

impl Connection {
    /// An attempt to connect.
    pub(crate) fn ask(
        now: Duration,
        local: SocketAddr,
        remote: SocketAddr,
        mss: usize,
        buffer: usize,
    ) -> Self {
        let phase = Phase::Asked { next: now + INITIAL_RTO, tries: 1, since: now };
        let mut new = Self::new(now, (local, remote), mss, buffer, Owner::Program, phase);
        new.owe_syn();
        new
    }

    /// The answer to an attempt.
    pub(crate) fn answer(
        now: Duration,
        (local, remote): (SocketAddr, SocketAddr),
        mss: usize,
        buffer: usize,
        listener: u64,
        limit: u64,
    ) -> Self {
        let phase = Phase::Answered { next: now + INITIAL_RTO, tries: 1, since: now };
        let mut new = Self::new(now, (local, remote), mss, buffer, Owner::Listener(listener), phase);
        new.sending.raise_limit(limit);
        new.owe_syn_ack();
        new
    }

    fn new(
        now: Duration,
        (local, remote): (SocketAddr, SocketAddr),
        mss: usize,
        buffer: usize,
        owner: Owner,
        phase: Phase,
    ) -> Self {
        Self {
            local,
            remote,
            owner,
            phase,
            timer: None,
            reader: None,
            writer: None,
            sending: Sending::new(buffer, mss),
            receiving: Receiving::new(buffer),
            owed: Vec::new(),
            heard: now,
            probed: now,
        }
    }

    fn owe_syn(&mut self) {
        let limit = self.receiving.tell_limit();
        self.owed.push(Segment::Syn { limit });
    }

    fn owe_syn_ack(&mut self) {
        let limit = self.receiving.tell_limit();
        self.owed.push(Segment::SynAck { limit });
    }

    pub(super) fn owe_ack(&mut self, number: u64) {
        let (upto, limit) = (self.receiving.next(), self.receiving.tell_limit());
        self.owed.push(Segment::Ack { number, upto, limit });
    }

    /// The reason it is over, if it is.
    pub(crate) fn error(&self) -> Option<io::ErrorKind> {
        match self.phase {
            Phase::Dead(why) => Some(why),
            _ => None,
        }
    }

    /// A segment arrived. Those to wake are appended to `wake`.
    pub(crate) fn handle(&mut self, now: Duration, segment: Segment, wake: &mut Vec<Waker>) {
        self.heard = now;
        match (segment, self.phase) {
            (_, Phase::Dead(_)) => {}
            (Segment::Reset, phase) => {
                let why = match phase {
                    Phase::Asked { .. } => io::ErrorKind::ConnectionRefused,
                    _ => io::ErrorKind::ConnectionReset,
                };
                self.die(why, wake);
            }
            (Segment::Syn { limit }, phase @ (Phase::Asked { .. } | Phase::Answered { .. })) => {
                self.sending.raise_limit(limit);
                if let Phase::Asked { since, .. } = phase {
                    // Both asked at once (RFC 9293 3.5): theirs arrived, ours perhaps not.
                    self.phase = Phase::Answered { next: now + INITIAL_RTO, tries: 1, since };
                }
                self.owe_syn_ack();
            }
            (Segment::SynAck { limit }, phase) => {
                self.sending.raise_limit(limit);
                if matches!(phase, Phase::Asked { .. } | Phase::Answered { .. }) {
                    self.open(wake);
                }
                self.owe_ack(0);
            }
            // Nothing else can precede the answer to our attempt; an old segment can.
            (Segment::Syn { .. }, _) | (_, Phase::Asked { .. }) => {}
            (Segment::Data { number, seq, data, fin }, _) => {
                self.open(wake);
                let nobody_reads = matches!(self.owner, Owner::Nobody { .. });
                if nobody_reads && !data.is_empty() {
                    self.owed.push(Segment::Reset);
                    self.die(io::ErrorKind::ConnectionReset, wake);
                    return;
                }
                if self.receiving.insert(seq, data, fin) {
                    wake.extend(self.reader.take());
                }
                self.owe_ack(number);
            }
            (Segment::Ack { number, upto, limit }, _) => {
                self.open(wake);
                self.sending.acknowledge(now, number, upto, limit);
                if self.sending.is_writable() {
                    wake.extend(self.writer.take());
                }
            }
        }
    }

    fn open(&mut self, wake: &mut Vec<Waker>) {
        if self.phase != Phase::Open {
            self.phase = Phase::Open;
            wake.extend(self.writer.take());
        }
    }

    /// Ends it for this reason.
    pub(crate) fn die(&mut self, why: io::ErrorKind, wake: &mut Vec<Waker>) {
        if self.error().is_none() {
            self.phase = Phase::Dead(why);
        }
        wake.extend(self.reader.take());
        wake.extend(self.writer.take());
    }

    /// What is to be sent now; ask until there is nothing.
    pub(crate) fn next_segment(&mut self, now: Duration) -> Option<Segment> {
        if !self.owed.is_empty() {
            return Some(self.owed.remove(0));
        }
        match self.phase {
            Phase::Open => self.sending.next_segment(now),
            _ => None,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Asked { next, .. } | Phase::Answered { next, .. } => Some(next),
            Phase::Open => {
                let keepalive = (self.heard + KEEPALIVE).max(self.probed + KEEPALIVE_INTERVAL);
                let linger = match self.owner {
                    Owner::Nobody { since } => Some(since + ORPHAN_LINGER),
                    _ => None,
                };
                [self.sending.deadline(), Some(keepalive), linger].into_iter().flatten().min()
            }
            Phase::Dead(_) => None,
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Duration, wake: &mut Vec<Waker>) {
        match &mut self.phase {
            Phase::Asked { next, tries, since } | Phase::Answered { next, tries, since } => {
                if now < *next {
                    return;
                }
                if now.saturating_sub(*since) >= USER_TIMEOUT {
                    return self.die(io::ErrorKind::TimedOut, wake);
                }
                *next = now + INITIAL_RTO * (1 << (*tries).min(5));
                *tries += 1;
                if matches!(self.phase, Phase::Asked { .. }) { self.owe_syn() } else { self.owe_syn_ack() }
            }
            Phase::Open => {
                let silent = now.saturating_sub(self.heard);
                let abandoned = matches!(self.owner, Owner::Nobody { since } if now >= since + ORPHAN_LINGER);
                if self.sending.is_given_up(now) || silent >= KEEPALIVE + USER_TIMEOUT || abandoned {
                    return self.die(io::ErrorKind::TimedOut, wake);
                }
                if self.sending.deadline().is_some_and(|at| now >= at) {
                    self.sending.handle_timeout(now);
                } else if silent >= KEEPALIVE && now >= self.probed + KEEPALIVE_INTERVAL {
                    self.probed = now;
                    self.sending.probe();
                }
            }
            Phase::Dead(_) => {}
        }
    }

    /// The program let go of it. Unread data means that the other side is told by a reset.
    pub(crate) fn abandon(&mut self, now: Duration) {
        self.owner = Owner::Nobody { since: now };
        self.reader = None;
        self.writer = None;
        match self.phase {
            Phase::Open if !self.receiving.has_data() => self.sending.finish(),
            Phase::Dead(_) => {}
            _ => {
                self.owed.clear();
                self.owed.push(Segment::Reset);
                self.phase = Phase::Dead(io::ErrorKind::ConnectionReset);
            }
        }
    }

    /// Nobody needs it any more.
    pub(crate) fn is_finished(&self) -> bool {
        let both_ended = self.sending.is_done() && self.receiving.is_ended();
        matches!(self.owner, Owner::Nobody { .. })
            && self.owed.is_empty()
            && (self.error().is_some() || both_ended)
    }
}
