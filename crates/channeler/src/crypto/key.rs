use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{HEADER_LEN, Suite, TAG_LEN, secrets::Direction};
use crate::{ChannelId, LinkId};

/// Why sealing does not fail.
const SHORT: &str = "a packet is far shorter than the ciphers allow";

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

    /// Encrypts what stands behind the header from `start` on, and appends the tag.
    #[inline]
    pub(super) fn seal(&self, link: LinkId, pn: u64, packet: &mut Vec<u8>, start: usize) {
        let (header, body) = packet[start..].split_at_mut(HEADER_LEN);
        let tag = self
            .aead
            .seal_in_place_separate_tag(self.nonce(link, pn), Aad::from(&*header), body)
            .expect(SHORT);
        packet.extend_from_slice(tag.as_ref());
    }

    /// The same of a packet that goes on with `rest`, which is copied and encrypted at once.
    pub(super) fn seal_with(&self, link: LinkId, pn: u64, packet: &mut Vec<u8>, start: usize, rest: &[u8]) {
        if self.aead.algorithm() != &AES_256_GCM {
            // The library does this byte by byte with the other one.
            packet.extend_from_slice(rest);
            self.seal(link, pn, packet, start);
            return;
        }
        let inside = packet.len();
        packet.resize(inside + rest.len() + TAG_LEN, 0);
        let (before, behind) = packet.split_at_mut(inside);
        let (header, body) = before[start..].split_at_mut(HEADER_LEN);
        self.aead
            .seal_in_place_scatter(self.nonce(link, pn), Aad::from(&*header), body, rest, behind)
            .expect(SHORT);
    }

    /// Decrypts what stands behind the header, in place or to the beginning of `apart`, where it must fit; what is there after a
    /// failure means nothing.
    #[inline]
    pub(super) fn open(
        &self,
        link: LinkId,
        pn: u64,
        packet: &mut [u8],
        apart: Option<&mut [u8]>,
    ) -> Option<usize> {
        let (header, body) = packet.split_at_mut(HEADER_LEN);
        let (nonce, header) = (self.nonce(link, pn), Aad::from(&*header));
        match apart {
            None => self.aead.open_in_place(nonce, header, body).ok().map(|plain| plain.len()),
            Some(apart) => {
                let (cipher, tag) = body.split_at(body.len() - TAG_LEN);
                let apart = apart.get_mut(..cipher.len())?;
                self.aead.open_separate_gather(nonce, header, cipher, tag, apart).ok().map(|()| cipher.len())
            }
        }
    }
}
