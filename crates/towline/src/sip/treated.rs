//! Texts that came already.

use std::collections::{BTreeSet, VecDeque};

use towline_identity::AccountId;

/// Remembers the latest ids, so that a text whose answer was lost is told once though it comes twice.
#[derive(Debug)]
pub(super) struct Treated {
    known: BTreeSet<(AccountId, Box<str>)>,
    order: VecDeque<(AccountId, Box<str>)>,
    max: usize,
}

impl Treated {
    pub(super) fn new(max: usize) -> Self {
        Self { known: BTreeSet::new(), order: VecDeque::new(), max }
    }

    /// Whether a text of this id came from this account.
    pub(super) fn contains(&self, account: AccountId, id: &str) -> bool {
        self.known.contains(&(account, id.into()))
    }

    pub(super) fn insert(&mut self, account: AccountId, id: &str) {
        let entry = (account, Box::from(id));
        if self.max == 0 || !self.known.insert(entry.clone()) {
            return;
        }
        if self.order.len() == self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_known_by_account_and_id() {
        let account = |byte| AccountId([byte; 20]);
        let mut treated = Treated::new(2);
        treated.insert(account(1), "a");
        treated.insert(account(1), "a");
        treated.insert(account(2), "b");
        assert!(treated.contains(account(1), "a") && treated.contains(account(2), "b"));
        assert!(!treated.contains(account(2), "a"));
        treated.insert(account(3), "c");
        assert!(!treated.contains(account(1), "a"));
        assert!(treated.contains(account(2), "b") && treated.contains(account(3), "c"));
    }
}
