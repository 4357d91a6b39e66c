//! What clients ask for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use towline_ice::stun::{BINDING, Class, Encoder, Message, xor_address};

use super::allocation::{Allocation, AllocationId, Relay};
use super::auth::{Denial, User, authenticate, challenge};
use super::{Core, RelayId, ServerAction, ServerEvent, Timer, Via};
use crate::refusal::Refusal;
use crate::wire::{Family, PROTOCOL_UDP, attribute, find, method, word};

/// Attributes that must be understood and are, beyond those of the STUN codec.
const UNDERSTOOD: &[u16] = &[
    attribute::CHANNEL_NUMBER,
    attribute::LIFETIME,
    attribute::XOR_PEER_ADDRESS,
    attribute::DATA,
    attribute::REALM,
    attribute::NONCE,
    attribute::REQUESTED_ADDRESS_FAMILY,
    attribute::EVEN_PORT,
    attribute::REQUESTED_TRANSPORT,
    attribute::PASSWORD_ALGORITHM,
];

/// The attributes that must be understood and are not.
pub(super) fn not_understood(message: &Message<'_>) -> impl Iterator<Item = u16> {
    message.unknown.iter().copied().filter(|kind| !UNDERSTOOD.contains(kind))
}

impl Core {
    pub(super) fn request(&mut self, now: Instant, via: Via, client: SocketAddr, request: &Message<'_>) {
        let response = |class| Encoder::new(class, request.method, request.transaction);
        let unknown: Vec<u16> = not_understood(request).collect();
        if request.method == BINDING {
            let answer = if unknown.is_empty() {
                response(Class::Success).mapped_address(client)
            } else {
                response(Class::Error).error(420, "unknown attribute").unknown_attributes(&unknown)
            };
            return self.send(via, answer.finish(None));
        }
        let known = [method::ALLOCATE, method::REFRESH, method::CREATE_PERMISSION, method::CHANNEL_BIND];
        if !known.contains(&request.method) {
            let refusal = Refusal::BadRequest;
            let answer = response(Class::Error).error(refusal.code(), refusal.phrase());
            return self.send(via, answer.finish(None));
        }
        // What was allocated in time lives on when the credentials have expired.
        let unix = if request.method == method::ALLOCATE { self.unix(now) } else { 0 };
        let user = match authenticate(&self.config, &self.nonces, now, unix, client, request) {
            Ok(user) => user,
            Err(denial) => {
                let refusal = match denial {
                    Denial::Challenge(refusal) => refusal,
                    Denial::BadRequest => Refusal::BadRequest,
                };
                let mut answer = response(Class::Error).error(refusal.code(), refusal.phrase());
                if let Denial::Challenge(_) = denial {
                    answer = challenge(&self.config, &self.nonces.make(now, client), answer);
                }
                return self.send(via, answer.finish(None));
            }
        };
        let outcome = if !unknown.is_empty() {
            Err(Refusal::UnknownAttribute(None))
        } else {
            match request.method {
                method::ALLOCATE => self.allocate(now, via, &user, request),
                method::REFRESH => self.refresh(now, via, &user, request),
                method::CREATE_PERMISSION => self.create_permission(now, via, &user, request),
                _ => self.channel_bind(now, via, &user, request),
            }
        };
        let answer = match outcome {
            Ok(Some(answer)) => answer,
            // The answer comes when the driver has bound the sockets, or came already.
            Ok(None) => return,
            Err(refusal) => {
                let answer = response(Class::Error).error(refusal.code(), refusal.phrase());
                if unknown.is_empty() { answer } else { answer.unknown_attributes(&unknown) }
            }
        };
        self.send(via, user.seal(answer));
    }

    fn send(&mut self, via: Via, bytes: Bytes) {
        self.actions.push_back(ServerAction::Send { via, bytes });
    }

    fn allocate(
        &mut self,
        now: Instant,
        via: Via,
        user: &User,
        request: &Message<'_>,
    ) -> Result<Option<Encoder>, Refusal> {
        if let Some(allocation) = self.by_via.get(&via).and_then(|id| self.allocations.get(id)) {
            if allocation.transaction != request.transaction {
                return Err(Refusal::AllocationMismatch);
            }
            // Repeated, as the answer was lost or is not ready yet.
            if let Some(answer) = allocation.answer.clone() {
                self.send(via, answer);
            }
            return Ok(None);
        }
        match find(request, attribute::REQUESTED_TRANSPORT) {
            Some([PROTOCOL_UDP, ..]) => {}
            Some(_) => return Err(Refusal::UnsupportedTransport),
            None => return Err(Refusal::BadRequest),
        }
        let family = |kind| match find(request, kind) {
            None => Ok(None),
            Some([code, ..]) => Family::from_code(*code).map(Some).ok_or(Refusal::AddressFamilyNotSupported),
            Some([]) => Err(Refusal::BadRequest),
        };
        let requested = family(attribute::REQUESTED_ADDRESS_FAMILY)?;
        let additional = family(attribute::ADDITIONAL_ADDRESS_FAMILY)?;
        if additional == Some(Family::V4) || (requested.is_some() && additional.is_some()) {
            return Err(Refusal::BadRequest);
        }
        let even_port = match find(request, attribute::EVEN_PORT) {
            None => false,
            // Coturn's client asks for this.
            Some([0, ..]) => true,
            // The next port, too: nobody is given two.
            Some(_) => return Err(Refusal::InsufficientCapacity),
        };
        let has = |family| match family {
            Family::V4 => self.config.ipv4,
            Family::V6 => self.config.ipv6,
        };
        let wanted: Vec<Family> =
            [Some(requested.unwrap_or(Family::V4)), additional].into_iter().flatten().collect();
        let (given, missing): (Vec<Family>, Vec<Family>) =
            wanted.into_iter().partition(|family| has(*family));
        if given.is_empty() {
            return Err(Refusal::AddressFamilyNotSupported);
        }
        if self.quotas.allocations(&user.account) >= self.config.allocations_per_user {
            return Err(Refusal::QuotaReached);
        }
        if self.allocations.len() >= self.config.allocations {
            return Err(Refusal::InsufficientCapacity);
        }
        let asked = find(request, attribute::LIFETIME).and_then(word);
        let lifetime = asked.map_or(self.config.lifetime, |seconds| Duration::from_secs(seconds.into()));
        // Less than the default only annoys (RFC 8656 section 7.2).
        let lifetime = lifetime.max(self.config.lifetime).min(self.config.max_lifetime);
        let id = AllocationId(self.next_id());
        let mut allocation = Allocation::new(via, user.clone(), request.transaction, lifetime);
        allocation.missing = missing.first().copied();
        for family in given {
            let relay = RelayId(self.next_id());
            allocation.relays.insert(family, Relay::Binding(relay));
            self.by_relay.insert(relay, id);
            self.actions.push_back(ServerAction::Bind { relay, family, even_port });
        }
        self.quotas.add(now, &user.account);
        self.by_via.insert(via, id);
        self.allocations.insert(id, allocation);
        self.keep(now, id, lifetime);
        Ok(None)
    }

    pub(super) fn relay_bound(&mut self, now: Instant, relay: RelayId, address: Option<SocketAddr>) {
        let Some(id) = self.by_relay.get(&relay).copied() else { return };
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        for slot in allocation.relays.values_mut().filter(|slot| **slot == Relay::Binding(relay)) {
            *slot = address.map_or(Relay::Refused, |address| Relay::Bound(relay, address));
        }
        if address.is_none() {
            self.by_relay.remove(&relay);
        }
        self.relayed.extend(address);
        if allocation.relays.values().any(|slot| matches!(slot, Relay::Binding(_))) {
            return;
        }
        let relayed: Vec<SocketAddr> = allocation
            .relays
            .values()
            .filter_map(|slot| match slot {
                Relay::Bound(_, address) => Some(*address),
                Relay::Binding(_) | Relay::Refused => None,
            })
            .collect();
        let (via, transaction, lifetime) = (allocation.via, allocation.transaction, allocation.lifetime);
        let Some(client) = self.client_of(via) else { return };
        let allocation = self.allocations.get_mut(&id).expect("it was found above");
        if relayed.is_empty() {
            let refusal = Refusal::InsufficientCapacity;
            let answer = Encoder::new(Class::Error, method::ALLOCATE, transaction)
                .error(refusal.code(), refusal.phrase());
            let answer = allocation.user.seal(answer);
            self.release(id);
            return self.send(via, answer);
        }
        let mut answer = Encoder::new(Class::Success, method::ALLOCATE, transaction);
        for address in &relayed {
            answer = answer.xor_address(attribute::XOR_RELAYED_ADDRESS, *address);
        }
        answer = answer
            .mapped_address(client)
            .attribute(attribute::LIFETIME, &(lifetime.as_secs() as u32).to_be_bytes());
        if let Some(missing) = allocation.missing {
            let refusal = Refusal::AddressFamilyNotSupported.code();
            let value = [missing.code(), 0, (refusal / 100) as u8, (refusal % 100) as u8];
            answer = answer.attribute(attribute::ADDRESS_ERROR_CODE, &value);
        }
        let answer = allocation.user.seal(answer);
        allocation.answer = Some(answer.clone());
        let user = allocation.user.name.clone();
        self.keep(now, id, lifetime);
        if let Via::Stream(stream) = via {
            self.timers.clear(Timer::Stream(stream));
        }
        self.send(via, answer);
        self.events.push_back(ServerEvent::Allocated { user, client, relayed });
    }

    fn refresh(
        &mut self,
        now: Instant,
        via: Via,
        user: &User,
        request: &Message<'_>,
    ) -> Result<Option<Encoder>, Refusal> {
        let (default, most) = (self.config.lifetime, self.config.max_lifetime);
        let asked = find(request, attribute::LIFETIME).and_then(word);
        let id = match own(&self.by_via, &mut self.allocations, via, user) {
            Ok((id, _)) => Some(id),
            // Given back already: the answer was lost.
            Err(Refusal::AllocationMismatch) if asked == Some(0) => None,
            Err(refusal) => return Err(refusal),
        };
        let lifetime = match asked {
            Some(0) => Duration::ZERO,
            Some(seconds) => Duration::from_secs(seconds.into()).max(default).min(most),
            None => default,
        };
        if let Some(id) = id {
            if lifetime.is_zero() {
                self.release(id);
                if let Via::Stream(stream) = via {
                    self.timers.set(Timer::Stream(stream), now + self.config.stream_patience);
                }
            } else {
                self.keep(now, id, lifetime);
            }
        }
        let answer = Encoder::new(Class::Success, request.method, request.transaction);
        Ok(Some(answer.attribute(attribute::LIFETIME, &(lifetime.as_secs() as u32).to_be_bytes())))
    }

    fn create_permission(
        &mut self,
        now: Instant,
        via: Via,
        user: &User,
        request: &Message<'_>,
    ) -> Result<Option<Encoder>, Refusal> {
        let peers: Option<Vec<IpAddr>> = request
            .attributes()
            .filter(|(kind, _)| *kind == attribute::XOR_PEER_ADDRESS)
            .map(|(_, value)| xor_address(value, &request.transaction).map(|address| address.ip()))
            .collect();
        let peers = peers.filter(|peers| !peers.is_empty()).ok_or(Refusal::BadRequest)?;
        own(&self.by_via, &mut self.allocations, via, user)?.1.permit(now, &self.config, &peers)?;
        Ok(Some(Encoder::new(Class::Success, request.method, request.transaction)))
    }

    fn channel_bind(
        &mut self,
        now: Instant,
        via: Via,
        user: &User,
        request: &Message<'_>,
    ) -> Result<Option<Encoder>, Refusal> {
        let number = match find(request, attribute::CHANNEL_NUMBER) {
            Some([high, low, ..]) => u16::from_be_bytes([*high, *low]),
            _ => return Err(Refusal::BadRequest),
        };
        let peer = find(request, attribute::XOR_PEER_ADDRESS)
            .and_then(|value| xor_address(value, &request.transaction))
            .ok_or(Refusal::BadRequest)?;
        own(&self.by_via, &mut self.allocations, via, user)?.1.bind(now, &self.config, number, peer)?;
        Ok(Some(Encoder::new(Class::Success, request.method, request.transaction)))
    }
}

// The allocation that a request is about.
fn own<'a>(
    by_via: &BTreeMap<Via, AllocationId>,
    allocations: &'a mut BTreeMap<AllocationId, Allocation>,
    via: Via,
    user: &User,
) -> Result<(AllocationId, &'a mut Allocation), Refusal> {
    let id = *by_via.get(&via).ok_or(Refusal::AllocationMismatch)?;
    let allocation = allocations.get_mut(&id).ok_or(Refusal::AllocationMismatch)?;
    if allocation.user.name != user.name {
        return Err(Refusal::WrongCredentials);
    }
    // Its answer is still to come.
    if allocation.answer.is_none() {
        return Err(Refusal::AllocationMismatch);
    }
    Ok((id, allocation))
}
