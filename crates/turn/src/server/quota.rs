//! What users may take: allocations, and bytes per second.

use std::collections::BTreeMap;
use std::time::Instant;

/// A user with an allocation.
#[derive(Debug)]
struct Account {
    allocations: usize,
    // Bytes that may pass now; at most those of one second.
    credit: u64,
    filled: Instant,
}

/// The users with allocations: their number is bounded by that of the allocations.
#[derive(Debug)]
pub(super) struct Quotas {
    rate: u64,
    accounts: BTreeMap<String, Account>,
}

impl Quotas {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate, accounts: BTreeMap::new() }
    }

    pub(super) fn allocations(&self, user: &str) -> usize {
        self.accounts.get(user).map_or(0, |account| account.allocations)
    }

    pub(super) fn add(&mut self, now: Instant, user: &str) {
        let fresh = Account { allocations: 0, credit: self.rate, filled: now };
        self.accounts.entry(user.to_owned()).or_insert(fresh).allocations += 1;
    }

    pub(super) fn remove(&mut self, user: &str) {
        if let Some(account) = self.accounts.get_mut(user) {
            account.allocations -= 1;
            if account.allocations == 0 {
                self.accounts.remove(user);
            }
        }
    }

    /// Whether a datagram of a user may pass; if so it is counted.
    pub(super) fn take(&mut self, now: Instant, user: &str, bytes: usize) -> bool {
        let Some(account) = self.accounts.get_mut(user) else { return false };
        let micros = now.saturating_duration_since(account.filled).as_micros();
        let earned = u128::from(self.rate) * micros / 1_000_000;
        if earned > 0 {
            account.credit =
                self.rate.min(account.credit.saturating_add(u64::try_from(earned).unwrap_or(u64::MAX)));
            account.filled = now;
        }
        let Some(left) = account.credit.checked_sub(bytes as u64) else { return false };
        account.credit = left;
        true
    }
}
