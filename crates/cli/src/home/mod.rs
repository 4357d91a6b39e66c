//! The directory with the keys of this device.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use towline::identity::{
    CHAIN_FILE, GenerateOptions, Hierarchy, Identity, IdentityFileError, KEY_FILE, TrustStore,
};

use crate::args::HomeArg;
use crate::failure::Failure;

/// The key of the account, which signs further devices.
const ACCOUNT_KEY_FILE: &str = "account.key";
/// The key that signed the account.
const AUTHORITY_KEY_FILE: &str = "authority.key";
/// Who is allowed and who is banned.
const TRUST_FILE: &str = "trust";

/// The directory of one device.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

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

    /// Keeps a new identity here. Without `replace`, nothing that exists is touched.
    pub(crate) fn create(&self, hierarchy: &Hierarchy, replace: bool) -> Result<(), Failure> {
        self.check_free(replace)?;
        let failed = |error: &dyn std::fmt::Display| {
            Failure::Local(format!("cannot write to {}: {error}", self.0.display()))
        };
        // First the keys that are needed rarely: when the device's files are there, everything is.
        make_directory(&self.0).map_err(|error| failed(&error))?;
        for (name, identity) in
            [(AUTHORITY_KEY_FILE, &hierarchy.authority), (ACCOUNT_KEY_FILE, &hierarchy.account)]
        {
            let pem = identity.key().to_pkcs8_pem(None);
            self.write(name, pem.as_bytes(), replace).map_err(|error| failed(&error))?;
        }
        hierarchy.device.save(&self.0, None).map_err(|error| failed(&error))
    }

    /// Fails if an identity, or a part of one, would be overwritten.
    pub(crate) fn check_free(&self, replace: bool) -> Result<(), Failure> {
        let there = [KEY_FILE, CHAIN_FILE, ACCOUNT_KEY_FILE, AUTHORITY_KEY_FILE]
            .into_iter()
            .find(|name| self.0.join(name).symlink_metadata().is_ok());
        match there {
            Some(name) if !replace => Err(Failure::Local(format!(
                "there is an identity already: {} exists; use another --home, or --force to replace it for good",
                self.0.join(name).display()
            ))),
            _ => Ok(()),
        }
    }

    /// Writes a file that only its owner can read, whole or not at all.
    fn write(&self, name: &str, bytes: &[u8], replace: bool) -> std::io::Result<()> {
        use std::io::Write as _;
        let mut file = tempfile::Builder::new().prefix(name).suffix(".tmp").tempfile_in(&self.0)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        let path = self.0.join(name);
        if replace {
            file.persist(path)?;
        } else {
            file.persist_noclobber(path)?;
        }
        Ok(())
    }
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
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
