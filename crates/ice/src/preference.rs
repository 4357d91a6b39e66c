//! Which of several valid pairs an agent selects. With [`Paths::One`](crate::Paths::One) that is the path of all data; with
//! [`Paths::Many`](crate::Paths::Many) it is advice, and whoever uses the paths has a policy of its own.
//!
//! Pairs are ranked by class, then by pair priority (RFC 8445 section 6.1.2.3). The class alone decides whether a pair
//! that becomes valid later is worth a move: the priorities of two direct UDP pairs differ by the order in which
//! interfaces were listed, and that is no reason to move anything.

/// Which kind of path is selected where several work.
///
/// A relayed path is always the last choice: it has somebody else's rate and delay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preference {
    /// As RFC 8445 ranks them, whatever the transport.
    #[default]
    Priority,
    /// TCP where both work: middleboxes are kinder to it, and the kernel does the repair.
    TcpFirst,
    /// UDP where both work: a lost packet holds up nothing behind it.
    UdpFirst,
    /// The first pair that works, without waiting for a better one; later ones count as with [`Self::Priority`].
    First,
}

impl Preference {
    /// How good a kind of path is; the smaller the better.
    pub const fn class(self, tcp: bool, relayed: bool) -> u8 {
        let transport = match self {
            Self::Priority | Self::First => false,
            Self::TcpFirst => !tcp,
            Self::UdpFirst => tcp,
        };
        2 * relayed as u8 + transport as u8
    }

    /// Whether a valid pair may wait for a better one that is still being checked.
    pub(crate) const fn waits(self) -> bool {
        !matches!(self, Self::First)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_the_last_choice_and_the_transport_decides_before_it() {
        let order = |preference: Preference| {
            let mut kinds = [("udp relay", false, true), ("tcp", true, false), ("udp", false, false)];
            kinds.sort_by_key(|&(_, tcp, relayed)| preference.class(tcp, relayed));
            kinds.map(|(name, ..)| name)
        };
        assert_eq!(order(Preference::TcpFirst), ["tcp", "udp", "udp relay"]);
        assert_eq!(order(Preference::UdpFirst), ["udp", "tcp", "udp relay"]);
        for even in [Preference::Priority, Preference::First] {
            assert_eq!(even.class(true, false), even.class(false, false));
            assert!(even.class(true, true) > even.class(false, false));
        }
    }
}
