//! Keys, certificates, ids and trust of Towline devices.
//!
//! A **device** is an RSA key with a chain of certificates: device, account, CA. Everything is named
//! by what it hashes to: the [`DeviceId`] is the SHA-256 of the device's public key, the [`ShortId`]
//! its SHA-1, and the [`AccountId`] the short id of the key that signed the device. What an account gave it can take back
//! with a [`RevocationList`]. Formats are those of OpenDHT and Jami
//! (`spec/connection.md` 2, `spec/dht.md` 3.2–3.4, 3.9 and 5), so identities move between the
//! programs in both directions.
//!
//! Nothing here reads a clock: times are seconds since the Unix epoch, given by the caller. Keys, serial numbers,
//! nonces and salts come from the operating system, because their secrecy is the point of them.

mod aead;
mod certificate;
mod chain;
mod der;
mod file;
mod hash;
mod id;
mod identity;
mod issue;
mod password;
mod private_key;
mod public_key;
mod revocation;
mod signature;
mod store;
mod trust;

pub use certificate::{Certificate, CertificateError, LinkError, MAX_CERTIFICATE_LEN, Name, Validity};
pub use chain::{Chain, ChainError, MAX_CHAIN_CERTIFICATES, MAX_CHAIN_LEN};
pub use file::FileError;
pub use hash::stretched_hash;
pub use id::{AccountId, DeviceId, IdError, ShortId};
pub use identity::{Identity, KeyMismatch};
pub use issue::{GenerateOptions, Hierarchy, IssueError, TEN_YEARS};
pub use password::{MAX_BLOB_LEN, StretchError, open_with_password, seal_with_password, stretch_key};
pub use private_key::{DecryptError, GenerateError, KeySize, PrivateKey, PrivateKeyError};
pub use public_key::{Curve, EncryptError, KeyKind, PublicKey, PublicKeyError, VerifyError};
pub use revocation::{
    MAX_REVOCATION_BYTES, MAX_REVOCATION_BYTES_PER_ISSUER, MAX_REVOCATION_LIST_LEN, RevocationError,
    RevocationList, RevocationListError, Revocations, RevokeError, Revoked,
};
pub use store::{
    CHAIN_FILE, CertificateStore, IdentityFileError, KEY_FILE, SkippedFile, StoreError, StoreLimits,
};
pub use trust::{CertificateId, Distrust, MAX_TRUST_ENTRIES, Trust, TrustError, TrustStore, UnknownPeers};
