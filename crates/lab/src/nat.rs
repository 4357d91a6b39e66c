//! NATs and firewalls in the way of packets. What they decide is in `towline-nat`.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use towline_nat::{
    Config, Ended, Event, Firewall, Flags, Header, Lease, MapError, Mapped, Nat, Reason, Request, Rules,
    Transport, Verdict as Decision, Way,
};

use crate::{
    middlebox::{Middlebox, Unanswered, Verdict},
    packet::{Kind, Packet},
    shared::World,
};

/// Lines that the log of a box keeps.
const LOG: usize = 4096;

/// What a box sees of a packet; nothing, if that is the news that another could not be delivered.
fn header(packet: &Packet) -> Option<Header> {
    let flags = match packet.kind() {
        Kind::Udp => return Some(Header::udp(packet.from, packet.to)),
        Kind::Unreachable => return None,
        Kind::Syn => Flags::SYN,
        Kind::SynAck => Flags::SYN_ACK,
        Kind::Data | Kind::Ack => Flags::ACK,
        Kind::Fin => Flags::FIN,
        Kind::Reset => Flags::RST,
    };
    Some(Header::tcp(packet.from, packet.to, flags))
}

/// The header that such news is about.
fn quoted(packet: &Packet) -> Header {
    let transport = packet.quoted_transport();
    Header { transport, from: packet.to, to: packet.from, flags: Flags::default() }
}

/// Something a box did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxEvent {
    /// A mapping was made.
    Opened(Mapped),
    /// A mapping is gone.
    Closed(Mapped, Ended),
    /// A packet did not pass.
    Refused {
        /// Where it came from.
        way: Way,
        /// What it carried.
        transport: Transport,
        /// Its source, as the box saw it.
        from: std::net::SocketAddr,
        /// Its destination, as the box saw it.
        to: std::net::SocketAddr,
        /// Why.
        reason: Reason,
    },
}

/// The last of what a box did, with the time of it.
#[derive(Debug, Default)]
struct Log(VecDeque<(Duration, BoxEvent)>);

impl Log {
    fn add(&mut self, now: Duration, event: BoxEvent) {
        if self.0.len() == LOG {
            self.0.pop_front();
        }
        self.0.push_back((now, event));
    }

    fn judge(&mut self, now: Duration, way: Way, header: &Header, decision: Decision) -> Verdict {
        let Header { transport, from, to, .. } = *header;
        match decision {
            Decision::Forward { .. } | Decision::Turn { .. } => Verdict::Forward,
            Decision::Drop(reason) => {
                self.add(now, BoxEvent::Refused { way, transport, from, to, reason });
                Verdict::Drop(reason)
            }
            Decision::Reject(reason, reply) => {
                self.add(now, BoxEvent::Refused { way, transport, from, to, reason });
                Verdict::Reject(reason, reply)
            }
        }
    }
}

/// State that a box in the world shares with the handles on it.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Table {
    nat: Nat,
    log: Log,
}

impl Table {
    fn drain(&mut self, now: Duration) {
        while let Some(event) = self.nat.poll_event() {
            let event = match event {
                Event::Opened(mapped) => BoxEvent::Opened(mapped),
                Event::Closed(mapped, why) => BoxEvent::Closed(mapped, why),
            };
            self.log.add(now, event);
        }
    }
}

/// A NAT as a [`Middlebox`]. IPv6 passes unchanged; put a [`FirewallBox`] beside it where it should not.
#[derive(Debug)]
pub struct NatBox(Arc<Mutex<Table>>);

/// A hand on a [`NatBox`], to look into it, to ask it for mappings, and to upset it.
#[derive(Debug, Clone)]
pub struct NatHandle {
    world: World,
    table: Arc<Mutex<Table>>,
}

impl NatBox {
    /// A box like this, whose chance follows from the seed of the world.
    pub fn new(world: &World, config: Config) -> (Self, NatHandle) {
        let nat = Nat::new(config, &[], world.with(crate::shared::State::next_seed));
        let table = Arc::new(Mutex::new(Table { nat, log: Log::default() }));
        (Self(Arc::clone(&table)), NatHandle { world: world.clone(), table })
    }
}

impl Middlebox for NatBox {
    fn attached(&mut self, now: Duration, outside: &[IpAddr]) {
        let mut table = lock(&self.0);
        table.nat.set_outside(now, outside);
        table.drain(now);
    }

    fn announces(&self, ipv6: bool) -> bool {
        ipv6
    }

    fn pass(&mut self, now: Duration, way: Way, packet: &mut Packet) -> Verdict {
        let table = &mut *lock(&self.0);
        let Some(header) = header(packet) else {
            return match table.nat.handle_error(now, way, &quoted(packet)) {
                Some(quoted) => {
                    (packet.from, packet.to) = (quoted.to, quoted.from);
                    Verdict::Forward
                }
                None => Verdict::Drop(Reason::NoMapping),
            };
        };
        let decision = table.nat.handle(now, way, &header);
        table.drain(now);
        if let Decision::Forward { from, to } | Decision::Turn { from, to } = decision {
            (packet.from, packet.to) = (from, to);
        }
        table.log.judge(now, way, &header, decision)
    }

    fn poll_timeout(&self) -> Option<Duration> {
        lock(&self.0).nat.poll_timeout()
    }

    fn poll_unanswered(&mut self, now: Duration) -> Option<Unanswered> {
        let header = lock(&self.0).nat.poll_refused(now)?;
        Some(Unanswered { from: header.from, to: header.to })
    }
}

impl NatHandle {
    /// Acts on the box, at the present time.
    fn with<T>(&self, act: impl FnOnce(&mut Nat, Duration) -> T) -> T {
        // The world first: it locks the box while a packet passes.
        let now = self.world.elapsed();
        let mut table = lock(&self.table);
        let outcome = act(&mut table.nat, now);
        table.drain(now);
        outcome
    }

    /// Forgets every mapping, as a box does that was restarted.
    pub fn forget(&self) {
        self.with(Nat::forget);
    }

    /// Mappings that live, in the order they were made.
    pub fn mappings(&self) -> Vec<Mapped> {
        self.with(|nat, now| nat.mappings(now).collect())
    }

    /// A host inside asks for a mapping, renews or ends one, as by UPnP, NAT-PMP or PCP ([`Nat::map`]).
    pub fn map(&self, request: &Request) -> Result<Lease, MapError> {
        self.with(|nat, now| nat.map(now, request))
    }

    /// Its addresses outside.
    pub fn outside(&self) -> Vec<IpAddr> {
        self.with(|nat, _| nat.outside().to_vec())
    }

    /// What it is like.
    pub fn config(&self) -> Config {
        self.with(|nat, _| nat.config().clone())
    }

    /// The last of what it did, at most 4,096 things, with the virtual time since the start.
    pub fn log(&self) -> Vec<(Duration, BoxEvent)> {
        lock(&self.table).log.0.iter().copied().collect()
    }
}

#[derive(Debug)]
struct Wall {
    firewall: Firewall,
    log: Log,
}

/// A firewall as a [`Middlebox`].
#[derive(Debug)]
pub struct FirewallBox(Arc<Mutex<Wall>>);

/// A hand on a [`FirewallBox`].
#[derive(Debug, Clone)]
pub struct FirewallHandle(Arc<Mutex<Wall>>);

impl FirewallBox {
    /// A firewall with these rules.
    pub fn new(rules: Rules) -> (Self, FirewallHandle) {
        let wall = Arc::new(Mutex::new(Wall { firewall: Firewall::new(rules), log: Log::default() }));
        (Self(Arc::clone(&wall)), FirewallHandle(wall))
    }
}

impl Middlebox for FirewallBox {
    fn pass(&mut self, now: Duration, way: Way, packet: &mut Packet) -> Verdict {
        let wall = &mut *lock(&self.0);
        let Some(header) = header(packet) else {
            let passes = wall.firewall.handle_error(now, way, &quoted(packet));
            return if passes { Verdict::Forward } else { Verdict::Drop(Reason::NoConnection) };
        };
        let decision = wall.firewall.handle(now, way, &header);
        wall.log.judge(now, way, &header, decision)
    }
}

impl FirewallHandle {
    /// Replaces the rules. Sessions that are known go on, if the new rules let them.
    pub fn set_rules(&self, rules: Rules) {
        lock(&self.0).firewall.set_rules(rules);
    }

    /// Its rules.
    pub fn rules(&self) -> Rules {
        lock(&self.0).firewall.rules().clone()
    }

    /// Forgets every session, as a box does that was restarted.
    pub fn forget(&self) {
        lock(&self.0).firewall.forget();
    }

    /// The last of what it did, at most 4,096 things, with the virtual time since the start.
    pub fn log(&self) -> Vec<(Duration, BoxEvent)> {
        lock(&self.0).log.0.iter().copied().collect()
    }
}
