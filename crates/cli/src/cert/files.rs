//! Files that nobody loses by accident.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use towline::identity::Identity;

use crate::failure::Failure;

/// A private key and its certificate chain.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) key: PathBuf,
    pub(super) certificate: PathBuf,
}

impl Pair {
    /// NAME.pem and NAME.crt in a directory.
    pub(super) fn new(directory: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            key: directory.join(format!("{name}.pem")),
            certificate: directory.join(format!("{name}.crt")),
        }
    }

    /// Fails if one of the files would be overwritten.
    pub(super) fn check_free(&self, force: bool) -> Result<(), Failure> {
        check_free(&self.key, force)?;
        check_free(&self.certificate, force)
    }

    /// Writes both. The key is readable by its owner only.
    pub(super) fn write(&self, identity: &Identity, force: bool) -> Result<(), Failure> {
        // The certificate last: when it is there, everything is.
        write(&self.key, identity.key().to_pkcs8_pem(None).as_bytes(), Readers::Owner, force)?;
        write(&self.certificate, identity.chain().pack().as_bytes(), Readers::All, force)
    }
}

/// Fails if the file would be overwritten.
pub(super) fn check_free(path: &Path, force: bool) -> Result<(), Failure> {
    if force || path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Failure::Local(format!("{} exists; --force replaces it", path.display())))
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    All,
}

/// Writes a file, whole or not at all. Without `replace` none that exists is touched.
pub(super) fn write(path: &Path, bytes: &[u8], readers: Readers, replace: bool) -> Result<(), Failure> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".towline-");
        #[cfg(unix)]
        let mode = std::os::unix::fs::PermissionsExt::from_mode(match readers {
            Readers::Owner => 0o600,
            Readers::All => 0o644,
        });
        #[cfg(unix)]
        builder.permissions(mode);
        let mut file = builder.tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        if replace {
            file.persist(path)?;
        } else {
            file.persist_noclobber(path)?;
        }
        Ok(())
    };
    #[cfg(not(unix))]
    let _ = readers;
    written().map_err(|error| Failure::Local(format!("cannot write {}: {error}", path.display())))
}
