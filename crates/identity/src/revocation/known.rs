//! The revocation lists that somebody knows, and what they say about a chain.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAX_REVOCATION_LIST_LEN, RevocationList, canonical};
use crate::{Certificate, Chain, DeviceId, LinkError, ShortId};

/// Most bytes of lists that [`Revocations`] keeps of one issuer: four of the longest.
pub const MAX_REVOCATION_BYTES_PER_ISSUER: usize = 4 * MAX_REVOCATION_LIST_LEN;

/// Most bytes of lists that [`Revocations`] keeps in all. One of an account with a device lost is 0.7 KiB long.
pub const MAX_REVOCATION_BYTES: usize = 16 * 1024 * 1024;

/// Why a list is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// It was not made by the issuer.
    #[error("not the issuer's revocation list: {0}")]
    Link(#[from] LinkError),
    /// The issuer has made more lists than are kept of one.
    #[error("more than {MAX_REVOCATION_BYTES_PER_ISSUER} bytes of revocation lists of one issuer")]
    IssuerFull,
    /// There are more lists than are kept.
    #[error("more than {MAX_REVOCATION_BYTES} bytes of revocation lists")]
    Full,
}

/// A certificate of the chain was taken back by its issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{certificate} was revoked by its issuer {issuer}")]
pub struct Revoked {
    /// Long id of the key in the certificate: of the device, or of an account above it.
    pub certificate: DeviceId,
    /// Long id of the key that took it back.
    pub issuer: DeviceId,
}

/// Revocation lists, by issuer. What any list of an issuer took back stays so: there is no taking back of that.
///
/// Everybody can publish lists for accounts of his own making, so take lists of accounts that matter only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    issuers: BTreeMap<DeviceId, Issuer>,
    /// Short ids of the same.
    short_ids: BTreeSet<ShortId>,
    /// Bytes of all lists.
    len: usize,
}

/// What is known of one issuer. Equal keys are one issuer, whatever their certificates call them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Issuer {
    lists: Vec<RevocationList>,
    serials: BTreeSet<Vec<u8>>,
    len: usize,
}

impl Revocations {
    /// Knows no list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a list if `issuer` made it. False if it says nothing new; it is not kept then. Lists that say no more than
    /// a new one are dropped.
    pub fn insert(&mut self, list: RevocationList, issuer: &Certificate) -> Result<bool, RevocationError> {
        list.verify_issued_by(issuer)?;
        let known = self.issuers.get(&issuer.device_id());
        let serials: BTreeSet<_> = list.serials().map(canonical).collect();
        if known
            .map_or(serials.is_empty(), |known| serials.iter().all(|serial| known.serials.contains(*serial)))
        {
            return Ok(false);
        }
        let replaced = |old: &RevocationList| old.serials().all(|serial| serials.contains(canonical(serial)));
        let dropped: usize = known
            .iter()
            .flat_map(|known| &known.lists)
            .filter(|old| replaced(old))
            .map(|old| old.der().len())
            .sum();
        let len_of_issuer = known.map_or(0, |known| known.len) - dropped + list.der().len();
        if len_of_issuer > MAX_REVOCATION_BYTES_PER_ISSUER {
            return Err(RevocationError::IssuerFull);
        }
        let len = self.len - dropped + list.der().len();
        if len > MAX_REVOCATION_BYTES {
            return Err(RevocationError::Full);
        }
        self.len = len;
        self.short_ids.insert(issuer.short_id());
        let known = self.issuers.entry(issuer.device_id()).or_default();
        known.len = len_of_issuer;
        known.lists.retain(|old| !replaced(old));
        known.serials.extend(serials.iter().map(|serial| serial.to_vec()));
        known.lists.push(list);
        Ok(true)
    }

    /// Whether any certificate of the chain was taken back by the key that follows it; the top answers for itself.
    /// Whether the chain holds at all is another question: [`Chain::verify_links`].
    pub fn check(&self, chain: &Chain) -> Result<(), Revoked> {
        let certificates = chain.certificates();
        let issuers = certificates.iter().skip(1).chain([chain.top()]);
        for (certificate, issuer) in certificates.iter().zip(issuers) {
            let issuer = issuer.device_id();
            if let Some(known) = self.issuers.get(&issuer)
                && known.serials.contains(canonical(certificate.serial()))
            {
                return Err(Revoked { certificate: certificate.device_id(), issuer });
            }
        }
        Ok(())
    }

    /// Whether any list of this issuer is known.
    pub fn has_lists_of(&self, issuer: ShortId) -> bool {
        self.short_ids.contains(&issuer)
    }

    /// All lists, by the long ids of their issuers' keys; of each issuer in the order in which they came.
    pub fn lists(&self) -> impl Iterator<Item = &RevocationList> {
        self.issuers.values().flat_map(|issuer| &issuer.lists)
    }

    /// The lists that `issuer` made.
    pub fn lists_of(&self, issuer: &Certificate) -> &[RevocationList] {
        self.issuers.get(&issuer.device_id()).map_or(&[], |known| &known.lists)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::super::issue::{Contents, Number, RevokeError};
    use super::*;
    use crate::{Identity, KeySize, PrivateKey, Validity};

    static ACCOUNT: LazyLock<Identity> = LazyLock::new(|| {
        let key = PrivateKey::generate(KeySize::Rsa2048).unwrap();
        Identity::self_signed(key, "x", Validity::ten_years_from(0)).unwrap()
    });

    /// A list of that many serial numbers, like no other.
    fn list(number: u64, count: u64) -> Result<RevocationList, RevokeError> {
        let serials: Vec<_> = (0..count).map(|n| (1 << 62 | number << 32 | n).to_be_bytes()).collect();
        let contents = Contents {
            issuer: ACCOUNT.chain().leaf().subject_der(),
            this_update: 0,
            next_update: 0,
            number: Number::random(),
            entries: serials.iter().map(|serial| (&serial[..], 0)).collect(),
        };
        contents.sign(&ACCOUNT)
    }

    #[test]
    fn memory_is_bounded() {
        let issuer = ACCOUNT.chain().leaf();
        let mut known = Revocations::new();
        let results: Vec<_> = (0..6).map(|n| known.insert(list(n, 2300).unwrap(), issuer)).collect();
        let full = Err(RevocationError::IssuerFull);
        assert_eq!(results, [Ok(true), Ok(true), Ok(true), Ok(true), full, full]);
        assert_eq!(known.lists().count(), 4);
        let sum = known.lists().map(|list| list.der().len()).sum::<usize>();
        assert_eq!((known.len, known.issuers[&issuer.device_id()].len), (sum, sum));
        // One that says no more than what is known is no news, and room is not asked for it.
        assert_eq!(known.insert(list(0, 100).unwrap(), issuer), Ok(false));

        // A place is given back with the list that is replaced.
        let mut known = Revocations::new();
        for count in [1, 100, 2300, 2301] {
            let list = list(0, count).unwrap();
            assert_eq!(known.insert(list.clone(), issuer), Ok(true));
            assert_eq!((known.len, known.lists().count()), (list.der().len(), 1));
        }

        known.len = MAX_REVOCATION_BYTES - 1000;
        assert_eq!(known.insert(list(1, 100).unwrap(), issuer), Err(RevocationError::Full));
        assert_eq!(known.lists().count(), 1);
    }

    #[test]
    fn a_list_too_long_is_not_made() {
        assert!(list(0, 2330).is_ok());
        assert!(matches!(list(0, 2400), Err(RevokeError::TooLong(len)) if len > MAX_REVOCATION_LIST_LEN));
        let halves = [list(0, 1500).unwrap(), list(1, 1500).unwrap()];
        let united = ACCOUNT.revoke(&halves, &[], 0);
        assert!(matches!(united, Err(RevokeError::TooLong(_))), "{united:?}");
    }
}
