//! Cookies: what a side that stores nothing knows its own words by (`spec/channeler.md` section 2.2).

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use aws_lc_rs::hmac;

use crate::PeerId;

/// Four bytes that only their maker can check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(
    /// Most significant byte first on the wire.
    pub u32,
);

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Cookie {
    /// The initiator's cookie as the reference makes it: CRC-32 over a secret, both peers and the initiator's half.
    #[must_use]
    pub fn first(secret: &[u8], initiator: PeerId, responder: PeerId, half: u16) -> Self {
        Self::checksum(secret, initiator, responder, &half.to_be_bytes())
    }

    /// The responder's cookie as the reference makes it: CRC-32 over a secret, both peers and the channel.
    #[must_use]
    pub fn second(secret: &[u8], initiator: PeerId, responder: PeerId, id: u32) -> Self {
        Self::checksum(secret, initiator, responder, &id.to_be_bytes())
    }

    fn checksum(secret: &[u8], initiator: PeerId, responder: PeerId, channel: &[u8]) -> Self {
        let mut checksum = crc32fast::Hasher::new();
        for part in [secret, &initiator.0, &responder.0, channel] {
            checksum.update(part);
        }
        Self(checksum.finalize())
    }
}

/// How an endpoint makes its cookies. Peers cannot tell the difference.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Cookies {
    /// By a keyed hash over peers, channel, address and time: good for the address that it was sent to, for half a
    /// minute to a minute. The key comes from the endpoint's seed.
    #[default]
    Keyed,
    /// As the reference does: a checksum, from one value of which all others follow. For the replay of captured packets.
    Checksum {
        /// What goes before the rest.
        secret: Vec<u8>,
    },
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyed => "Keyed",
            Self::Checksum { .. } => "Checksum",
        })
    }
}

/// What a cookie speaks of.
#[derive(Clone, Copy)]
pub(super) enum Subject {
    /// The first cookie: the initiator's half.
    Half(u16),
    /// The second: the whole id.
    Id(u32),
}

/// Makes cookies.
#[derive(Debug)]
pub(super) struct Baker {
    cookies: Cookies,
    key: hmac::Key,
}

impl Baker {
    pub(super) fn new(cookies: Cookies, key: [u8; 32]) -> Self {
        Self { cookies, key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }

    /// The cookie of an epoch.
    pub(super) fn bake(
        &self,
        epoch: u64,
        address: SocketAddr,
        initiator: PeerId,
        responder: PeerId,
        subject: Subject,
    ) -> Cookie {
        match (&self.cookies, subject) {
            (Cookies::Checksum { secret }, Subject::Half(half)) => {
                Cookie::first(secret, initiator, responder, half)
            }
            (Cookies::Checksum { secret }, Subject::Id(id)) => {
                Cookie::second(secret, initiator, responder, id)
            }
            (Cookies::Keyed, subject) => {
                let mut mac = hmac::Context::with_key(&self.key);
                mac.update(&epoch.to_be_bytes());
                match address.ip() {
                    IpAddr::V4(ip) => mac.update(&ip.to_ipv6_mapped().octets()),
                    IpAddr::V6(ip) => mac.update(&ip.octets()),
                }
                mac.update(&address.port().to_be_bytes());
                mac.update(&initiator.0);
                mac.update(&responder.0);
                match subject {
                    Subject::Half(half) => mac.update(&half.to_be_bytes()),
                    Subject::Id(id) => mac.update(&id.to_be_bytes()),
                }
                let tag = mac.sign();
                let word = tag.as_ref().first_chunk().expect("SHA-256 has more than four bytes");
                Cookie(u32::from_be_bytes(*word))
            }
        }
    }
}
