//! Secrets under a password (`spec/dht.md` 3.9).

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::aead::{AES_KEY_LEN, open_gcm, seal_gcm};
use crate::{DecryptError, stretched_hash};

const SALT_LEN: usize = 16;

/// Passes of Argon2i.
const PASSES: u32 = 16;
/// Memory of Argon2i, in KiB.
const MEMORY_KIB: u32 = 64 * 1024;
const LANES: u32 = 1;
/// Output of Argon2i, before it is hashed to the length wanted.
const RAW_LEN: usize = 32;

/// Longest blob that is opened, in bytes: far above any archive of an account.
pub const MAX_BLOB_LEN: usize = 64 * 1024 * 1024;

/// Makes a key of `len` (at most 64) bytes from a password and at least 8 bytes of salt. Takes about
/// 1 s and 64 MiB, on purpose.
#[doc(alias = "stretchKey")]
pub fn stretch_key(password: &str, salt: &[u8], len: usize) -> Result<Zeroizing<Vec<u8>>, StretchError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(RAW_LEN)).expect("constants in range");
    let argon2 = Argon2::new(Algorithm::Argon2i, Version::V0x13, params);
    let mut raw = Zeroizing::new([0; RAW_LEN]);
    argon2.hash_password_into(password.as_bytes(), salt, &mut *raw).map_err(|_| StretchError)?;
    Ok(Zeroizing::new(stretched_hash(&*raw, len)))
}

/// The salt is shorter than 8 bytes, or there is no memory for the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the salt is shorter than 8 bytes, or 64 MiB of memory cannot be had")]
pub struct StretchError;

/// Encrypts under a password: salt, nonce, AES-256-GCM ciphertext, tag.
#[doc(alias = "aesEncrypt")]
pub fn seal_with_password(plain: &[u8], password: &str) -> Result<Vec<u8>, StretchError> {
    let mut salt = [0; SALT_LEN];
    rand::fill(&mut salt).expect("the operating system has randomness");
    let key = key(password, &salt)?;
    let mut out = salt.to_vec();
    seal_gcm(&key, plain, &mut out).expect("the operating system has randomness");
    Ok(out)
}

/// Opens what [`seal_with_password`] or OpenDHT's `aesEncrypt` made.
#[doc(alias = "aesDecrypt")]
pub fn open_with_password(blob: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    if blob.len() > MAX_BLOB_LEN {
        return Err(DecryptError);
    }
    let (salt, sealed) = blob.split_first_chunk::<SALT_LEN>().ok_or(DecryptError)?;
    let key = key(password, salt).map_err(|_| DecryptError)?;
    open_gcm(&*key, sealed).map(Zeroizing::new)
}

fn key(password: &str, salt: &[u8; SALT_LEN]) -> Result<Zeroizing<[u8; AES_KEY_LEN]>, StretchError> {
    let stretched = stretch_key(password, salt, AES_KEY_LEN)?;
    let mut key = Zeroizing::new([0; AES_KEY_LEN]);
    key.copy_from_slice(&stretched);
    Ok(key)
}
