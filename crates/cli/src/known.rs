//! What a home directory says of others, to a command that lets them connect: contacts, bans, the file `trust`, revoked
//! devices. It goes by what other processes change while it runs.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use towline::account::contacts::Contacts;
use towline::account::receipt::Receipt;
use towline::identity::{Chain, Distrust, Identity, Trust, TrustStore};
use towline::{AccountId, Node, PeerKind, SharedRevocations};

use crate::failure::Failure;
use crate::home::{Home, Store};

/// How often is looked whether another process changed something.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// What is known of others.
#[derive(Debug)]
pub(crate) struct Known {
    own: AccountId,
    account: Chain,
    contacts: RwLock<Contacts>,
    trust: TrustStore,
    revocations: SharedRevocations,
    receipt: Option<Receipt>,
    store: Arc<Store>,
}

impl Known {
    /// What the directory says of others to the device that lives in it.
    pub(crate) fn load(home: &Home, identity: &Identity) -> Result<Arc<Self>, Failure> {
        let store = Arc::new(home.store());
        let account = identity.chain().issuer().expect("an identity of a home has an account");
        Ok(Arc::new(Self {
            own: account.short_id().into(),
            account,
            contacts: RwLock::new(store.contacts().load()?),
            trust: home.trust()?,
            revocations: SharedRevocations::new(home.revocations(identity)?),
            // What lies in the home directory is another device's if the identity comes from elsewhere.
            receipt: if home.identity().is_ok_and(|here| here.device_id() == identity.device_id()) {
                home.receipt(identity)?
            } else {
                None
            },
            store,
        }))
    }

    /// Which devices were taken back.
    pub(crate) fn revocations(&self) -> SharedRevocations {
        self.revocations.clone()
    }

    /// What the account signed for this device.
    pub(crate) fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    /// What a device is to us; those allowed in the file `trust` count as contacts.
    pub(crate) fn kind_of(&self, chain: &Chain) -> PeerKind {
        let kind = self.contacts().kind_of(chain, self.own);
        match (kind, self.trust.check(chain)) {
            (_, Err(Distrust::Banned(_) | Distrust::Chain(_))) => PeerKind::Banned,
            (PeerKind::Stranger, Ok(())) => PeerKind::Contact,
            (kind, _) => kind,
        }
    }

    /// Whether anybody at all is banned.
    pub(crate) fn bans_somebody(&self) -> bool {
        let contacts = self.contacts();
        contacts.banned_devices().next().is_some()
            || contacts.iter().any(|(_, contact)| contact.banned)
            || self.trust.iter().any(|(_, trust)| trust == Trust::Banned)
    }

    fn contacts(&self) -> RwLockReadGuard<'_, Contacts> {
        self.contacts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes by what other processes change, for as long as the node runs.
    pub(crate) async fn follow(self: Arc<Self>, node: Node) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let known = Arc::clone(&self);
            let changed = tokio::task::spawn_blocking(move || known.look()).await;
            if changed.unwrap_or(false) {
                node.enforce_policy().await;
            }
        }
    }

    /// Whether another process changed something.
    fn look(&self) -> bool {
        let mut changed = false;
        match self.store.contacts().newer() {
            Ok(Some(contacts)) => {
                *self.contacts.write().unwrap_or_else(PoisonError::into_inner) = contacts;
                changed = true;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "contacts.json"),
        }
        for list in self.store.new_lists(self.account.leaf()) {
            changed |= self.revocations.insert(list, self.account.leaf()).unwrap_or(false);
        }
        changed
    }
}
