use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{HEADER_LEN, Suite, TAG_LEN, secrets::Direction};
use crate::{ChannelId, LinkId};

/// Key and IV of one channel, direction and generation, ready for use.
pub(super) struct PacketKey {
    aead: LessSafeKey,
    iv: [u8; 12],
}

impl PacketKey {
    pub(super) fn new(direction: &Direction, channel: ChannelId, generation: u32) -> Self {
        let (key, iv) = direction.channel(channel, generation);
        let algorithm = match direction.suite {
            Suite::Aes256Gcm => &AES_256_GCM,
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, &*key).expect("both ciphers take any 32 bytes");
        Self { aead: LessSafeKey::new(key), iv }
    }

    #[inline]
    fn nonce(&self, link: LinkId, pn: u64) -> Nonce {
        let mut nonce = self.iv;
        let number = u128::from(link.0) << 64 | u128::from(pn);
        for (byte, mask) in nonce.iter_mut().zip(&number.to_be_bytes()[4..]) {
            *byte ^= mask;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts what stands behind the header.
    #[inline]
    pub(super) fn seal(&self, link: LinkId, pn: u64, packet: &mut [u8]) -> [u8; TAG_LEN] {
        let (header, body) = packet.split_at_mut(HEADER_LEN);
        let tag = self
            .aead
            .seal_in_place_separate_tag(self.nonce(link, pn), Aad::from(&*header), body)
            .expect("a packet is far shorter than the ciphers allow");
        let mut bytes = [0; TAG_LEN];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    /// Decrypts what stands behind the header, in place; what is there after a failure means nothing.
    #[inline]
    pub(super) fn open(&self, link: LinkId, pn: u64, packet: &mut [u8]) -> Option<usize> {
        let (header, body) = packet.split_at_mut(HEADER_LEN);
        self.aead.open_in_place(self.nonce(link, pn), Aad::from(&*header), body).ok().map(|plain| plain.len())
    }
}
