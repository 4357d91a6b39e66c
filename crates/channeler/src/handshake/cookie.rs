//! Cookies: proof that a peer gets what is sent to its address, without remembering the peer.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use aws_lc_rs::{constant_time, hmac};

use super::message::{self, COOKIE_LEN, Message};
use crate::{
    Route,
    wire::handshake::{HandshakePacket, put_packet},
};

/// How long the secret of one epoch is current. A cookie of the epoch before is taken too.
const EPOCH: Duration = Duration::from_secs(10);
/// Smallest datagram that begins a handshake: the answer is never larger.
const LEAST_DATAGRAM: usize = 1200;

/// The secret behind an endpoint's cookies.
///
/// A cookie is the lowest byte of the number of its epoch, then 16 bytes: the first of HMAC-SHA-256 over
/// epoch (u64) ‖ family (4, 6, or 0 for a stream) ‖ address ‖ port (u16; for a stream its number, u32) ‖ sender field of the packet, which
/// names the attempt.
pub(crate) struct Cookies {
    key: hmac::Key,
    start: Instant,
}

impl Cookies {
    /// `seed` is used for nothing else.
    pub(crate) fn new(seed: [u8; 32], now: Instant) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &seed), start: now }
    }

    /// Whether the packet has a fragment of a first message, and so may begin a handshake. `size`: that of its datagram.
    pub(crate) fn may_begin(packet: &HandshakePacket<'_>, route: Route, size: usize) -> bool {
        (route.is_stream() || size >= LEAST_DATAGRAM)
            && message::parse(packet.payload)
                .any(|message| matches!(message, Message::Fragment { message: 0, bytes: [_, ..], .. }))
    }

    /// Whether the packet shows a cookie that was made for its sender and route at most 20 s ago.
    pub(crate) fn check(&self, now: Instant, route: Route, packet: &HandshakePacket<'_>) -> bool {
        let current = self.epoch(now);
        message::parse(packet.payload).any(|message| match message {
            Message::Cookie(cookie) => [current, current.wrapping_sub(1)].into_iter().any(|epoch| {
                let own = self.make(epoch, route, &packet.sender);
                constant_time::verify_slices_are_equal(&own, cookie).is_ok()
            }),
            _ => false,
        })
    }

    /// Appends the packet that asks the sender of a first packet to begin again, with a cookie. It is shorter than that packet.
    pub(crate) fn retry(
        &self,
        now: Instant,
        route: Route,
        packet: &HandshakePacket<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut payload = Vec::with_capacity(COOKIE_LEN + 2);
        message::put_retry(&mut payload, &self.make(self.epoch(now), route, &packet.sender));
        // The attempt stays; no connection id of ours exists.
        let mut own = packet.sender;
        own[..8].fill(0);
        put_packet(out, &own, &packet.sender, &payload, 0)
    }

    fn epoch(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / EPOCH.as_secs()
    }

    fn make(&self, epoch: u64, route: Route, sender: &[u8; 16]) -> [u8; COOKIE_LEN] {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(&epoch.to_be_bytes());
        match route {
            Route::Datagram { remote, .. } => {
                match remote.ip() {
                    IpAddr::V4(ip) => {
                        mac.update(&[4]);
                        mac.update(&ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        mac.update(&[6]);
                        mac.update(&ip.octets());
                    }
                }
                mac.update(&remote.port().to_be_bytes());
            }
            Route::Stream(number) => {
                mac.update(&[0]);
                mac.update(&number.to_be_bytes());
            }
        }
        mac.update(sender);
        let mut cookie = [0; COOKIE_LEN];
        cookie[0] = epoch as u8;
        cookie[1..].copy_from_slice(&mac.sign().as_ref()[..COOKIE_LEN - 1]);
        cookie
    }
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").finish_non_exhaustive()
    }
}
