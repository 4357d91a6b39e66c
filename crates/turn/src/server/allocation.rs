//! One allocation: whose it is, where it relays, and whom it lets through.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use towline_ice::stun::TransactionId;

use super::auth::User;
use super::config::ServerConfig;
use super::{RelayId, Via};
use crate::refusal::Refusal;
use crate::wire::{CHANNEL_SECS, CHANNELS_OF_OLD, Family, PERMISSION_SECS};

/// A number for an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AllocationId(pub(super) u64);

/// A relayed address on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relay {
    /// The driver binds a socket.
    Binding(RelayId),
    Bound(RelayId, SocketAddr),
    /// The driver could not.
    Refused,
}

impl Relay {
    pub(super) fn id(self) -> Option<RelayId> {
        match self {
            Self::Binding(id) | Self::Bound(id, _) => Some(id),
            Self::Refused => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) via: Via,
    pub(super) user: User,
    pub(super) relays: BTreeMap<Family, Relay>,
    /// The family that was asked for in addition and that there is none of.
    pub(super) missing: Option<Family>,
    pub(super) lifetime: Duration,
    /// The request that made it, and the answer for when it is repeated.
    pub(super) transaction: TransactionId,
    pub(super) answer: Option<Bytes>,
    permissions: BTreeMap<IpAddr, Instant>,
    by_number: BTreeMap<u16, (SocketAddr, Instant)>,
    by_peer: BTreeMap<SocketAddr, u16>,
}

impl Allocation {
    pub(super) fn new(via: Via, user: User, transaction: TransactionId, lifetime: Duration) -> Self {
        Self {
            via,
            user,
            relays: BTreeMap::new(),
            missing: None,
            lifetime,
            transaction,
            answer: None,
            permissions: BTreeMap::new(),
            by_number: BTreeMap::new(),
            by_peer: BTreeMap::new(),
        }
    }

    /// The relay that reaches a peer.
    pub(super) fn relay_to(&self, peer: IpAddr) -> Option<RelayId> {
        match self.relays.get(&Family::of(peer)) {
            Some(Relay::Bound(id, _)) => Some(*id),
            _ => None,
        }
    }

    pub(super) fn is_permitted(&self, now: Instant, ip: IpAddr) -> bool {
        self.permissions.get(&ip).is_some_and(|until| now < *until)
    }

    /// Permits addresses, all or none.
    pub(super) fn permit(
        &mut self,
        now: Instant,
        config: &ServerConfig,
        ips: &[IpAddr],
    ) -> Result<(), Refusal> {
        for ip in ips {
            if self.relay_to(*ip).is_none() {
                return Err(Refusal::PeerAddressFamilyMismatch);
            }
            if !config.peers.admits(*ip) {
                return Err(Refusal::Forbidden);
            }
        }
        self.permissions.retain(|_, until| now < *until);
        let fresh = ips.iter().filter(|ip| !self.permissions.contains_key(ip)).count();
        if self.permissions.len() + fresh > config.permissions {
            return Err(Refusal::InsufficientCapacity);
        }
        let until = now + Duration::from_secs(PERMISSION_SECS);
        self.permissions.extend(ips.iter().map(|ip| (*ip, until)));
        Ok(())
    }

    /// Binds a number to a peer, or renews that (RFC 8656 section 12.2).
    pub(super) fn bind(
        &mut self,
        now: Instant,
        config: &ServerConfig,
        number: u16,
        peer: SocketAddr,
    ) -> Result<(), Refusal> {
        if !CHANNELS_OF_OLD.contains(&number) {
            return Err(Refusal::BadRequest);
        }
        self.by_number.retain(|_, (_, until)| now < *until);
        let by_number = &self.by_number;
        self.by_peer.retain(|_, number| by_number.contains_key(number));
        let of_peer = self.by_peer.get(&peer);
        let of_number = self.by_number.get(&number).map(|(peer, _)| peer);
        match (of_peer, of_number) {
            (None, None) if self.by_number.len() >= config.channels => {
                return Err(Refusal::InsufficientCapacity);
            }
            (None, None) => {}
            (Some(bound), Some(to)) if *bound == number && *to == peer => {}
            _ => return Err(Refusal::BadRequest),
        }
        self.permit(now, config, &[peer.ip()])?;
        self.by_number.insert(number, (peer, now + Duration::from_secs(CHANNEL_SECS)));
        self.by_peer.insert(peer, number);
        Ok(())
    }

    /// Whom a channel leads to.
    pub(super) fn peer_on(&self, now: Instant, number: u16) -> Option<SocketAddr> {
        self.by_number.get(&number).filter(|(_, until)| now < *until).map(|(peer, _)| *peer)
    }

    /// The channel that leads to a peer.
    pub(super) fn channel_to(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let number = *self.by_peer.get(&peer)?;
        self.peer_on(now, number).map(|_| number)
    }
}
