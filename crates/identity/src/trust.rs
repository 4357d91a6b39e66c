//! Whom we trust (`spec/connection.md` 2.7, and 9.1 number 10: safe by default).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::file::{self, FileError};
use crate::{AccountId, Chain, ChainError, DeviceId, IdError, ShortId};

/// Most certificates that a [`TrustStore`] has an opinion about.
pub const MAX_TRUST_ENTRIES: usize = 65_536;

/// Longest file of trust that is read, in bytes.
const MAX_TRUST_LEN: u64 = MAX_TRUST_ENTRIES as u64 * 80;

/// What is thought of one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Trust {
    /// It may connect, and so may whom it vouches for.
    Allowed,
    /// Neither it nor whom it vouches for may connect.
    Banned,
    /// Nothing was said.
    #[default]
    Undefined,
}

/// What happens to a peer of whom nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UnknownPeers {
    /// It is refused.
    #[default]
    Refused,
    /// It is let in. Anybody can make an identity, so this lets in anybody.
    DangerouslyAllowed,
}

/// Which certificate is meant: by the short or the long id of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateId {
    /// Short id, as accounts have.
    Short(ShortId),
    /// Long id, as devices have.
    Long(DeviceId),
}

impl From<ShortId> for CertificateId {
    fn from(id: ShortId) -> Self {
        Self::Short(id)
    }
}

impl From<AccountId> for CertificateId {
    fn from(id: AccountId) -> Self {
        Self::Short(id.into())
    }
}

impl From<DeviceId> for CertificateId {
    fn from(id: DeviceId) -> Self {
        Self::Long(id)
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(id) => id.fmt(f),
            Self::Long(id) => id.fmt(f),
        }
    }
}

impl FromStr for CertificateId {
    type Err = IdError;

    /// Reads 40 digits as a short id, any other number as a long one.
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() == 2 * ShortId::LEN {
            text.parse().map(Self::Short)
        } else {
            text.parse().map(Self::Long)
        }
    }
}

/// Why a peer is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// This certificate, the peer's or one above it, is banned.
    #[error("{0} is banned")]
    Banned(DeviceId),
    /// Neither the peer nor anybody who vouches for it is known.
    #[error("neither the device nor its account is known")]
    Unknown,
    /// The chain does not hold, so nobody vouches for the peer.
    #[error("broken chain: {0}")]
    Chain(ChainError),
}

/// Why a text is not a [`TrustStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line is not `allowed ID` or `banned ID`.
    #[error("line {line}: expected `allowed ID` or `banned ID`")]
    Line {
        /// Which, from 1.
        line: usize,
    },
    /// The id in a line is none.
    #[error("line {line}: {error}")]
    Id {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        error: IdError,
    },
    /// There are more entries than are kept.
    #[error("more than {MAX_TRUST_ENTRIES} entries")]
    Full,
}

/// What is thought of each certificate, and of the unknown ones. Nothing known, unknown refused: the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustStore {
    entries: BTreeMap<CertificateId, Trust>,
    unknown: UnknownPeers,
}

impl TrustStore {
    /// Knows nobody, and refuses whom it does not know.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets in everybody who is not banned. Authorisation is then the program's own affair.
    #[doc(alias = "allowPublic")]
    pub fn dangerously_allowing_anyone() -> Self {
        Self { unknown: UnknownPeers::DangerouslyAllowed, ..Self::default() }
    }

    /// What happens to unknown peers. It is not part of the file.
    pub fn unknown_peers(&self) -> UnknownPeers {
        self.unknown
    }

    /// Decides what happens to unknown peers.
    pub fn set_unknown_peers(&mut self, decision: UnknownPeers) {
        self.unknown = decision;
    }

    /// What is thought of the certificate with this id.
    pub fn get(&self, id: impl Into<CertificateId>) -> Trust {
        self.entries.get(&id.into()).copied().unwrap_or_default()
    }

    /// Changes what is thought of a certificate. [`Trust::Undefined`] forgets it.
    pub fn set(&mut self, id: impl Into<CertificateId>, trust: Trust) -> Result<(), TrustError> {
        let id = id.into();
        if trust == Trust::Undefined {
            self.entries.remove(&id);
            return Ok(());
        }
        if self.entries.len() == MAX_TRUST_ENTRIES && !self.entries.contains_key(&id) {
            return Err(TrustError::Full);
        }
        self.entries.insert(id, trust);
        Ok(())
    }

    /// All opinions, in the order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = (CertificateId, Trust)> {
        self.entries.iter().map(|(id, trust)| (*id, *trust))
    }

    /// Decides about a peer: refused if anything in its chain is banned; let in if the chain holds and the
    /// peer or anybody above it is allowed; else as [`UnknownPeers`] says.
    #[doc(alias = "isAllowed")]
    pub fn check(&self, chain: &Chain) -> Result<(), Distrust> {
        let said = |trust| {
            chain.certificates().iter().find(move |certificate| {
                self.get(certificate.device_id()) == trust || self.get(certificate.short_id()) == trust
            })
        };
        if let Some(banned) = said(Trust::Banned) {
            return Err(Distrust::Banned(banned.device_id()));
        }
        chain.verify_links().map_err(Distrust::Chain)?;
        match (said(Trust::Allowed), self.unknown) {
            (Some(_), _) | (None, UnknownPeers::DangerouslyAllowed) => Ok(()),
            (None, UnknownPeers::Refused) => Err(Distrust::Unknown),
        }
    }

    /// The text form: one line per certificate, in the order of the ids.
    pub fn to_text(&self) -> String {
        let word = |trust| if trust == Trust::Allowed { "allowed" } else { "banned" };
        self.iter().map(|(id, trust)| [word(trust), " ", &id.to_string(), "\n"].concat()).collect()
    }

    /// Reads the text form. Empty lines and lines that begin with `#` are skipped.
    pub fn from_text(text: &str) -> Result<Self, TrustError> {
        let mut store = Self::new();
        for (index, content) in text.lines().map(str::trim).enumerate() {
            let line = index + 1;
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (word, id) = content.split_once(' ').ok_or(TrustError::Line { line })?;
            let trust = match word {
                "allowed" => Trust::Allowed,
                "banned" => Trust::Banned,
                _ => return Err(TrustError::Line { line }),
            };
            let id: CertificateId = id.trim().parse().map_err(|error| TrustError::Id { line, error })?;
            store.set(id, trust)?;
        }
        Ok(store)
    }

    /// Reads a file. A file that does not exist knows nobody.
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        match file::read_text(path, MAX_TRUST_LEN)? {
            Some(text) => Self::from_text(&text),
            None => Ok(Self::new()),
        }
    }

    /// Writes a file, all of it or nothing.
    pub fn save(&self, path: &Path) -> Result<(), TrustError> {
        Ok(file::replace(path, self.to_text().as_bytes())?)
    }
}
