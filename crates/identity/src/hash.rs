//! Digests, and the rule by which OpenDHT chooses one (`spec/dht.md` 3.4).

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};

pub(crate) fn sha1(data: &[u8]) -> [u8; 20] {
    array(&SHA1_FOR_LEGACY_USE_ONLY, data)
}

pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    array(&SHA256, data)
}

fn array<const N: usize>(algorithm: &'static Algorithm, data: &[u8]) -> [u8; N] {
    digest(algorithm, data).as_ref().try_into().expect("N is the digest's length")
}

/// OpenDHT's generic hash: SHA-1 for up to 20 bytes of output, SHA-256 for up to 32, else SHA-512;
/// cut to `len`. At most 64 bytes come out.
#[doc(alias = "hash")]
pub fn stretched_hash(data: &[u8], len: usize) -> Vec<u8> {
    let algorithm = match len {
        0..=20 => &SHA1_FOR_LEGACY_USE_ONLY,
        21..=32 => &SHA256,
        _ => &SHA512,
    };
    let mut out = digest(algorithm, data).as_ref().to_vec();
    out.truncate(len);
    out
}
