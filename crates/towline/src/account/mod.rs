//! An account, running: contacts, presence, the devices of others, revocation. Spec: `files-and-calls.md` 1 and 2.
//!
//! An [`Account`] is a [`Node`] that knows whom it belongs to and whom it deals with. It admits its own devices and those
//! of its contacts, hands channels out by name, can be found and asked by whoever knows its id, and sees who is there.
//!
//! ```no_run
//! # async fn example(identity: towline::identity::Identity, setup: towline::account::AccountConfig, friend: towline::AccountId)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use towline::account::Account;
//!
//! let net = std::sync::Arc::new(towline::net::Os);
//! let account = Account::start(net, towline::Config::internet(), identity, setup).await?;
//! account.announced().await;
//! account.add_contact(friend).await?;
//! let mut presence = account.presence(friend).await?;
//! presence.wait_for(|friend| friend.state.is_online()).await;
//! # Ok(())
//! # }
//! ```
//!
//! What is believed of whom:
//!
//! * A **device** belongs to the account that signed it, as its verified chain says; one that is dialled or dials is held to
//!   the chain it presents in TLS.
//! * An **announcement** counts if the account's key signed it. Anybody can store it again after its device is gone: who is
//!   shown as there may not be, and dialling tells.
//! * A **revocation list** counts if the account's key signed it. Lists of contacts and of the own account are fetched
//!   whenever their devices are looked up or their presence is watched, and contacts are watched while they are
//!   connected: so a device that is revoked loses its connections, too.

mod actor;
mod config;
mod devices;
mod error;
mod event;
mod inbox;
mod watch;

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch as latest};
use tokio::task::JoinSet;
use towline_account::announcement;
use towline_account::contacts::{Contact, Contacts, PendingRequest};
use towline_account::vcard::VCard;
use towline_identity::{AccountId, Chain, DeviceId, Identity, RevocationList};
use towline_net::Net;

pub use config::{AccountConfig, AccountLimits, AccountStore, Forgetful};
pub use devices::Device;
pub use error::{AccountError, AccountStartError};
pub use event::AccountEvent;
pub use watch::{AccountPresence, DevicePresence, PresenceWatch};

#[doc(no_inline)]
pub use towline_account::archive;
pub use towline_account::{announcement::DeviceAnnouncement, contacts, presence, receipt, revocation, vcard};

use actor::{Actor, Change, Command, News, Parts};
use devices::Directory;

use crate::config::Config;
use crate::node::Node;
use crate::policy::ConnectionPolicy;
use crate::revocations::SharedRevocations;
use crate::router::{PeerKind, Router};

/// Commands waiting for the account's task.
const COMMAND_QUEUE: usize = 64;
/// What was found and waits for the account's task; more stays in the DHT's own bounded queues.
const NEWS_QUEUE: usize = 64;
/// Events kept for a slow listener; it is told how many it missed.
const EVENT_QUEUE: usize = 1024;

/// Priority of the announcement on the DHT: not high, so that it wakes no phones. Jami since 2026 says so, too.
const ANNOUNCEMENT_PRIORITY: u32 = 1;

/// An account on this device, running. Cheap to clone; all clones are the same account.
///
/// It ends with [`shutdown`](Self::shutdown), or abruptly when its last clone is dropped.
#[derive(Debug, Clone)]
#[doc(alias = "JamiAccount")]
pub struct Account {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: Node,
    router: Router,
    contacts: latest::Receiver<Arc<Contacts>>,
    announced: latest::Receiver<bool>,
    directory: Directory,
    revocations: SharedRevocations,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<AccountEvent>,
    /// A listener that was there before anything happened, until somebody takes it.
    first: std::sync::Mutex<Option<broadcast::Receiver<AccountEvent>>>,
    /// The account's tasks end with it.
    tasks: std::sync::Mutex<JoinSet<()>>,
}

impl Account {
    /// Starts a node with `identity` on `net`, and the account on it.
    ///
    /// The account decides who may connect: [`Config::policy`] is only looked at for whether it is
    /// [`ConnectionPolicy::RefuseAll`], which stays, and [`Config::revocations`] gives way to [`AccountConfig::revocations`].
    /// Everything [`Node::incoming`] would yield goes through the [`router`](Self::router).
    pub async fn start(
        net: Arc<dyn Net>,
        mut config: Config,
        identity: Identity,
        setup: AccountConfig,
    ) -> Result<Self, AccountStartError> {
        if let Some(receipt) = &setup.receipt {
            receipt.verify(identity.chain())?;
        }
        let card = setup.profile.as_ref().map(VCard::build).transpose()?.unwrap_or_default();
        let own = identity.account_id();
        let (published, contacts) = latest::channel(Arc::new(setup.contacts.clone()));
        let known = contacts.clone();
        let kind_of = move |chain: &Chain| match own {
            Some(own) => known.borrow().kind_of(chain, own),
            // The node does not start without an account.
            None => PeerKind::Stranger,
        };
        config.revocations = setup.revocations.clone();
        if !matches!(config.policy, ConnectionPolicy::RefuseAll) {
            let (kind_of, strangers) = (kind_of.clone(), setup.strangers_may_connect);
            config.policy = ConnectionPolicy::custom(move |peer| match kind_of(&peer.chain) {
                PeerKind::Banned => false,
                PeerKind::Stranger => strangers,
                PeerKind::Contact | PeerKind::OwnDevice => true,
            });
        }
        let eras = config.eras;
        let node = Node::start(Arc::clone(&net), config, identity).await?;
        let router = Router::new(move |peer| kind_of(&peer.chain));
        let (events, first) = broadcast::channel(EVENT_QUEUE);
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (news, news_queue) = mpsc::channel(NEWS_QUEUE);
        let directory = Directory::new(
            node.clone(),
            eras,
            contacts.clone(),
            setup.revocations.clone(),
            setup.limits.clone(),
            commands.downgrade(),
        );

        let mut tasks = JoinSet::new();
        let (told, announced) = latest::channel(false);
        if let Some(receipt) = &setup.receipt {
            // With a random id, as Jami does it: the value of an earlier run may be there still.
            let mut value = receipt.announcement().clone();
            value.id = 0;
            value.priority = ANNOUNCEMENT_PRIORITY;
            tasks.spawn(announce(node.clone(), value, told, news.clone()));
        }
        tasks.spawn(inbox::listen(node.clone(), contacts.clone(), setup.limits.senders, news.clone()));
        let (routed, on) = (router.clone(), node.clone());
        tasks.spawn(async move { routed.run(&on).await });
        let revocations = setup.revocations.clone();
        let parts = Parts {
            net,
            node: node.clone(),
            published,
            config: setup,
            card: card.into_bytes().into(),
            directory: directory.clone(),
            events: events.clone(),
            news,
        };
        tasks.spawn(Actor::new(parts).run(command_queue, news_queue));
        let tasks = std::sync::Mutex::new(tasks);
        let first = std::sync::Mutex::new(Some(first));
        let inner = Inner {
            node,
            router,
            contacts,
            announced,
            directory,
            revocations,
            commands,
            events,
            first,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The account's id.
    pub fn id(&self) -> AccountId {
        self.inner.node.account()
    }

    /// The node the account runs on.
    pub fn node(&self) -> &Node {
        &self.inner.node
    }

    /// Hands out the channels that others ask for. Nothing is served by default.
    pub fn router(&self) -> &Router {
        &self.inner.router
    }

    /// Ready when this device is announced, so that others see it; never, without a
    /// [receipt](AccountConfig::receipt). Cancel safe.
    pub async fn announced(&self) {
        let mut announced = self.inner.announced.clone();
        if announced.wait_for(|announced| *announced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What happens from now on. A listener that lags behind is told how many events it missed.
    pub fn events(&self) -> broadcast::Receiver<AccountEvent> {
        self.inner.events.subscribe()
    }

    /// What has happened since the account was started, and what happens from now on: for the program's first listener, as
    /// some things are told only once, such as [`AccountEvent::NewOwnDevice`]. `None` when it was called before.
    pub fn events_since_start(&self) -> Option<broadcast::Receiver<AccountEvent>> {
        self.inner.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    /// The contacts, as they are now.
    pub fn contacts(&self) -> Arc<Contacts> {
        Arc::clone(&self.inner.contacts.borrow())
    }

    /// Requests that wait for our user, by account.
    pub fn requests(&self) -> Vec<(AccountId, PendingRequest)> {
        self.contacts().requests().map(|(account, request)| (account, request.clone())).collect()
    }

    /// What a device is to us, by its verified chain.
    pub fn kind_of(&self, chain: &Chain) -> PeerKind {
        self.contacts().kind_of(chain, self.id())
    }

    /// Takes an account as contact and asks it to do the same. One that has asked us is accepted; one that has not answered
    /// is asked again. Ready when that is saved; the request then goes to each device of the account, now and, until it
    /// is answered, whenever the account is seen online.
    #[doc(alias = "sendTrustRequest")]
    pub async fn add_contact(&self, account: AccountId) -> Result<(), AccountError> {
        self.add_contact_with(account, "").await
    }

    /// [`add_contact`](Self::add_contact), with the id of a conversation (40 hexadecimal digits) proposed to the contact.
    pub async fn add_contact_with(
        &self,
        account: AccountId,
        conversation_id: &str,
    ) -> Result<(), AccountError> {
        self.change(Change::Add { account, conversation_id: conversation_id.to_owned() }).await
    }

    /// Takes an account that has asked as contact, and tells it.
    #[doc(alias = "acceptTrustRequest")]
    pub async fn accept(&self, account: AccountId) -> Result<(), AccountError> {
        self.change(Change::Accept(account)).await
    }

    /// Refuses a request, silently. The account is not heard if it asks again within seven days.
    #[doc(alias = "discardTrustRequest")]
    pub async fn refuse(&self, account: AccountId) -> Result<(), AccountError> {
        self.change(Change::Refuse(account)).await
    }

    /// Removes a contact. Ready when connections that are not admitted any more have ended.
    pub async fn remove(&self, account: AccountId) -> Result<(), AccountError> {
        self.change(Change::Remove(account)).await
    }

    /// Bans an account, contact or not. Ready when its connections have ended; new ones are not answered, and what it sends
    /// is dropped.
    pub async fn ban(&self, account: AccountId) -> Result<(), AccountError> {
        self.change(Change::Ban(account)).await
    }

    /// Lifts a ban. The account is a stranger then.
    pub async fn unban(&self, account: AccountId) -> Result<(), AccountError> {
        self.change(Change::Unban(account)).await
    }

    /// Bans one device, of whatever account, or lifts that. Ready when its connections have ended.
    pub async fn set_device_banned(&self, device: DeviceId, banned: bool) -> Result<(), AccountError> {
        self.change(Change::BanDevice { device, banned }).await
    }

    /// Names a contact, for our user.
    pub async fn set_name(&self, account: AccountId, name: Option<String>) -> Result<(), AccountError> {
        self.change(Change::Name { account, name }).await
    }

    /// Takes a contact as it is kept elsewhere, such as by another process of this device or in an archive, in the place of
    /// what is known of the account. Nobody is asked or told because of it.
    pub async fn restore(&self, account: AccountId, contact: Contact) -> Result<(), AccountError> {
        self.change(Change::Restore { account, contact: Box::new(contact) }).await
    }

    /// Changes the card that travels with our requests from now on.
    pub async fn set_profile(&self, profile: &VCard) -> Result<(), AccountError> {
        let card = profile.build()?.into_bytes().into();
        self.command(Command::SetProfile { card }).await
    }

    /// The devices that an account announces now, with their certificates; those it has revoked are left out, and if it has
    /// revoked any, those whose certificate is not found. The node
    /// remembers the certificates, so that the devices can be dialled at once. Takes as long as lookups on the DHT do, at
    /// most some 20 s. Cancel safe.
    #[doc(alias = "forEachDevice")]
    pub async fn devices(&self, account: AccountId) -> Result<Vec<Device>, AccountError> {
        Ok(self.inner.directory.devices(account).await?)
    }

    /// Watches who is there of an account, for as long as the returned watch or a clone of it exists.
    #[doc(alias = "subscribeBuddy")]
    pub async fn presence(&self, account: AccountId) -> Result<PresenceWatch, AccountError> {
        let (reply, watch) = oneshot::channel();
        self.command(Command::Watch { account, reply }).await?;
        watch.await.map_err(|_| AccountError::Closed)?
    }

    /// Whether this device is revoked by its own account, as far as is known here: contacts that know it refuse it.
    pub fn is_revoked(&self) -> bool {
        self.inner.revocations.check(self.inner.node.identity().chain()).is_err()
    }

    /// Publishes a revocation list that this account's key has made ([`Identity::revoke`]), keeps it published while this
    /// device runs, and enforces it here. Ready when connections of the devices it revokes have ended. With
    /// [`AccountError::NotSaved`] all that was done, and a later run does not know of it.
    #[doc(alias = "revokeDevice")]
    pub async fn revoke(&self, list: RevocationList) -> Result<(), AccountError> {
        self.ask(|done| Command::Revoke { list, done }).await
    }

    /// Saves what is not saved yet, closes all connections properly and ends. The announcement lives on the DHT for up to ten minutes more: the
    /// protocol has no means to take it back.
    pub async fn shutdown(&self) {
        let (done, saved) = oneshot::channel();
        if self.command(Command::Shutdown { done }).await.is_ok() {
            // An error says that the account has ended before.
            let _ = saved.await;
        }
        let mut tasks = {
            let mut tasks = self.inner.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
        self.inner.node.shutdown().await;
    }

    async fn change(&self, change: Change) -> Result<(), AccountError> {
        self.ask(|done| Command::Change { change, done }).await
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), AccountError>>) -> Command,
    ) -> Result<(), AccountError> {
        let (done, result) = oneshot::channel();
        self.command(command(done)).await?;
        result.await.map_err(|_| AccountError::Closed)?
    }

    async fn command(&self, command: Command) -> Result<(), AccountError> {
        self.inner.commands.send(command).await.map_err(|_| AccountError::Closed)
    }
}

/// Keeps the announcement of this device on the DHT.
async fn announce(
    node: Node,
    value: towline_dht::Value,
    announced: latest::Sender<bool>,
    news: mpsc::Sender<News>,
) {
    let announcement = node.dht().announce(announcement::key(node.account()), value);
    match announcement.announced().await {
        Ok(_) => {
            announced.send_replace(true);
            // Without the account's task there is nobody to tell.
            let _ = news.send(News::Announced).await;
        }
        Err(error) => tracing::warn!(%error, "this device could not be announced"),
    }
    // The announcement ends when it is dropped, which the end of the account's tasks does.
    std::future::pending::<()>().await;
    drop(announcement);
}
