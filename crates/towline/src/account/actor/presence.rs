//! The account's task: who is watched, and who is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use towline_account::contacts::Contact;
use towline_account::presence::{PresenceEvent, PresenceState};
use towline_identity::{AccountId, Chain, DeviceId, RevocationList, ShortId};

use super::{Actor, News};
use crate::account::error::AccountError;
use crate::account::event::AccountEvent;
use crate::account::watch::{self as watching, AccountPresence, Announced, DevicePresence, PresenceWatch};
use crate::connection::Connection;
use crate::eras::DeviceIds;
use crate::router::PeerKind;

impl Actor {
    /// A watch of an account, which begins now unless there is one.
    pub(super) fn watch(&mut self, account: AccountId) -> Result<PresenceWatch, AccountError> {
        if let Some(watched) = self.watched.get(&account) {
            return Ok(PresenceWatch::new(account, watched.subscribe()));
        }
        self.presence.watch(account)?;
        if self.revocations.has_lists_of(account) {
            self.presence.require_proof(account);
        }
        let (watched, latest) = watch::channel(AccountPresence::default());
        self.listen(account, watched.clone());
        self.watched.insert(account, watched);
        for (_, device) in self.connected.values().filter(|(of, _)| *of == account) {
            self.presence.connected(account, *device);
        }
        Ok(PresenceWatch::new(account, latest))
    }

    fn listen(&mut self, account: AccountId, watched: watch::Sender<AccountPresence>) {
        let renew = Arc::new(Notify::new());
        let (dht, news) = (self.node.dht().clone(), self.news.clone());
        self.chores.spawn(watching::listen(dht, account, watched, Arc::clone(&renew), news));
        self.renew.insert(account, renew);
    }

    /// The listen at an account ended, as nobody watched.
    pub(super) fn unwatched(&mut self, account: AccountId) {
        let Some(watched) = self.watched.get(&account) else { return };
        if watched.receiver_count() > 0 {
            // Somebody has begun to meanwhile.
            let watched = watched.clone();
            self.presence.listen_renewed(towline_net::now(), account);
            self.listen(account, watched);
            return;
        }
        self.watched.remove(&account);
        self.renew.remove(&account);
        self.presence.unwatch(account);
        self.contacts.handle_offline(account);
        self.parked.remove(&account);
        self.chains.retain(|(of, _), _| *of != account);
        self.ids.retain(|(of, _), _| *of != account);
        self.excluded.retain(|(of, _)| *of != account);
    }

    /// Watches those that the account wants watched: itself, for new devices; contacts that have not answered, to ask them
    /// again; contacts that are connected, whose devices may be revoked.
    pub(super) fn keep_watches(&mut self) {
        let mut wanted = BTreeSet::from([self.own]);
        wanted.extend(
            self.contacts.active().filter(|(_, contact)| !contact.confirmed).map(|(account, _)| account),
        );
        let contact = |account: &AccountId| self.contacts.get(*account).is_some_and(Contact::is_active);
        wanted.extend(self.connected.values().map(|(account, _)| *account).filter(contact));
        self.kept.retain(|account, _| wanted.contains(account));
        for account in wanted {
            if self.kept.contains_key(&account) {
                continue;
            }
            match self.watch(account) {
                Ok(watch) => drop(self.kept.insert(account, watch)),
                Err(error) => tracing::warn!(%account, %error, "a contact is not watched"),
            }
        }
    }

    /// Compares the connections that stand with those that stood.
    pub(super) async fn look_at_connections(&mut self) {
        let connections = self.node.established();
        // The policy is asked about who dials; who was dialled from here may be banned, too. That is looked at each time:
        // a connection may have taken the place of one that was closed, so that the same devices are connected.
        for peer in connections.iter().map(Connection::peer) {
            if self.contacts.kind_of(&peer.chain, self.own) == PeerKind::Banned {
                let (node, device) = (self.node.clone(), peer.device);
                self.chores.spawn(async move { node.close_with(device).await });
            }
        }
        let standing: BTreeMap<DeviceId, (AccountId, ShortId)> = connections
            .iter()
            .map(Connection::peer)
            .map(|peer| (peer.device, (peer.account, peer.chain.short_id())))
            .collect();
        if standing == self.connected {
            return;
        }
        for (account, device) in self.connected.values() {
            if !standing.values().any(|other| other == &(*account, *device)) {
                self.presence.disconnected(*account, *device);
            }
        }
        self.connected = standing;
        for (account, device) in self.connected.values() {
            self.presence.connected(*account, *device);
        }
        self.keep_watches();
        self.tell_presence().await;
    }

    pub(super) async fn handle_seen(
        &mut self,
        account: AccountId,
        announced: Vec<Announced>,
        lists: Vec<RevocationList>,
    ) {
        if !self.watched.contains_key(&account) {
            return;
        }
        for Announced { value_id, device, key } in announced {
            self.presence.handle_value(account, value_id, device);
            // Known, or looked for: anybody can store an announcement again and again.
            let known = self.chains.contains_key(&(account, device));
            let this = account == self.own && device == self.node.identity().short_id();
            if this || self.chains.get(&(account, device)).is_some_and(Option::is_some) {
                self.presence.prove(account, device);
            }
            if known || this || !self.has_room_for_chain(account) {
                continue;
            }
            self.chains.insert((account, device), None);
            let ids = key.as_ref().map_or_else(|| DeviceIds::from(device), DeviceIds::from);
            if let Some(id) = ids.long() {
                self.ids.insert((account, device), id);
            }
            let (directory, news) = (self.directory.clone(), self.news.clone());
            let places = Arc::clone(&self.places);
            self.chores.spawn(async move {
                let Ok(_place) = places.acquire().await else { return };
                let chain = directory.certificate(account, ids).await.map(|found| found.chain);
                // Without anybody to tell, nothing is left to do.
                let _ = news.send(News::Found { account, device, chain }).await;
            });
        }
        self.park(account, lists).await;
        self.tell_presence().await;
    }

    fn has_room_for_chain(&self, account: AccountId) -> bool {
        let limits = &self.config.limits;
        let of_account = (account, ShortId([0; 20]))..=(account, ShortId([0xff; 20]));
        self.chains.len() < limits.certificates && self.chains.range(of_account).count() < limits.devices
    }

    /// The certificate of an announced device was found, or not.
    pub(super) async fn handle_found(&mut self, account: AccountId, device: ShortId, chain: Option<Chain>) {
        if !self.watched.contains_key(&account) {
            return;
        }
        let Some(chain) = chain else {
            // It is looked for again when the device is announced again; its long id may be known all the same.
            self.chains.remove(&(account, device));
            if !self.presence.devices(account).any(|(present, _)| present == device) {
                self.ids.remove(&(account, device));
            }
            return;
        };
        self.ids.insert((account, device), chain.device_id());
        self.chains.insert((account, device), Some(chain));
        self.park(account, Vec::new()).await;
        self.exclude_revoked(account);
        self.presence.prove(account, device);
        self.show(account);
        self.tell_presence().await;
    }

    /// Passes on what changed, and does what follows from it.
    pub(super) async fn tell_presence(&mut self) {
        // What follows may begin watches of who is there already.
        while let Some(event) = self.presence.poll_event() {
            self.tell_presence_from(event).await;
        }
        while let Some(account) = self.presence.poll_renewal() {
            if let Some(renew) = self.renew.get(&account) {
                renew.notify_one();
            }
        }
    }

    async fn tell_presence_from(&mut self, first: PresenceEvent) {
        let mut changed = BTreeSet::new();
        let mut effects = Vec::new();
        let mut next = Some(first);
        while let Some(event) = next {
            let now = self.unix_now();
            match event {
                PresenceEvent::Device { account, device, state } => {
                    changed.insert(account);
                    if !state.is_online() && !self.chains.contains_key(&(account, device)) {
                        self.ids.remove(&(account, device));
                    }
                    let other = account == self.own && device != self.node.identity().short_id();
                    if other && state.is_online() && self.contacts.note_own_device(now, device) {
                        self.tell(AccountEvent::NewOwnDevice(device));
                    }
                }
                PresenceEvent::Account { account, state } => {
                    changed.insert(account);
                    if state == PresenceState::Offline {
                        self.contacts.handle_offline(account);
                    } else {
                        effects.extend(self.contacts.handle_online(now, account));
                    }
                }
            }
            self.tell(AccountEvent::Presence(event));
            next = self.presence.poll_event();
        }
        for account in changed {
            self.show(account);
        }
        self.apply_unasked(effects).await;
    }

    /// Shows those who watch an account what is known of it.
    fn show(&self, account: AccountId) {
        let Some(watched) = self.watched.get(&account) else { return };
        let devices = self.presence.devices(account).map(|(device, state)| {
            let id = self.ids.get(&(account, device)).copied();
            (device, DevicePresence { state, id })
        });
        let latest = AccountPresence { state: self.presence.state(account), devices: devices.collect() };
        watched.send_if_modified(|shown| {
            let news = *shown != latest;
            *shown = latest;
            news
        });
    }
}
