//! Sessions: who inside talks with whom outside, and how far a TCP connection is (RFC 6146 3.5.2).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use crate::{
    config::Timeouts,
    header::{Flags, Transport, Way},
};

/// A session by its ends: inside and remote.
pub(crate) type Key = (Transport, SocketAddr, SocketAddr);

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Datagrams; whether there was one in each direction.
    Datagrams { answered: bool },
    /// One side has asked for a connection.
    Opening(Way),
    /// Both sides have.
    Established,
    /// One side has ended its direction.
    Ending(Way),
    /// Both sides have, or one has reset it.
    Over,
}

impl Phase {
    /// How far a session is after its first packet.
    pub(crate) fn first(transport: Transport, way: Way, flags: Flags) -> Self {
        match transport {
            Transport::Udp => Self::Datagrams { answered: false },
            Transport::Tcp if flags.syn => Self::Opening(way),
            // Adopted in the middle.
            Transport::Tcp => Self::Established,
        }
    }

    fn next(self, first: Way, way: Way, flags: Flags) -> Self {
        match self {
            Self::Datagrams { answered } => Self::Datagrams { answered: answered || way != first },
            _ if flags.rst => Self::Over,
            // The same ends again, for a new connection.
            Self::Ending(_) | Self::Over if flags.opens() => Self::Opening(way),
            // The answer, or the same question from the other side: simultaneous open.
            Self::Opening(from) if from != way && flags.syn => Self::Established,
            Self::Established if flags.fin => Self::Ending(way),
            Self::Ending(from) if from != way && flags.fin => Self::Over,
            _ => self,
        }
    }

    /// How long it is remembered without use.
    pub(crate) fn lifetime(self, timeouts: &Timeouts) -> Duration {
        match self {
            Self::Datagrams { answered: true } => timeouts.udp,
            Self::Datagrams { answered: false } => timeouts.udp_unanswered,
            Self::Opening(_) | Self::Ending(_) => timeouts.tcp_transitory,
            Self::Established => timeouts.tcp_established,
            Self::Over => timeouts.tcp_closed,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// The mapping it uses, by its number; 0 where there is no translation.
    pub(crate) mapping: u64,
    /// The direction of its first packet.
    first: Way,
    phase: Phase,
    pub(crate) expires: Duration,
}

impl Session {
    pub(crate) fn new(
        now: Duration,
        mapping: u64,
        way: Way,
        transport: Transport,
        flags: Flags,
        timeouts: &Timeouts,
    ) -> Self {
        let phase = Phase::first(transport, way, flags);
        Self { mapping, first: way, phase, expires: now + phase.lifetime(timeouts) }
    }

    pub(crate) fn is_live(&self, now: Duration) -> bool {
        now < self.expires
    }

    /// Whether the host inside has sent something, and not only a stranger whom the filter let in.
    pub(crate) fn is_wanted(&self) -> bool {
        self.first == Way::Out || self.phase != Phase::Datagrams { answered: false }
    }

    /// Another packet of it. `refresh`: it counts as use. TCP always does.
    pub(crate) fn advance(
        &mut self,
        now: Duration,
        way: Way,
        flags: Flags,
        refresh: bool,
        timeouts: &Timeouts,
    ) {
        self.phase = self.phase.next(self.first, way, flags);
        if refresh || !matches!(self.phase, Phase::Datagrams { .. }) {
            self.expires = now + self.phase.lifetime(timeouts);
        }
    }
}

/// All sessions of a box, in order of their ends, so that those of one inside end are neighbours.
#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<Key, Session>);

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// A session that has not expired.
    pub(crate) fn live(&mut self, now: Duration, key: &Key) -> Option<&mut Session> {
        self.0.get_mut(key).filter(|session| session.is_live(now))
    }

    /// Returns whether it is one more than before.
    pub(crate) fn insert(&mut self, key: Key, session: Session) -> bool {
        match self.0.entry(key) {
            Entry::Vacant(place) => {
                place.insert(session);
                true
            }
            Entry::Occupied(mut place) => {
                place.insert(session);
                false
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Session> {
        self.0.remove(key)
    }

    /// The sessions of an inside end.
    pub(crate) fn of(
        &self,
        transport: Transport,
        inside: SocketAddr,
    ) -> impl Iterator<Item = (&Key, &Session)> {
        // Addresses are ordered by family first.
        let first = SocketAddr::new([0; 4].into(), 0);
        let last = SocketAddrV6::new([0xff; 16].into(), u16::MAX, u32::MAX, u32::MAX).into();
        self.0.range((transport, inside, first)..=(transport, inside, last))
    }

    /// Those with this remote address.
    pub(crate) fn with(
        &self,
        transport: Transport,
        inside: SocketAddr,
        remote: IpAddr,
    ) -> impl Iterator<Item = (&Key, &Session)> {
        let end = |port| (transport, inside, SocketAddr::new(remote, port));
        self.0.range(end(0)..=end(u16::MAX))
    }

    /// Forgets those that do not stay.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&Key, &Session) -> bool) {
        self.0.retain(|key, session| stays(key, session));
    }
}
