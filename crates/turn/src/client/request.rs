//! Requests to the server: how each is written, repeated and given up.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use towline_ice::stun::{Class, Encoder, TransactionId};

use super::config::{Config, Relay};
use super::event::Failure;
use crate::auth::Auth;
use crate::wire::{Family, PROTOCOL_TCP, PROTOCOL_UDP, attribute, method};

/// What a request is for; enough to write it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Allocate,
    Refresh,
    /// Gives the allocation back.
    Release,
    Permission(IpAddr),
    Channel(SocketAddr, u16),
    Connect(SocketAddr),
}

impl Purpose {
    pub(super) fn method(self) -> u16 {
        match self {
            Self::Allocate => method::ALLOCATE,
            Self::Refresh | Self::Release => method::REFRESH,
            Self::Permission(_) => method::CREATE_PERMISSION,
            Self::Channel(..) => method::CHANNEL_BIND,
            Self::Connect(_) => method::CONNECT,
        }
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) purpose: Purpose,
    pub(super) packet: Bytes,
    /// Its answer must prove that it comes from who knows the password.
    pub(super) authenticated: bool,
    /// How often it may still be sent.
    pub(super) tries_left: u8,
    pub(super) wait: Duration,
    /// Nonces called stale so far.
    pub(super) stale: u8,
    /// What answers that do not count said.
    pub(super) hint: Option<Failure>,
}

impl Request {
    pub(super) fn new(
        config: &Config,
        auth: Option<&Auth>,
        id: TransactionId,
        purpose: Purpose,
        stale: u8,
    ) -> Self {
        let request = encode(config, purpose, id);
        let packet = match auth {
            Some(auth) => auth.seal(request),
            None => request.finish(None),
        };
        let (tries_left, wait) = match (config.transport.is_stream(), purpose) {
            (_, Purpose::Connect(_)) => (0, config.connect_within),
            (true, _) => (0, config.patience()),
            (false, _) => (config.tries.max(1) - 1, config.rto),
        };
        Self { purpose, packet, authenticated: auth.is_some(), tries_left, wait, stale, hint: None }
    }

    /// The time to repeat or give up has come: whether it is to be sent again, and until when to wait then.
    pub(super) fn repeat(&mut self, now: Instant) -> Option<Instant> {
        self.tries_left = self.tries_left.checked_sub(1)?;
        self.wait = self.wait.saturating_mul(2);
        Some(now + self.wait)
    }
}

fn encode(config: &Config, purpose: Purpose, id: TransactionId) -> Encoder {
    let mut request = Encoder::new(Class::Request, purpose.method(), id);
    if let Some(software) = &config.software {
        request = request.software(software);
    }
    let peer = |request: Encoder, ip: IpAddr, port| {
        request.xor_address(attribute::XOR_PEER_ADDRESS, SocketAddr::new(ip, port))
    };
    let lifetime = |request: Encoder, secs: u32| request.attribute(attribute::LIFETIME, &secs.to_be_bytes());
    match purpose {
        Purpose::Allocate => {
            let (protocol, family) = match config.relay {
                Relay::Udp(family) => (PROTOCOL_UDP, Some(family)),
                Relay::UdpBoth => (PROTOCOL_UDP, None),
                Relay::Tcp(family) => (PROTOCOL_TCP, Some(family)),
            };
            let request = request.attribute(attribute::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0]);
            let request = lifetime(request, seconds(config.lifetime));
            match family {
                // The default; servers without IPv6 may not know the attribute.
                Some(Family::V4) => request,
                Some(family) => {
                    request.attribute(attribute::REQUESTED_ADDRESS_FAMILY, &[family.code(), 0, 0, 0])
                }
                // Whoever does not know one of the two ignores it.
                None => {
                    let family = [Family::V6.code(), 0, 0, 0];
                    request
                        .attribute(attribute::ADDITIONAL_ADDRESS_FAMILY, &family)
                        .attribute(attribute::COTURN_ADDITIONAL_ADDRESS_FAMILY, &family)
                }
            }
        }
        Purpose::Refresh => lifetime(request, seconds(config.lifetime)),
        Purpose::Release => lifetime(request, 0),
        Purpose::Permission(ip) => peer(request, ip, 0),
        Purpose::Channel(to, number) => {
            let [high, low] = number.to_be_bytes();
            peer(request.attribute(attribute::CHANNEL_NUMBER, &[high, low, 0, 0]), to.ip(), to.port())
        }
        Purpose::Connect(to) => peer(request, to.ip(), to.port()),
    }
}

// Zero would mean to give the allocation back.
fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).max(1)
}
