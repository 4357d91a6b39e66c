//! A router with a NAT and a firewall, on packets as they are on the wire. No devices, no clock.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use towline_nat::{Config, Firewall, Header, Nat, Reason, Reply, Rules, Verdict, Way};

use crate::ip::{self, Content};

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes on to the other side.
    Forward,
    /// It goes back to the inside that it came from: a hairpin.
    Turn,
    /// It disappears; why, if a rule says so.
    Drop(Option<Reason>),
    /// It disappears, and this goes back to where it came from.
    Answer(Reason, Vec<u8>),
}

/// A router between an inside and an outside, which carries IPv4. What has no ports (echo, fragments) does not pass, nor does IPv6.
#[derive(Debug)]
pub struct Router {
    nat: Option<Nat>,
    firewall: Option<Firewall>,
    /// What the NAT may want to be refused late, as it came: senders believe no error that does not quote their number.
    held: VecDeque<(Header, Vec<u8>)>,
}

impl Router {
    /// A router that translates as the first says, to these addresses, and filters as the second.
    pub fn new(nat: Option<Config>, rules: Option<Rules>, outside: &[IpAddr], seed: [u8; 32]) -> Self {
        Self {
            nat: nat.map(|config| Nat::new(config, outside, seed)),
            firewall: rules.map(Firewall::new),
            held: VecDeque::new(),
        }
    }

    /// Its NAT, to look into or to upset.
    pub fn nat(&mut self) -> Option<&mut Nat> {
        self.nat.as_mut()
    }

    /// Its firewall.
    pub fn firewall(&mut self) -> Option<&mut Firewall> {
        self.firewall.as_mut()
    }

    /// Filters by these rules from now on. A router without a firewall gets one, which knows no sessions yet.
    pub fn set_rules(&mut self, rules: Rules) {
        match &mut self.firewall {
            Some(firewall) => firewall.set_rules(rules),
            None => self.firewall = Some(Firewall::new(rules)),
        }
    }

    /// A packet passes: is changed, and goes where the answer says.
    pub fn pass(&mut self, now: Duration, way: Way, packet: &mut [u8]) -> Fate {
        let Some(content) = ip::read(packet) else { return Fate::Drop(None) };
        if !ip::hop(packet) {
            return Fate::Drop(None);
        }
        match content {
            Content::Packet(header) => self.packet(now, way, header, packet),
            Content::Error(quoted) => self.error(now, way, quoted, packet),
        }
    }

    fn packet(&mut self, now: Duration, way: Way, header: Header, packet: &mut [u8]) -> Fate {
        let mut header = header;
        let mut turned = false;
        // The firewall is nearer to the inside: it sees inside addresses in both directions.
        for translates in if way == Way::Out { [false, true] } else { [true, false] } {
            let verdict = match (translates, &mut self.nat, &mut self.firewall) {
                (true, Some(nat), _) => nat.handle(now, way, &header),
                (false, _, Some(firewall)) => firewall.handle(now, way, &header),
                _ => continue,
            };
            match verdict {
                Verdict::Forward { from, to } => (header.from, header.to) = (from, to),
                Verdict::Turn { from, to } => {
                    (header.from, header.to) = (from, to);
                    turned = true;
                }
                Verdict::Drop(reason) => {
                    if translates && way == Way::In && header.flags.opens() {
                        self.hold(header, packet);
                    }
                    return Fate::Drop(Some(reason));
                }
                Verdict::Reject(reason, reply) => {
                    let answer = match reply {
                        Reply::Reset => ip::reset(packet),
                        Reply::Unreachable => ip::unreachable(packet),
                    };
                    return answer.map_or(Fate::Drop(Some(reason)), |answer| Fate::Answer(reason, answer));
                }
            }
        }
        ip::rewrite(packet, header.from, header.to);
        if turned { Fate::Turn } else { Fate::Forward }
    }

    fn hold(&mut self, header: Header, packet: &[u8]) {
        let Some(nat) = &self.nat else { return };
        self.held.retain(|(known, _)| *known != header && nat.is_refusing(known));
        if nat.is_refusing(&header) {
            self.held.push_back((header, packet.to_vec()));
        }
    }

    fn error(&mut self, now: Duration, way: Way, quoted: Header, packet: &mut [u8]) -> Fate {
        let mut news = quoted;
        if let Some(nat) = &mut self.nat {
            let Some(translated) = nat.handle_error(now, way, &quoted) else { return Fate::Drop(None) };
            news = translated;
        }
        if let Some(firewall) = &mut self.firewall
            && !firewall.handle_error(now, way, &news)
        {
            return Fate::Drop(None);
        }
        // Who is inside is not shown outside, be it the host that the error is about or a router before it.
        let from = match (way, news.to.ip()) {
            (Way::Out, IpAddr::V4(outside)) if self.nat.is_some() => outside,
            _ => ip::source(packet),
        };
        ip::rewrite_error(packet, &news, from);
        // Its way back is that of what it is about, which may have turned round.
        let home = way == Way::Out && quoted.from != news.from;
        if home { Fate::Turn } else { Fate::Forward }
    }

    /// When [`late`](Self::late) has something.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.nat.as_ref()?.poll_timeout()
    }

    /// A packet that goes outside now: somebody is told late that nobody answers.
    pub fn late(&mut self, now: Duration) -> Option<Vec<u8>> {
        while let Some(refused) = self.nat.as_mut()?.poll_refused(now) {
            let held = self.held.iter().position(|(held, _)| *held == refused);
            if let Some((_, packet)) = held.and_then(|at| self.held.remove(at))
                && let Some(answer) = ip::unreachable(&packet)
            {
                return Some(answer);
            }
        }
        None
    }
}
