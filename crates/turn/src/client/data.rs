//! Data to peers.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::Rng as _;
use towline_ice::stun::MAGIC_COOKIE;

use super::peers::{ChannelState, Permission};
use super::{Client, Core, Phase, Relay, SendError};
use crate::wire::{attribute, method};

/// Bytes that [`Client::encode`] wants free before a payload: the longest header, of a Send indication to an IPv6 address.
pub const HEADROOM: usize = 48;

/// The longest payload: what fits a datagram to the server in every form, in bytes.
pub(super) const MAX_PAYLOAD: usize = 65_507 - HEADROOM - 3;

const CHANNEL_HEADER: usize = 4;

impl Client {
    /// Turns a payload into a message to the server, in place. `packet` holds [`HEADROOM`] bytes of anything and then the
    /// payload; from the returned index on it holds the message, to be sent whole, as a datagram or on the stream.
    /// At most three bytes are added at the end.
    pub fn encode(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        packet: &mut Vec<u8>,
    ) -> Result<usize, SendError> {
        self.core.encode(now, peer, packet)
    }

    /// Queues a copy of a payload; [`Client::encode`] does without.
    pub fn send(&mut self, now: Instant, peer: SocketAddr, payload: &[u8]) -> Result<(), SendError> {
        let len = HEADROOM + payload.len() + 3;
        if self.core.queued + len > self.core.config.send_queue {
            return Err(SendError::Full);
        }
        let mut packet = Vec::with_capacity(len);
        packet.resize(HEADROOM, 0);
        packet.extend_from_slice(payload);
        let start = self.core.encode(now, peer, &mut packet)?;
        let message = bytes::Bytes::from(packet).slice(start..);
        self.core.queued += message.len();
        self.core.transmits.push_back(message);
        Ok(())
    }

    /// Whether an address has a permission now.
    pub fn is_permitted(&self, ip: IpAddr) -> bool {
        self.core.peers.permissions.get(&ip) == Some(&Permission::Installed)
    }

    /// Whether data to a peer passes now, and if so, whether by a channel.
    pub fn passes(&self, now: Instant, peer: SocketAddr) -> Result<bool, SendError> {
        self.core.way(now, peer).map(|channel| channel.is_some())
    }
}

impl Core {
    // The number of the channel to a peer; none, if Send indications are to be used.
    fn way(&self, now: Instant, peer: SocketAddr) -> Result<Option<u16>, SendError> {
        if !matches!(self.phase, Phase::Allocated(_)) || matches!(self.config.relay, Relay::Tcp(_)) {
            return Err(SendError::NoAllocation);
        }
        if let Some(channel) = self.peers.channel(peer)
            && matches!(channel.state, ChannelState::Bound { until } if now < until)
        {
            return Ok(Some(channel.number));
        }
        match self.peers.permissions.get(&peer.ip()) {
            Some(Permission::Installed) => Ok(None),
            _ => Err(SendError::NotPermitted),
        }
    }

    fn encode(&mut self, now: Instant, peer: SocketAddr, packet: &mut Vec<u8>) -> Result<usize, SendError> {
        let len = packet.len().saturating_sub(HEADROOM);
        if len > MAX_PAYLOAD || packet.len() < HEADROOM {
            return Err(SendError::TooLong(len));
        }
        let way = self.way(now, peer)?;
        self.last_sent = now;
        let padded = len.next_multiple_of(4);
        if let Some(number) = way {
            if self.config.transport.is_stream() {
                packet.resize(HEADROOM + padded, 0);
            }
            let start = HEADROOM - CHANNEL_HEADER;
            packet[start..start + 2].copy_from_slice(&number.to_be_bytes());
            packet[start + 2..HEADROOM].copy_from_slice(&(len as u16).to_be_bytes());
            return Ok(start);
        }
        packet.resize(HEADROOM + padded, 0);
        let mut id = [0; 12];
        self.rng.fill_bytes(&mut id);
        let mut header = [0; HEADROOM];
        let header_len = indication_header(&mut header, peer, id, len, padded);
        let start = HEADROOM - header_len;
        packet[start..HEADROOM].copy_from_slice(&header[..header_len]);
        Ok(start)
    }
}

// All of a Send indication before its payload: header, XOR-PEER-ADDRESS, and the header of DATA.
fn indication_header(
    out: &mut [u8; HEADROOM],
    peer: SocketAddr,
    id: [u8; 12],
    len: usize,
    padded: usize,
) -> usize {
    let address_len = if peer.is_ipv4() { 8 } else { 20 };
    let body = 4 + address_len + 4 + padded;
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&id);
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    // The class bits of an indication; the method has one digit, so its bits are not interleaved.
    put(&(0x0010 | method::SEND).to_be_bytes());
    put(&(body as u16).to_be_bytes());
    put(&mask);
    put(&attribute::XOR_PEER_ADDRESS.to_be_bytes());
    put(&(address_len as u16).to_be_bytes());
    put(&[0, if peer.is_ipv4() { 1 } else { 2 }]);
    put(&(peer.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes());
    match peer.ip() {
        IpAddr::V4(ip) => put(&(u32::from(ip) ^ MAGIC_COOKIE).to_be_bytes()),
        IpAddr::V6(ip) => put(&(u128::from(ip) ^ u128::from_be_bytes(mask)).to_be_bytes()),
    }
    put(&attribute::DATA.to_be_bytes());
    put(&(len as u16).to_be_bytes());
    at
}
