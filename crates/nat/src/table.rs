//! Translation: the tables, and what they say about a packet.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    config::{Config, Exhausted, Filtering, Mapping, Midstream},
    header::{Header, Reason, Refusal, Reply, Transport, Verdict, Way},
    ports::Ports,
    session::{Key, Session, Sessions},
};

/// Events that are kept for [`Nat::poll_event`].
const EVENTS: usize = 1024;
/// Time between two searches for what has expired. In between it is not used but takes room.
const SWEEP: Duration = Duration::from_secs(10);
/// The same, when there is no room.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// The destinations that a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All.
    Any,
    /// All ports of an address.
    Address(IpAddr),
    /// An address and port.
    End(SocketAddr),
}

/// A mapping, as seen from outside of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// What it carries.
    pub transport: Transport,
    /// The host inside and its port.
    pub inside: SocketAddr,
    /// What it looks like from outside.
    pub outside: SocketAddr,
    /// What it was made for.
    pub scope: Scope,
    /// When it ends if it is not renewed, if it was asked for ([`Nat::map`]).
    pub lease: Option<Duration>,
}

/// Something happened in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A mapping was made.
    Opened(Mapped),
    /// A mapping is gone.
    Closed(Mapped, Ended),
}

/// Why a mapping is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    /// It was not used for too long. Noticed when something else needs its place, or within ten seconds of traffic.
    Expired,
    /// It made room ([`Exhausted::Evict`]).
    Evicted,
    /// Who asked for it gave it back.
    Released,
    /// The box was restarted, or its outside address changed.
    Forgotten,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) view: Mapped,
    /// Of UDP: when it ends, apart from a lease. A mapping of TCP lives as long as a session of it.
    expires: Duration,
    pub(crate) used: Duration,
    sessions: usize,
}

/// What is remembered of a host inside.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) address: IpAddr,
    pub(crate) mappings: usize,
    pub(crate) leases: usize,
}

/// A NAT for IPv4, without packets: it is told what passes, and says what becomes of it. IPv6 passes unchanged.
///
/// Time is what has passed since any fixed moment, and never runs backwards. All chance comes from the seed.
///
/// After a call: [`poll_timeout`](Self::poll_timeout) says when [`poll_refused`](Self::poll_refused) has something, and
/// [`poll_event`](Self::poll_event) what happened in the tables, for who wants to know.
#[derive(Debug)]
pub struct Nat {
    pub(crate) config: Config,
    pub(crate) outside: Vec<IpAddr>,
    pub(crate) chance: StdRng,
    pub(crate) mappings: BTreeMap<u64, Entry>,
    last: u64,
    by_inside: BTreeMap<(Transport, SocketAddr, Scope), u64>,
    pub(crate) by_outside: BTreeMap<(Transport, SocketAddr), u64>,
    pub(crate) leases: BTreeMap<(Transport, SocketAddr), u64>,
    pub(crate) sessions: Sessions,
    pub(crate) hosts: BTreeMap<IpAddr, Inside>,
    pub(crate) ports: Ports,
    /// Connections whose refusal waits, with the time of it, in order.
    waiting: VecDeque<(Duration, Header)>,
    events: VecDeque<Event>,
    sweep_at: Duration,
}

impl Nat {
    /// A box with these addresses outside, of which the IPv4 ones count.
    pub fn new(config: Config, outside: &[IpAddr], seed: [u8; 32]) -> Self {
        Self {
            config,
            outside: outside.iter().copied().filter(IpAddr::is_ipv4).collect(),
            chance: StdRng::from_seed(seed),
            mappings: BTreeMap::new(),
            last: 0,
            by_inside: BTreeMap::new(),
            by_outside: BTreeMap::new(),
            leases: BTreeMap::new(),
            sessions: Sessions::default(),
            hosts: BTreeMap::new(),
            ports: Ports::default(),
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            sweep_at: Duration::ZERO,
        }
    }

    /// What it is like.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its addresses outside.
    pub fn outside(&self) -> &[IpAddr] {
        &self.outside
    }

    /// A packet passes.
    pub fn handle(&mut self, now: Duration, way: Way, header: &Header) -> Verdict {
        if header.to.is_ipv6() {
            return Verdict::Forward { from: header.from, to: header.to };
        }
        if now >= self.sweep_at {
            self.sweep(now);
        }
        match way {
            Way::Out => self.outbound(now, header),
            Way::In => self.inbound(now, header),
        }
    }

    fn outbound(&mut self, now: Duration, header: &Header) -> Verdict {
        let turns = self.outside.contains(&header.to.ip());
        if turns && !self.config.hairpin {
            return Verdict::Drop(Reason::NoHairpin);
        }
        let from = match self.translate(now, header) {
            Ok(outside) => outside,
            Err(verdict) => return verdict,
        };
        if !turns {
            return Verdict::Forward { from, to: header.to };
        }
        // Who is called sees the outside address of the caller (RFC 4787 REQ-9a), and filters apply to it.
        match self.inbound(now, &Header { from, ..*header }) {
            Verdict::Forward { from, to } => Verdict::Turn { from, to },
            other => other,
        }
    }

    /// The outside address and port of a packet from inside.
    fn translate(&mut self, now: Duration, header: &Header) -> Result<SocketAddr, Verdict> {
        let Header { transport, from: inside, to: remote, flags } = *header;
        let key = (transport, inside, remote);
        if self.talking(now, &key).is_some()
            && let Some(session) = self.sessions.live(now, &key)
        {
            session.advance(now, Way::Out, flags, true, &self.config.timeouts);
            let (mapping, expires) = (session.mapping, session.expires);
            if flags.opens() {
                self.cancel_refusal(mapping, remote);
            }
            return Ok(self.touch(now, mapping, expires));
        }
        if transport == Transport::Tcp && !flags.opens() {
            match self.config.midstream {
                Midstream::Reset if !flags.rst => {
                    return Err(Verdict::Reject(Reason::NoConnection, Reply::Reset));
                }
                Midstream::Adopt if !flags.rst => {}
                _ => return Err(Verdict::Drop(Reason::NoConnection)),
            }
        }
        if self.sessions.len() >= self.config.limits.sessions {
            self.sweep_if_older(now, PAUSE);
            if self.sessions.len() >= self.config.limits.sessions {
                return Err(self.exhausted(Reason::TableFull));
            }
        }
        let mapping = match self.mapping_for(now, transport, inside, remote) {
            Some(mapping) => mapping,
            None => self.open(now, transport, inside, remote).map_err(|reason| self.exhausted(reason))?,
        };
        self.make_room(mapping);
        let session = Session::new(now, mapping, Way::Out, transport, flags, &self.config.timeouts);
        self.add_session(key, session);
        self.cancel_refusal(mapping, remote);
        Ok(self.touch(now, mapping, session.expires))
    }

    /// The mapping of a session that lives. One that a stranger began may live longer than its mapping, but ends with it.
    fn talking(&mut self, now: Duration, key: &Key) -> Option<u64> {
        let mapping = self.sessions.live(now, key)?.mapping;
        self.is_alive(now, mapping).then_some(mapping)
    }

    fn exhausted(&self, reason: Reason) -> Verdict {
        match self.config.exhausted {
            Exhausted::Reject => Verdict::Reject(reason, Reply::Unreachable),
            Exhausted::Drop | Exhausted::Evict => Verdict::Drop(reason),
        }
    }

    /// Prolongs a mapping and returns its outside end.
    fn touch(&mut self, now: Duration, mapping: u64, expires: Duration) -> SocketAddr {
        let entry = self.mappings.get_mut(&mapping).expect("sessions have mappings");
        entry.used = now;
        entry.expires = entry.expires.max(expires);
        entry.view.outside
    }

    fn inbound(&mut self, now: Duration, header: &Header) -> Verdict {
        let Header { transport, from: remote, to: outside, flags } = *header;
        let Some(mapping) = self.live_mapping(now, transport, outside) else {
            return self.unsolicited(now, header, Reason::NoMapping);
        };
        let view = self.mappings[&mapping].view;
        let (inside, pass) = (view.inside, Verdict::Forward { from: remote, to: view.inside });
        let key = (transport, inside, remote);
        let refresh = self.config.inbound_refresh;
        if let Some(session) = self.sessions.live(now, &key).filter(|session| session.mapping == mapping) {
            let refresh = (refresh && session.is_wanted()) || transport == Transport::Tcp;
            session.advance(now, Way::In, flags, refresh, &self.config.timeouts);
            if refresh {
                let expires = session.expires;
                self.touch(now, mapping, expires);
            }
            return pass;
        }
        let may =
            view.lease.is_some_and(|until| now < until) || self.admits(now, mapping, &view, remote.ip());
        if !may {
            return self.unsolicited(now, header, Reason::Filtered);
        }
        if transport == Transport::Tcp && !flags.opens() {
            return Verdict::Drop(Reason::NoConnection);
        }
        // Answers must go by this mapping, even if another would be made for the remote end.
        let has_room = self.sessions.len() < self.config.limits.sessions
            && self.mappings[&mapping].sessions < self.config.limits.sessions_per_mapping;
        if self.talking(now, &key).is_some() {
            // By another mapping these two are in conversation already: a second connection would have the same ends.
            if transport == Transport::Tcp {
                return Verdict::Drop(Reason::NoConnection);
            }
        } else if has_room {
            let session = Session::new(now, mapping, Way::In, transport, flags, &self.config.timeouts);
            self.add_session(key, session);
        } else if transport == Transport::Tcp {
            return Verdict::Drop(Reason::TableFull);
        }
        pass
    }

    /// Whether the filter lets in an address that has no session with this mapping.
    fn admits(&self, now: Duration, mapping: u64, view: &Mapped, remote: IpAddr) -> bool {
        match self.config.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => {
                let mut known = self.sessions.with(view.transport, view.inside, remote);
                known.any(|(_, session)| session.mapping == mapping && session.is_live(now))
            }
            Filtering::AddressAndPortDependent => false,
        }
    }

    fn unsolicited(&mut self, now: Duration, header: &Header, reason: Reason) -> Verdict {
        if header.transport == Transport::Udp || !header.flags.opens() {
            return Verdict::Drop(reason);
        }
        match self.config.unsolicited {
            Refusal::Silent => Verdict::Drop(reason),
            Refusal::Reset => Verdict::Reject(reason, Reply::Reset),
            Refusal::Unreachable => Verdict::Reject(reason, Reply::Unreachable),
            Refusal::Late(after) => {
                if !self.is_refusing(header) && self.waiting.len() < self.config.limits.waiting {
                    self.waiting.push_back((now + after, *header));
                }
                Verdict::Drop(reason)
            }
        }
    }

    /// A host inside asks for what was about to be refused (RFC 5382 REQ-4).
    fn cancel_refusal(&mut self, mapping: u64, remote: SocketAddr) {
        if !self.waiting.is_empty() {
            let outside = self.mappings[&mapping].view.outside;
            self.waiting.retain(|(_, header)| (header.from, header.to) != (remote, outside));
        }
    }

    /// When [`poll_refused`](Self::poll_refused) has something.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.waiting.front().map(|(at, _)| *at)
    }

    /// Whether the refusal of this segment waits.
    pub fn is_refusing(&self, header: &Header) -> bool {
        self.waiting.iter().any(|(_, waiting)| waiting == header)
    }

    /// A segment from outside whose sender is to be told now, by ICMP, that its destination is unreachable.
    pub fn poll_refused(&mut self, now: Duration) -> Option<Header> {
        let (at, _) = self.waiting.front()?;
        if *at > now {
            return None;
        }
        self.waiting.pop_front().map(|(_, header)| header)
    }

    /// What happened in the tables. The oldest are forgotten when more than 1,024 wait.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// An ICMP error passes that quotes the header of an earlier packet. Returns the header that it must quote behind the
    /// box, or nothing if the box knows no session of it: then it is dropped. No error ends a mapping (RFC 4787 REQ-12,
    /// RFC 5382 REQ-10), and it does not matter who sends it.
    pub fn handle_error(&mut self, now: Duration, way: Way, quoted: &Header) -> Option<Header> {
        if quoted.to.is_ipv6() {
            return Some(*quoted);
        }
        let mut quoted = *quoted;
        if way == Way::Out {
            let key = (quoted.transport, quoted.to, quoted.from);
            let mapping = self.talking(now, &key)?;
            quoted.to = self.mappings[&mapping].view.outside;
            if !self.outside.contains(&quoted.from.ip()) {
                return Some(quoted);
            }
        }
        let mapping = self.live_mapping(now, quoted.transport, quoted.from)?;
        let inside = self.mappings[&mapping].view.inside;
        let session = self.sessions.live(now, &(quoted.transport, inside, quoted.to))?;
        (session.mapping == mapping).then_some(Header { from: inside, ..quoted })
    }

    fn scope(&self, remote: SocketAddr) -> Scope {
        match self.config.mapping {
            Mapping::EndpointIndependent => Scope::Any,
            Mapping::AddressDependent => Scope::Address(remote.ip()),
            Mapping::AddressAndPortDependent => Scope::End(remote),
        }
    }

    /// The mapping that a new session of a host inside uses, if there is one.
    pub(crate) fn mapping_for(
        &mut self,
        now: Duration,
        transport: Transport,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> Option<u64> {
        let made = self.by_inside.get(&(transport, inside, self.scope(remote))).copied();
        let asked = self.leases.get(&(transport, inside)).copied();
        // They may be one.
        let asked = asked.filter(|asked| Some(*asked) != made);
        [made, asked].into_iter().flatten().find(|mapping| self.is_alive(now, *mapping))
    }

    pub(crate) fn live_mapping(
        &mut self,
        now: Duration,
        transport: Transport,
        outside: SocketAddr,
    ) -> Option<u64> {
        let mapping = *self.by_outside.get(&(transport, outside))?;
        self.is_alive(now, mapping).then_some(mapping)
    }

    /// Whether a mapping still lives; removes it if not.
    pub(crate) fn is_alive(&mut self, now: Duration, mapping: u64) -> bool {
        let alive = self.lives(now, mapping);
        if !alive {
            self.close(now, mapping, Ended::Expired);
        }
        alive
    }

    pub(crate) fn lives(&self, now: Duration, mapping: u64) -> bool {
        let entry = &self.mappings[&mapping];
        let Mapped { transport, inside, lease, .. } = entry.view;
        let used = || match transport {
            Transport::Udp => now < entry.expires,
            Transport::Tcp => {
                let mut own = self.sessions.of(transport, inside);
                own.any(|(_, session)| session.mapping == mapping && session.is_live(now))
            }
        };
        lease.is_some_and(|until| now < until) || used()
    }

    fn open(
        &mut self,
        now: Duration,
        transport: Transport,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> Result<u64, Reason> {
        let outside = self.allocate(now, transport, inside)?;
        let view = Mapped { transport, inside, outside, scope: self.scope(remote), lease: None };
        let mapping = self.add(now, view);
        self.by_inside.insert((transport, inside, view.scope), mapping);
        Ok(mapping)
    }

    pub(crate) fn add(&mut self, now: Duration, view: Mapped) -> u64 {
        self.last += 1;
        self.mappings.insert(self.last, Entry { view, expires: now, used: now, sessions: 0 });
        let former = self.by_outside.insert((view.transport, view.outside), self.last);
        debug_assert!(former.is_none(), "only free ports are given out");
        let address = view.outside.ip();
        let host = self.hosts.entry(view.inside.ip()).or_insert(Inside { address, mappings: 0, leases: 0 });
        host.mappings += 1;
        host.address = address;
        host.leases += usize::from(view.lease.is_some());
        self.tell(Event::Opened(view));
        self.last
    }

    pub(crate) fn close(&mut self, now: Duration, mapping: u64, why: Ended) {
        let Some(entry) = self.mappings.remove(&mapping) else { return };
        let Mapped { transport, inside, outside, scope, lease } = entry.view;
        self.by_outside.remove(&(transport, outside));
        if self.by_inside.get(&(transport, inside, scope)) == Some(&mapping) {
            self.by_inside.remove(&(transport, inside, scope));
        }
        if self.leases.get(&(transport, inside)) == Some(&mapping) {
            self.leases.remove(&(transport, inside));
        }
        if entry.sessions > 0 {
            let all = self.sessions.of(transport, inside);
            let own: Vec<_> =
                all.filter(|(_, session)| session.mapping == mapping).map(|(key, _)| *key).collect();
            for key in own {
                self.sessions.remove(&key);
            }
        }
        if let Some(host) = self.hosts.get_mut(&inside.ip()) {
            host.mappings -= 1;
            host.leases -= usize::from(lease.is_some());
            if host.mappings == 0 {
                self.hosts.remove(&inside.ip());
            }
        }
        let rest = if why == Ended::Forgotten { Duration::ZERO } else { self.config.reuse_after };
        self.ports.closed((transport, outside), now, rest);
        self.tell(Event::Closed(entry.view, why));
    }

    fn add_session(&mut self, key: Key, session: Session) {
        // One that has expired may lie there, of this mapping or another.
        self.drop_session(&key);
        self.sessions.insert(key, session);
        self.mappings.get_mut(&session.mapping).expect("sessions have mappings").sessions += 1;
    }

    fn drop_session(&mut self, key: &Key) {
        if let Some(old) = self.sessions.remove(key)
            && let Some(entry) = self.mappings.get_mut(&old.mapping)
        {
            entry.sessions -= 1;
        }
    }

    /// Makes room for one more session of a mapping.
    fn make_room(&mut self, mapping: u64) {
        let entry = &self.mappings[&mapping];
        if entry.sessions >= self.config.limits.sessions_per_mapping {
            let all = self.sessions.of(entry.view.transport, entry.view.inside);
            let own = all.filter(|(_, session)| session.mapping == mapping);
            if let Some(key) = own.min_by_key(|(_, session)| session.expires).map(|(key, _)| *key) {
                self.drop_session(&key);
            }
        }
    }

    /// Removes what has expired, if that was not done within this time.
    pub(crate) fn sweep_if_older(&mut self, now: Duration, age: Duration) {
        if now + SWEEP >= self.sweep_at + age {
            self.sweep(now);
        }
    }

    /// Removes what has expired.
    pub(crate) fn sweep(&mut self, now: Duration) {
        self.sweep_at = now + SWEEP;
        let mappings = &mut self.mappings;
        self.sessions.retain(|_, session| {
            let stays = session.is_live(now);
            if !stays && let Some(entry) = mappings.get_mut(&session.mapping) {
                entry.sessions -= 1;
            }
            stays
        });
        let dead: Vec<_> =
            self.mappings.keys().copied().filter(|mapping| !self.lives(now, *mapping)).collect();
        for mapping in dead {
            self.close(now, mapping, Ended::Expired);
        }
        let ended = |mapping: &u64| self.mappings[mapping].view.lease.is_some_and(|until| until <= now);
        for mapping in self.leases.values().copied().filter(ended).collect::<Vec<_>>() {
            self.end_lease(mapping);
        }
        self.ports.sweep(now);
    }

    /// Every mapping that lives, in the order they were made.
    pub fn mappings(&self, now: Duration) -> impl Iterator<Item = Mapped> {
        self.mappings
            .iter()
            .filter(move |(mapping, _)| self.lives(now, **mapping))
            .map(|(_, entry)| entry.view)
    }

    /// Forgets everything, as a box does that was restarted.
    pub fn forget(&mut self, now: Duration) {
        for mapping in self.mappings.keys().copied().collect::<Vec<_>>() {
            self.close(now, mapping, Ended::Forgotten);
        }
        self.sessions.clear();
        self.waiting.clear();
        self.ports = Ports::default();
    }

    /// Replaces the outside addresses. Mappings of those that are gone are gone, too.
    pub fn set_outside(&mut self, now: Duration, outside: &[IpAddr]) {
        self.outside = outside.iter().copied().filter(IpAddr::is_ipv4).collect();
        let lost = |entry: &Entry| !self.outside.contains(&entry.view.outside.ip());
        let gone: Vec<_> =
            self.mappings.iter().filter(|(_, entry)| lost(entry)).map(|(mapping, _)| *mapping).collect();
        for mapping in gone {
            self.close(now, mapping, Ended::Forgotten);
        }
        self.waiting.retain(|(_, header)| self.outside.contains(&header.to.ip()));
    }
}
