//! What the answers say about the NAT before us.

use std::fmt;
use std::net::SocketAddr;

use super::question::{Question, State};
use super::{Server, ServerError, Via};
use crate::nat::{Mapping, Observation};

/// The NAT before us, per transport and family; see [`super::Gatherer::nat_report`]. `Display` gives one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatReport {
    /// Datagrams over IPv4.
    pub udp_v4: Mapping,
    /// Datagrams over IPv6.
    pub udp_v6: Mapping,
    /// Connections over IPv4.
    pub tcp_v4: Mapping,
    /// Connections over IPv6.
    pub tcp_v6: Mapping,
    /// What servers saw, in the order of asking.
    pub observations: Vec<(Via, Observation)>,
    /// Servers that were of no use, and asked from where.
    pub failures: Vec<(Server, SocketAddr, ServerError)>,
}

impl NatReport {
    pub(super) fn of<'a>(questions: impl Iterator<Item = &'a Question> + Clone) -> Self {
        let mapping = |via: Via, v4: bool| {
            let asked = questions
                .clone()
                .filter(|q| q.server.via == via && q.base.ip().to_canonical().is_ipv4() == v4);
            let unheard = |q: &Question| {
                matches!(q.state, State::Failed(ServerError::Silent | ServerError::NotConnected))
            };
            let failed = asked.clone().all(unheard);
            let asked_any = asked.clone().next().is_some();
            let observations: Vec<_> = asked.filter_map(Question::observation).collect();
            if asked_any && failed { Mapping::Blocked } else { Mapping::infer(&observations) }
        };
        let failure = |q: &Question| match q.state {
            State::Failed(error) => Some((q.server, q.base, error)),
            _ => None,
        };
        Self {
            udp_v4: mapping(Via::Udp, true),
            udp_v6: mapping(Via::Udp, false),
            tcp_v4: mapping(Via::Tcp, true),
            tcp_v6: mapping(Via::Tcp, false),
            observations: questions.clone().filter_map(|q| Some((q.server.via, q.observation()?))).collect(),
            failures: questions.filter_map(failure).collect(),
        }
    }

    /// Datagrams do not get out while connections do: not the servers are at fault, but a firewall.
    pub fn is_udp_blocked(&self) -> bool {
        let works = |mapping| !matches!(mapping, Mapping::Unknown | Mapping::Blocked);
        (self.udp_v4 == Mapping::Blocked && works(self.tcp_v4))
            || (self.udp_v6 == Mapping::Blocked && works(self.tcp_v6))
    }
}

impl fmt::Display for NatReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("udp over IPv4", self.udp_v4),
            ("udp over IPv6", self.udp_v6),
            ("tcp over IPv4", self.tcp_v4),
            ("tcp over IPv6", self.tcp_v6),
        ];
        let known = all.into_iter().filter(|(_, mapping)| *mapping != Mapping::Unknown);
        for (n, (what, mapping)) in known.enumerate() {
            let separator = if n == 0 { "" } else { ", " };
            write!(f, "{separator}{what} {mapping}")?;
        }
        if all.iter().all(|(_, mapping)| *mapping == Mapping::Unknown) {
            f.write_str("nobody was asked")?;
        }
        Ok(())
    }
}
