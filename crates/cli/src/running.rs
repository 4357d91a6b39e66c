//! An account for the time of one command.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};
use towline::account::contacts::{Contact, ContactError, Contacts};
use towline::account::presence::PresenceState;
use towline::account::vcard::VCard;
use towline::account::{
    Account, AccountConfig, AccountError, AccountEvent, AccountPresence, AccountStartError,
};
use towline::dht::{Query, Status};
use towline::identity::{CertificateId, Trust, TrustStore};
use towline::{AccountId, Config, ConnectionPolicy, DeviceId, SharedRevocations};
use towline_account::inbox;

use crate::args::{Network, limit_steps};
use crate::event::{self, Event};
use crate::failure::Failure;
use crate::home::{Home, Store};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::{Role, Session};

/// How long the farewell to peers and to the DHT may take.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// Longest wait for the senders of requests to be found.
const SENDERS: Duration = Duration::from_secs(5);
/// How often is looked whether they were.
const LOOK: Duration = Duration::from_millis(50);

/// A running account, whose node's events are shown.
#[derive(Debug)]
pub(crate) struct Running {
    account: Account,
    store: Arc<Store>,
    session: Session,
}

impl Running {
    /// Starts the account of a home directory to be there for others.
    pub(crate) async fn reachable(home: &Home, network: &Network, output: &Output) -> Result<Self, Failure> {
        let mut config = network.config(ConnectionPolicy::OwnAccount);
        config.treated_path = Some(home.treated());
        Self::start(home, config, Role::Reachable, output).await
    }

    /// Starts the account of a home directory to do something soon, of which no step takes longer than `longest`. This
    /// device is not announced: it is gone when others look for it.
    pub(crate) async fn passing(
        home: &Home,
        network: &Network,
        longest: Duration,
        output: &Output,
    ) -> Result<Self, Failure> {
        let mut config = network.passing_config(ConnectionPolicy::RefuseAll);
        limit_steps(&mut config, longest);
        Self::start(home, config, Role::Dialling, output).await
    }

    async fn start(home: &Home, config: Config, role: Role, output: &Output) -> Result<Self, Failure> {
        let identity = home.identity()?;
        let store = Arc::new(home.store());
        let mut contacts = store.contacts().load()?;
        if let Some(own) = identity.account_id() {
            ban_distrusted(&mut contacts, &home.trust()?, own);
        }
        store.contacts().assume(&contacts);
        let receipt = match role {
            Role::Reachable => home.receipt(&identity)?,
            Role::Dialling => None,
        };
        if role == Role::Reachable && receipt.is_none() {
            output.say(&Event::Warning {
                message: "there is no receipt, so contacts do not see this device online; it is made where the account's \
                          key is, by `towline account add-device`"
                    .to_owned(),
            });
        }
        let setup = AccountConfig {
            receipt,
            contacts,
            revocations: SharedRevocations::new(home.revocations(&identity)?),
            profile: home.profile()?,
            store: Arc::<Store>::clone(&store),
            ..AccountConfig::default()
        };
        let (patience, discovery) = (config.limits.certificate_timeout, config.discovery.mode);
        let account = Account::start(Arc::new(towline::net::Os), config, identity, setup)
            .await
            .map_err(|error| start_failure(&error))?;
        let session = Session::of_node(account.node().clone(), patience, discovery, role, output);
        Ok(Self { account, store, session })
    }

    /// The account.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Where it keeps what it learns.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Whether the DHT answers.
    pub(crate) fn is_joined(&self) -> bool {
        self.account.node().dht().status() == Status::Connected
    }

    /// Waits for the DHT.
    pub(crate) async fn joined(&self) -> Result<(), Failure> {
        self.session.joined().await
    }

    /// Takes the requests that lie in the inbox now.
    pub(crate) async fn take_requests(&self, until: Instant) -> Result<(), Failure> {
        self.joined().await?;
        let node = self.account.node();
        let key = inbox::key(node.identity().short_id());
        let values = timeout_at(until, node.dht().get(key, Query::all()).collect()).await;
        let values = match values {
            Ok(Ok(values)) => values,
            Ok(Err(error)) => return Err(lookup_failure(&error)),
            Err(_) => return Err(lookup_failure(&"no answer in time")),
        };
        let letters: Vec<(DeviceId, u64)> = values
            .iter()
            .filter(|letter| letter.encrypted)
            .filter_map(|letter| Some((letter.from.as_ref()?.device_id(), letter.value.id)))
            .collect();
        // The account has its own ear at the inbox, and takes what is fit to be taken; the rest it passes over.
        let until = until.min(Instant::now() + SENDERS);
        let treated = async {
            loop {
                let contacts = self.account.contacts();
                if letters.iter().all(|(sender, value)| contacts.has_treated(*sender, *value)) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        // What is not treated by then is no request to us, or its sender cannot be found.
        let _ = timeout_at(until, treated).await;
        Ok(())
    }

    /// Waits until a request, or a confirmation, to `account` has been put to its devices. How many there are.
    pub(crate) async fn sent(
        &self,
        events: &mut Receiver<AccountEvent>,
        to: AccountId,
        until: Instant,
    ) -> Option<(bool, usize)> {
        let sent = async {
            loop {
                match events.recv().await {
                    Ok(AccountEvent::Sent { account, confirmation, devices }) if account == to => {
                        return Some((confirmation, devices));
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        timeout_at(until, sent).await.ok().flatten()
    }

    /// Runs the work of the command and ends the account, also when the program is interrupted.
    pub(crate) async fn run<T>(
        self,
        interrupt: &Interrupt,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let result = interrupt.stops(work(&self)).await;
        if tokio::time::timeout(SHUTDOWN, self.account.shutdown()).await.is_err() {
            tracing::warn!("the account did not end in time");
        }
        self.session.stop_showing();
        result
    }
}

/// Whoever is banned in the file `trust` is banned here too, for this run.
fn ban_distrusted(contacts: &mut Contacts, trust: &TrustStore, own: AccountId) {
    let now = crate::home::unix_time();
    for (id, _) in trust.iter().filter(|(_, trust)| *trust == Trust::Banned) {
        let banned = match id {
            CertificateId::Short(id) => contacts.ban(now, own, id.into()),
            CertificateId::Long(id) => contacts.set_device_banned(id, true),
        };
        if let Err(error) = banned {
            tracing::warn!(%id, %error, "not banned");
        }
    }
}

fn start_failure(error: &AccountStartError) -> Failure {
    match error {
        AccountStartError::Node(error) => crate::session::start_failure(error),
        _ => Failure::Local(error.to_string()),
    }
}

fn lookup_failure(error: &dyn std::fmt::Display) -> Failure {
    Failure::Unreachable { step: "dht".to_owned(), message: format!("the lookup on the DHT failed: {error}") }
}

/// What went wrong with an account, for the user.
pub(crate) fn account_failure(error: &AccountError) -> Failure {
    match error {
        AccountError::Contact(error) => contact_failure(error),
        AccountError::Lookup(error) => lookup_failure(error),
        AccountError::Closed => Failure::Internal(error.to_string()),
        _ => Failure::Local(error.to_string()),
    }
}

/// What cannot be done with a contact, for the user.
pub(crate) fn contact_failure(error: &ContactError) -> Failure {
    match error {
        ContactError::Full { .. } => Failure::Local(error.to_string()),
        _ => Failure::Usage(error.to_string()),
    }
}

/// What an account is to us.
pub(crate) fn shown_contact(contacts: &Contacts, account: AccountId) -> event::Contact {
    let contact = contacts.get(account);
    let state = match contact {
        Some(contact) if contact.banned => "banned",
        Some(contact) if contact.is_active() && contact.confirmed => "confirmed",
        Some(contact) if contact.is_active() => "asked",
        _ => "none",
    };
    event::Contact {
        account: account.to_string(),
        name: name_of(contacts, account),
        state: state.to_owned(),
        added: contact.map_or(0, |contact: &Contact| contact.added),
    }
}

/// What an account is called here; empty if it has no name.
pub(crate) fn name_of(contacts: &Contacts, account: AccountId) -> String {
    contacts.get(account).and_then(|contact| contact.name.clone()).unwrap_or_default()
}

/// A request that waits.
pub(crate) fn shown_request(contacts: &Contacts, account: AccountId) -> Option<event::AccountEvent> {
    let request = contacts.request(account)?;
    let card = VCard::parse(&request.payload).unwrap_or_default();
    Some(event::AccountEvent::ContactRequest {
        account: account.to_string(),
        device: request.device.to_string(),
        name: card.name,
        received: request.received,
    })
}

/// Who of an account is online.
pub(crate) fn shown_presence(
    contacts: &Contacts,
    account: AccountId,
    presence: &AccountPresence,
) -> event::Presence {
    let devices = presence.devices.iter().map(|(device, presence)| event::PresentDevice {
        short_id: device.to_string(),
        device: presence.id.map(|id| id.to_string()),
        state: state_name(presence.state).to_owned(),
    });
    event::Presence {
        account: account.to_string(),
        name: name_of(contacts, account),
        state: state_name(presence.state).to_owned(),
        devices: devices.collect(),
    }
}

fn state_name(state: PresenceState) -> &'static str {
    match state {
        PresenceState::Offline => "offline",
        PresenceState::Announced => "announced",
        PresenceState::Connected => "connected",
    }
}
