//! Certificates and identities on disk (`spec/connection.md` 2.7).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::file::{self, FileError, TEMPORARY};
use crate::trust::CertificateId;
use crate::{
    Certificate, Chain, ChainError, DeviceId, Identity, KeyMismatch, MAX_CHAIN_CERTIFICATES, MAX_CHAIN_LEN,
    PrivateKey, PrivateKeyError, ShortId,
};

/// Longest key file that is read, in bytes.
const MAX_KEY_LEN: u64 = 16 * 1024;

/// Bounds of a [`CertificateStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Most certificate files; further ones are not taken up. 100 bytes of memory each.
    pub certificates: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { certificates: 16_384 }
    }
}

/// Why a stored chain cannot be had or kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// What the file holds is not a chain.
    #[error("not a certificate chain: {0}")]
    Chain(#[from] ChainError),
    /// The file speaks of another certificate than its name says.
    #[error("the file is about {found}, not about what its name says")]
    Misnamed {
        /// Whom it speaks of.
        found: DeviceId,
    },
    /// The store is full.
    #[error("the store holds {0} certificates already")]
    Full(usize),
}

/// A file that was found and passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedFile {
    /// Its name in the directory.
    pub name: OsString,
    /// Why.
    pub reason: StoreError,
}

/// A directory of certificate chains, each in a file that is named by the long id of its leaf.
///
/// Only ids are kept in memory; chains are read when asked for. Chains that were stored in pieces are put together
/// again by the user ids of issuers and subjects.
#[derive(Debug)]
pub struct CertificateStore {
    directory: PathBuf,
    limits: StoreLimits,
    /// The files: by long id, under the name that they have.
    files: BTreeMap<DeviceId, OsString>,
    short: BTreeMap<ShortId, DeviceId>,
    skipped: Vec<SkippedFile>,
}

impl CertificateStore {
    /// Opens a directory, which is made if it does not exist. Files that cannot be used stay where they are and
    /// are listed by [`CertificateStore::skipped`].
    pub fn open(directory: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        file::make_directory(directory)?;
        let listing = |error: std::io::Error| FileError::Directory(error.kind());
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(listing)? {
            names.push(entry.map_err(listing)?.file_name());
        }
        names.sort_unstable();
        let (files, short) = (BTreeMap::new(), BTreeMap::new());
        let mut store = Self { directory: directory.to_owned(), limits, files, short, skipped: Vec::new() };
        for name in names {
            if name.to_string_lossy().ends_with(TEMPORARY) {
                continue;
            }
            if let Err(reason) = store.take_up(&name)
                && store.skipped.len() < store.limits.certificates
            {
                store.skipped.push(SkippedFile { name, reason });
            }
        }
        Ok(store)
    }

    fn take_up(&mut self, name: &OsString) -> Result<(), StoreError> {
        let chain = self.read(name)?;
        let (long, short) = (chain.device_id(), chain.short_id());
        match name.to_str().and_then(|name| name.parse().ok()) {
            Some(CertificateId::Long(id)) if id == long => {}
            Some(CertificateId::Short(id)) if id == short => {}
            _ => return Err(StoreError::Misnamed { found: long }),
        }
        self.index(long, short, name.clone())
    }

    fn index(&mut self, long: DeviceId, short: ShortId, name: OsString) -> Result<(), StoreError> {
        if self.files.len() >= self.limits.certificates && !self.files.contains_key(&long) {
            return Err(StoreError::Full(self.files.len()));
        }
        self.files.insert(long, name);
        self.short.insert(short, long);
        Ok(())
    }

    fn read(&self, name: &OsString) -> Result<Chain, StoreError> {
        let bytes = file::read(&self.directory.join(name), MAX_CHAIN_LEN as u64)?;
        Ok(Chain::unpack(&bytes.unwrap_or_default())?)
    }

    /// Files that [`CertificateStore::open`] passed over, and why.
    pub fn skipped(&self) -> &[SkippedFile] {
        &self.skipped
    }

    /// Long ids of all that is stored, in order.
    pub fn ids(&self) -> impl Iterator<Item = DeviceId> {
        self.files.keys().copied()
    }

    /// Finds a chain by the short or long id of its leaf. None if it is not stored. If its top names an issuer that is
    /// stored, and that really signed it, the chain goes on with that one's.
    #[doc(alias = "getCertificate")]
    pub fn find(&self, id: impl Into<CertificateId>) -> Result<Option<Chain>, StoreError> {
        let long = match id.into() {
            CertificateId::Long(id) => Some(id),
            CertificateId::Short(id) => self.short.get(&id).copied(),
        };
        let Some(chain) = long.map(|id| self.read_by(id)).transpose()?.flatten() else { return Ok(None) };
        let mut certificates = chain.certificates().to_vec();
        while certificates.len() < MAX_CHAIN_CERTIFICATES {
            let Some(above) = self.issuer_of(certificates.last().expect("a chain has a top")) else { break };
            certificates.extend(above.certificates().iter().cloned());
        }
        certificates.truncate(MAX_CHAIN_CERTIFICATES);
        Ok(Some(Chain::new(certificates)?))
    }

    /// The stored chain of whoever signed `certificate`; none for a certificate that signed itself.
    fn issuer_of(&self, certificate: &Certificate) -> Option<Chain> {
        let issuer = certificate.issuer().short_id().filter(|issuer| *issuer != certificate.short_id())?;
        // A damaged issuer only leaves the chain shorter: whoever needs it finds the link missing.
        let above = self.read_by(*self.short.get(&issuer)?).ok()??;
        certificate.verify_issued_by(above.leaf()).ok().map(|()| above)
    }

    fn read_by(&self, id: DeviceId) -> Result<Option<Chain>, StoreError> {
        let Some(name) = self.files.get(&id) else { return Ok(None) };
        let chain = self.read(name)?;
        // The file may have been changed under us.
        if chain.device_id() == id {
            Ok(Some(chain))
        } else {
            Err(StoreError::Misnamed { found: chain.device_id() })
        }
    }

    /// Stores a chain under its leaf's long id, in place of what was there.
    #[doc(alias = "pinCertificate")]
    pub fn insert(&mut self, chain: &Chain) -> Result<(), StoreError> {
        let (long, short) = (chain.device_id(), chain.short_id());
        if self.files.len() >= self.limits.certificates && !self.files.contains_key(&long) {
            return Err(StoreError::Full(self.files.len()));
        }
        let name = OsString::from(long.to_string());
        file::replace(&self.directory.join(&name), chain.pack().as_bytes())?;
        self.index(long, short, name)
    }

    /// Forgets a chain. Whether it was there.
    #[doc(alias = "unpinCertificate")]
    pub fn remove(&mut self, id: DeviceId) -> Result<bool, StoreError> {
        let Some(name) = self.files.get(&id) else { return Ok(false) };
        match fs::remove_file(self.directory.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(FileError::Write(error.kind()).into());
            }
            _ => {}
        }
        self.files.remove(&id);
        self.short.retain(|_, long| *long != id);
        Ok(true)
    }
}

/// Why an identity cannot be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFileError {
    /// There is no key file, or no certificate file.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// The operating system refused one of the files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key cannot be read.
    #[error("{KEY_FILE}: {0}")]
    Key(#[from] PrivateKeyError),
    /// The certificates cannot be read.
    #[error("{CHAIN_FILE}: {0}")]
    Chain(#[from] ChainError),
    /// The two files do not belong together.
    #[error(transparent)]
    Mismatch(#[from] KeyMismatch),
}

/// The file of an identity's private key, in PKCS#8 PEM.
pub const KEY_FILE: &str = "device.key";

/// The file of its certificates, in PEM, leaf first.
pub const CHAIN_FILE: &str = "device.crt";

impl Identity {
    /// Reads `device.key` and `device.crt` from a directory.
    pub fn load(directory: &Path, password: Option<&str>) -> Result<Self, IdentityFileError> {
        let key = file::read_text(&directory.join(KEY_FILE), MAX_KEY_LEN)?
            .map(zeroize::Zeroizing::new)
            .ok_or(IdentityFileError::Missing(KEY_FILE))?;
        let chain = file::read(&directory.join(CHAIN_FILE), MAX_CHAIN_LEN as u64)?
            .ok_or(IdentityFileError::Missing(CHAIN_FILE))?;
        let key = PrivateKey::from_pkcs8_pem(&key, password)?;
        Ok(Self::new(key, Chain::unpack(&chain)?)?)
    }

    /// Writes `device.key` and `device.crt`, mode 0600, into a directory, which is made with mode 0700 if it does not
    /// exist. With a password the key is encrypted.
    pub fn save(&self, directory: &Path, password: Option<&str>) -> Result<(), IdentityFileError> {
        file::make_directory(directory)?;
        file::replace(&directory.join(KEY_FILE), self.key().to_pkcs8_pem(password).as_bytes())?;
        file::replace(&directory.join(CHAIN_FILE), self.chain().pack().as_bytes())?;
        Ok(())
    }
}
