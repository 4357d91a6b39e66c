//! What the account's key is for: further devices, and taking them away again.

use towline::account::receipt::{MAX_RECEIPT_LEN, Receipt};
use towline::identity::{Chain, Identity, PrivateKey, PrivateKeyError};

use super::{ACCOUNT_KEY_FILE, AUTHORITY_KEY_FILE, Home, RECEIPT_FILE, files};
use crate::failure::Failure;

/// Longest key file that is read, in bytes.
const MAX_KEY: u64 = 16 * 1024;

/// Whether the account's key is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccountKey {
    Absent,
    Open,
    /// Under a password.
    Sealed,
}

/// Why there is no key.
pub(crate) enum KeyFault {
    /// It is under a password.
    PasswordNeeded,
    /// The password is another.
    WrongPassword,
    Failure(Failure),
}

impl Home {
    /// Whether the account's key is here.
    pub(crate) fn account_key_state(&self) -> AccountKey {
        match self.key(ACCOUNT_KEY_FILE, None) {
            Ok(Some(_)) => AccountKey::Open,
            Err(KeyFault::PasswordNeeded) => AccountKey::Sealed,
            Ok(None) | Err(_) => AccountKey::Absent,
        }
    }

    /// The account, by its key. `device` is the identity of this device, which has the certificates.
    pub(crate) fn account(&self, device: &Identity, password: Option<&str>) -> Result<Identity, KeyFault> {
        let key = self.key(ACCOUNT_KEY_FILE, password)?.ok_or_else(|| {
            KeyFault::Failure(Failure::Local(format!(
                "this takes the key of the account, which is not here: {} is missing; do it on the device where the \
                 account was made, or import an archive of the account",
                self.path().join(ACCOUNT_KEY_FILE).display()
            )))
        })?;
        let chain = device.chain().issuer();
        chain.and_then(|chain| Identity::new(key, chain).ok()).ok_or_else(|| {
            KeyFault::Failure(Failure::Local(format!(
                "{} is not the key of this device's account",
                self.path().join(ACCOUNT_KEY_FILE).display()
            )))
        })
    }

    /// The key above the account's, if it is here.
    pub(crate) fn authority_key(&self, password: Option<&str>) -> Result<Option<PrivateKey>, KeyFault> {
        self.key(AUTHORITY_KEY_FILE, password)
    }

    fn key(&self, name: &str, password: Option<&str>) -> Result<Option<PrivateKey>, KeyFault> {
        let path = self.path().join(name);
        let wrong = |error: &dyn std::fmt::Display| {
            KeyFault::Failure(Failure::Local(format!("{}: {error}", path.display())))
        };
        let Some(pem) = files::read_text(&path, MAX_KEY).map_err(|error| wrong(&error))? else {
            return Ok(None);
        };
        let pem = zeroize::Zeroizing::new(pem);
        match PrivateKey::from_pkcs8_pem(&pem, password) {
            Ok(key) => Ok(Some(key)),
            Err(PrivateKeyError::PasswordNeeded) => Err(KeyFault::PasswordNeeded),
            Err(PrivateKeyError::Password) => Err(KeyFault::WrongPassword),
            Err(error) => Err(wrong(&error)),
        }
    }

    /// What the account's key signed for this device when it was made. A home of an earlier version has none: it is made
    /// if the account's key is at hand.
    pub(crate) fn receipt(&self, device: &Identity) -> Result<Option<Receipt>, Failure> {
        let path = self.path().join(RECEIPT_FILE);
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::Local(format!(
                "the receipt {} is not usable: {error}; without it a new one is made, if the account's key is here",
                path.display()
            ))
        };
        if let Some(text) = files::read_text(&path, MAX_RECEIPT_LEN as u64).map_err(|error| wrong(&error))? {
            let receipt = Receipt::from_text(&text).map_err(|error| wrong(&error))?;
            receipt.verify(device.chain()).map_err(|error| wrong(&error))?;
            return Ok(Some(receipt));
        }
        let Ok(account) = self.account(device, None) else { return Ok(None) };
        let receipt = Receipt::make(&account, device.key().public());
        if let Err(error) = files::write(&path, receipt.to_text().as_bytes(), true) {
            tracing::warn!(%error, path = %path.display(), "the receipt is not kept");
        }
        Ok(Some(receipt))
    }

    /// Writes the keys of the account and above it, sealed if there is a password.
    pub(super) fn write_account_keys(
        &self,
        account: &PrivateKey,
        authority: Option<&PrivateKey>,
        password: Option<&str>,
        replace: bool,
    ) -> std::io::Result<()> {
        let keys = [(AUTHORITY_KEY_FILE, authority), (ACCOUNT_KEY_FILE, Some(account))];
        for (name, key) in keys.into_iter().filter_map(|(name, key)| key.map(|key| (name, key))) {
            files::write(&self.path().join(name), key.to_pkcs8_pem(password).as_bytes(), replace)?;
        }
        Ok(())
    }
}

/// The chain of an account's new device, checked to be usable.
pub(crate) fn usable(chain: &Chain, now: i64) -> Result<(), Failure> {
    chain
        .verify_links()
        .and_then(|()| chain.verify_validity(now))
        .map_err(|error| Failure::Local(format!("the certificates of the account are not usable: {error}")))
}
