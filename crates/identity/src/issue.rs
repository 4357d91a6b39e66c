//! Making certificates, as OpenDHT makes them (`spec/connection.md` 2.1, `spec/dht.md` 5).

use aws_lc_rs::rand;

use crate::der::{node, tag, time};
use crate::public_key::KeyKind;
use crate::signature::SignatureHash;
use crate::{Certificate, Chain, GenerateError, Identity, KeySize, PrivateKey, PublicKey, ShortId, Validity};

/// Ten years without leap days, as OpenDHT counts them, in seconds.
pub const TEN_YEARS: i64 = 10 * 365 * 24 * 60 * 60;

/// Longest common name, in characters (RFC 5280, ub-common-name).
const MAX_NAME_LEN: usize = 64;

// Object identifiers, as DER content.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const USER_ID: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01];
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const SHA384_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];

/// Key usage of an authority: keyCertSign and cRLSign (one unused bit).
const AUTHORITY_USAGE: &[u8] = &[1, 0b0000_0110];
/// Key usage of a device: digitalSignature and dataEncipherment (four unused bits).
const DEVICE_USAGE: &[u8] = &[4, 0b1001_0000];

/// Why a certificate is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// Only authorities sign certificates, and this identity is none.
    #[error("the issuer is not an authority")]
    NotAuthority,
    /// The issuer's chain is as long as a chain may be.
    #[error("the issuer's chain is as long as a chain may be")]
    ChainLength,
    /// Names have 1 to 64 characters.
    #[error("a name has 1 to {MAX_NAME_LEN} characters, this has {0}")]
    Name(usize),
    /// The validity ends before it begins, or lies outside of the years 1950 to 9999.
    #[error("the validity ends before it begins, or lies outside of the years 1950 to 9999")]
    Validity,
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] GenerateError),
}

impl Validity {
    /// From `now` (seconds since the Unix epoch) for ten years, as everybody does.
    pub fn ten_years_from(now: i64) -> Self {
        Self { not_before: now, not_after: now.saturating_add(TEN_YEARS) }
    }
}

/// What a certificate lets its key do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Authority,
    Device,
}

/// Everything in a certificate that its maker decides.
pub(crate) struct Contents<'a> {
    pub(crate) serial: [u8; 8],
    /// DER name of the issuer; the certificate's own if None.
    pub(crate) issuer: Option<&'a [u8]>,
    pub(crate) name: &'a str,
    pub(crate) key: &'a PublicKey,
    pub(crate) validity: Validity,
    pub(crate) role: Role,
}

/// How a certificate for `key` is signed: the digest fits the new key, whoever signs.
fn digest_for(key: &PublicKey) -> (SignatureHash, &'static [u8]) {
    match key.kind() {
        KeyKind::Rsa { bits } if bits < 3072 => (SignatureHash::Sha256, SHA256_WITH_RSA),
        _ => (SignatureHash::Sha384, SHA384_WITH_RSA),
    }
}

fn algorithm_identifier(oid: &[u8]) -> Vec<u8> {
    node(tag::SEQUENCE, &[&node(tag::OID, &[oid]), &node(tag::NULL, &[])])
}

/// A distinguished name: CN, then UID.
fn name_der(common: &str, id: ShortId) -> Vec<u8> {
    let printable = |c: char| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c);
    let string = if common.chars().all(printable) { tag::PRINTABLE_STRING } else { tag::UTF8_STRING };
    let attribute = |oid: &[u8], string: u8, text: &str| {
        let pair = node(tag::SEQUENCE, &[&node(tag::OID, &[oid]), &node(string, &[text.as_bytes()])]);
        node(tag::SET, &[&pair])
    };
    let common = attribute(COMMON_NAME, string, common);
    let uid = attribute(USER_ID, tag::PRINTABLE_STRING, &id.to_string());
    node(tag::SEQUENCE, &[&common, &uid])
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag = if critical { node(tag::BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    node(tag::SEQUENCE, &[&node(tag::OID, &[oid]), &flag, &node(tag::OCTET_STRING, &[value])])
}

impl Contents<'_> {
    /// The part that is signed.
    pub(crate) fn to_be_signed(&self) -> Result<Vec<u8>, IssueError> {
        let characters = self.name.chars().count();
        if !(1..=MAX_NAME_LEN).contains(&characters) {
            return Err(IssueError::Name(characters));
        }
        if self.validity.not_after < self.validity.not_before {
            return Err(IssueError::Validity);
        }
        let subject = name_der(self.name, self.key.short_id());
        let (_, algorithm) = digest_for(self.key);
        let validity = node(
            tag::SEQUENCE,
            &[
                &time(self.validity.not_before).ok_or(IssueError::Validity)?,
                &time(self.validity.not_after).ok_or(IssueError::Validity)?,
            ],
        );
        let key_id =
            extension(SUBJECT_KEY_ID, false, &node(tag::OCTET_STRING, &[self.key.short_id().as_bytes()]));
        let (constraints, usage) = match self.role {
            Role::Authority => {
                let is_ca = node(tag::SEQUENCE, &[&node(tag::BOOLEAN, &[&[0xff]])]);
                (extension(BASIC_CONSTRAINTS, true, &is_ca), AUTHORITY_USAGE)
            }
            Role::Device => (Vec::new(), DEVICE_USAGE),
        };
        let usage = extension(KEY_USAGE, true, &node(tag::BIT_STRING, &[usage]));
        let extensions = node(tag::SEQUENCE, &[&key_id, &constraints, &usage]);
        Ok(node(
            tag::SEQUENCE,
            &[
                &node(tag::EXPLICIT_0, &[&node(tag::INTEGER, &[&[2]])]),
                &node(tag::INTEGER, &[&self.serial]),
                &algorithm_identifier(algorithm),
                self.issuer.unwrap_or(&subject),
                &validity,
                &subject,
                self.key.spki_der(),
                &node(tag::EXPLICIT_3, &[&extensions]),
            ],
        ))
    }

    fn sign(&self, signer: &PrivateKey) -> Result<Certificate, IssueError> {
        let signed = self.to_be_signed()?;
        let (hash, algorithm) = digest_for(self.key);
        let signature = signer.sign_with(hash, &signed);
        let der = node(
            tag::SEQUENCE,
            &[&signed, &algorithm_identifier(algorithm), &node(tag::BIT_STRING, &[&[0], &signature])],
        );
        Ok(Certificate::from_der(&der).expect("what we write we can read"))
    }
}

/// Positive, and always eight bytes long, so that certificates of one key size are of one length.
fn new_serial() -> [u8; 8] {
    let mut serial = [0; 8];
    rand::fill(&mut serial).expect("the operating system has randomness");
    serial[0] &= 0x7f;
    serial[0] |= 0x40;
    serial
}

/// How to make a whole new identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Length of all three keys.
    pub key_size: KeySize,
    /// When all three certificates count.
    pub validity: Validity,
    /// Common name of the root certificate.
    pub authority_name: String,
    /// Common name of the account's certificate.
    pub account_name: String,
    /// Common name of the device's certificate.
    pub device_name: String,
}

impl GenerateOptions {
    /// RSA-3072, ten years from `now` (seconds since the Unix epoch), and the names that Jami gives.
    pub fn new(now: i64) -> Self {
        Self {
            key_size: KeySize::default(),
            validity: Validity::ten_years_from(now),
            authority_name: "Jami CA".to_owned(),
            account_name: "Jami".to_owned(),
            device_name: "Jami device".to_owned(),
        }
    }
}

/// A new account with its first device: all three keys.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    /// The root. Signed the account; not needed again unless the account's key is lost.
    pub authority: Identity,
    /// The account. Signs further devices.
    pub account: Identity,
    /// The first device.
    pub device: Identity,
}

impl Hierarchy {
    /// Makes root, account and device. Takes three key generations, about 1 s for RSA-3072.
    pub fn generate(options: &GenerateOptions) -> Result<Self, IssueError> {
        let new_key = || PrivateKey::generate(options.key_size);
        let authority = Identity::self_signed(new_key()?, &options.authority_name, options.validity)?;
        let account = authority.issue_account(new_key()?, &options.account_name, options.validity)?;
        let device = account.issue_device(new_key()?, &options.device_name, options.validity)?;
        Ok(Self { authority, account, device })
    }
}

impl Identity {
    /// Makes a device with an account and a root of its own, and forgets the keys of those two. Keep
    /// them, with [`Hierarchy::generate`], if the account shall get more devices.
    #[doc(alias = "generateIdentity")]
    pub fn generate(options: &GenerateOptions) -> Result<Self, IssueError> {
        Hierarchy::generate(options).map(|hierarchy| hierarchy.device)
    }

    /// Makes an authority that nobody vouches for.
    pub fn self_signed(key: PrivateKey, name: &str, validity: Validity) -> Result<Self, IssueError> {
        let contents = Contents {
            serial: new_serial(),
            issuer: None,
            name,
            key: key.public(),
            validity,
            role: Role::Authority,
        };
        let certificate = contents.sign(&key)?;
        let chain = Chain::new([certificate]).expect("one certificate is a chain");
        Ok(Self::new(key, chain).expect("the certificate was made for this key"))
    }

    /// Vouches for an account: an authority below this one.
    pub fn issue_account(&self, key: PrivateKey, name: &str, validity: Validity) -> Result<Self, IssueError> {
        let chain = self.issue(key.public(), name, validity, Role::Authority)?;
        Ok(Self::new(key, chain).expect("the certificate was made for this key"))
    }

    /// Vouches for a device of this account.
    pub fn issue_device(&self, key: PrivateKey, name: &str, validity: Validity) -> Result<Self, IssueError> {
        let chain = self.issue_device_certificate(key.public(), name, validity)?;
        Ok(Self::new(key, chain).expect("the certificate was made for this key"))
    }

    /// Vouches for a device whose private key is elsewhere: the chain to send there.
    pub fn issue_device_certificate(
        &self,
        key: &PublicKey,
        name: &str,
        validity: Validity,
    ) -> Result<Chain, IssueError> {
        self.issue(key, name, validity, Role::Device)
    }

    fn issue(
        &self,
        key: &PublicKey,
        name: &str,
        validity: Validity,
        role: Role,
    ) -> Result<Chain, IssueError> {
        let leaf = self.chain().leaf();
        if !leaf.is_ca() {
            return Err(IssueError::NotAuthority);
        }
        let issuer = Some(leaf.subject_der());
        let certificate =
            Contents { serial: new_serial(), issuer, name, key, validity, role }.sign(self.key())?;
        let above = self.chain().certificates().iter().cloned();
        Chain::new([certificate].into_iter().chain(above).collect::<Vec<_>>())
            .map_err(|_| IssueError::ChainLength)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signed part of a certificate that OpenDHT made, made again from its facts, byte for byte.
    #[test]
    fn same_bytes_as_opendht() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/certificates.json")).unwrap();
        let mut compared = 0;
        for vector in vectors["certificates"].as_array().unwrap() {
            let chain = Chain::unpack(vector["pem"].as_str().unwrap().as_bytes()).unwrap();
            let certificate = chain.leaf();
            let signed_by_rsa = matches!(chain.top().public_key().kind(), KeyKind::Rsa { .. });
            if !signed_by_rsa || vector["name"] == "from_csr" {
                continue;
            }
            let contents = Contents {
                serial: certificate.serial().try_into().unwrap(),
                issuer: chain.account().map(Certificate::subject_der),
                name: certificate.subject().common.as_deref().unwrap(),
                key: certificate.public_key(),
                validity: certificate.validity(),
                role: if certificate.is_ca() { Role::Authority } else { Role::Device },
            };
            assert_eq!(contents.to_be_signed().unwrap(), certificate.signed_part(), "{}", vector["name"]);
            compared += 1;
        }
        assert_eq!(compared, 4);
    }

    #[test]
    fn serials_are_positive_and_of_one_length() {
        for _ in 0..100 {
            assert!((0x40..0x80).contains(&new_serial()[0]));
        }
    }
}
