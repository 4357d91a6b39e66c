//! What responses and indications of the server do.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use towline_ice::stun::{
    Class, DecodeError, Framed, IntegrityError, Message, TransactionId, address, xor_address,
};

use super::connection::{DataConnection, Dial};
use super::event::{Allocation, BadAnswer, DropReason, Event, Failure, Input};
use super::peers::{CHANNEL_RENEWAL, ChannelState, PERMISSION_RENEWAL, Permission};
use super::request::{Purpose, Request};
use super::{Core, INCOMING, Phase, Relay, Timer};
use crate::auth::Auth;
use crate::refusal::Refusal;
use crate::wire::{CHANNEL_SECS, Family, attribute, find, method, word};

/// The longest lifetime that is believed: a server that says more is asked again by then (RFC 8656 section 7.2 has an
/// hour as the most that a server gives by default).
const MAX_LIFETIME: Duration = Duration::from_hours(1);

/// An allocation is refreshed this long before its end, or at half of its life.
const REFRESH_MARGIN: Duration = Duration::from_mins(1);

/// A server that gives shorter lifetimes is not asked more often.
const MIN_REFRESH: Duration = Duration::from_secs(1);

/// Attributes that must be understood and are, beyond those of the STUN codec.
const UNDERSTOOD: &[u16] = &[
    attribute::CHANNEL_NUMBER,
    attribute::LIFETIME,
    attribute::XOR_PEER_ADDRESS,
    attribute::DATA,
    attribute::REALM,
    attribute::NONCE,
    attribute::XOR_RELAYED_ADDRESS,
    attribute::REQUESTED_ADDRESS_FAMILY,
    attribute::REQUESTED_TRANSPORT,
    attribute::CONNECTION_ID,
    // MAPPED-ADDRESS, which old servers add.
    0x0001,
    // RESERVATION-TOKEN: nothing was asked for that makes one, and it changes nothing.
    0x0022,
];

/// The first attribute that must be understood and is not.
pub(super) fn not_understood(message: &Message<'_>) -> Option<u16> {
    message.unknown.iter().copied().find(|kind| !UNDERSTOOD.contains(kind))
}

impl Core {
    pub(super) fn datagram<'p>(&mut self, now: Instant, packet: &'p [u8]) -> Input<'p> {
        match packet.first().map(|first| first >> 6) {
            Some(0) => self.framed(now, Framed::Stun(packet)),
            Some(1) => {
                let Some((head, rest)) = packet.split_first_chunk::<4>() else {
                    return Input::Dropped(DropReason::Truncated);
                };
                let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
                let Some(payload) = rest.get(..len) else {
                    return Input::Dropped(DropReason::Truncated);
                };
                let number = u16::from_be_bytes([head[0], head[1]]);
                self.framed(now, Framed::Channel { number, payload })
            }
            _ => Input::Dropped(DropReason::NotTurn),
        }
    }

    pub(super) fn framed<'p>(&mut self, now: Instant, framed: Framed<'p>) -> Input<'p> {
        if matches!(self.phase, Phase::Ended | Phase::Reconnecting) {
            return Input::Dropped(DropReason::Ended);
        }
        let packet = match framed {
            Framed::Channel { number, payload } => {
                return match self.peers.peer_on(number) {
                    Some(from) => Input::Data { from, payload },
                    None => Input::Dropped(DropReason::UnknownChannel(number)),
                };
            }
            Framed::Stun(packet) => packet,
        };
        let outcome =
            Message::decode(packet).map_err(DecodeError::into).and_then(|message| match message.class {
                Class::Indication => self.indication(now, &message),
                Class::Success | Class::Error => self.response(now, &message).map(|()| Input::Taken),
                Class::Request => Err(DropReason::Unexpected),
            });
        outcome.unwrap_or_else(Input::Dropped)
    }

    fn indication<'p>(&mut self, now: Instant, message: &Message<'p>) -> Result<Input<'p>, DropReason> {
        let peer = || {
            find(message, attribute::XOR_PEER_ADDRESS)
                .and_then(|value| xor_address(value, &message.transaction))
                .ok_or(DropReason::Incomplete)
        };
        match message.method {
            method::DATA => {
                let from = peer()?;
                if !self.peers.permissions.contains_key(&from.ip()) {
                    return Err(DropReason::NotPermitted(from.ip()));
                }
                if let Some(payload) = find(message, attribute::DATA) {
                    return Ok(Input::Data { from, payload });
                }
                // Two reserved bytes, type, code, and four bytes of detail.
                let icmp = find(message, attribute::ICMP).ok_or(DropReason::Incomplete)?;
                let [_, _, kind, code, ..] = *icmp else { return Err(DropReason::Incomplete) };
                self.events.push_back(Event::Unreachable { peer: from, kind, code });
                Ok(Input::Taken)
            }
            method::CONNECTION_ATTEMPT if matches!(self.phase, Phase::Allocated(_)) => {
                let peer = peer()?;
                let id = find(message, attribute::CONNECTION_ID).and_then(word);
                let id = id.ok_or(DropReason::Incomplete)?;
                if !matches!(self.config.relay, Relay::Tcp(_)) {
                    return Err(DropReason::Unexpected);
                }
                if !self.peers.permissions.contains_key(&peer.ip()) {
                    return Err(DropReason::NotPermitted(peer.ip()));
                }
                while self.incoming.front().is_some_and(|came| *came + INCOMING <= now) {
                    self.incoming.pop_front();
                }
                if self.incoming.len() >= self.config.connections {
                    return Err(DropReason::TooManyConnections);
                }
                self.incoming.push_back(now);
                self.peer_connection(now, true, peer, id);
                Ok(Input::Taken)
            }
            _ => Err(DropReason::Unexpected),
        }
    }

    fn peer_connection(&mut self, now: Instant, incoming: bool, peer: SocketAddr, id: u32) {
        let mut seed = [0; 32];
        rand::Rng::fill_bytes(&mut self.rng, &mut seed);
        let dial = Dial {
            server: self.server,
            peer,
            id,
            auth: self.auth.clone(),
            credentials: self.config.credentials.clone(),
            patience: self.config.patience(),
            stale_nonces: self.config.stale_nonces,
            max_message: self.config.max_message,
        };
        let connection = Box::new(DataConnection::new(dial, now, seed));
        self.events.push_back(Event::PeerConnection { incoming, connection });
    }

    fn response(&mut self, now: Instant, message: &Message<'_>) -> Result<(), DropReason> {
        let id = message.transaction;
        let request = self
            .requests
            .get_mut(&id)
            .filter(|request| request.purpose.method() == message.method)
            .ok_or(DropReason::UnknownTransaction)?;
        let refusal = Refusal::of(message);
        if request.authenticated {
            let proof = match &self.auth {
                Some(auth) => auth.verify(message),
                None => Err(IntegrityError::Missing),
            };
            let challenges = matches!(refusal, Some(Refusal::Unauthenticated | Refusal::StaleNonce))
                && !message.has_integrity();
            if proof.is_err() && !challenges {
                // It may be anybody's, so it decides nothing; but if nothing better comes, it explains.
                request.hint = Some(match (proof, refusal) {
                    (Err(IntegrityError::Missing), Some(refusal)) => Failure::Unproven(refusal),
                    _ => Failure::Forged,
                });
                return Err(DropReason::Unproven);
            }
        }
        let request = self.requests.remove(&id).expect("it was found above");
        self.timers.clear(Timer::Request(id));
        let outcome = match (message.class, not_understood(message)) {
            (_, Some(kind)) => Err(BadAnswer::UnknownAttribute(kind).into()),
            (Class::Success, None) => {
                self.succeeded(now, request.purpose, message).map_err(Failure::BadAnswer)
            }
            (_, None) => self.refused(now, &request, refusal, message),
        };
        if let Err(reason) = outcome {
            self.failed(now, request.purpose, reason);
        }
        self.start_waiting(now);
        Ok(())
    }

    // An error response: the request goes on in another way, or the error says why not.
    fn refused(
        &mut self,
        now: Instant,
        request: &Request,
        refusal: Option<Refusal>,
        message: &Message<'_>,
    ) -> Result<(), Failure> {
        let refusal = refusal.ok_or(BadAnswer::NoCode)?;
        let stale = match refusal {
            Refusal::Unauthenticated if request.authenticated => return Err(Failure::WrongCredentials),
            Refusal::Unauthenticated => request.stale,
            Refusal::StaleNonce if request.stale >= self.config.stale_nonces => {
                return Err(Failure::StaleNonces);
            }
            Refusal::StaleNonce => request.stale + 1,
            Refusal::TryAlternate if request.purpose == Purpose::Allocate => {
                return self.redirect(now, message);
            }
            other => return Err(Failure::Refused(other)),
        };
        let credentials = self.config.credentials.as_ref().ok_or(Failure::CredentialsRequired)?;
        self.auth = Some(Auth::answer(message, credentials, self.auth.as_ref())?);
        self.request(now, request.purpose, stale);
        Ok(())
    }

    fn redirect(&mut self, now: Instant, message: &Message<'_>) -> Result<(), Failure> {
        let to = find(message, attribute::ALTERNATE_SERVER).and_then(address);
        let to = to.filter(|to| is_host(*to) && to.is_ipv4() == self.server.is_ipv4());
        let to = to.ok_or(Failure::BadRedirect)?;
        if self.asked.contains(&to) {
            return Err(Failure::RedirectLoop(to));
        }
        if self.asked.len() > usize::from(self.config.redirects) {
            return Err(Failure::TooManyRedirects(to));
        }
        self.asked.push(to);
        self.server = to;
        // Another server has another realm and other nonces.
        self.auth = None;
        if self.config.transport.is_stream() {
            let domain = find(message, attribute::ALTERNATE_DOMAIN)
                .and_then(|name| std::str::from_utf8(name).ok())
                .filter(|name| name.len() <= 255)
                .map(str::to_owned);
            self.phase = Phase::Reconnecting;
            self.events.push_back(Event::Reconnect { server: to, domain });
        } else {
            self.request(now, Purpose::Allocate, 0);
        }
        Ok(())
    }

    fn succeeded(&mut self, now: Instant, purpose: Purpose, message: &Message<'_>) -> Result<(), BadAnswer> {
        match purpose {
            Purpose::Allocate => {
                let allocation = self.read_allocation(message)?;
                self.timers.clear(Timer::Deadline);
                self.timers.set(Timer::Refresh, now + refresh_after(allocation.lifetime));
                if !self.config.transport.is_stream() {
                    self.timers.set(Timer::KeepAlive, now + self.config.keep_alive);
                }
                self.events.push_back(Event::Allocated(allocation.clone()));
                self.phase = Phase::Allocated(allocation);
            }
            Purpose::Refresh => {
                let lifetime = read_lifetime(message)?;
                if let Phase::Allocated(allocation) = &mut self.phase {
                    allocation.lifetime = lifetime;
                }
                self.timers.set(Timer::Refresh, now + refresh_after(lifetime));
            }
            Purpose::Release => self.finish(Event::Closed),
            Purpose::Permission(ip) => {
                // Forgotten meanwhile, it is not renewed.
                if let Some(permission) = self.peers.permissions.get_mut(&ip) {
                    if *permission == Permission::Asked {
                        *permission = Permission::Installed;
                        self.events.push_back(Event::Permitted(ip));
                    }
                    self.timers.set(Timer::Permission(ip), now + PERMISSION_RENEWAL);
                }
            }
            Purpose::Channel(peer, _) => {
                let wanted = |state| matches!(state, ChannelState::Asked | ChannelState::Bound { .. });
                if self.peers.channel(peer).is_some_and(|channel| wanted(channel.state)) {
                    let until = now + Duration::from_secs(CHANNEL_SECS);
                    self.peers.set_channel(peer, ChannelState::Bound { until });
                    self.timers.set(Timer::Channel(peer), now + CHANNEL_RENEWAL);
                }
            }
            Purpose::Connect(peer) => {
                let id = find(message, attribute::CONNECTION_ID).and_then(word);
                let id = id.ok_or(BadAnswer::ConnectionId)?;
                self.connecting.remove(&peer);
                self.peer_connection(now, false, peer, id);
            }
        }
        Ok(())
    }

    fn read_allocation(&self, message: &Message<'_>) -> Result<Allocation, BadAnswer> {
        let wanted = |family| match self.config.relay {
            Relay::Udp(only) | Relay::Tcp(only) => family == only,
            Relay::UdpBoth => true,
        };
        // Family, a reserved byte, and the two bytes of an error code.
        let missing = find(message, attribute::ADDRESS_ERROR_CODE)
            .or_else(|| find(message, attribute::COTURN_ADDRESS_ERROR_CODE))
            .and_then(|value| match *value {
                [family, _, class, number, ..] => Some((
                    Family::from_code(family)?,
                    Refusal::from_code(u16::from(class & 7) * 100 + u16::from(number)),
                )),
                _ => None,
            });
        let mut relayed: Vec<SocketAddr> = Vec::new();
        for (kind, value) in message.attributes() {
            if kind == attribute::XOR_RELAYED_ADDRESS {
                let address = xor_address(value, &message.transaction).ok_or(BadAnswer::Relayed)?;
                if missing.is_some() && address.ip().is_unspecified() {
                    // So coturn writes the address that it did not give.
                    continue;
                }
                let family = Family::of(address.ip());
                let twice = relayed.iter().any(|other| Family::of(other.ip()) == family);
                if twice || !wanted(family) || !is_host(address) {
                    return Err(BadAnswer::Relayed);
                }
                relayed.push(address);
            }
        }
        if relayed.is_empty() {
            return Err(BadAnswer::Relayed);
        }
        Ok(Allocation {
            server: self.server,
            relayed,
            missing,
            mapped: message.mapped_address.ok_or(BadAnswer::Mapped)?,
            lifetime: read_lifetime(message)?,
            software: message
                .software
                .filter(|name| !name.is_empty())
                .map(|name| name.chars().take(128).collect()),
        })
    }
}

fn read_lifetime(message: &Message<'_>) -> Result<Duration, BadAnswer> {
    match find(message, attribute::LIFETIME).and_then(word) {
        None | Some(0) => Err(BadAnswer::Lifetime),
        Some(seconds) => Ok(Duration::from_secs(seconds.into()).min(MAX_LIFETIME)),
    }
}

fn refresh_after(lifetime: Duration) -> Duration {
    lifetime.saturating_sub(REFRESH_MARGIN).max(lifetime / 2).max(MIN_REFRESH)
}

/// Whether an address can be that of one host.
fn is_host(address: SocketAddr) -> bool {
    let broadcast = matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast() && !broadcast
}

/// Whether a response belongs to a request of `method`.
pub(super) fn answers(message: &Message<'_>, method: u16, id: TransactionId) -> bool {
    message.method == method
        && message.transaction == id
        && matches!(message.class, Class::Success | Class::Error)
}
