//! Header protection.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit as _, StreamCipher as _, StreamCipherSeek as _},
};
use zeroize::Zeroizing;

use super::{HEADER_LEN, Suite};

/// Masks the headers of one direction.
#[expect(clippy::large_enum_variant, reason = "two in a connection, and the larger one is the usual one")]
pub(super) enum HeaderKey {
    Aes(EncryptingKey),
    ChaCha(Zeroizing<[u8; 32]>),
}

impl HeaderKey {
    pub(super) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        match suite {
            Suite::Aes256Gcm => Self::Aes(
                UnboundCipherKey::new(&AES_256, key)
                    .and_then(EncryptingKey::ecb)
                    .expect("AES-256 takes any 32 bytes"),
            ),
            Suite::ChaCha20Poly1305 => Self::ChaCha(Zeroizing::new(*key)),
        }
    }

    /// Masks or unmasks the header of a packet of at least 32 bytes.
    #[inline]
    pub(super) fn apply(&self, packet: &mut [u8]) {
        let (header, rest) = packet.split_first_chunk_mut::<HEADER_LEN>().expect("packets have a header");
        let sample = rest.first_chunk().expect("a tag follows every header");
        let mask = self.mask(sample);
        let masked: &mut [u8; 8] = header.first_chunk_mut().expect("a header has 16 bytes");
        let bits = u64::from_be_bytes(mask) & 0x03FF_FFFF_FFFF_FFFF;
        *masked = (u64::from_be_bytes(*masked) ^ bits).to_be_bytes();
    }

    #[inline]
    fn mask(&self, sample: &[u8; 16]) -> [u8; 8] {
        match self {
            Self::Aes(key) => {
                let mut block = *sample;
                key.less_safe_encrypt(&mut block, EncryptionContext::None)
                    .expect("ECB takes whole blocks and no context");
                *block.first_chunk().expect("a block has 16 bytes")
            }
            Self::ChaCha(key) => {
                let (counter, nonce) = sample.split_first_chunk().expect("a sample has 16 bytes");
                let nonce: &[u8; 12] = nonce.first_chunk().expect("a sample has 16 bytes");
                let mut cipher = ChaCha20::new((&**key).into(), nonce.into());
                cipher.seek(u64::from(u32::from_le_bytes(*counter)) * 64);
                let mut mask = [0; 8];
                cipher.apply_keystream(&mut mask);
                mask
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_of_chacha_is_the_one_of_rfc_9001() {
        // RFC 9001 section A.5.
        let key = hex::decode("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4").unwrap();
        let sample = hex::decode("5e5cd55c41f69080575d7999c25a5bfb").unwrap();
        let key = HeaderKey::new(Suite::ChaCha20Poly1305, key[..].try_into().unwrap());
        let mask = key.mask(sample[..].try_into().unwrap());
        assert_eq!(hex::encode(&mask[..5]), "aefefe7d03");
    }

    #[test]
    fn the_block_of_aes_is_the_one_of_fips_197() {
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let sample = hex::decode("00112233445566778899aabbccddeeff").unwrap();
        let mask = HeaderKey::new(Suite::Aes256Gcm, &key).mask(sample[..].try_into().unwrap());
        assert_eq!(hex::encode(mask), "8ea2b7ca516745bf");
    }
}
