//! Which of the paths that work carries data: the whole policy is this file. What else is decided about paths serves it: which pair
//! an agent selects first (`towline_ice::Preference`, the same order), which paths become links (`connection/bundle/links.rs`), and which
//! go when enough work (`connection/bundle/thinning.rs`).
//!
//! Paths are ranked by kind. Those of the best kind that works carry everything; the others are kept warm and take over when it
//! falls silent. Both sides rank alike, each for what it sends.
//!
//! * **Direct before relayed**: a relay has somebody else's rate and delay.
//! * **TCP before UDP**, where both work: the kernel does the repair and the pacing, and packets may have 16 KiB. Measured on bulk
//!   data over loopback, a stream link costs 1.15 times the CPU of TLS on TCP, a datagram link 1.46 times.

use std::fmt;

/// How good a kind of path is for data, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PathKind {
    /// A TCP connection from device to device.
    DirectTcp,
    /// Datagrams from device to device.
    DirectUdp,
    /// A TCP connection by a relay.
    RelayedTcp,
    /// Datagrams by a relay.
    RelayedUdp,
}

impl PathKind {
    pub(crate) const fn of(tcp: bool, relayed: bool) -> Self {
        match (tcp, relayed) {
            (true, false) => Self::DirectTcp,
            (false, false) => Self::DirectUdp,
            (true, true) => Self::RelayedTcp,
            (false, true) => Self::RelayedUdp,
        }
    }

    /// Whether it is a TCP connection.
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::DirectTcp | Self::RelayedTcp)
    }

    /// Whether a relay is on the way.
    pub const fn is_relayed(self) -> bool {
        matches!(self, Self::RelayedTcp | Self::RelayedUdp)
    }
}

/// What a path is used for, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Use {
    /// It carries data: no better kind of path works.
    Data,
    /// It waits for its turn: one of this better kind works.
    Reserve(PathKind),
    /// It does not work at the moment.
    Nothing,
}

impl Use {
    /// What a path of this kind is for, `best` being the best kind that works.
    pub(crate) fn of(kind: PathKind, works: bool, best: Option<PathKind>) -> Self {
        match best {
            _ if !works => Self::Nothing,
            Some(best) if best < kind => Self::Reserve(best),
            _ => Self::Data,
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data => f.write_str("carries data: no better kind of path works"),
            Self::Reserve(PathKind::DirectTcp) => {
                f.write_str("in reserve: a direct TCP connection works, and costs less for bulk")
            }
            Self::Reserve(PathKind::DirectUdp) => f.write_str("in reserve: a direct path works, over UDP"),
            Self::Reserve(_) => {
                f.write_str("in reserve: a relayed TCP connection works, and costs less for bulk")
            }
            Self::Nothing => f.write_str("does not work at the moment"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_comes_before_relayed_and_tcp_before_udp() {
        let kinds = [(true, false), (false, false), (true, true), (false, true)];
        let ranked = kinds.map(|(tcp, relayed)| PathKind::of(tcp, relayed));
        assert!(ranked.is_sorted());
        let [best, second, ..] = ranked;
        assert_eq!(Use::of(best, true, Some(best)), Use::Data);
        assert_eq!(Use::of(second, true, Some(best)), Use::Reserve(best));
        assert_eq!(Use::of(second, true, Some(second)), Use::Data);
        assert_eq!(Use::of(best, false, Some(second)), Use::Nothing);
    }
}
