//! Keys and certificates in files that the user names, as dnc and dhtnet-crtmgr take them.

use std::fmt::Display;
use std::io::Read as _;
use std::path::Path;

use towline::identity::{Chain, Identity, MAX_CHAIN_LEN, PrivateKey, PrivateKeyError};

use crate::failure::Failure;
use crate::home::unix_time;

/// Longest key file that is read, in bytes.
pub(crate) const MAX_KEY: u64 = 16 * 1024;
/// Longest password file that is read, in bytes.
const MAX_PASSWORD: u64 = 4 * 1024;

/// Reads a certificate chain, leaf first, and its private key, in PEM. The key may be encrypted; its password is then
/// the first line of a file.
pub(crate) fn load(certificate: &Path, key: &Path, password: Option<&Path>) -> Result<Identity, Failure> {
    let chain = chain(certificate)?;
    let pem = String::from_utf8(read(key, MAX_KEY)?).map_err(|_| wrong(key, &"not a PEM file"))?;
    let password = password.map(read_password).transpose()?;
    let key_pair = PrivateKey::from_pkcs8_pem(&pem, password.as_deref()).map_err(|error| match error {
        PrivateKeyError::PasswordNeeded => {
            wrong(key, &"the key is encrypted; name a file with its password with --password-file")
        }
        error => wrong(key, &error),
    })?;
    Identity::new(key_pair, chain)
        .map_err(|_| wrong(key, &format_args!("not the key of the certificate in {}", certificate.display())))
}

/// Like [`load`], for a device that is to be dialled or to dial: its certificates hold, count now, and are signed by
/// an account.
pub(crate) fn load_device(
    certificate: &Path,
    key: &Path,
    password: Option<&Path>,
) -> Result<Identity, Failure> {
    let identity = load(certificate, key, password)?;
    let chain = identity.chain();
    chain.verify_validity(unix_time()).map_err(|error| wrong(certificate, &error))?;
    if chain.account().is_none() {
        return Err(wrong(
            certificate,
            &"there is only a certificate that nobody signed, which no peer accepts; sign one with `towline cert -c \
              CA.crt -p CA.pem -o DIR`",
        ));
    }
    Ok(identity)
}

/// Reads a certificate chain in PEM or DER, leaf first, whose links hold.
pub(crate) fn chain(path: &Path) -> Result<Chain, Failure> {
    let chain = Chain::unpack(&read(path, MAX_CHAIN_LEN as u64)?).map_err(|error| wrong(path, &error))?;
    chain.verify_links().map_err(|error| wrong(path, &error))?;
    Ok(chain)
}

/// The first line of a file.
pub(crate) fn read_password(path: &Path) -> Result<String, Failure> {
    let text = String::from_utf8(read(path, MAX_PASSWORD)?).map_err(|_| wrong(path, &"not UTF-8 text"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// A file, which must not be longer than so many bytes.
pub(crate) fn read(path: &Path, longest: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(longest + 1).read_to_end(&mut bytes))
        .map_err(|error| wrong(path, &error))?;
    if bytes.len() as u64 > longest {
        return Err(wrong(path, &format_args!("longer than {longest} bytes")));
    }
    Ok(bytes)
}

/// The file cannot be used.
pub(crate) fn wrong(path: &Path, why: &dyn Display) -> Failure {
    Failure::Local(format!("{}: {why}", path.display()))
}
