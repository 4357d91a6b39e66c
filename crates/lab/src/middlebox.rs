//! What stands between two networks: the place of NATs and firewalls.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use towline_nat::{Reason, Reply, Way};

use crate::packet::Packet;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes on, to where its destination address now says (which may be back to where it came from).
    Forward,
    /// It disappears.
    Refuse,
    /// It disappears, for this reason.
    Drop(Reason),
    /// It disappears for this reason, and its sender is told.
    Reject(Reason, Reply),
}

/// A segment from outside whose sender is told late that nobody answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered {
    /// Who sent it.
    pub from: SocketAddr,
    /// Where to, as seen from outside.
    pub to: SocketAddr,
}

/// The part of a router that may change or refuse packets: NAT, firewall, or nothing ([`Plain`]).
///
/// Two of them are one behind the other as a tuple, the first nearer to the inside.
pub trait Middlebox: fmt::Debug + Send + 'static {
    /// Told which addresses the box has on its outside network, at first and when they change.
    fn attached(&mut self, now: Duration, outside: &[IpAddr]) {
        let _ = (now, outside);
    }

    /// Whether the outside can address hosts of the inside network in this family of addresses.
    ///
    /// Where it cannot, packets to them are not even routed to the box.
    fn announces(&self, ipv6: bool) -> bool {
        let _ = ipv6;
        true
    }

    /// A packet passes. `now` is the virtual time since the start.
    ///
    /// The world is locked meanwhile: a box must not call it.
    fn pass(&mut self, now: Duration, way: Way, packet: &mut Packet) -> Verdict;

    /// When [`poll_unanswered`](Self::poll_unanswered) has something.
    fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    /// A segment from outside that is to be answered by ICMP now.
    fn poll_unanswered(&mut self, now: Duration) -> Option<Unanswered> {
        let _ = now;
        None
    }
}

/// A router that forwards everything unchanged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Middlebox for Plain {
    fn pass(&mut self, _now: Duration, _way: Way, _packet: &mut Packet) -> Verdict {
        Verdict::Forward
    }
}

impl Middlebox for Box<dyn Middlebox> {
    fn attached(&mut self, now: Duration, outside: &[IpAddr]) {
        (**self).attached(now, outside);
    }

    fn announces(&self, ipv6: bool) -> bool {
        (**self).announces(ipv6)
    }

    fn pass(&mut self, now: Duration, way: Way, packet: &mut Packet) -> Verdict {
        (**self).pass(now, way, packet)
    }

    fn poll_timeout(&self) -> Option<Duration> {
        (**self).poll_timeout()
    }

    fn poll_unanswered(&mut self, now: Duration) -> Option<Unanswered> {
        (**self).poll_unanswered(now)
    }
}

impl<A: Middlebox, B: Middlebox> Middlebox for (A, B) {
    fn attached(&mut self, now: Duration, outside: &[IpAddr]) {
        self.0.attached(now, outside);
        self.1.attached(now, outside);
    }

    fn announces(&self, ipv6: bool) -> bool {
        self.0.announces(ipv6) && self.1.announces(ipv6)
    }

    fn pass(&mut self, now: Duration, way: Way, packet: &mut Packet) -> Verdict {
        let verdict = match way {
            Way::Out => self.0.pass(now, way, packet),
            Way::In => self.1.pass(now, way, packet),
        };
        match (verdict, way) {
            (Verdict::Forward, Way::Out) => self.1.pass(now, way, packet),
            (Verdict::Forward, Way::In) => self.0.pass(now, way, packet),
            (refused, _) => refused,
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        [self.0.poll_timeout(), self.1.poll_timeout()].into_iter().flatten().min()
    }

    fn poll_unanswered(&mut self, now: Duration) -> Option<Unanswered> {
        self.0.poll_unanswered(now).or_else(|| self.1.poll_unanswered(now))
    }
}
