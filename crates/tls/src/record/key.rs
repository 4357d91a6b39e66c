//! The key of one direction, and how often it was used.

use std::fmt;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey,
};
use rustls::ConnectionTrafficSecrets as Secrets;

use super::HEADER_LEN;
use crate::TlsError;

/// A key with its nonces (RFC 8446 5.3).
pub(super) struct Key {
    aead: LessSafeKey,
    iv: [u8; NONCE_LEN],
    /// Number of the next record.
    sequence: u64,
}

impl Key {
    /// A key, and the number of the record that it serves next.
    pub(super) fn new((sequence, secrets): (u64, Secrets)) -> Result<Self, TlsError> {
        let (algorithm, key, iv) = match &secrets {
            Secrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            Secrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            Secrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(TlsError::Library),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| TlsError::Library)?;
        let iv = iv.as_ref().try_into().map_err(|_| TlsError::Library)?;
        Ok(Self { aead: LessSafeKey::new(key), iv, sequence })
    }

    /// How many records it served.
    pub(super) fn uses(&self) -> u64 {
        self.sequence
    }

    /// The nonce of the next record. The last number is not used, so that no number comes twice.
    fn nonce(&mut self) -> Result<Nonce, TlsError> {
        let next = self.sequence.checked_add(1).ok_or(TlsError::Exhausted)?;
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence = next;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Decrypts in place. [`TlsError::Tampered`] if this is not the peer's next record.
    pub(super) fn open(&mut self, header: &[u8], ciphertext: &mut [u8], tag: &[u8]) -> Result<(), TlsError> {
        let nonce = self.nonce()?;
        // With the tag apart; the AEAD's other call moves the plaintext once more, even if only to where it is.
        match self.aead.open_in_place_separate_tag(nonce, Aad::from(header), tag, ciphertext) {
            Ok(_) => Ok(()),
            Err(_) => Err(TlsError::Tampered),
        }
    }

    /// Encrypts in place.
    pub(super) fn seal_in_place(
        &mut self,
        header: [u8; HEADER_LEN],
        inner: &mut [u8],
    ) -> Result<Tag, TlsError> {
        let nonce = self.nonce()?;
        self.aead.seal_in_place_separate_tag(nonce, Aad::from(header), inner).map_err(|_| TlsError::Library)
    }

    /// Encrypts `content` and its type into `out`, which has exactly room for both and the tag.
    pub(super) fn seal(
        &mut self,
        header: [u8; HEADER_LEN],
        content: &[u8],
        content_type: u8,
        out: &mut [u8],
    ) -> Result<(), TlsError> {
        let nonce = self.nonce()?;
        let (ciphertext, behind) = out.split_at_mut(content.len());
        self.aead
            .seal_out_of_place_scatter(nonce, Aad::from(header), content, ciphertext, &[content_type], behind)
            .map_err(|_| TlsError::Library)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::cipher::{AeadKey, Iv};

    use super::*;

    fn key(sequence: u64) -> Key {
        let key = AeadKey::from([7; 32]);
        Key::new((sequence, Secrets::Chacha20Poly1305 { key, iv: Iv::copy(&[1; 12]) })).unwrap()
    }

    #[test]
    fn nonces() {
        let mut key = key(0x0102);
        assert_eq!(key.nonce().unwrap().as_ref(), &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 3]);
        assert_eq!(key.nonce().unwrap().as_ref(), &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2]);
        assert_eq!(key.uses(), 0x0104);
    }

    #[test]
    fn numbers_end_before_they_repeat() {
        let mut key = key(u64::MAX - 1);
        assert!(key.seal_in_place([0; 5], &mut [0]).is_ok());
        for _ in 0..3 {
            assert_eq!(key.seal_in_place([0; 5], &mut [0]).err(), Some(TlsError::Exhausted));
            assert_eq!(key.open(&[0; 5], &mut [0], &[0; 16]), Err(TlsError::Exhausted));
        }
    }

    #[test]
    fn both_ways_of_sealing_give_the_same() {
        let mut in_place = *b"content\x17";
        let tag = key(3).seal_in_place([1; 5], &mut in_place).unwrap();
        let mut apart = [0; 8 + 16];
        key(3).seal([1; 5], b"content", 0x17, &mut apart).unwrap();
        assert_eq!([&in_place[..], tag.as_ref()].concat(), apart);
        let (ciphertext, tag) = apart.split_at_mut(8);
        assert_eq!(key(3).open(&[1; 5], ciphertext, tag), Ok(()));
        assert_eq!(ciphertext, b"content\x17");
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", key(5)), "Key { sequence: 5, .. }");
    }
}
