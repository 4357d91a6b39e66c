//! The directory `revoked`: which certificates their authorities took back.

use std::io;
use std::path::{Path, PathBuf};

use towline::identity::{Certificate, Chain, RevocationList, Revocations};

use super::files;
use crate::failure::Failure;

/// Longest file that is read: the longest list and its authority's certificate in PEM.
const LONGEST: u64 = 256 * 1024;
/// Most files that are read.
const MOST: usize = 8192;
const ENDING: &str = "crl";

/// The lists in the directory. Each is in a file of its own with the certificate of its authority; one without a
/// certificate counts as the account's.
pub(super) fn load(directory: &Path, account: Option<&Certificate>) -> Result<Revocations, Failure> {
    let mut all = Revocations::new();
    let paths = paths(directory).map_err(|error| unusable(directory, &error))?;
    for path in paths {
        let (list, issuer) = read(&path).map_err(|error| unusable(&path, &error))?;
        let Some(issuer) = issuer.as_ref().or(account) else { continue };
        all.insert(list, issuer).map_err(|error| unusable(&path, &error))?;
    }
    Ok(all)
}

/// Keeps a list, and removes those of the same authority that say no more.
pub(super) fn save(directory: &Path, issuer: &Certificate, list: &RevocationList) -> io::Result<PathBuf> {
    files::make_directory(directory)?;
    let authority = issuer.short_id().to_string();
    let hash = blake3::hash(list.der()).to_hex();
    let path = directory.join(format!("{authority}-{:.16}.{ENDING}", hash.as_str()));
    let text = issuer.to_pem() + &list.to_pem();
    files::write(&path, text.as_bytes(), true)?;
    for other in paths(directory)? {
        let of_issuer = other.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&authority));
        if other == path || !of_issuer {
            continue;
        }
        let old = match read(&other) {
            Ok((old, Some(by))) if by.public_key() == issuer.public_key() => old,
            // Whatever it is, it is not ours to remove.
            _ => continue,
        };
        if old.serials().all(|serial| list.serials().any(|kept| kept == serial)) {
            // It would say nothing new, so it may also stay.
            let _ = std::fs::remove_file(other);
        }
    }
    Ok(path)
}

/// Copies all lists to another directory.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for path in paths(from)? {
        let Some(name) = path.file_name() else { continue };
        files::make_directory(to)?;
        let bytes = files::read(&path, LONGEST)?.unwrap_or_default();
        files::write(&to.join(name), &bytes, true)?;
    }
    Ok(())
}

/// The names in the directory change when a list comes.
pub(super) fn paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) {
            paths.push(path);
        }
        if paths.len() > MOST {
            return Err(io::Error::other(format!("more than {MOST} revocation lists")));
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> io::Result<(RevocationList, Option<Certificate>)> {
    let invalid =
        |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let bytes = files::read(path, LONGEST)?.unwrap_or_default();
    // As other programs write them.
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Ok((RevocationList::from_der(&bytes).map_err(|error| invalid(&error))?, None));
    };
    let start = text.find("-----BEGIN X509 CRL").unwrap_or(0);
    let list = RevocationList::from_pem(&text[start..]).map_err(|error| invalid(&error))?;
    let issuer = if text.contains("-----BEGIN CERTIFICATE-----") {
        Some(Chain::unpack(&bytes).map_err(|error| invalid(&error))?.leaf().clone())
    } else {
        None
    };
    Ok((list, issuer))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::Local(format!("the revocation list {} is not usable: {why}", path.display()))
}
