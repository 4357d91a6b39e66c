//! Who lives in the stories: accounts with devices, and what they keep.
#![allow(unreachable_pub, reason = "as in the other common parts")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::TryRecvError};
use towline::account::contacts::{ContactEvent, Contacts};
use towline::account::receipt::Receipt;
use towline::account::vcard::VCard;
use towline::account::{Account, AccountConfig, AccountEvent, AccountStore};
use towline::identity::{Certificate, Identity, KeySize, PrivateKey, RevocationList, Validity};
use towline::{AccountId, Config, SharedRevocations};
use towline_lab::{Host, World};

use crate::common::Lab;

/// January 2027: the time of the lab.
pub const NOW: i64 = 1_800_000_000;

/// The keys of an account and of two devices: made once, as keys take time to make.
#[derive(Clone)]
pub struct Person {
    pub account: Identity,
    pub devices: [Identity; 2],
}

impl Person {
    pub fn id(&self) -> AccountId {
        self.account.short_id().into()
    }
}

pub fn person(number: usize) -> Person {
    static MADE: OnceLock<Mutex<Vec<Person>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap();
    while made.len() <= number {
        let key = || PrivateKey::generate(KeySize::Rsa2048).unwrap();
        let validity = Validity::ten_years_from(NOW);
        let account = Identity::self_signed(key(), "account", validity).unwrap();
        let device = || account.issue_device(key(), "device", validity).unwrap();
        let devices = [device(), device()];
        made.push(Person { account, devices });
    }
    made[number].clone()
}

/// A store in memory, as a file would be: what is read back has been text.
#[derive(Debug, Default)]
pub struct Memory {
    contacts: Mutex<Option<String>>,
    lists: Mutex<Vec<(Certificate, RevocationList)>>,
    pub broken: AtomicBool,
    /// How often contacts were saved.
    pub saves: AtomicUsize,
}

impl AccountStore for Memory {
    fn save_contacts(&self, contacts: &Contacts) -> io::Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.saves.fetch_add(1, Ordering::Relaxed);
        *self.contacts.lock().unwrap() = Some(contacts.to_json());
        Ok(())
    }

    fn save_revocation_list(&self, issuer: &Certificate, list: &RevocationList) -> io::Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.lists.lock().unwrap().push((issuer.clone(), list.clone()));
        Ok(())
    }
}

/// A device of a person: a host, a store, and the account while it runs.
pub struct Device {
    pub host: Host,
    pub store: Arc<Memory>,
    pub identity: Identity,
    pub person: Person,
    pub config: Config,
}

impl Device {
    pub fn new(lab: &Lab, person: &Person, device: usize) -> Self {
        let identity = person.devices[device].clone();
        Self {
            host: lab.host(&format!("{:.4}-{device}", person.id())),
            store: Arc::default(),
            identity,
            person: person.clone(),
            config: Config::lan().with_bootstrap(lab.bootstrap.to_string()),
        }
    }

    /// What it would start with: what its store has kept, and its receipt.
    pub fn setup(&self) -> AccountConfig {
        let contacts = self.store.contacts.lock().unwrap();
        let revocations = SharedRevocations::default();
        for (issuer, list) in &*self.store.lists.lock().unwrap() {
            revocations.insert(list.clone(), issuer).unwrap();
        }
        AccountConfig {
            receipt: Some(Receipt::make(&self.person.account, self.identity.key().public())),
            contacts: contacts.as_deref().map(|text| Contacts::from_json(text).unwrap()).unwrap_or_default(),
            revocations,
            profile: Some(VCard::named("Somebody")),
            store: self.store.clone(),
            ..AccountConfig::default()
        }
    }

    /// Runs it, until it is seen by others.
    pub async fn start(&self) -> Account {
        self.start_with(self.setup()).await
    }

    pub async fn start_with(&self, setup: AccountConfig) -> Account {
        let announced = setup.receipt.is_some();
        let net = Arc::new(self.host.clone());
        let account = Account::start(net, self.config.clone(), self.identity.clone(), setup).await.unwrap();
        account.node().registered().await;
        if announced {
            account.announced().await;
        }
        account
    }
}

/// Two persons' first devices, running.
pub async fn two(lab: &Lab) -> (Device, Account, Device, Account) {
    let (alice, bob) = (Device::new(lab, &person(0), 0), Device::new(lab, &person(1), 0));
    let (a, b) = (alice.start().await, bob.start().await);
    (alice, a, bob, b)
}

/// The same, contacts of each other.
pub async fn friends(lab: &Lab) -> (Device, Account, Device, Account) {
    let (alice, a, bob, b) = two(lab).await;
    befriend(&a, &b).await;
    (alice, a, bob, b)
}

pub async fn befriend(a: &Account, b: &Account) {
    let (mut seen_by_a, mut seen_by_b) = (a.events(), b.events());
    a.add_contact(b.id()).await.unwrap();
    until(&mut seen_by_b, ContactEvent::Requested(a.id())).await;
    b.accept(a.id()).await.unwrap();
    until(&mut seen_by_a, ContactEvent::Confirmed(b.id())).await;
}

/// Waits for an event of contacts.
pub async fn until(events: &mut broadcast::Receiver<AccountEvent>, wanted: ContactEvent) {
    event(events, |event| matches!(event, AccountEvent::Contact(event) if *event == wanted).then_some(()))
        .await;
}

/// The next event for which `pick` returns something.
pub async fn event<T>(
    events: &mut broadcast::Receiver<AccountEvent>,
    mut pick: impl FnMut(&AccountEvent) -> Option<T>,
) -> T {
    loop {
        let event = events.recv().await.unwrap();
        if let Some(picked) = pick(&event) {
            return picked;
        }
    }
}

/// All events so far.
pub fn so_far(events: &mut broadcast::Receiver<AccountEvent>) -> Vec<AccountEvent> {
    let mut all = Vec::new();
    loop {
        match events.try_recv() {
            Ok(event) => all.push(event),
            Err(TryRecvError::Lagged(missed)) => panic!("{missed} events missed"),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return all,
        }
    }
}

/// A story in which minutes pass.
pub fn long_story<F: Future>(seed: u64, tell: impl FnOnce(World) -> F) -> F::Output {
    let limit = Duration::from_hours(2);
    let options = towline_lab::Options { limit, ..towline_lab::Options::new(seed) };
    options.run(tell).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}
