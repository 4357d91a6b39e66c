//! Network address translation as home routers do it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    middlebox::{Middlebox, Verdict, Way},
    packet::Packet,
};

/// First port that is given out, and the one after the last.
const PORTS: std::ops::Range<u32> = 1024..65_536;

/// A NAT whose mappings depend on the inside address only and let in whoever was sent to (RFC 4787:
/// endpoint-independent mapping, address- and port-dependent filtering), with ports in sequence.
///
/// IPv6 passes unchanged.
#[derive(Debug)]
pub struct Masquerade {
    outside: Option<IpAddr>,
    table: Arc<Mutex<Table>>,
}

/// The mappings of a [`Masquerade`], to look into and to upset while it works.
#[derive(Debug, Clone)]
pub struct Mappings(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    /// How long a mapping lives without a packet from the inside.
    timeout: Duration,
    next: u32,
    /// By kind of transport (TCP or not) and inside address.
    out: BTreeMap<(bool, SocketAddr), Mapping>,
    /// Inside addresses by kind of transport and outside port.
    inside: BTreeMap<(bool, u16), SocketAddr>,
}

#[derive(Debug)]
struct Mapping {
    port: u16,
    used: Duration,
    /// Who was sent to.
    known: Vec<SocketAddr>,
}

impl Masquerade {
    /// A box that forgets a mapping this long after the last packet from the inside.
    pub fn new(timeout: Duration) -> (Self, Mappings) {
        let (out, inside) = (BTreeMap::new(), BTreeMap::new());
        let table = Arc::new(Mutex::new(Table { timeout, next: PORTS.start, out, inside }));
        (Self { outside: None, table: Arc::clone(&table) }, Mappings(table))
    }
}

impl Mappings {
    /// Forgets every mapping, as a router does that was restarted: those inside are seen from other ports from now on,
    /// and nothing comes in until they have sent something.
    pub fn forget(&self) {
        let mut table = lock(&self.0);
        table.out.clear();
        table.inside.clear();
    }

    /// Mappings there are, timed out or not.
    pub fn count(&self) -> usize {
        lock(&self.0).out.len()
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// The outside port of a sender inside, and that `to` may answer.
    fn map(&mut self, now: Duration, tcp: bool, from: SocketAddr, to: SocketAddr) -> Option<u16> {
        self.expire(now, (tcp, from));
        if let Some(mapping) = self.out.get_mut(&(tcp, from)) {
            mapping.used = now;
            if !mapping.known.contains(&to) {
                mapping.known.push(to);
            }
            return Some(mapping.port);
        }
        let port = self.free_port(tcp)?;
        self.inside.insert((tcp, port), from);
        self.out.insert((tcp, from), Mapping { port, used: now, known: vec![to] });
        Some(port)
    }

    /// Who inside gets what comes from `from` to this port.
    fn answer(&mut self, now: Duration, tcp: bool, port: u16, from: SocketAddr) -> Option<SocketAddr> {
        let to = *self.inside.get(&(tcp, port))?;
        self.expire(now, (tcp, to));
        let mapping = self.out.get(&(tcp, to))?;
        mapping.known.contains(&from).then_some(to)
    }

    fn expire(&mut self, now: Duration, key: (bool, SocketAddr)) {
        if let Some(old) =
            self.out.get(&key).filter(|mapping| now.saturating_sub(mapping.used) > self.timeout)
        {
            self.inside.remove(&(key.0, old.port));
            self.out.remove(&key);
        }
    }

    fn free_port(&mut self, tcp: bool) -> Option<u16> {
        for _ in PORTS {
            let port = self.next as u16;
            self.next = if self.next + 1 == PORTS.end { PORTS.start } else { self.next + 1 };
            if !self.inside.contains_key(&(tcp, port)) {
                return Some(port);
            }
        }
        None
    }
}

impl Middlebox for Masquerade {
    fn attached(&mut self, outside: &[IpAddr]) {
        self.outside = outside.iter().copied().find(IpAddr::is_ipv4);
    }

    fn announces(&self, ipv6: bool) -> bool {
        ipv6
    }

    fn pass(&mut self, now: Duration, way: Way, packet: &mut Packet) -> Verdict {
        if packet.to.is_ipv6() {
            return Verdict::Forward;
        }
        let Some(outside) = self.outside else { return Verdict::Refuse };
        let tcp = packet.kind().is_tcp();
        let mut table = lock(&self.table);
        match way {
            Way::Out => {
                let Some(port) = table.map(now, tcp, packet.from, packet.to) else { return Verdict::Refuse };
                packet.from = SocketAddr::new(outside, port);
            }
            Way::In => {
                let Some(to) = table.answer(now, tcp, packet.to.port(), packet.from) else {
                    return Verdict::Refuse;
                };
                packet.to = to;
            }
        }
        Verdict::Forward
    }
}
