//! Peers of the vectors, and what tests ask of them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use serde_json::Value;
use towline_channeler::{
    PeerId,
    v0::{Config, Cookies, Endpoint, Event},
};

pub(crate) const A: PeerId = PeerId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0A, 0x11, 0xC3]);
pub(crate) const B: PeerId = PeerId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0B, 0x0B]);

pub(crate) const fn address_of(peer: PeerId) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), peer.0[15] as u16)
}

/// Packets and cookies as in the recorded conversations.
pub(crate) fn as_recorded(secret: &str) -> Config {
    Config {
        packet_size: 120,
        cookies: Cookies::Checksum { secret: secret.as_bytes().to_vec() },
        ..Config::default()
    }
}

pub(crate) fn responder(now: Instant, seed: u64) -> Endpoint {
    Endpoint::new(as_recorded("t1rk3s"), B, A, now, seed_of(seed))
}

pub(crate) fn initiator(now: Instant, seed: u64) -> Endpoint {
    Endpoint::new(as_recorded("s3kr1t"), A, B, now, seed_of(seed))
}

pub(crate) fn seed_of(number: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    seed
}

/// Everything that the endpoint wants to send now.
pub(crate) fn sent(endpoint: &mut Endpoint, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let mut datagram = Vec::new();
        match endpoint.poll_transmit(now, &mut datagram) {
            Some(to) => all.push((to, datagram)),
            None => break all,
        }
    }
}

pub(crate) fn events(endpoint: &mut Endpoint) -> Vec<Event> {
    std::iter::from_fn(|| endpoint.poll_event()).collect()
}

pub(crate) fn vectors(name: &str) -> Value {
    let text = match name {
        "cookies" => include_str!("../vectors/cookies.json"),
        "envelope" => include_str!("../vectors/envelope.json"),
        "handshake" => include_str!("../vectors/handshake.json"),
        "messages" => include_str!("../vectors/messages.json"),
        "primitives" => include_str!("../vectors/primitives.json"),
        "responder_behaviour" => include_str!("../vectors/responder_behaviour.json"),
        other => panic!("no vectors {other}"),
    };
    serde_json::from_str(text).expect("vectors are JSON")
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is a text in {value}"))
}

pub(crate) fn bytes(value: &Value, key: &str) -> Vec<u8> {
    hex::decode(text(value, key)).expect("hexadecimal")
}

/// A hexadecimal number.
pub(crate) fn word(value: &Value, key: &str) -> u32 {
    u32::from_str_radix(text(value, key), 16).expect("hexadecimal")
}

pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is a list"))
}
