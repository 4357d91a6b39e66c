//! UDP packets, and application data on any path.

use std::net::SocketAddr;
use std::time::Instant;

use super::request::Arrival;
use super::{Agent, Disposition, DropReason, PairId, Phase, Role, SelectedPath};
use crate::addr::{canonical, is_socket_of};
use crate::candidate::{Candidate, CandidateKind, Transport};
use crate::config::Paths;
use crate::framing::{PayloadKind, classify_datagram};

impl Agent {
    /// A datagram came to the socket bound to `local`.
    pub fn handle_udp(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        packet: &[u8],
    ) -> Disposition {
        let outcome = self.datagram(now, local, remote, packet);
        self.dispose(outcome)
    }

    fn datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        packet: &[u8],
    ) -> Result<Disposition, DropReason> {
        if matches!(self.phase, Phase::Over) {
            return Err(DropReason::Over);
        }
        self.config.policy.permits(remote).map_err(|_| DropReason::Policy)?;
        let kind = classify_datagram(packet);
        if kind == PayloadKind::Data
            && self.config.paths == Paths::One
            && let Phase::Selected(selected) = &self.phase
        {
            // The common case, without a search.
            let ours = matches!(selected.path, SelectedPath::Udp { local: l, remote: r }
                if canonical(r) == canonical(remote) && is_socket_of(local, l));
            if ours || !self.is_looking() {
                return if ours { Ok(Disposition::Data) } else { Err(DropReason::NotSelected) };
            }
        }
        let local = self.udp_candidate(local).ok_or(DropReason::UnknownLocal)?;
        let arrival = Arrival::Udp { local, remote };
        if kind == PayloadKind::Stun {
            return self.handle_stun(now, arrival, packet);
        }
        // After a restart two pairs may have one path; the newest that works counts.
        let pairs = self.pairs().filter(|p| self.is_path_of(arrival, p.id));
        let pair = pairs.max_by_key(|p| (p.is_valid(), p.id)).map(|p| p.id);
        self.data(now, pair.ok_or(DropReason::Unauthenticated)?, packet.len())
    }

    /// The UDP candidate that sends from that socket.
    pub(super) fn udp_candidate(&self, local: SocketAddr) -> Option<usize> {
        let udp = || self.locals.iter().enumerate().filter(|(_, c)| c.transport == Transport::Udp);
        let serves = |c: &Candidate| {
            canonical(local) == canonical(c.base)
                || (c.kind != CandidateKind::Relayed && is_socket_of(local, c.base))
        };
        udp().find(|(_, c)| serves(c)).map(|(n, _)| n)
    }

    /// Application bytes on the path of a pair.
    pub(super) fn data(&mut self, now: Instant, id: PairId, len: usize) -> Result<Disposition, DropReason> {
        // During a restart the peer may have changed over already.
        let many = self.config.paths == Paths::Many || self.previous.is_some();
        if let Phase::Selected(selected) = &self.phase
            && !many
        {
            return if selected.pair == id { Ok(Disposition::Data) } else { Err(DropReason::NotSelected) };
        }
        let may_select = self.role == Role::Controlled && matches!(self.phase, Phase::Checking(_));
        let limit = self.config.early_data;
        let pair = self.pair_mut(id);
        let nominated = pair.nomination.is_nominated();
        if may_select && nominated && pair.is_valid() {
            // The peer has made its choice known by using it.
            self.select(now, id);
            return Ok(Disposition::Data);
        }
        if many && pair.is_valid() {
            return Ok(Disposition::Data);
        }
        // The peer may hold a pair for valid before we do, and use any that is.
        let proven = many && pair.checks_received > 0;
        if !nominated && !pair.is_valid() && !proven {
            return Err(DropReason::NotSelected);
        }
        if pair.early + len > limit {
            return Err(DropReason::TooMuchEarlyData);
        }
        pair.early += len;
        Ok(Disposition::Early)
    }
}
