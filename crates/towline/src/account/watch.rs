//! Watching the presence of an account.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use towline_account::announcement::{self, DeviceAnnouncement};
use towline_account::presence::PresenceState;
use towline_account::revocation;
use towline_dht::Query;
use towline_identity::{AccountId, DeviceId, PublicKey, RevocationList, ShortId};

use super::actor::News;
use crate::dht::{Dht, ListenEvent, SecureValue};

/// How present an account is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountPresence {
    /// As much as the most present of its devices.
    pub state: PresenceState,
    /// The devices that are there.
    pub devices: BTreeMap<ShortId, DevicePresence>,
}

/// How present a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePresence {
    /// Announced or connected.
    pub state: PresenceState,
    /// Its long id, by which it is dialled. Announcements of old devices do not have it; then it shows once the
    /// certificate was found.
    pub id: Option<DeviceId>,
}

/// The presence of an account, as it changes. The account is watched for as long as one of these exists; clones count.
#[derive(Debug, Clone)]
#[doc(alias = "subscribeBuddy")]
pub struct PresenceWatch {
    account: AccountId,
    latest: watch::Receiver<AccountPresence>,
}

impl PresenceWatch {
    pub(super) fn new(account: AccountId, latest: watch::Receiver<AccountPresence>) -> Self {
        Self { account, latest }
    }

    /// Who is watched.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// How present it is now.
    pub fn current(&self) -> AccountPresence {
        self.latest.borrow().clone()
    }

    /// The next change: what was not taken in time is left out. `None` when the account of ours was shut down. Cancel
    /// safe.
    pub async fn next(&mut self) -> Option<AccountPresence> {
        self.latest.changed().await.ok()?;
        Some(self.latest.borrow_and_update().clone())
    }

    /// Waits until `wanted` holds, now or later. `None` when the account of ours was shut down. Cancel safe.
    pub async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&AccountPresence) -> bool,
    ) -> Option<AccountPresence> {
        self.latest.wait_for(|presence| wanted(presence)).await.ok().map(|presence| presence.clone())
    }
}

/// A verified announcement.
#[derive(Debug, Clone)]
pub(super) struct Announced {
    pub(super) value_id: u64,
    pub(super) device: ShortId,
    pub(super) key: Option<PublicKey>,
}

/// Sorts what lies at the key of an account. Announcements are verified; lists are not, as that takes the account's
/// certificate.
pub(super) fn sort(
    account: AccountId,
    values: impl IntoIterator<Item = SecureValue>,
) -> (Vec<Announced>, Vec<RevocationList>) {
    let (mut announced, mut lists) = (Vec::new(), Vec::new());
    for secure in values {
        let value = &secure.value;
        match DeviceAnnouncement::read(value, account) {
            Ok(DeviceAnnouncement { device, key }) => {
                announced.push(Announced { value_id: value.id, device, key });
            }
            Err(error) => match revocation::read(value) {
                Ok(list) => lists.push(list),
                Err(_) => tracing::debug!(%account, id = value.id, %error, "neither announcement nor list"),
            },
        }
    }
    (announced, lists)
}

/// How long before a listen that ended is begun anew.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

/// Listens at the key of an account until nobody watches it any more, or the account of ours is gone. Begins anew when
/// `renew` says so.
pub(super) async fn listen(
    dht: Dht,
    account: AccountId,
    watched: watch::Sender<AccountPresence>,
    renew: Arc<Notify>,
    news: mpsc::Sender<News>,
) {
    let listening = async {
        loop {
            let mut listening = dht.listen(announcement::key(account), Query::all());
            loop {
                let event = tokio::select! {
                    biased;
                    event = listening.next() => event,
                    () = renew.notified() => None,
                };
                let Some(event) = event else { break };
                let told = match event {
                    ListenEvent::New(values) => {
                        let (announced, lists) = sort(account, values);
                        News::Seen { account, announced, lists }
                    }
                    ListenEvent::Expired(ids) => News::Expired { account, ids },
                    // What was missed may have been an announcement: begin anew, to see all there is.
                    ListenEvent::Missed(_) => break,
                };
                if news.send(told).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(PAUSE).await;
            if news.send(News::Renewed { account }).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = watched.closed() => {}
        () = listening => {}
    }
    // Without anybody to tell, nothing is left to do.
    let _ = news.send(News::Unwatched { account }).await;
}
