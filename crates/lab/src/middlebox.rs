//! What stands between two networks: the place of NATs and firewalls.

use std::{fmt, net::IpAddr, time::Duration};

use crate::packet::Packet;

/// Which way a packet goes through a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Came from the inside network.
    Out,
    /// Came from the outside network.
    In,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes on, to where its destination address now says (which may be back to where it came from).
    Forward,
    /// It disappears.
    Refuse,
}

/// The part of a router that may change or refuse packets: NAT, firewall, or nothing ([`Plain`]).
pub trait Middlebox: fmt::Debug + Send + 'static {
    /// Told once which addresses the box has on its outside network.
    fn attached(&mut self, outside: &[IpAddr]) {
        let _ = outside;
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
}

/// A router that forwards everything unchanged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Middlebox for Plain {
    fn pass(&mut self, _now: Duration, _way: Way, _packet: &mut Packet) -> Verdict {
        Verdict::Forward
    }
}
