//! Data: from clients to peers and back.

use std::net::SocketAddr;
use std::time::Instant;

use rand::Rng as _;
use towline_ice::stun::{Class, Framed, Message, xor_address};

use super::{Core, PeerPolicy, RelayId, ToPeer, Via};
use crate::wire::{MAX_PAYLOAD, attribute, find, indication_header, method};

impl Core {
    pub(super) fn message<'p>(
        &mut self,
        now: Instant,
        via: Via,
        client: SocketAddr,
        framed: Framed<'p>,
    ) -> Option<ToPeer<'p>> {
        let (peer, payload) = match framed {
            Framed::Channel { number, payload } => {
                let id = self.by_via.get(&via)?;
                (self.allocations.get(id)?.peer_on(now, number)?, payload)
            }
            Framed::Stun(packet) => {
                let message = Message::decode(packet).ok()?;
                match message.class {
                    Class::Request => {
                        self.request(now, via, client, &message);
                        return None;
                    }
                    Class::Indication if message.method == method::SEND => send_indication(&message)?,
                    // Binding indications keep NATs awake; responses are to nothing that a server asks.
                    _ => return None,
                }
            }
        };
        self.admitted(now, via, peer, payload)
    }

    // What a client sends to a peer, if it may.
    fn admitted<'p>(
        &mut self,
        now: Instant,
        via: Via,
        peer: SocketAddr,
        payload: &'p [u8],
    ) -> Option<ToPeer<'p>> {
        let allocation = self.allocations.get(self.by_via.get(&via)?)?;
        let relay = allocation.relay_to(peer.ip())?;
        let passes = allocation.is_permitted(now, peer.ip())
            && peer.port() != 0
            && self.is_foreign_or_relayed(peer)
            && self.quotas.take(now, &allocation.user.account, payload.len());
        passes.then_some(ToPeer { relay, peer, payload })
    }

    // A client may reach the relay's own address only where another client is relayed: what else listens there is not for
    // the users of the relay.
    fn is_foreign_or_relayed(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip();
        let mut own = self.relayed.range(SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX));
        self.config.peers == PeerPolicy::DangerouslyAll
            || own.next().is_none()
            || self.relayed.contains(&peer)
    }

    pub(super) fn relay_back(
        &mut self,
        now: Instant,
        relay: RelayId,
        from: SocketAddr,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Via> {
        let allocation = self.allocations.get(self.by_relay.get(&relay)?)?;
        if !allocation.is_permitted(now, from.ip())
            || payload.len() > MAX_PAYLOAD
            || !self.quotas.take(now, &allocation.user.account, payload.len())
        {
            return None;
        }
        out.clear();
        match allocation.channel_to(now, from) {
            Some(number) => {
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
                out.extend_from_slice(payload);
                if matches!(allocation.via, Via::Stream(_)) {
                    out.resize(out.len().next_multiple_of(4), 0);
                }
            }
            None => {
                let mut id = [0; 12];
                self.rng.fill_bytes(&mut id);
                let (header, len) = indication_header(method::DATA, from, id, payload.len());
                out.extend_from_slice(&header[..len]);
                out.extend_from_slice(payload);
                out.resize(len + payload.len().next_multiple_of(4), 0);
            }
        }
        Some(allocation.via)
    }
}

// To whom, and what.
fn send_indication<'p>(message: &Message<'p>) -> Option<(SocketAddr, &'p [u8])> {
    // DONT-FRAGMENT is not honoured, so whoever insists on it is not served.
    if super::requests::not_understood(message).next().is_some() {
        return None;
    }
    let peer = xor_address(find(message, attribute::XOR_PEER_ADDRESS)?, &message.transaction)?;
    Some((peer, find(message, attribute::DATA)?))
}
