//! The task of an account: the one place where contacts and presence change.

mod early;
mod lists;
mod presence;
mod sending;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use towline_account::contacts::{Contact, ContactEffect, ContactError, ContactEvent, Contacts, Ignored};
use towline_account::presence::Presence;
use towline_dht::types::TrustRequest;
use towline_identity::{AccountId, Certificate, Chain, DeviceId, RevocationList, ShortId};
use towline_net::Net;

use super::config::AccountConfig;
use super::devices::Directory;
use super::error::AccountError;
use super::event::AccountEvent;
use super::watch::{AccountPresence, Announced, PresenceWatch};
use crate::dht::Announcement;
use crate::eras::DeviceIds;
use crate::event::Event;
use crate::node::{Node, Target};
use crate::revocations::SharedRevocations;

use early::EarlyAnswers;
use lists::Parked;
use sending::Sending;

/// What changed without a consequence, as by a request that repeats another, is on disk this long after it came. A save
/// takes all contacts and waiting cards, so this bounds what strangers can have us write; what a crash takes away
/// meanwhile is told again by the DHT.
const SAVE_AFTER: Duration = Duration::from_secs(30);

/// What the tasks that listen have found.
#[derive(Debug)]
pub(super) enum News {
    /// A request or an answer in the inbox, and the verified chain of its sender.
    Request { sender: Chain, value_id: u64, request: Box<TrustRequest> },
    /// Values at the key of an account that is watched.
    Seen { account: AccountId, announced: Vec<Announced>, lists: Vec<RevocationList> },
    /// Such values are gone.
    Expired { account: AccountId, ids: Vec<u64> },
    /// The listen at an account begins anew.
    Renewed { account: AccountId },
    /// Nobody watches an account any more.
    Unwatched { account: AccountId },
    /// The chain of an announced device.
    Found { account: AccountId, device: ShortId, chain: Option<Chain> },
    /// Genuine revocation lists that were fetched; all there are, or only some.
    Lists { account: AccountId, issuer: Box<Certificate>, lists: Vec<RevocationList>, complete: bool },
    /// This device is announced.
    Announced,
}

/// What the user does.
#[derive(Debug)]
pub(super) enum Change {
    Add { account: AccountId, conversation_id: String },
    Accept(AccountId),
    Refuse(AccountId),
    Remove(AccountId),
    Ban(AccountId),
    Unban(AccountId),
    BanDevice { device: DeviceId, banned: bool },
    Name { account: AccountId, name: Option<String> },
    Restore { account: AccountId, contact: Box<Contact> },
}

pub(super) type Done = oneshot::Sender<Result<(), AccountError>>;

/// What the handles ask of the task.
#[derive(Debug)]
pub(super) enum Command {
    Change {
        change: Change,
        done: Done,
    },
    Watch {
        account: AccountId,
        reply: oneshot::Sender<Result<PresenceWatch, AccountError>>,
    },
    /// Lists of `account` that were found, and its certificate. Ready when what is new is saved and in force.
    Lists {
        account: AccountId,
        lists: Vec<RevocationList>,
        issuer: Certificate,
        done: oneshot::Sender<()>,
    },
    Revoke {
        list: RevocationList,
        done: Done,
    },
    SetProfile {
        card: Arc<[u8]>,
    },
    /// Save what is unsaved, and end.
    Shutdown {
        done: oneshot::Sender<()>,
    },
}

/// The account as its task sees it.
pub(super) struct Actor {
    net: Arc<dyn Net>,
    node: Node,
    own: AccountId,
    contacts: Contacts,
    /// What the policy, the router and the handles see of the contacts.
    published: watch::Sender<Arc<Contacts>>,
    /// Saving failed the last time, or has been put off.
    unsaved: bool,
    /// When what was put off is to be saved.
    save_at: Option<Instant>,
    presence: Presence,
    watched: BTreeMap<AccountId, watch::Sender<AccountPresence>>,
    /// Has the listen at an account begun anew.
    renew: BTreeMap<AccountId, Arc<Notify>>,
    /// Accounts that the account itself wants watched.
    kept: BTreeMap<AccountId, PresenceWatch>,
    /// Chains of announced devices; `None` while one is looked for.
    chains: BTreeMap<(AccountId, ShortId), Option<Chain>>,
    /// Long ids of announced devices, from the announcement or the certificate.
    ids: BTreeMap<(AccountId, ShortId), DeviceId>,
    /// Devices that were seen to be revoked.
    excluded: BTreeSet<(AccountId, ShortId)>,
    /// Devices with a connection, and whose they are.
    connected: BTreeMap<DeviceId, (AccountId, ShortId)>,
    revocations: SharedRevocations,
    /// Lists whose issuer's certificate is not known yet.
    parked: BTreeMap<AccountId, Parked>,
    /// Our own lists on the DHT.
    lists: Vec<Announcement>,
    sending: BTreeMap<AccountId, Sending>,
    /// Answers of those this process has not asked.
    early: EarlyAnswers,
    card: Arc<[u8]>,
    directory: Directory,
    config: AccountConfig,
    places: Arc<Semaphore>,
    events: broadcast::Sender<AccountEvent>,
    news: mpsc::Sender<News>,
    /// Listens, lookups, connections being closed.
    chores: JoinSet<()>,
    /// Messages on their way: to whom, a confirmation, how many devices.
    sent: JoinSet<(AccountId, bool, usize)>,
}

/// What an [`Actor`] is made of.
pub(super) struct Parts {
    pub(super) net: Arc<dyn Net>,
    pub(super) node: Node,
    pub(super) published: watch::Sender<Arc<Contacts>>,
    pub(super) config: AccountConfig,
    pub(super) card: Arc<[u8]>,
    pub(super) directory: Directory,
    pub(super) events: broadcast::Sender<AccountEvent>,
    pub(super) news: mpsc::Sender<News>,
}

impl Actor {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { net, node, published, mut config, card, directory, events, news } = parts;
        Self {
            net,
            own: node.account(),
            node,
            contacts: std::mem::take(&mut config.contacts),
            published,
            unsaved: false,
            save_at: None,
            presence: Presence::new(config.limits.presence.clone()),
            watched: BTreeMap::new(),
            renew: BTreeMap::new(),
            kept: BTreeMap::new(),
            chains: BTreeMap::new(),
            ids: BTreeMap::new(),
            excluded: BTreeSet::new(),
            connected: BTreeMap::new(),
            revocations: config.revocations.clone(),
            parked: BTreeMap::new(),
            lists: Vec::new(),
            sending: BTreeMap::new(),
            early: EarlyAnswers::default(),
            card,
            directory,
            places: Arc::new(Semaphore::new(config.limits.at_once.max(1))),
            config,
            events,
            news,
            chores: JoinSet::new(),
            sent: JoinSet::new(),
        }
    }

    /// Runs until the handles are gone.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut news: mpsc::Receiver<News>) {
        let mut connections = self.node.events();
        self.publish_own_lists();
        self.look_at_connections().await;
        self.keep_watches();
        loop {
            let timeout = self.timeout();
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => if self.handle_command(command).await.is_break() { return },
                    None => return,
                },
                Some(news) = news.recv() => self.handle_news(news).await,
                event = connections.recv() => match event {
                    Ok(event) => self.handle_event(&event).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => self.look_at_connections().await,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Some(sent) = self.sent.join_next_with_id() => self.handle_sent(sent),
                Some(_) = self.chores.join_next() => {}
                () = sleep(timeout) => self.handle_timeout().await,
            }
            // Whatever it was, it may have begun watches of who is there already.
            self.tell_presence().await;
        }
    }

    fn unix_now(&self) -> i64 {
        self.net.unix_time().as_secs().try_into().unwrap_or(i64::MAX)
    }

    /// How long until the machines want to be called.
    fn timeout(&self) -> Option<Duration> {
        let contacts = self.contacts.poll_timeout().map(|due| {
            let seconds = due.saturating_sub(self.unix_now()).max(0);
            Duration::from_secs(seconds.unsigned_abs())
        });
        let due = self.presence.poll_timeout().into_iter().chain(self.save_at).min();
        let due = due.map(|due| due.saturating_duration_since(towline_net::now()));
        contacts.into_iter().chain(due).min()
    }

    async fn handle_timeout(&mut self) {
        self.presence.handle_timeout(towline_net::now());
        self.tell_presence().await;
        let effects = self.contacts.handle_timeout(self.unix_now());
        self.apply_unasked(effects).await;
    }

    /// Breaks if that was the end.
    async fn handle_command(&mut self, command: Command) -> ControlFlow<()> {
        match command {
            Command::Change { change, done } => self.change(change, done).await,
            Command::Watch { account, reply } => {
                let watch = self.watch(account);
                // Whoever asked may have stopped waiting; then nobody watches.
                let _ = reply.send(watch);
                self.tell_presence().await;
            }
            Command::Lists { account, lists, issuer, done } => {
                self.take_lists(account, lists, &issuer).await;
                self.tell_presence().await;
                let _ = done.send(());
            }
            Command::Revoke { list, done } => self.revoke(list, done).await,
            Command::SetProfile { card } => self.card = card,
            Command::Shutdown { done } => {
                self.save_rest().await;
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    async fn handle_news(&mut self, news: News) {
        match news {
            News::Request { sender, value_id, request } => {
                self.handle_request(&sender, value_id, *request).await;
            }
            News::Seen { account, announced, lists } => self.handle_seen(account, announced, lists).await,
            News::Expired { account, ids } => {
                self.presence.handle_expired(account, &ids);
                self.tell_presence().await;
            }
            News::Renewed { account } => self.presence.listen_renewed(towline_net::now(), account),
            News::Unwatched { account } => self.unwatched(account),
            News::Found { account, device, chain } => self.handle_found(account, device, chain).await,
            News::Lists { account, issuer, lists, complete } => {
                self.handle_fetched(account, &issuer, lists, complete).await;
            }
            News::Announced => self.tell(AccountEvent::Announced),
        }
    }

    async fn handle_event(&mut self, event: &Event) {
        if let Event::Connected { .. } | Event::Disconnected { .. } = event {
            self.look_at_connections().await;
        }
    }

    async fn handle_request(&mut self, sender: &Chain, value_id: u64, request: TrustRequest) {
        if let Err(revoked) = self.revocations.check(sender) {
            tracing::debug!(device = %sender.device_id(), %revoked, "request of a revoked device");
            return;
        }
        let now = self.unix_now();
        // The answer may be faster than the news that another process of this device has asked.
        let request_without_card = TrustRequest { payload: Vec::new(), ..request.clone() };
        match self.contacts.handle_request(now, self.own, sender, value_id, request) {
            Ok(effects) if effects.is_empty() => self.save_later(),
            Ok(effects) => self.apply_unasked(effects).await,
            Err(why) => {
                tracing::debug!(device = %sender.device_id(), %why, "request ignored");
                if why == Ignored::Unasked {
                    self.early.keep(sender.clone(), value_id, request_without_card);
                }
            }
        }
    }

    async fn change(&mut self, change: Change, done: Done) {
        let (now, own) = (self.unix_now(), self.own);
        // A connection that this side dialled is not the policy's to end, but nothing is had with who is banned.
        let banned = match &change {
            Change::Ban(account) => Some(Target::from(*account)),
            Change::BanDevice { device, banned: true } => Some(Target::from(*device)),
            Change::Restore { account, contact } if contact.banned => Some(Target::from(*account)),
            _ => None,
        };
        let restored = match &change {
            Change::Restore { account, .. } => Some(*account),
            _ => None,
        };
        let contacts = &mut self.contacts;
        let none = |()| Vec::new();
        let effects: Result<_, ContactError> = match change {
            Change::Add { account, conversation_id } => contacts.add(now, own, account, &conversation_id),
            Change::Accept(account) => contacts.accept(now, account),
            Change::Refuse(account) => contacts.refuse(now, account),
            Change::Remove(account) => contacts.remove(now, account),
            Change::Ban(account) => contacts.ban(now, own, account),
            Change::Unban(account) => contacts.unban(account),
            Change::BanDevice { device, banned } => contacts.set_device_banned(device, banned),
            Change::Name { account, name } => contacts.set_name(account, name).map(none),
            Change::Restore { account, contact } => restore(contacts, own, account, *contact),
        };
        let result = match effects {
            Ok(mut effects) => {
                for (sender, value_id, answer) in restored.map(|of| self.early.take(of)).unwrap_or_default() {
                    let answered = self.contacts.handle_request(now, own, &sender, value_id, answer);
                    effects.extend(answered.unwrap_or_default());
                }
                let enforce = effects.contains(&ContactEffect::Enforce);
                let applied = self.apply(effects).await;
                if enforce {
                    // Ready when the connections are closed, which this task does not wait for.
                    let node = self.node.clone();
                    self.chores.spawn(async move {
                        node.enforce_policy().await;
                        if let Some(banned) = banned {
                            node.close_with(banned).await;
                        }
                        let _ = done.send(applied);
                    });
                    return;
                }
                applied
            }
            Err(error) => Err(error.into()),
        };
        // Whoever asked may have stopped waiting.
        let _ = done.send(result);
    }

    /// Carries out what nobody waits for.
    async fn apply_unasked(&mut self, effects: Vec<ContactEffect>) {
        if let Err(error) = self.apply(effects).await {
            tracing::warn!(%error, "contacts");
        }
    }

    /// Carries out effects: what changed is in force at once, and saved before anything is sent.
    async fn apply(&mut self, effects: Vec<ContactEffect>) -> Result<(), AccountError> {
        let saved = self.save().await;
        self.stop_sending();
        let mut added = Vec::new();
        for effect in effects {
            match effect {
                ContactEffect::Event(event) => {
                    if let ContactEvent::Added(account) = event {
                        added.push(account);
                    }
                    self.tell(AccountEvent::Contact(event));
                }
                ContactEffect::SendRequest { .. } | ContactEffect::SendConfirmation { .. }
                    if saved.is_ok() =>
                {
                    if let Some((account, message)) = effect.message(&self.card) {
                        let asked = effect.device().map(|(device, short_id)| match short_id {
                            Some(short_id) => DeviceIds::both(device, short_id),
                            None => DeviceIds::from(device),
                        });
                        self.send(account, message, asked);
                    }
                }
                // Enforcing is what the change waits for; it is done there. Messages wait until they are asked for again.
                _ => {}
            }
        }
        self.keep_watches();
        for account in added {
            // Its lists may be there already.
            self.park(account, Vec::new()).await;
        }
        saved
    }

    /// What changed is in force at once, and saved with what changes next or in a while.
    fn save_later(&mut self) {
        if self.contacts.take_changed() {
            self.unsaved = true;
            self.publish();
            self.save_at.get_or_insert(towline_net::now() + SAVE_AFTER);
        }
    }

    fn publish(&self) -> Arc<Contacts> {
        let contacts = Arc::new(self.contacts.clone());
        self.published.send_replace(Arc::clone(&contacts));
        contacts
    }

    async fn save(&mut self) -> Result<(), AccountError> {
        let due = self.unsaved && self.save_at.is_none_or(|at| at <= towline_net::now());
        if !self.contacts.take_changed() && !due {
            return Ok(());
        }
        self.save_at = None;
        let contacts = self.publish();
        let store = Arc::clone(&self.config.store);
        let saved = self.net.offload(move || store.save_contacts(&contacts)).await;
        self.unsaved = saved.is_err();
        saved.map_err(|error| {
            self.tell(AccountEvent::NotSaved(error.kind()));
            AccountError::NotSaved(error.kind())
        })
    }

    /// Saves what was put off or could not be saved before.
    async fn save_rest(&mut self) {
        self.save_at = None;
        if let Err(error) = self.save().await {
            tracing::warn!(%error, "contacts at the end");
        }
    }

    /// Tells whoever listens.
    fn tell(&self, event: AccountEvent) {
        // Without listeners there is nobody to tell.
        let _ = self.events.send(event);
    }
}

async fn sleep(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// Takes a contact as it is kept elsewhere.
fn restore(
    contacts: &mut Contacts,
    own: AccountId,
    account: AccountId,
    contact: Contact,
) -> Result<Vec<ContactEffect>, ContactError> {
    if account == own {
        return Err(ContactError::OwnAccount);
    }
    let active = contact.is_active();
    let was_active = contacts.get(account).is_some_and(Contact::is_active);
    if !contacts.restore(account, contact) {
        return Err(ContactError::Full { limit: contacts.limits().contacts });
    }
    Ok(match (active, was_active) {
        (true, true) => Vec::new(),
        (true, false) => vec![ContactEffect::Event(ContactEvent::Added(account))],
        (false, _) => vec![ContactEffect::Enforce],
    })
}
