//! A box before a device, which lets through what it is told to.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use towline_lab::towline_nat::{Reason, Reply};
use towline_lab::{Kind, Middlebox, Packet, Verdict, Way};

type Rule = Box<dyn FnMut(Way, &Packet) -> Verdict + Send>;

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    /// Ports inside that have sent datagrams to the nodes of the DHT.
    dht: BTreeSet<u16>,
}

/// Lets everything through until it is told otherwise.
#[derive(Clone, Default)]
pub(crate) struct Tamper(Arc<Mutex<State>>);

impl fmt::Debug for Tamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tamper")
    }
}

/// The port of DHT nodes that others join through.
const DHT: u16 = 4222;

impl Middlebox for Tamper {
    fn pass(&mut self, _: Duration, way: Way, packet: &mut Packet) -> Verdict {
        let mut state = self.0.lock().unwrap();
        if way == Way::Out && packet.kind() == Kind::Udp && packet.to.port() == DHT {
            state.dht.insert(packet.from.port());
        }
        state.rule.as_mut().map_or(Verdict::Forward, |rule| rule(way, packet))
    }
}

/// The far end of a packet.
fn remote(way: Way, packet: &Packet) -> IpAddr {
    if way == Way::Out { packet.to.ip() } else { packet.from.ip() }
}

impl Tamper {
    /// From now on this decides.
    pub(crate) fn set(&self, rule: impl FnMut(Way, &Packet) -> Verdict + Send + 'static) {
        self.0.lock().unwrap().rule = Some(Box::new(rule));
    }

    /// Drops what is `meant`.
    pub(crate) fn drop(&self, mut meant: impl FnMut(Way, &Packet) -> bool + Send + 'static) {
        self.set(move |way, packet| if meant(way, packet) { Verdict::Refuse } else { Verdict::Forward });
    }

    /// No UDP in either direction.
    pub(crate) fn drop_udp(&self) {
        self.drop(|_, packet| packet.kind() == Kind::Udp);
    }

    /// Nothing but TCP to port 443.
    pub(crate) fn only_web(&self) {
        self.drop(|way, packet| {
            let far = if way == Way::Out { packet.to } else { packet.from };
            packet.kind() == Kind::Udp || far.port() != 443
        });
    }

    /// Nothing of the DHT, whoever speaks it; all else passes.
    pub(crate) fn drop_dht(&self) {
        let ports = self.0.lock().unwrap().dht.clone();
        assert!(!ports.is_empty(), "the device has joined the DHT");
        self.drop(move |way, packet| {
            let near = if way == Way::Out { packet.from } else { packet.to };
            packet.kind() == Kind::Udp && ports.contains(&near.port())
        });
    }

    /// What goes this way between the device and `far`, but for the DHT.
    fn between(
        &self,
        wanted: Option<Way>,
        far: Vec<IpAddr>,
    ) -> impl FnMut(Way, &Packet) -> bool + Send + use<> {
        let ports = self.0.lock().unwrap().dht.clone();
        move |way, packet| {
            let near = if way == Way::Out { packet.from } else { packet.to };
            let dht = packet.kind() == Kind::Udp && ports.contains(&near.port());
            wanted.is_none_or(|wanted| wanted == way) && far.contains(&remote(way, packet)) && !dht
        }
    }

    /// Loses what goes this way between the device and `far`, but for the DHT.
    pub(crate) fn lose(&self, way: Option<Way>, far: Vec<IpAddr>) {
        let meant = self.between(way, far);
        self.drop(meant);
    }

    /// Rejects it: by resets, and ICMP for datagrams.
    pub(crate) fn reject(&self, way: Way, far: Vec<IpAddr>) {
        let mut meant = self.between(Some(way), far);
        self.set(move |way, packet| match packet.kind() {
            _ if !meant(way, packet) => Verdict::Forward,
            Kind::Udp => Verdict::Reject(Reason::Forbidden, Reply::Unreachable),
            _ => Verdict::Reject(Reason::Forbidden, Reply::Reset),
        });
    }

    /// Swallows packets between the device and `far` with more payload than this, without a word.
    pub(crate) fn hole(&self, len: usize, far: Vec<IpAddr>) {
        let mut meant = self.between(None, far);
        self.drop(move |way, packet| packet.payload_len() > len && meant(way, packet));
    }
}
