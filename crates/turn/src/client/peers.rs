//! Whom the server lets through: permissions and channels (RFC 8656 sections 9 and 12).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::wire::{CHANNEL_SECS, CHANNELS, PERMISSION_SECS};

/// Both are renewed this long before they end: time for a lost request or two.
const MARGIN: Duration = Duration::from_mins(1);

pub(super) const PERMISSION_RENEWAL: Duration = Duration::from_secs(PERMISSION_SECS).saturating_sub(MARGIN);
pub(super) const CHANNEL_RENEWAL: Duration = Duration::from_secs(CHANNEL_SECS).saturating_sub(MARGIN);

/// A number that was bound may be given to another peer this long after it was bound last: when the server has
/// forgotten it, and five minutes more (RFC 8656 section 12).
pub(super) const CHANNEL_REUSE: Duration = Duration::from_secs(CHANNEL_SECS + 300);

/// Where a permission stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permission {
    /// Asked for, or waiting to be.
    Asked,
    /// Datagrams pass.
    Installed,
}

/// Where a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelState {
    /// Asked for, or waiting to be.
    Asked,
    /// It carries data until this moment, and is renewed before.
    Bound { until: Instant },
    /// No longer wanted, or not renewed; its number rests.
    Resting,
    /// The server does not give one: Send indications do.
    Refused,
}

/// A channel of a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) state: ChannelState,
}

/// The peers of an allocation.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) permissions: BTreeMap<IpAddr, Permission>,
    channels: BTreeMap<SocketAddr, Channel>,
    numbers: BTreeMap<u16, SocketAddr>,
    next_number: u16,
}

impl Peers {
    pub(super) fn new() -> Self {
        Self {
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next_number: *CHANNELS.start(),
        }
    }

    pub(super) fn channel(&self, peer: SocketAddr) -> Option<Channel> {
        self.channels.get(&peer).copied()
    }

    pub(super) fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Takes a free number for a peer that has none.
    pub(super) fn add_channel(&mut self, peer: SocketAddr) -> Option<u16> {
        let candidates = (self.next_number..=*CHANNELS.end()).chain(*CHANNELS.start()..self.next_number);
        let number = candidates.into_iter().find(|number| !self.numbers.contains_key(number))?;
        self.next_number = if number == *CHANNELS.end() { *CHANNELS.start() } else { number + 1 };
        self.numbers.insert(number, peer);
        self.channels.insert(peer, Channel { number, state: ChannelState::Asked });
        Some(number)
    }

    pub(super) fn set_channel(&mut self, peer: SocketAddr, state: ChannelState) {
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.state = state;
        }
    }

    pub(super) fn remove_channel(&mut self, peer: SocketAddr) {
        if let Some(channel) = self.channels.remove(&peer) {
            self.numbers.remove(&channel.number);
        }
    }

    pub(super) fn channels_of(&self, ip: IpAddr) -> Vec<SocketAddr> {
        let first = SocketAddr::new(ip, 0);
        let last = SocketAddr::new(ip, u16::MAX);
        self.channels.range(first..=last).map(|(peer, _)| *peer).filter(|peer| peer.ip() == ip).collect()
    }

    /// Whose data comes on a number; none if that is not, or no longer, wanted.
    pub(super) fn peer_on(&self, number: u16) -> Option<SocketAddr> {
        let peer = *self.numbers.get(&number)?;
        // A channel that is being asked for may carry data before the answer is here, and one that was not renewed does
        // until the server forgets it.
        (self.channels.get(&peer)?.state != ChannelState::Resting).then_some(peer)
    }

    pub(super) fn clear(&mut self) {
        self.permissions.clear();
        self.channels.clear();
        self.numbers.clear();
    }
}
