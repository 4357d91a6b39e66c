//! The half of the handshake that a quantum computer does not break: ML-KEM-768 (FIPS 203).

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use libcrux_ml_kem::mlkem768::{self, MlKem768Ciphertext, MlKem768KeyPair, MlKem768PublicKey};
use rand::{RngExt as _, rngs::StdRng};
use zeroize::Zeroizing;

use super::noise::sha256;

/// Bytes of an encapsulation key.
pub(super) const KEY_LEN: usize = 1184;
/// Bytes of a ciphertext.
pub(super) const CIPHERTEXT_LEN: usize = 1088;

const LABEL: &[u8] = b"channeler v1 hybrid";

/// The initiator's key pair.
pub(super) struct KeyPair(Box<MlKem768KeyPair>);

impl KeyPair {
    pub(super) fn generate(rng: &mut StdRng) -> Self {
        Self(Box::new(mlkem768::generate_key_pair(rng.random())))
    }

    /// The encapsulation key.
    pub(super) fn public(&self) -> &[u8; KEY_LEN] {
        self.0.pk()
    }

    /// The pre-shared key for Noise that belongs to this ciphertext. A changed ciphertext gives another one.
    pub(super) fn open(
        &self,
        ciphertext: &[u8; CIPHERTEXT_LEN],
        shared_secret: Option<&[u8; 32]>,
    ) -> Zeroizing<[u8; 32]> {
        let secret = mlkem768::decapsulate(self.0.private_key(), &MlKem768Ciphertext::from(*ciphertext));
        psk(&Zeroizing::new(secret), self.public(), ciphertext, shared_secret)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}

/// The responder's side: a ciphertext for the encapsulation key, and the pre-shared key for Noise. `None` if the key is malformed.
pub(super) fn encapsulate(
    key: &[u8; KEY_LEN],
    shared_secret: Option<&[u8; 32]>,
    rng: &mut StdRng,
) -> Option<([u8; CIPHERTEXT_LEN], Zeroizing<[u8; 32]>)> {
    let public = MlKem768PublicKey::from(*key);
    if !mlkem768::validate_public_key(&public) {
        return None;
    }
    let (ciphertext, secret) = mlkem768::encapsulate(&public, rng.random());
    let ciphertext = *ciphertext.as_slice();
    let psk = psk(&Zeroizing::new(secret), key, &ciphertext, shared_secret);
    Some((ciphertext, psk))
}

/// `Expand(Extract(salt = H(key) ‖ H(ciphertext), ikm = secret ‖ shared secret or zeros), "channeler v1 hybrid", 32)`.
fn psk(
    secret: &[u8; 32],
    key: &[u8; KEY_LEN],
    ciphertext: &[u8; CIPHERTEXT_LEN],
    shared_secret: Option<&[u8; 32]>,
) -> Zeroizing<[u8; 32]> {
    let salt = [sha256(&[key]), sha256(&[ciphertext])].concat();
    let mut material = Zeroizing::new([0; 64]);
    material[..32].copy_from_slice(secret);
    material[32..].copy_from_slice(shared_secret.unwrap_or(&[0; 32]));
    let extracted = Salt::new(HKDF_SHA256, &salt).extract(&*material);
    let mut psk = Zeroizing::new([0; 32]);
    crate::crypto::expand(&extracted, &[LABEL], &mut *psk);
    psk
}
