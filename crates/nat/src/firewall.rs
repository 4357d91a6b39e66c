//! Firewalls: rules and memory, without translation.

use std::time::Duration;

use crate::{
    config::{Filtering, Timeouts},
    header::{Header, Reason, Reply, Transport, Verdict, Way},
    session::{Session, Sessions},
};

/// Time between two searches for what has expired.
const SWEEP: Duration = Duration::from_secs(10);

/// The families of addresses that rules are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Families {
    /// Both.
    All,
    /// IPv4; IPv6 passes.
    V4,
    /// IPv6; IPv4 passes.
    V6,
}

/// What happens to packets that may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// They disappear.
    Drop,
    /// TCP is reset, the senders of datagrams are told by ICMP.
    Reject,
}

/// What a firewall lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What they are about; all else passes.
    pub families: Families,
    /// UDP may pass, in either direction.
    pub udp: bool,
    /// Ports that TCP from inside may connect to; `None`: all.
    pub tcp_ports: Option<Vec<u16>>,
    /// Who may send in from outside, of those that nobody inside talks with; `None`: everybody. RFC 6092 has
    /// endpoint-independent for UDP, most boxes are stricter.
    pub inbound: Option<Filtering>,
    /// What happens to packets from outside that may not pass.
    pub refused_in: Refused,
    /// What happens to packets from inside that may not pass.
    pub refused_out: Refused,
    /// How long sessions are remembered.
    pub timeouts: Timeouts,
    /// Sessions that are remembered; beyond, no new ones are let through. Default: 262,144.
    pub sessions: usize,
}

impl Rules {
    /// Everything passes.
    pub fn open() -> Self {
        Self {
            families: Families::All,
            udp: true,
            tcp_ports: None,
            inbound: None,
            refused_in: Refused::Drop,
            refused_out: Refused::Drop,
            timeouts: Timeouts::linux(),
            sessions: 1 << 18,
        }
    }

    /// What nobody inside asked for is dropped.
    pub fn stateful() -> Self {
        Self { inbound: Some(Filtering::AddressAndPortDependent), ..Self::open() }
    }

    /// The same for IPv6 only, as beside the NAT of a home.
    pub fn stateful_ipv6() -> Self {
        Self { families: Families::V6, ..Self::stateful() }
    }

    /// No UDP in either direction, as in some offices and hotels.
    pub fn no_udp() -> Self {
        Self { udp: false, ..Self::stateful() }
    }

    /// TCP to port 443 and nothing else.
    pub fn web_only() -> Self {
        Self { tcp_ports: Some(vec![443]), ..Self::no_udp() }
    }

    /// IPv6 that has addresses and routes, and arrives nowhere.
    pub fn broken_ipv6() -> Self {
        Self { families: Families::V6, udp: false, tcp_ports: Some(Vec::new()), ..Self::stateful() }
    }
}

/// A firewall, without packets: it is told what passes, and says what becomes of it. Addresses stay as they are.
#[derive(Debug)]
pub struct Firewall {
    rules: Rules,
    sessions: Sessions,
    sweep_at: Duration,
}

impl Firewall {
    /// A firewall with these rules.
    pub fn new(rules: Rules) -> Self {
        Self { rules, sessions: Sessions::default(), sweep_at: Duration::ZERO }
    }

    /// Its rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Replaces the rules. Sessions that are known go on, if the new rules let them.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Forgets every session, as a box does that was restarted.
    pub fn forget(&mut self) {
        self.sessions.clear();
    }

    /// Whether a rule lets it through, whoever asks.
    fn may(&self, way: Way, header: &Header) -> bool {
        match header.transport {
            Transport::Udp => self.rules.udp,
            Transport::Tcp => {
                let port = if way == Way::Out { header.to.port() } else { header.from.port() };
                self.rules.tcp_ports.as_ref().is_none_or(|ports| ports.contains(&port))
            }
        }
    }

    /// A packet passes.
    pub fn handle(&mut self, now: Duration, way: Way, header: &Header) -> Verdict {
        let pass = Verdict::Forward { from: header.from, to: header.to };
        match self.rules.families {
            Families::V4 if header.to.is_ipv6() => return pass,
            Families::V6 if header.to.is_ipv4() => return pass,
            _ => {}
        }
        if !self.may(way, header) {
            return self.refuse(way, header, Reason::Forbidden);
        }
        let Some(filtering) = self.rules.inbound else { return pass };
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP;
            self.sessions.retain(|_, session| session.is_live(now));
        }
        let Header { transport, flags, .. } = *header;
        let (inside, remote) =
            if way == Way::Out { (header.from, header.to) } else { (header.to, header.from) };
        let key = (transport, inside, remote);
        if let Some(session) = self.sessions.live(now, &key) {
            session.advance(now, way, flags, true, &self.rules.timeouts);
            return pass;
        }
        if way == Way::In {
            let admits = match filtering {
                Filtering::EndpointIndependent => {
                    self.sessions.of(transport, inside).any(|(_, session)| session.is_live(now))
                }
                Filtering::AddressDependent => self
                    .sessions
                    .with(transport, inside, remote.ip())
                    .any(|(_, session)| session.is_live(now)),
                Filtering::AddressAndPortDependent => false,
            };
            if !admits {
                return self.refuse(way, header, Reason::Filtered);
            }
        }
        if self.sessions.len() >= self.rules.sessions {
            return self.refuse(way, header, Reason::TableFull);
        }
        self.sessions.insert(key, Session::new(now, 0, way, transport, flags, &self.rules.timeouts));
        pass
    }

    /// An ICMP error passes that quotes the header of an earlier packet. Returns whether it may: from outside, if it is about
    /// something that was sent from inside. No error ends a session.
    pub fn handle_error(&mut self, now: Duration, way: Way, quoted: &Header) -> bool {
        let other = if quoted.to.is_ipv6() { Families::V4 } else { Families::V6 };
        way == Way::Out
            || self.rules.families == other
            || self.rules.inbound.is_none()
            || self.sessions.live(now, &(quoted.transport, quoted.from, quoted.to)).is_some()
    }

    fn refuse(&self, way: Way, header: &Header, reason: Reason) -> Verdict {
        let refused = if way == Way::Out { self.rules.refused_out } else { self.rules.refused_in };
        match (refused, header.transport) {
            (Refused::Drop, _) => Verdict::Drop(reason),
            // No reset answers a reset (RFC 9293 3.10.7.1).
            (Refused::Reject, Transport::Tcp) if header.flags.rst => Verdict::Drop(reason),
            (Refused::Reject, Transport::Tcp) => Verdict::Reject(reason, Reply::Reset),
            (Refused::Reject, Transport::Udp) => Verdict::Reject(reason, Reply::Unreachable),
        }
    }
}
