//! The devices of an account: finding them, and putting messages into their inboxes (`files-and-calls.md` 1.2, 2.1).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use towline_account::announcement::{self, DeviceAnnouncement};
use towline_account::contacts::Contacts;
use towline_account::inbox;
use towline_dht::types::{Payload as _, TRUST_REQUEST, TrustRequest};
use towline_dht::{Query, Value};
use towline_identity::{AccountId, Chain, DeviceId, PublicKey, RevocationList, Revocations, ShortId};

use super::actor::Command;
use super::config::AccountLimits;
use super::watch::sort;
use crate::dht::{CertificateKey, FoundCertificate, GetError};
use crate::eras::{DeviceIds, Eras};
use crate::node::Node;
use crate::revocations::SharedRevocations;

/// How long the certificate of a device is looked for.
const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(15);

/// A device of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What its account announces.
    pub announcement: DeviceAnnouncement,
    /// Its certificate chain, verified and of this account, if it was found. The node remembers it for dialling.
    pub chain: Option<Chain>,
    /// Where the chain was found, and thus of which generation the device is.
    pub at: Option<CertificateKey>,
}

impl Device {
    /// The short id.
    pub fn short_id(&self) -> ShortId {
        self.announcement.device
    }

    /// The long id, by which it is dialled: unknown for an old announcement whose certificate was not found.
    pub fn id(&self) -> Option<DeviceId> {
        self.chain.as_ref().map(Chain::device_id).or_else(|| self.announcement.device_id())
    }

    /// Its key.
    pub fn key(&self) -> Option<&PublicKey> {
        self.chain.as_ref().map(Chain::public_key).or(self.announcement.key.as_ref())
    }
}

/// Looks up accounts. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    node: Node,
    eras: Eras,
    contacts: watch::Receiver<Arc<Contacts>>,
    revocations: SharedRevocations,
    limits: Arc<AccountLimits>,
    places: Arc<Semaphore>,
    /// To the task of the account. Weak, as that has a directory itself.
    commands: mpsc::WeakSender<Command>,
}

impl Directory {
    pub(super) fn new(
        node: Node,
        eras: Eras,
        contacts: watch::Receiver<Arc<Contacts>>,
        revocations: SharedRevocations,
        limits: AccountLimits,
        commands: mpsc::WeakSender<Command>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.at_once.max(1)));
        Self { node, eras, contacts, revocations, limits: Arc::new(limits), places, commands }
    }

    /// The certificate of a device, if there is one of this account.
    pub(super) async fn certificate(&self, account: AccountId, ids: DeviceIds) -> Option<FoundCertificate> {
        let of_account = |chain: &Chain| chain.account_id() == Some(account);
        // An old device is looked for by its short id also where only long ones are in use otherwise: there is no other.
        let eras = if ids.long().is_none() { Eras::Both } else { self.eras };
        let lookup = self.node.dht().find_certificate_in(eras, ids, of_account);
        match tokio::time::timeout(CERTIFICATE_TIMEOUT, lookup).await {
            Ok(Ok(found)) if of_account(&found.chain) => {
                self.node.remember(found.chain.clone()).await;
                Some(found)
            }
            Ok(Ok(found)) => {
                tracing::debug!(%account, device = %found.chain.device_id(), "its certificate is of another account");
                None
            }
            Ok(Err(error)) => {
                tracing::debug!(%account, ?ids, %error, "no certificate");
                None
            }
            Err(_) => None,
        }
    }

    /// The devices an account announces now, without those it has revoked. Lists tell of certificates: where there is one, a
    /// device whose certificate is not found may be revoked, too, and is left out.
    pub(super) async fn devices(&self, account: AccountId) -> Result<Vec<Device>, GetError> {
        let mut get = self.node.dht().get(announcement::key(account), Query::all());
        let mut values = Vec::new();
        while values.len() < self.limits.values
            && let Some(value) = get.next().await?
        {
            values.push(value);
        }
        let (announced, lists) = sort(account, values);
        let mut by_id: BTreeMap<ShortId, Option<PublicKey>> = BTreeMap::new();
        for found in announced {
            if by_id.len() < self.limits.devices || by_id.contains_key(&found.device) {
                let key = by_id.entry(found.device).or_default();
                *key = key.take().or(found.key);
            }
        }
        let lookups = by_id.into_iter().map(async |(device, key)| {
            let _place = self.places.acquire().await;
            let ids = key.as_ref().map_or_else(|| DeviceIds::from(device), DeviceIds::from);
            let found = self.certificate(account, ids).await;
            let announcement = DeviceAnnouncement { device, key };
            let (chain, at) = found.map(|found| (found.chain, found.at)).unzip();
            Device { announcement, chain, at }
        });
        let mut devices = join_all(lookups).await;

        let issuer = devices.iter().find_map(|device| device.chain.as_ref()?.account().cloned());
        let mut found = Revocations::new();
        if let Some(issuer) = issuer {
            for list in lists {
                // Anybody can put lists here: one that is not of the account says nothing.
                if let Err(error) = found.insert(list, &issuer) {
                    tracing::debug!(%account, %error, "revocation list passed over");
                }
            }
            let lists: Vec<RevocationList> = found.lists().cloned().collect();
            if !lists.is_empty()
                && let Some(commands) = self.commands.upgrade()
            {
                let (done, taken) = oneshot::channel();
                if commands.send(Command::Lists { account, lists, issuer, done }).await.is_ok() {
                    let _ = taken.await;
                }
            }
        }
        let revokes = found.lists().next().is_some() || self.revocations.has_lists_of(account);
        devices.retain(|device| match &device.chain {
            Some(chain) => found.check(chain).is_ok() && self.revocations.check(chain).is_ok(),
            None => !revokes,
        });
        Ok(devices)
    }

    /// Puts a message into the inbox of each device of an account, and of `also`, if that is one of its devices: signed,
    /// and for that device only. Nothing is sent to who is banned. Returns how many there were.
    pub(super) async fn send(
        &self,
        account: AccountId,
        message: &TrustRequest,
        also: Option<DeviceIds>,
    ) -> usize {
        let devices = self.devices(account).await.unwrap_or_else(|error| {
            tracing::debug!(%account, %error, "its devices could not be looked up");
            Vec::new()
        });
        let also = match also.filter(|also| devices.iter().all(|device| device.id() != also.long())) {
            Some(also) => self.certificate(account, also).await,
            None => None,
        };
        let also = also.map(|found| found.chain).filter(|chain| self.revocations.check(chain).is_ok());
        let also = also.as_ref().map(Chain::public_key);
        let announced = devices.iter().filter_map(Device::key);
        let contacts = Arc::clone(&self.contacts.borrow());
        if contacts.get(account).is_some_and(|contact| contact.banned) {
            return 0;
        }
        let keys: BTreeMap<ShortId, &PublicKey> = announced
            .chain(also)
            .filter(|key| !contacts.is_device_banned(key.device_id()))
            .map(|key| (key.short_id(), key))
            .collect();
        let own = self.node.identity().short_id();
        let puts = keys.into_iter().filter(|(device, _)| *device != own).map(async |(device, key)| {
            let value = Value::new(0, TRUST_REQUEST, message.encode());
            match self.node.dht().put_encrypted(inbox::key(key.short_id()), key, value).await {
                Ok(_) => true,
                Err(error) => {
                    tracing::debug!(%account, %device, %error, "not sent");
                    false
                }
            }
        });
        join_all(puts).await.into_iter().filter(|sent| *sent).count()
    }
}
