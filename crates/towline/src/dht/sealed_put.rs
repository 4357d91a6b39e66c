//! Puts that are signed, or signed and encrypted (`dht.md` 3.2, 3.3, 3.7).

use std::sync::Arc;

use towline_dht::node::{GetOptions, PutOptions};
use towline_dht::{InfoHash, Query, Restriction, Value};
use towline_identity::{Identity, PublicKey};

use super::Dht;
use super::announce::{Announcement, PutOutcome};
use super::error::{GetError, PutError};

impl Dht {
    /// Signs a value and stores it once. Where a value of ours with this id is stored already, the new one gets the
    /// next sequence number and replaces it. A value id of 0 becomes a random one, which needs no such look.
    ///
    /// Dropping the future gives up what has not been sent yet; nodes that have the value keep it.
    #[doc(alias = "putSigned")]
    pub async fn put_signed(&self, key: InfoHash, value: Value) -> Result<PutOutcome, PutError> {
        let signed = self.sign(key, value).await?;
        self.put(key, signed, PutOptions::default()).await
    }

    /// Signs a value as [`put_signed`](Self::put_signed) does, and keeps it alive until the guard is dropped.
    pub async fn announce_signed(&self, key: InfoHash, value: Value) -> Result<Announcement, PutError> {
        let signed = self.sign(key, value).await?;
        Ok(self.announce(key, signed))
    }

    /// Signs a value, encrypts it to the holder of `recipient`, and stores it once. Nobody else learns more than its
    /// size, its id, and that somebody put it there. A value id of 0 becomes a random one.
    ///
    /// Dropping the future gives up what has not been sent yet; nodes that have the value keep it.
    #[doc(alias = "putEncrypted")]
    pub async fn put_encrypted(
        &self,
        key: InfoHash,
        recipient: &PublicKey,
        mut value: Value,
    ) -> Result<PutOutcome, PutError> {
        let identity = Arc::clone(self.signer()?);
        if value.id == 0 {
            value.id = self.draw_value_id();
        }
        let recipient = recipient.clone();
        let sealed = self.net.offload(move || value.encrypt_for(&recipient, identity.key(), 0)).await?;
        self.put(key, sealed, PutOptions::default()).await
    }

    fn signer(&self) -> Result<&Arc<Identity>, PutError> {
        self.identity.as_ref().ok_or(PutError::NoIdentity)
    }

    async fn sign(&self, key: InfoHash, mut value: Value) -> Result<Value, PutError> {
        let identity = Arc::clone(self.signer()?);
        let seq = if value.id == 0 {
            value.id = self.draw_value_id();
            0
        } else {
            self.next_seq(key, value.id, identity.key().public()).await?
        };
        self.net
            .offload(move || value.sign(identity.key(), seq).map(|()| value))
            .await
            .map_err(PutError::from)
    }

    /// The sequence number with which a value of ours replaces what is stored under its id.
    async fn next_seq(&self, key: InfoHash, id: u64, owner: &PublicKey) -> Result<u16, PutError> {
        let query = Query::by_id(id).and(Restriction::Owner(owner.short_id().into()));
        let stored = match self.get_raw(key, GetOptions { query, plain: false }).collect().await {
            Ok(stored) => stored,
            // Nothing can be stored out there; the put will say so, or find a node that has turned up since.
            Err(GetError::Unreachable | GetError::Backlog) => Vec::new(),
            Err(GetError::Busy) => return Err(PutError::Busy),
            Err(GetError::Closed) => return Err(PutError::Closed),
        };
        let ours = stored.iter().filter(|value| value.owner() == Some(owner)).map(|value| value.seq());
        match ours.max() {
            None => Ok(0),
            Some(highest) => highest.checked_add(1).ok_or(PutError::SequenceExhausted),
        }
    }
}
