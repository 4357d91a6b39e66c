//! The account's task: revocation lists.

use std::sync::Arc;

use towline_account::contacts::Contact;
use towline_account::{announcement, revocation};
use towline_dht::Query;
use towline_identity::{AccountId, Certificate, Chain, RevocationList, Revocations, ShortId};

use super::{Actor, Done, News};
use crate::account::error::AccountError;
use crate::account::event::AccountEvent;

/// Lists of an account whose certificate is not known yet, or which is of no use now.
#[derive(Debug, Default)]
pub(super) struct Parked {
    lists: Vec<RevocationList>,
    /// There were others, for which there was no room: anybody can store some, before the genuine one is seen.
    missed: bool,
}

impl Actor {
    /// Whether lists of an account are kept: everybody can publish some for accounts of his own making.
    fn matters(&self, account: AccountId) -> bool {
        account == self.own || self.contacts.get(account).is_some_and(Contact::is_active)
    }

    /// The certificate of an account, once a chain of one of its devices was found.
    fn issuer(&self, account: AccountId) -> Option<Certificate> {
        if account == self.own {
            return self.node.identity().chain().account().cloned();
        }
        let of_account = (account, ShortId([0; 20]))..=(account, ShortId([0xff; 20]));
        self.chains.range(of_account).find_map(|(_, chain)| chain.as_ref()?.account().cloned())
    }

    /// Takes lists that were found at the key of an account: now, if they can be verified and are of use, and otherwise
    /// when they can and are. Of too many the latest stay, and all are fetched once the genuine ones can be told.
    pub(super) async fn park(&mut self, account: AccountId, mut lists: Vec<RevocationList>) {
        let mut parked = self.parked.remove(&account).unwrap_or_default();
        lists.append(&mut parked.lists);
        if lists.is_empty() && !parked.missed {
            return;
        }
        let matters = self.matters(account);
        if let Some(issuer) = self.issuer(account).filter(|_| matters) {
            self.take_lists(account, lists, &issuer).await;
            if parked.missed {
                self.fetch_lists(account, issuer);
            }
            return;
        }
        let limits = &self.config.limits;
        let others = self.parked.iter().filter(|(other, _)| self.matters(**other));
        let others: usize = others.map(|(_, parked)| parked.lists.len()).sum();
        let room = if matters { limits.lists.min(limits.all_lists.saturating_sub(others)) } else { 0 };
        parked.missed |= lists.len() > room;
        lists.truncate(room);
        parked.lists = lists;
        self.parked.insert(account, parked);
    }

    /// Looks for lists for which there was no room while the genuine ones could not be told.
    fn fetch_lists(&mut self, account: AccountId, issuer: Certificate) {
        let (dht, news) = (self.node.dht().clone(), self.news.clone());
        let places = Arc::clone(&self.places);
        self.chores.spawn(async move {
            let Ok(_place) = places.acquire().await else { return };
            let mut get = dht.get(revocation::key(account), Query::all());
            // Takes only what the account has made, and of that not more than its bounds allow.
            let mut found = Revocations::new();
            let complete = loop {
                match get.next().await {
                    Ok(Some(value)) => {
                        if let Ok(list) = revocation::read(&value.value)
                            && let Err(error) = found.insert(list, &issuer)
                        {
                            tracing::debug!(%account, %error, "revocation list passed over");
                        }
                    }
                    Ok(None) => break true,
                    Err(error) => {
                        tracing::debug!(%account, %error, "revocation lists could not be looked up");
                        break false;
                    }
                }
            };
            let lists = found.lists().cloned().collect();
            // Without anybody to tell, nothing is left to do.
            let _ = news.send(News::Lists { account, issuer: Box::new(issuer), lists, complete }).await;
        });
    }

    /// Lists were fetched: all of them, or they are to be fetched again with what is seen next.
    pub(super) async fn handle_fetched(
        &mut self,
        account: AccountId,
        issuer: &Certificate,
        lists: Vec<RevocationList>,
        complete: bool,
    ) {
        if !complete && self.watched.contains_key(&account) {
            self.parked.entry(account).or_default().missed = true;
        }
        self.take_lists(account, lists, issuer).await;
        self.tell_presence().await;
    }

    /// Takes lists into force: verified, saved, and enforced on the connections that stand.
    pub(super) async fn take_lists(
        &mut self,
        account: AccountId,
        lists: Vec<RevocationList>,
        issuer: &Certificate,
    ) {
        if !self.matters(account) || AccountId::from(issuer.short_id()) != account {
            return;
        }
        let mut news = false;
        for list in lists {
            match self.revocations.insert(list.clone(), issuer) {
                Ok(false) => {}
                Ok(true) => {
                    news = true;
                    // It is in force for this run all the same, and on the DHT for the next one.
                    let _ = self.keep_list(list, issuer).await;
                }
                Err(error) => tracing::debug!(%account, %error, "revocation list not taken"),
            }
        }
        if news {
            self.lists_changed(account);
        }
    }

    async fn keep_list(&mut self, list: RevocationList, issuer: &Certificate) -> Result<(), AccountError> {
        let store = Arc::clone(&self.config.store);
        let issuer = issuer.clone();
        let saved = self.net.offload(move || store.save_revocation_list(&issuer, &list)).await;
        saved.map_err(|error| {
            self.tell(AccountEvent::NotSaved(error.kind()));
            AccountError::NotSaved(error.kind())
        })
    }

    fn lists_changed(&mut self, account: AccountId) {
        self.presence.require_proof(account);
        self.exclude_revoked(account);
        if account == self.own {
            self.publish_own_lists();
            if self.revocations.check(self.node.identity().chain()).is_err() {
                self.tell(AccountEvent::ThisDeviceRevoked);
            }
        }
        let node = self.node.clone();
        self.chores.spawn(async move { node.enforce_policy().await });
    }

    /// Devices that are revoked are not there, whatever they announce.
    pub(super) fn exclude_revoked(&mut self, account: AccountId) {
        let of_account = (account, ShortId([0; 20]))..=(account, ShortId([0xff; 20]));
        let revoked = |chain: &Option<Chain>| {
            chain.as_ref().is_some_and(|chain| self.revocations.check(chain).is_err())
        };
        let devices: Vec<ShortId> = self
            .chains
            .range(of_account)
            .filter(|(_, chain)| revoked(chain))
            .map(|((_, device), _)| *device)
            .filter(|device| !self.excluded.contains(&(account, *device)))
            .collect();
        if devices.is_empty() {
            return;
        }
        for device in &devices {
            self.excluded.insert((account, *device));
            self.presence.exclude(account, *device);
        }
        self.tell(AccountEvent::Revoked { account, devices });
    }

    /// A list of our own that the program made.
    pub(super) async fn revoke(&mut self, list: RevocationList, done: Done) {
        let (own, issuer) = (self.own, self.issuer(self.own));
        let issuer = issuer.expect("a node has an identity with an account");
        let result = match self.revocations.insert(list.clone(), &issuer) {
            Ok(new) => {
                // Known is not saved: that may have failed before.
                let kept = self.keep_list(list, &issuer).await;
                if new {
                    self.lists_changed(own);
                    self.tell_presence().await;
                }
                kept
            }
            Err(error) => Err(error.into()),
        };
        let node = self.node.clone();
        self.chores.spawn(async move {
            node.enforce_policy().await;
            let _ = done.send(result);
        });
    }

    /// Puts the lists of our account on the DHT, where they stay while this device runs.
    pub(super) fn publish_own_lists(&mut self) {
        let Some(issuer) = self.issuer(self.own) else { return };
        let lists = self.revocations.snapshot();
        let values = lists.lists_of(&issuer).iter().map(revocation::value);
        let dht = self.node.dht();
        let key = announcement::key(self.own);
        // The new ones first, so that there is no moment without.
        let published = values.map(|value| dht.announce(key, value)).collect();
        self.lists = published;
    }
}
