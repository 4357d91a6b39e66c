//! Which of the paths that work carries data: the whole policy is this file. What else is decided about paths serves it: which pair
//! an agent selects first (by the same [`Preference`]), which paths become links (`connection/bundle/links.rs`), and which go when enough
//! work (`connection/bundle/thinning.rs`).
//!
//! Paths are ranked by kind. Those of the best kind that works carry everything; the others are kept warm and take over when it
//! falls silent. Both sides rank alike.
//!
//! * **Direct before relayed**: a relay has somebody else's rate and delay.
//! * **TCP before UDP**, where both work: the kernel does the repair and the pacing, and packets may have 16 KiB. Measured on bulk
//!   data over loopback, a stream link costs 1.15 times the CPU of TLS on TCP, a datagram link 1.46 times.
//!   Unless one of the two devices wants UDP first ([`Config::ice`](crate::Config::ice)), as where lost packets are many and shall not
//!   hold up what comes behind them: then both rank so, as it tells the other.

use std::fmt;

use towline_ice::Preference;

/// What kind of path it is.
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

    /// How good it is for data; the smaller the better.
    pub(crate) const fn rank(self, preference: Preference) -> u8 {
        preference.class(self.is_tcp(), self.is_relayed())
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
    /// It waits for its turn: datagrams work as well, and one of the two devices wants those first.
    UdpFirst,
    /// It does not work at the moment.
    Nothing,
}

impl Use {
    /// What a path of this kind is for, `best` being the best kind that works.
    pub(crate) fn of(kind: PathKind, works: bool, best: Option<PathKind>, preference: Preference) -> Self {
        match best {
            _ if !works => Self::Nothing,
            Some(best) if best.rank(preference) < kind.rank(preference) => {
                let asked = kind.is_tcp() && best.is_relayed() == kind.is_relayed();
                if asked { Self::UdpFirst } else { Self::Reserve(best) }
            }
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
            Self::UdpFirst => {
                f.write_str("in reserve: UDP works, too, and one of the devices wants it first")
            }
            Self::Nothing => f.write_str("does not work at the moment"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_comes_before_relayed_and_tcp_before_udp_unless_somebody_wants_udp() {
        use Preference::{TcpFirst, UdpFirst};
        let kinds = [(true, false), (false, false), (true, true), (false, true)];
        let [tcp, udp, by_relay, datagrams_by_relay] = kinds.map(|(tcp, relayed)| PathKind::of(tcp, relayed));
        let ranked = |order: [PathKind; 4], preference| {
            order.is_sorted_by(|a, b| a.rank(preference) < b.rank(preference))
        };
        assert!(ranked([tcp, udp, by_relay, datagrams_by_relay], TcpFirst));
        assert!(ranked([udp, tcp, datagrams_by_relay, by_relay], UdpFirst));
        assert_eq!(Use::of(tcp, true, Some(tcp), TcpFirst), Use::Data);
        assert_eq!(Use::of(udp, true, Some(tcp), TcpFirst), Use::Reserve(tcp));
        assert_eq!(Use::of(udp, true, Some(udp), TcpFirst), Use::Data);
        assert_eq!(Use::of(tcp, false, Some(udp), TcpFirst), Use::Nothing);
        assert_eq!(Use::of(udp, true, Some(udp), UdpFirst), Use::Data);
        assert_eq!(Use::of(tcp, true, Some(udp), UdpFirst), Use::UdpFirst);
        assert_eq!(Use::of(by_relay, true, Some(udp), UdpFirst), Use::Reserve(udp));
    }
}
