//! The revocation lists a node goes by.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use towline_identity::{
    AccountId, Certificate, Chain, RevocationError, RevocationList, Revocations, Revoked,
};

/// Revocation lists, shared between the program, which collects them, and its nodes, which go by them. Clones are the
/// same lists.
///
/// Chains are checked when a connection is made, in both directions; a list that is added counts from then on. For
/// what stands already there is [`Node::enforce_policy`](crate::Node::enforce_policy).
#[derive(Debug, Clone, Default)]
pub struct SharedRevocations(Arc<RwLock<Revocations>>);

impl SharedRevocations {
    /// Starts from lists that were collected before.
    pub fn new(lists: Revocations) -> Self {
        Self(Arc::new(RwLock::new(lists)))
    }

    /// Adds a list, whose signature is checked against the certificate of its issuer. True if it says anything new.
    pub fn insert(&self, list: RevocationList, issuer: &Certificate) -> Result<bool, RevocationError> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(list, issuer)
    }

    /// Whether every certificate of a chain still counts with its issuer, as far as the lists tell.
    pub fn check(&self, chain: &Chain) -> Result<(), Revoked> {
        self.read().check(chain)
    }

    /// Whether there is a list of an account: who has revoked one device may have revoked another.
    pub(crate) fn has_lists_of(&self, account: AccountId) -> bool {
        self.read().has_lists_of(account.into())
    }

    /// The lists as they are now.
    pub fn snapshot(&self) -> Revocations {
        self.read().clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, Revocations> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
