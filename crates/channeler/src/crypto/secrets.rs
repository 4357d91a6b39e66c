use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Opener, Sealer, Suite, header::HeaderKey};
use crate::{ChannelId, Side};

const HEADER: &[u8] = b"channeler v1 header";
const CHANNEL: &[u8] = b"channeler v1 channel";

/// What both ends of a connection share, and nobody else: the outcome of a handshake.
pub(crate) struct ConnectionSecrets {
    suite: Suite,
    initiator: Prk,
    responder: Prk,
}

impl ConnectionSecrets {
    /// From the two secrets that Noise's `Split()` gives, the initiator's direction first, and the handshake hash.
    pub(crate) fn new(suite: Suite, initiator: &[u8; 32], responder: &[u8; 32], hash: &[u8; 32]) -> Self {
        let salt = Salt::new(HKDF_SHA256, hash);
        Self { suite, initiator: salt.extract(initiator), responder: salt.extract(responder) }
    }

    /// What this side seals with and opens with.
    pub(crate) fn split(self, side: Side) -> (Sealer, Opener) {
        let (send, receive) = match side {
            Side::Initiator => (self.initiator, self.responder),
            Side::Responder => (self.responder, self.initiator),
        };
        (Sealer::new(Direction::new(self.suite, send)), Opener::new(Direction::new(self.suite, receive)))
    }
}

impl fmt::Debug for ConnectionSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSecrets").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// The secrets of one direction.
pub(super) struct Direction {
    pub(super) suite: Suite,
    pub(super) header: HeaderKey,
    secret: Prk,
}

impl Direction {
    fn new(suite: Suite, secret: Prk) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        expand(&secret, &[HEADER], &mut *key);
        Self { suite, header: HeaderKey::new(suite, &key), secret }
    }

    /// Key and IV of a channel.
    pub(super) fn channel(&self, channel: ChannelId, generation: u32) -> (Zeroizing<[u8; 32]>, [u8; 12]) {
        let mut material = [0; 44];
        expand(&self.secret, &[CHANNEL, &channel.0.to_be_bytes(), &generation.to_be_bytes()], &mut material);
        let (mut key, mut iv) = (Zeroizing::new([0; 32]), [0; 12]);
        key.copy_from_slice(&material[..32]);
        iv.copy_from_slice(&material[32..]);
        material.zeroize();
        (key, iv)
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand with SHA-256; the parts of `info` are joined.
pub(crate) fn expand(secret: &Prk, info: &[&[u8]], out: &mut [u8]) {
    secret
        .expand(info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("lengths here are far below 255 blocks of SHA-256");
}
