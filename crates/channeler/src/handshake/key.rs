use std::{fmt, sync::Arc};

use aws_lc_rs::{
    agreement::{self, PrivateKey, UnparsedPublicKey, X25519},
    digest::{Context, SHA256},
    hkdf::{HKDF_SHA256, Prk, Salt},
};
use zeroize::Zeroizing;

use crate::{PeerId, crypto};

const PEER_ID: &[u8] = b"channeler v1 peer";
const SECRET: &[u8] = b"channeler v1 static secret";

/// The private X25519 key by which a peer is known. Cloning is cheap; the key is wiped with the last clone.
#[derive(Clone)]
pub struct StaticKey {
    private: Arc<Private>,
    public: [u8; 32],
}

/// The key, and what other secrets of its holder are derived from.
struct Private {
    agreement: PrivateKey,
    root: Prk,
}

impl StaticKey {
    /// From 32 secret bytes, all of them random (RFC 7748 section 5 makes a key of any).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let agreement =
            PrivateKey::from_private_key(&X25519, &*bytes).expect("any 32 bytes are an X25519 key");
        let root = Salt::new(HKDF_SHA256, SECRET).extract(&*bytes);
        let point = agreement.compute_public_key().expect("a private key has a public one");
        let public = point.as_ref().try_into().expect("public keys of X25519 have 32 bytes");
        Self { private: Arc::new(Private { agreement, root }), public }
    }

    /// The public half: what others dial.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The id that follows from it.
    pub fn id(&self) -> PeerId {
        PeerId::of_static(&self.public)
    }

    /// The secret shared with the holder of another key. `None` if that key is one of the few that share nothing with anybody.
    pub(super) fn agree(&self, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let public = UnparsedPublicKey::new(&X25519, public);
        agreement::agree(&self.private.agreement, public, (), |secret| {
            let mut bytes = Zeroizing::new([0; 32]);
            bytes.copy_from_slice(secret);
            Ok(bytes)
        })
        .ok()
    }

    /// Another secret of whoever has the key, the same each time: `Expand(Extract("channeler v1 static secret", key), label, 32)`.
    pub(crate) fn derive(&self, label: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut secret = Zeroizing::new([0; 32]);
        crypto::expand(&self.private.root, label, &mut *secret);
        secret
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StaticKey").field(&self.id()).finish()
    }
}

impl PeerId {
    /// The id of whoever has the static key with this public half: first 16 bytes of SHA-256("channeler v1 peer" ‖ key).
    pub fn of_static(public: &[u8; 32]) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(PEER_ID);
        hash.update(public);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finish().as_ref()[..16]);
        Self(id)
    }
}
