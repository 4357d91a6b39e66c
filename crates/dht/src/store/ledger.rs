//! Who holds how much of the storage.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::Source;
use crate::InfoHash;

/// A stored value by when it expires, its key and its id.
pub(super) type Due = (Instant, InfoHash, u64);

/// Accounts of all sources with remote values or listeners.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    bytes: usize,
    accounts: BTreeMap<Source, Account>,
    by_bytes: BTreeSet<(usize, Source)>,
}

#[derive(Debug, Default)]
struct Account {
    bytes: usize,
    values: BTreeSet<Due>,
    listeners: usize,
}

impl Ledger {
    /// Bytes of all remote values.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn bytes_of(&self, source: Source) -> usize {
        self.accounts.get(&source).map_or(0, |account| account.bytes)
    }

    pub(super) fn values_of(&self, source: Source) -> usize {
        self.accounts.get(&source).map_or(0, |account| account.values.len())
    }

    pub(super) fn listeners_of(&self, source: Source) -> usize {
        self.accounts.get(&source).map_or(0, |account| account.listeners)
    }

    pub(super) fn add_value(&mut self, source: Source, bytes: usize, due: Due) {
        self.change(source, |account| {
            account.bytes += bytes;
            account.values.insert(due);
        });
        self.bytes += bytes;
    }

    pub(super) fn remove_value(&mut self, source: Source, bytes: usize, due: Due) {
        self.change(source, |account| {
            account.bytes -= bytes;
            account.values.remove(&due);
        });
        self.bytes -= bytes;
    }

    pub(super) fn add_listener(&mut self, source: Source) {
        self.change(source, |account| account.listeners += 1);
    }

    pub(super) fn remove_listener(&mut self, source: Source) {
        self.change(source, |account| account.listeners -= 1);
    }

    /// The value to evict: of the source with the most bytes, the one that expires soonest.
    pub(super) fn victim(&self) -> Option<Due> {
        let (_, source) = self.by_bytes.last()?;
        self.accounts.get(source)?.values.first().copied()
    }

    /// Keeps the order by bytes while an account changes, and forgets empty ones.
    fn change(&mut self, source: Source, change: impl FnOnce(&mut Account)) {
        let account = self.accounts.entry(source).or_default();
        self.by_bytes.remove(&(account.bytes, source));
        change(account);
        if account.values.is_empty() && account.listeners == 0 {
            self.accounts.remove(&source);
        } else if account.bytes > 0 {
            self.by_bytes.insert((account.bytes, source));
        }
    }
}
