//! The account's key and what belongs to it, as a file: Jami's `archive.gz`.
//!
//! The file is a JSON object: without a password compressed with gzip; with one compressed as zlib does, and then sealed
//! as [`towline_identity::seal_with_password`] does. Either compression is read in
//! either place. Members of the object, as a daemon of 2023 writes them (keys in
//! alphabetical order, all in one line):
//!
//! | member | what |
//! |---|---|
//! | `ringAccountKey`, `ringCaKey` | private keys of the account and of the authority above it: base64 of PKCS#8 PEM |
//! | `ringAccountCert` | the account's chain: base64 of PEM, account first |
//! | `ringAccountCRL` | the latest revocation list: base64 of DER |
//! | `ringAccountContacts` | object: account id to `{added, removed, confirmed, banned, conversationId}`, each if not false or 0 |
//! | `conversations`, `conversationsRequests` | objects: id to what is known of it |
//! | `ethKey` | base64 of 32 bytes, a key for other purposes |
//! | `Account.*`, `TURN.*`, … | settings, in exported files: texts |
//! | `TLS.certificateFile`, `TLS.privateKeyFile` | in exported files, chain and key of the device that exported: base64 of PEM |

mod json;
mod pack;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;
use towline_identity::{
    ChainError, Identity, KeyMismatch, PrivateKey, PrivateKeyError, RevocationList, RevocationListError,
    StretchError, open_with_password, seal_with_password,
};

use crate::contacts::Contacts;

/// Longest archive file that is read or written, in bytes.
pub const MAX_ARCHIVE_LEN: usize = 4 * 1024 * 1024;

/// Longest JSON that is unpacked from an archive, in bytes. Keys take 15,000, a contact with its conversation about 500.
pub const MAX_ARCHIVE_JSON_LEN: usize = 8 * 1024 * 1024;

/// Why a file is not an archive, or cannot be made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The file is longer than any archive.
    #[error("an archive of {0} bytes is longer than the {MAX_ARCHIVE_LEN} allowed")]
    TooLong(usize),
    /// It unpacks to more than any archive holds.
    #[error("the archive unpacks to more than {MAX_ARCHIVE_JSON_LEN} bytes")]
    TooMuch,
    /// It is encrypted, or nothing we know.
    #[error("the archive needs a password")]
    PasswordNeeded,
    /// The wrong password, or a damaged file: the two look the same.
    #[error("wrong password, or a damaged file")]
    Password,
    /// There is no memory for making a key from the password.
    #[error(transparent)]
    Stretch(#[from] StretchError),
    /// The compressed data is damaged, or more follows it.
    #[error("the compressed data is damaged, or more follows it")]
    Packed,
    /// It is not a JSON object.
    #[error("no JSON object in the archive")]
    Json,
    /// A member is missing that every archive has.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A member is something else than it should be: another JSON type, or not base64.
    #[error("`{0}` is not what it should be")]
    Member(&'static str),
    /// A private key cannot be read.
    #[error("`{member}`: {error}")]
    Key {
        /// Which.
        member: &'static str,
        /// What is wrong.
        error: PrivateKeyError,
    },
    /// The account's chain cannot be read, or does not hold.
    #[error("`ringAccountCert`: {0}")]
    Chain(ChainError),
    /// The chain is that of another key.
    #[error("key and chain: {0}")]
    Mismatch(KeyMismatch),
    /// The account may not sign devices.
    #[error("the account is not an authority")]
    NotAuthority,
    /// The authority's key is not the one that signed the account.
    #[error("`ringCaKey` is not the key that signed the account")]
    OtherAuthority,
    /// The revocation list cannot be read.
    #[error("`ringAccountCRL`: {0}")]
    Revocations(RevocationListError),
    /// The revocation list is not the account's.
    #[error("`ringAccountCRL` is not signed by the account")]
    OtherRevocations,
    /// There are more contacts than are kept.
    #[error("more contacts than are kept")]
    TooManyContacts,
}

/// An account at rest. Whoever holds it can add devices to the account, and take them away.
#[derive(Clone)]
pub struct Archive {
    /// The account: its key, and its chain up to the authority.
    pub account: Identity,
    /// The key of the authority that signed the account, if it is kept.
    pub authority_key: Option<PrivateKey>,
    /// The latest revocation list of the account.
    pub revocations: Option<RevocationList>,
    /// Contacts, removed and banned ones included.
    pub contacts: Contacts,
    /// All other members, as they were.
    members: BTreeMap<String, Box<RawValue>>,
}

impl Archive {
    /// An archive with the keys only.
    pub fn new(account: Identity, authority_key: Option<PrivateKey>) -> Self {
        let (revocations, contacts, members) = Default::default();
        Self { account, authority_key, revocations, contacts, members }
    }

    /// Reads a file. The password does not matter if the archive is not encrypted; an empty one is none. With a password it
    /// takes about 1 s and 64 MiB.
    pub fn open(file: &[u8], password: Option<&str>) -> Result<Self, ArchiveError> {
        if file.len() > MAX_ARCHIVE_LEN {
            return Err(ArchiveError::TooLong(file.len()));
        }
        let password = password.filter(|password| !password.is_empty());
        if pack::is_gzip(file) {
            // A sealed file begins with chance, so one in 65,536 looks like this.
            match (pack::unpack(file), password) {
                (Err(ArchiveError::Packed), Some(_)) => {}
                (unpacked, _) => return Self::from_json(&unpacked?),
            }
        }
        let password = password.ok_or(ArchiveError::PasswordNeeded)?;
        let opened = open_with_password(file, password).map_err(|_| ArchiveError::Password)?;
        Self::from_json(&pack::unpack(&opened)?)
    }

    /// Writes a file. Without a password, or with an empty one, anybody can read the keys in it.
    pub fn seal(&self, password: Option<&str>) -> Result<Vec<u8>, ArchiveError> {
        let json = self.to_json()?;
        let file = match password.filter(|password| !password.is_empty()) {
            Some(password) => seal_with_password(&pack::zlib(&json), password)?,
            None => pack::gzip(&json),
        };
        if file.len() > MAX_ARCHIVE_LEN {
            return Err(ArchiveError::TooLong(file.len()));
        }
        Ok(file)
    }

    /// A member that has no field here, as JSON. What was read is written again.
    pub fn member(&self, name: &str) -> Option<&str> {
        self.members.get(name).map(|member| member.get())
    }

    /// A member that has no field here and is a text.
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.member(name)?).ok()
    }

    /// Makes a text a member, as `Account.displayName`. False, and nothing done, if a field here stands for that member.
    pub fn set_text(&mut self, name: &str, text: &str) -> bool {
        if json::FIELDS.contains(&name) {
            return false;
        }
        let member = serde_json::value::to_raw_value(text).expect("a text has a JSON form");
        self.members.insert(name.to_owned(), member);
        true
    }

    /// Forgets a member that has no field here.
    pub fn remove(&mut self, name: &str) -> bool {
        self.members.remove(name).is_some()
    }

    /// The names of the members that have no field here.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }
}

/// Shows no secrets: other members may have keys too.
impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("account", &self.account)
            .field("authority_key", &self.authority_key)
            .field("revocations", &self.revocations)
            .field("contacts", &self.contacts)
            .field("members", &self.members.keys())
            .finish()
    }
}
