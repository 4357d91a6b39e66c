//! Certificates of devices in the handshake.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use towline_identity::{Chain, DeviceId, Identity};

use super::{Credentials, PeerIdentity, Refused, StaticKey, Trust, noise::sha256};
use crate::varint;

const BINDING: &[u8] = b"channeler v1 binding";
/// Longest credentials that are read, in bytes.
pub(super) const MAX_CREDENTIALS: usize = 8192;
/// Credentials whose signatures were found to be right, remembered.
const REMEMBERED: usize = 256;

/// The certificates of a device, and the device's word that a static key is its own.
///
/// The device signs once, when this is made; handshakes carry the result. Layout, with lengths and times as varints:
///
/// ```text
/// time after which the word does not count (seconds since 1970)
/// length, signature: RSA PKCS#1 v1.5 with SHA-512 over "channeler v1 binding" ‖ static key (32 bytes) ‖ that time (u64, big-endian)
/// certificates, DER, leaf first, one after the other to the end
/// ```
#[derive(Clone)]
pub struct Certified {
    payload: Arc<[u8]>,
}

impl Certified {
    /// Signs `key` with the device's key. The word counts until `not_after`, in seconds since 1970.
    pub fn new(identity: &Identity, key: &StaticKey, not_after: i64) -> Self {
        let not_after = u64::try_from(not_after).unwrap_or(0).min(varint::MAX);
        let signature = identity.key().sign(&signed(&key.public(), not_after));
        let mut payload = Vec::new();
        varint::put(&mut payload, not_after);
        varint::put(&mut payload, signature.len() as u64);
        payload.extend_from_slice(&signature);
        for certificate in identity.chain().certificates() {
            payload.extend_from_slice(certificate.der());
        }
        Self { payload: payload.into() }
    }
}

impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certified").field("bytes", &self.payload.len()).finish()
    }
}

impl Credentials for Certified {
    fn payload(&self) -> Arc<[u8]> {
        Arc::clone(&self.payload)
    }
}

fn signed(key: &[u8; 32], not_after: u64) -> Vec<u8> {
    [BINDING, key, &not_after.to_be_bytes()].concat()
}

type Policy = Arc<dyn Fn(&Chain, i64) -> Result<(), Refused> + Send + Sync>;

/// Admits peers by the certificates of their devices.
///
/// Checks that the device bound its static key, and that each certificate was signed by the next; then asks the policy, which gets the
/// chain and the time in seconds since 1970. The policy is asked at every handshake; signatures that were right once are not checked again.
#[derive(Clone)]
pub struct CertifiedPeers {
    policy: Policy,
    remembered: Arc<Mutex<Remembered>>,
}

/// Verified credentials by the hash of key and payload; the oldest is forgotten first.
#[derive(Default)]
struct Remembered {
    entries: BTreeMap<[u8; 32], (u64, Chain, u64)>,
    ages: BTreeMap<u64, [u8; 32]>,
    next: u64,
}

impl CertifiedPeers {
    /// Admits whom the policy admits: look there at the device, the account, revocations, dates.
    pub fn new(policy: impl Fn(&Chain, i64) -> Result<(), Refused> + Send + Sync + 'static) -> Self {
        Self { policy: Arc::new(policy), remembered: Arc::default() }
    }

    /// Admits this device only, while all its certificates are valid.
    pub fn device(device: DeviceId) -> Self {
        Self::new(move |chain, unix_time| {
            if chain.device_id() != device {
                return Err(Refused::WrongDevice);
            }
            chain.verify_validity(unix_time).map_err(|_| Refused::Expired)
        })
    }

    /// The chain that speaks for this key, its signatures checked, and until when it does.
    fn verified(&self, static_key: &[u8; 32], payload: &[u8]) -> Result<(Chain, u64), Refused> {
        let name = sha256(&[static_key, payload]);
        let known = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&name);
        if let Some(known) = known {
            return Ok(known);
        }
        let (chain, not_after) = verify(static_key, payload)?;
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).insert(name, chain.clone(), not_after);
        Ok((chain, not_after))
    }
}

impl fmt::Debug for CertifiedPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertifiedPeers").finish_non_exhaustive()
    }
}

impl Trust for CertifiedPeers {
    fn admit(&self, static_key: &[u8; 32], payload: &[u8], unix_time: i64) -> Result<PeerIdentity, Refused> {
        let (chain, not_after) = self.verified(static_key, payload)?;
        if u64::try_from(unix_time).is_ok_and(|now| now > not_after) {
            return Err(Refused::Expired);
        }
        (self.policy)(&chain, unix_time)?;
        Ok(PeerIdentity { static_key: *static_key, chain: Some(chain) })
    }
}

impl Remembered {
    fn get(&self, name: &[u8; 32]) -> Option<(Chain, u64)> {
        self.entries.get(name).map(|(_, chain, not_after)| (chain.clone(), *not_after))
    }

    fn insert(&mut self, name: [u8; 32], chain: Chain, not_after: u64) {
        if self.entries.len() >= REMEMBERED
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.entries.remove(&oldest);
        }
        if let Some((age, _, _)) = self.entries.insert(name, (self.next, chain, not_after)) {
            self.ages.remove(&age);
        }
        self.ages.insert(self.next, name);
        self.next += 1;
    }
}

fn verify(static_key: &[u8; 32], payload: &[u8]) -> Result<(Chain, u64), Refused> {
    if payload.len() > MAX_CREDENTIALS {
        return Err(Refused::Malformed);
    }
    let mut rest = payload;
    let not_after = varint::get(&mut rest).ok_or(Refused::Malformed)?;
    let length = varint::get(&mut rest).ok_or(Refused::Malformed)?;
    let length = usize::try_from(length).map_err(|_| Refused::Malformed)?;
    let (signature, certificates) = rest.split_at_checked(length).ok_or(Refused::Malformed)?;
    let chain = Chain::unpack(certificates).map_err(|_| Refused::Malformed)?;
    chain.public_key().verify(&signed(static_key, not_after), signature).map_err(|_| Refused::False)?;
    chain.verify_links().map_err(|_| Refused::False)?;
    Ok((chain, not_after))
}
