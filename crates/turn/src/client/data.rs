//! Data to peers.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::Rng as _;

use super::peers::{ChannelState, Permission};
use super::{Client, Core, Phase, Relay, SendError};
use crate::wire::{HEADROOM, MAX_PAYLOAD, indication_header, method};

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
        let (header, header_len) = indication_header(method::SEND, peer, id, len);
        let start = HEADROOM - header_len;
        packet[start..HEADROOM].copy_from_slice(&header[..header_len]);
        Ok(start)
    }
}
