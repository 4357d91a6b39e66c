//! What a NAT is like. Presets have the usual names.

use std::{ops::RangeInclusive, time::Duration};

use crate::header::Refusal;

/// What an outside address and port is given for (RFC 4787 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mapping {
    /// One for each inside address and port, whomever it sends to.
    EndpointIndependent,
    /// One for each inside address and port and each address it sends to.
    AddressDependent,
    /// One for each inside address and port and each address and port it sends to.
    AddressAndPortDependent,
}

/// Who may send to a mapping from outside (RFC 4787 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtering {
    /// Everybody.
    EndpointIndependent,
    /// Addresses that it was used to send to.
    AddressDependent,
    /// Addresses and ports that it was used to send to.
    AddressAndPortDependent,
}

/// Which outside port a new mapping gets (RFC 4787 4.2.1). No port is ever given to two of one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Allocation {
    /// The port that the host inside uses, if it is free.
    Preserving {
        /// What is done when it is taken.
        taken: Taken,
    },
    /// The port of the last mapping plus this, which may be negative; 0 counts as 1. After the last port of the range comes
    /// the first.
    Sequential {
        /// The distance.
        step: i16,
    },
    /// Any.
    Random,
}

/// The port where the one that was to be preserved is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Taken {
    /// The next free one.
    Next,
    /// Any.
    Random,
}

/// Which of several outside addresses a mapping gets (RFC 4787 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pooling {
    /// All mappings of a host have the same one (REQ-2).
    Paired,
    /// Each mapping any.
    Arbitrary,
}

/// What happens when a new mapping is needed and there is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exhausted {
    /// The packet disappears.
    Drop,
    /// The sender is told by ICMP.
    Reject,
    /// The mapping that was not used for the longest time makes room, if a lack of ports is the cause.
    Evict,
}

/// What is done with a TCP segment from inside that belongs to no known connection and opens none, as after a restart of the
/// box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Midstream {
    /// It disappears.
    Drop,
    /// The sender gets a reset.
    Reset,
    /// It is taken for one of an established connection and gets a mapping, as Linux does.
    Adopt,
}

/// How long things are remembered without use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A UDP session that was answered. RFC 4787 REQ-5: at least 2 minutes, better 5.
    pub udp: Duration,
    /// A UDP session that was not answered yet. Linux: 30 s.
    pub udp_unanswered: Duration,
    /// An open TCP connection. RFC 5382 REQ-5: at least 2 hours 4 minutes.
    pub tcp_established: Duration,
    /// A TCP connection that opens or closes. RFC 5382 REQ-5: at least 4 minutes.
    pub tcp_transitory: Duration,
    /// A TCP connection that was reset, or closed by both sides.
    pub tcp_closed: Duration,
}

impl Default for Timeouts {
    /// What the RFCs recommend.
    fn default() -> Self {
        let transitory = Duration::from_mins(4);
        Self {
            udp: Duration::from_mins(5),
            udp_unanswered: Duration::from_mins(5),
            tcp_established: Duration::from_mins(124),
            tcp_transitory: transitory,
            tcp_closed: transitory,
        }
    }
}

impl Timeouts {
    /// Those of Linux, which is in most homes.
    pub fn linux() -> Self {
        Self {
            udp: Duration::from_mins(2),
            udp_unanswered: Duration::from_secs(30),
            tcp_established: Duration::from_hours(5 * 24),
            tcp_transitory: Duration::from_mins(2),
            tcp_closed: Duration::from_secs(10),
        }
    }
}

/// Bounds of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions (pairs of an inside and a remote end) that are remembered. Default: 262,144.
    pub sessions: usize,
    /// Of these, per mapping; beyond, the one that expires first makes room. Default: 8,192.
    pub sessions_per_mapping: usize,
    /// Mappings per inside address (RFC 6888 REQ-4). Default: 65,536.
    pub mappings_per_host: usize,
    /// Mappings per inside address that may be asked for ([`Nat::map`](crate::Nat::map)). Default: 64.
    pub leases_per_host: usize,
    /// Connections whose refusal waits ([`Refusal::Late`]); beyond, they are refused in silence. Default: 1,024.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1 << 18,
            sessions_per_mapping: 1 << 13,
            mappings_per_host: 1 << 16,
            leases_per_host: 64,
            waiting: 1 << 10,
        }
    }
}

/// What a NAT is like.
///
/// Start from a preset and change what matters: `Config { hairpin: false, ..Config::full_cone() }`. `Default` is what
/// RFC 4787 and RFC 5382 require and recommend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What outside ports are given for.
    pub mapping: Mapping,
    /// Who may send to them.
    pub filtering: Filtering,
    /// Which ports are given.
    pub allocation: Allocation,
    /// Even inside ports get even outside ports, odd get odd (RFC 4787 REQ-4). With sequential allocation the wrong ones are
    /// skipped.
    pub parity: bool,
    /// Ports that are given out; a preserved one may lie outside. Default: 1024 to 65535.
    pub ports: RangeInclusive<u16>,
    /// Time that a port is not given out again after its mapping ended (RFC 6888 REQ-8). Default: none.
    pub reuse_after: Duration,
    /// Which address, if there are several.
    pub pooling: Pooling,
    /// Hosts inside reach each other by their outside addresses (RFC 4787 REQ-9), as which they then see each other.
    pub hairpin: bool,
    /// How long mappings and sessions live.
    pub timeouts: Timeouts,
    /// Packets from outside prolong a UDP mapping, too (RFC 4787 REQ-6a); those from inside always do.
    pub inbound_refresh: bool,
    /// What happens when ports or the room of a host run out.
    pub exhausted: Exhausted,
    /// How connections from outside are refused.
    pub unsolicited: Refusal,
    /// Segments of unknown connections.
    pub midstream: Midstream,
    /// Longest lifetime of a mapping that was asked for ([`Nat::map`](crate::Nat::map)); `None`: asking is refused.
    pub leases: Option<Duration>,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mapping: Mapping::EndpointIndependent,
            filtering: Filtering::AddressDependent,
            allocation: Allocation::Preserving { taken: Taken::Random },
            parity: true,
            ports: 1024..=u16::MAX,
            reuse_after: Duration::ZERO,
            pooling: Pooling::Paired,
            hairpin: true,
            timeouts: Timeouts::default(),
            inbound_refresh: false,
            exhausted: Exhausted::Drop,
            unsolicited: Refusal::Late(Duration::from_secs(6)),
            midstream: Midstream::Drop,
            leases: None,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// A NAT of this kind as it stands in homes: timeouts and treatment of TCP as in Linux, no hairpinning, no port mapping.
    pub fn of_kind(mapping: Mapping, filtering: Filtering, allocation: Allocation) -> Self {
        Self {
            mapping,
            filtering,
            allocation,
            parity: false,
            hairpin: false,
            timeouts: Timeouts::linux(),
            inbound_refresh: true,
            unsolicited: Refusal::Silent,
            midstream: Midstream::Adopt,
            ..Self::default()
        }
    }

    /// Full cone (NAT 1): one mapping for all, open to everybody.
    pub fn full_cone() -> Self {
        let preserving = Allocation::Preserving { taken: Taken::Random };
        Self::of_kind(Mapping::EndpointIndependent, Filtering::EndpointIndependent, preserving)
    }

    /// Restricted cone (NAT 2): one mapping for all, open to addresses that were sent to.
    pub fn restricted_cone() -> Self {
        Self { filtering: Filtering::AddressDependent, ..Self::full_cone() }
    }

    /// Port-restricted cone (NAT 3): one mapping for all, open to addresses and ports that were sent to.
    pub fn port_restricted_cone() -> Self {
        Self { filtering: Filtering::AddressAndPortDependent, ..Self::full_cone() }
    }

    /// Symmetric (NAT 4) with random ports: a mapping per destination, open to that destination only.
    pub fn symmetric() -> Self {
        let (mapping, filtering) = (Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent);
        Self::of_kind(mapping, filtering, Allocation::Random)
    }

    /// Symmetric with ports in sequence, which can be foretold.
    pub fn sequential_symmetric() -> Self {
        Self { allocation: Allocation::Sequential { step: 1 }, ..Self::symmetric() }
    }

    /// Of a carrier (RFC 6888): endpoint-independent in both respects, several hosts per address with 1,000 ports each, which
    /// rest for two minutes before they are given out again.
    pub fn carrier_grade() -> Self {
        Self {
            allocation: Allocation::Random,
            hairpin: true,
            timeouts: Timeouts::default(),
            inbound_refresh: false,
            exhausted: Exhausted::Reject,
            reuse_after: Duration::from_mins(2),
            limits: Limits { mappings_per_host: 1_000, ..Limits::default() },
            ..Self::full_cone()
        }
    }

    /// What Linux does with `masquerade` where no two hosts use the same port: looks like a port-restricted cone from
    /// outside, opens ports on request.
    pub fn home_router() -> Self {
        Self { leases: Some(Duration::from_hours(24)), hairpin: true, ..Self::port_restricted_cone() }
    }
}
