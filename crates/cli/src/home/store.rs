//! Where a running account keeps what it learns.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use towline::account::AccountStore;
use towline::account::contacts::Contacts;
use towline::identity::{Certificate, Chain, RevocationList};

use super::contacts::ContactsFile;
use super::{Home, revoked};

/// The home directory of an account that runs.
#[derive(Debug)]
pub(crate) struct Store {
    home: Home,
    contacts: ContactsFile,
    /// Files of revocation lists that are known.
    lists: Mutex<BTreeSet<PathBuf>>,
}

impl Store {
    pub(super) fn new(home: Home) -> Self {
        let contacts = home.contacts_file();
        let lists = revoked::paths(&home.revoked()).unwrap_or_default().into_iter().collect();
        Self { home, contacts, lists: Mutex::new(lists) }
    }

    /// The contacts.
    pub(crate) fn contacts(&self) -> &ContactsFile {
        &self.contacts
    }

    /// Lists of this account that another process made since this was last asked.
    pub(crate) fn new_lists(&self, own: &Certificate) -> Vec<RevocationList> {
        let now: BTreeSet<PathBuf> =
            revoked::paths(&self.home.revoked()).unwrap_or_default().into_iter().collect();
        let mut known = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now {
            return Vec::new();
        }
        *known = now;
        drop(known);
        match revoked::load(&self.home.revoked(), Some(own)) {
            Ok(all) => all.lists_of(own).to_vec(),
            Err(failure) => {
                tracing::warn!(%failure, "revocation lists");
                Vec::new()
            }
        }
    }

    /// Keeps the certificate of another device of this account: it takes that to revoke the device.
    pub(crate) fn keep_certificate(&self, chain: &Chain) {
        if let Err(error) = self.home.keep_certificate(chain) {
            tracing::warn!(%error, device = %chain.device_id(), "its certificate is not kept");
        }
    }
}

impl AccountStore for Store {
    fn save_contacts(&self, contacts: &Contacts) -> io::Result<()> {
        self.contacts.save(contacts).inspect_err(|error| tracing::warn!(%error, "contacts are not saved"))
    }

    fn save_revocation_list(&self, issuer: &Certificate, list: &RevocationList) -> io::Result<()> {
        let saved = revoked::save(&self.home.revoked(), issuer, list)
            .inspect_err(|error| tracing::warn!(%error, "a revocation list is not saved"))?;
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).insert(saved);
        Ok(())
    }
}
