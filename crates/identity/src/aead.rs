//! AES-GCM as OpenDHT writes it: nonce, ciphertext, tag; no associated data (`spec/dht.md` 3.3).

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;

use crate::DecryptError;

/// Bytes of the keys that we make.
pub(crate) const AES_KEY_LEN: usize = 32;

/// Bytes that sealing adds.
pub(crate) const GCM_OVERHEAD: usize = NONCE_LEN + 16;

/// The cipher for a key of this length: OpenDHT uses 16, 24 and 32 bytes.
pub(crate) fn gcm_for(key_len: usize) -> Option<&'static Algorithm> {
    [&AES_128_GCM, &AES_192_GCM, &AES_256_GCM].into_iter().find(|algorithm| algorithm.key_len() == key_len)
}

/// Appends nonce, ciphertext and tag of `plain`.
pub(crate) fn seal_gcm(key: &[u8; AES_KEY_LEN], plain: &[u8], out: &mut Vec<u8>) -> Result<(), Unspecified> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce)?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?);
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[start..])?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Opens what [`seal_gcm`] made, under a key of any AES length.
pub(crate) fn open_gcm(key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DecryptError> {
    let algorithm = gcm_for(key.len()).ok_or(DecryptError)?;
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(|_| DecryptError)?);
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(DecryptError)?;
    let mut plain = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let len = key.open_in_place(nonce, Aad::empty(), &mut plain).map_err(|_| DecryptError)?.len();
    plain.truncate(len);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/crypto.json")).unwrap();
        let bytes = |name: &str| hex::decode(vectors["aes_gcm"][name].as_str().unwrap()).unwrap();
        assert_eq!(open_gcm(&bytes("key"), &bytes("out")), Ok(bytes("plain")));
        let mut out = Vec::new();
        seal_gcm(bytes("key")[..].try_into().unwrap(), b"data", &mut out).unwrap();
        assert_eq!(out.len(), 4 + GCM_OVERHEAD);
        assert_eq!(open_gcm(&bytes("key"), &out), Ok(b"data".to_vec()));
    }
}
