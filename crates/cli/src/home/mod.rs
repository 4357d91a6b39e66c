//! The directory with the keys of this device, and what its account knows.

mod account_key;
mod contacts;
mod files;
mod merge;
mod revoked;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use towline::account::contacts::Contacts;
use towline::account::receipt::Receipt;
use towline::account::vcard::{MAX_VCARD_LEN, VCard};
use towline::identity::{
    CHAIN_FILE, CertificateId, CertificateStore, Chain, GenerateOptions, Hierarchy, Identity,
    IdentityFileError, KEY_FILE, PrivateKey, RevocationList, Revocations, StoreError, StoreLimits,
    TrustStore,
};

use crate::args::HomeArg;
use crate::failure::Failure;

pub(crate) use account_key::{AccountKey, KeyFault, usable};
pub(crate) use contacts::{ContactsFile, Foreign};
pub(crate) use files::{read, write};
pub(crate) use store::Store;

/// The key of the account, which signs further devices.
const ACCOUNT_KEY_FILE: &str = "account.key";
/// The key that signed the account.
const AUTHORITY_KEY_FILE: &str = "authority.key";
/// Who is allowed and who is banned.
const TRUST_FILE: &str = "trust";
/// What the account's key signed for this device.
const RECEIPT_FILE: &str = "receipt";
/// Contacts and requests.
const CONTACTS_FILE: &str = "contacts.json";
/// Held while the contacts are written.
const LOCK_FILE: &str = "contacts.lock";
/// The card that others see.
const PROFILE_FILE: &str = "profile.vcf";
/// Connection requests that were answered.
const TREATED_FILE: &str = "treated";
/// Revocation lists.
const REVOKED_DIRECTORY: &str = "revoked";
/// Certificates of other devices of the account.
const DEVICES_DIRECTORY: &str = "devices";
/// Longest file `trust` that is copied, in bytes.
const MAX_TRUST: u64 = 8 * 1024 * 1024;

/// The directory of one device.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

/// What a new home directory is made of.
pub(crate) struct NewHome<'a> {
    /// The device.
    pub(crate) device: &'a Identity,
    /// What the account signed for it.
    pub(crate) receipt: &'a Receipt,
    /// Keys of the account and of the authority above it, if they shall be there, and the password to seal them with.
    pub(crate) account: Option<(&'a PrivateKey, Option<&'a PrivateKey>, Option<&'a str>)>,
    /// The card that others see.
    pub(crate) profile: Option<&'a VCard>,
    /// Contacts to begin with.
    pub(crate) contacts: Option<&'a Contacts>,
}

impl Home {
    /// The one named on the command line or in the environment, or the usual one of the user.
    pub(crate) fn find(argument: &HomeArg) -> Result<Self, Failure> {
        if let Some(path) = &argument.home {
            return Ok(Self(path.clone()));
        }
        directories::ProjectDirs::from("", "", "towline")
            .map(|dirs| Self(dirs.data_dir().to_owned()))
            .ok_or_else(|| {
                Failure::Local("this user has no home directory; name a directory with --home".to_owned())
            })
    }

    /// One at a given place.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where a node remembers which requests it has answered, so that those of devices that are gone do not keep it busy
    /// when it is started again.
    pub(crate) fn treated(&self) -> PathBuf {
        self.0.join(TREATED_FILE)
    }

    fn revoked(&self) -> PathBuf {
        self.0.join(REVOKED_DIRECTORY)
    }

    /// The identity in it, checked to be usable now.
    pub(crate) fn identity(&self) -> Result<Identity, Failure> {
        let directory = self.0.display();
        let identity = Identity::load(&self.0, None).map_err(|error| match error {
            IdentityFileError::Missing(KEY_FILE) => Failure::Local(format!(
                "there is no identity in {directory}; make one with `towline init` (`towline demo` needs none)"
            )),
            IdentityFileError::Missing(file) => Failure::Local(format!(
                "the identity in {directory} is not complete: {file} is missing; restore it, or make a new identity \
                 with `towline init --force`"
            )),
            error => Failure::Local(format!("the identity in {directory} is not usable: {error}")),
        })?;
        let unusable = |why: &dyn std::fmt::Display| {
            Failure::Local(format!("the certificates in {directory} are not usable: {why}"))
        };
        identity.chain().verify_links().map_err(|error| unusable(&error))?;
        identity.chain().verify_validity(unix_time()).map_err(|error| unusable(&error))?;
        if identity.account_id().is_none() {
            return Err(unusable(&"the device's certificate was not signed by an account"));
        }
        Ok(identity)
    }

    /// Whom the user allowed and banned.
    pub(crate) fn trust(&self) -> Result<TrustStore, Failure> {
        let path = self.0.join(TRUST_FILE);
        TrustStore::load(&path).map_err(|error| Failure::Local(format!("{}: {error}", path.display())))
    }

    /// The contacts and requests.
    pub(crate) fn contacts_file(&self) -> ContactsFile {
        ContactsFile::new(self.0.join(CONTACTS_FILE), self.0.join(LOCK_FILE))
    }

    /// Where an account that runs keeps what it learns.
    pub(crate) fn store(&self) -> Store {
        Store::new(self.clone())
    }

    /// Which devices, of whatever account, were taken back.
    pub(crate) fn revocations(&self, identity: &Identity) -> Result<Revocations, Failure> {
        revoked::load(&self.revoked(), identity.chain().account())
    }

    /// Keeps a revocation list of this device's account.
    pub(crate) fn keep_list(&self, account: &Identity, list: &RevocationList) -> io::Result<PathBuf> {
        revoked::save(&self.revoked(), account.chain().leaf(), list)
    }

    /// The card that others see.
    pub(crate) fn profile(&self) -> Result<Option<VCard>, Failure> {
        let path = self.0.join(PROFILE_FILE);
        let wrong = |error: &dyn std::fmt::Display| Failure::Local(format!("{}: {error}", path.display()));
        let card = files::read(&path, MAX_VCARD_LEN as u64).map_err(|error| wrong(&error))?;
        card.map(|card| VCard::parse(&card)).transpose().map_err(|error| wrong(&error))
    }

    /// Keeps the certificates of another device of the account.
    pub(crate) fn keep_certificate(&self, chain: &Chain) -> Result<(), StoreError> {
        self.certificates()?.insert(chain)
    }

    /// The certificates of another device of the account, if they were kept.
    pub(crate) fn certificate(&self, device: CertificateId) -> Result<Option<Chain>, StoreError> {
        self.certificates()?.find(device)
    }

    fn certificates(&self) -> Result<CertificateStore, StoreError> {
        CertificateStore::open(&self.0.join(DEVICES_DIRECTORY), StoreLimits { certificates: 4096 })
    }

    /// Makes the directory and all that is in it. Without `replace`, nothing that exists is touched; with it, what belonged
    /// to the account that was there is forgotten.
    pub(crate) fn create(&self, new: &NewHome<'_>, replace: bool) -> Result<(), Failure> {
        self.check_free(replace)?;
        self.fill(new, replace)
            .map_err(|error| Failure::Local(format!("cannot write to {}: {error}", self.0.display())))
    }

    /// Makes the directory of a new account's first device.
    pub(crate) fn create_first(
        &self,
        made: &Hierarchy,
        profile: Option<&VCard>,
        password: Option<&str>,
        replace: bool,
    ) -> Result<(), Failure> {
        let receipt = Receipt::make(&made.account, made.device.key().public());
        let new = NewHome {
            device: &made.device,
            receipt: &receipt,
            account: Some((made.account.key(), Some(made.authority.key()), password)),
            profile,
            contacts: None,
        };
        self.create(&new, replace)
    }

    fn fill(&self, new: &NewHome<'_>, replace: bool) -> io::Result<()> {
        files::make_directory(&self.0)?;
        if replace {
            // The device's files first: an end halfway leaves no mixture of two devices.
            for name in [KEY_FILE, CHAIN_FILE, RECEIPT_FILE, CONTACTS_FILE, PROFILE_FILE] {
                absent(std::fs::remove_file(self.0.join(name)))?;
            }
            absent(std::fs::remove_dir_all(self.0.join(DEVICES_DIRECTORY)))?;
        }
        // First what is needed rarely: when the device's files are there, everything is.
        if let Some((account, authority, password)) = new.account {
            self.write_account_keys(account, authority, password, replace)?;
        }
        if let Some(card) = new.profile {
            let text = card.build().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            files::write(&self.0.join(PROFILE_FILE), text.as_bytes(), replace)?;
        }
        if let Some(contacts) = new.contacts {
            files::write(&self.0.join(CONTACTS_FILE), contacts.to_json().as_bytes(), replace)?;
        }
        files::write(&self.0.join(RECEIPT_FILE), new.receipt.to_text().as_bytes(), replace)?;
        new.device.save(&self.0, None).map_err(io::Error::other)
    }

    /// Gives another home directory the revocation lists and the file `trust` of this one.
    pub(crate) fn share_with(&self, other: &Self) -> Result<(), Failure> {
        let copied = revoked::copy(&self.revoked(), &other.revoked()).and_then(|()| {
            match files::read(&self.0.join(TRUST_FILE), MAX_TRUST)? {
                Some(trust) => files::write(&other.0.join(TRUST_FILE), &trust, false),
                None => Ok(()),
            }
        });
        copied.map_err(|error| Failure::Local(format!("cannot write to {}: {error}", other.0.display())))
    }

    /// Fails if an identity, or a part of one, would be overwritten.
    pub(crate) fn check_free(&self, replace: bool) -> Result<(), Failure> {
        let there = [KEY_FILE, CHAIN_FILE, ACCOUNT_KEY_FILE, AUTHORITY_KEY_FILE, RECEIPT_FILE]
            .into_iter()
            .find(|name| self.0.join(name).symlink_metadata().is_ok());
        match there {
            Some(name) if !replace => Err(Failure::Local(format!(
                "there is an identity already, or a part of one: {} exists; use another directory, or --force to replace \
                 it for good",
                self.0.join(name).display()
            ))),
            _ => Ok(()),
        }
    }
}

/// What is not there need not be removed.
fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes an account and its first device. Takes about a second per key.
pub(crate) fn generate(options: &GenerateOptions) -> Result<Hierarchy, Failure> {
    Hierarchy::generate(options).map_err(|error| Failure::Internal(format!("cannot make the keys: {error}")))
}

/// The wall clock, in seconds since 1970-01-01 00:00 UTC.
pub(crate) fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
