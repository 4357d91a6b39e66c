//! `towline online`: this device is there for its contacts.

use std::collections::BTreeMap;
use std::convert::Infallible;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use towline::account::contacts::{Contact, ContactEvent};
use towline::account::{AccountError, AccountEvent as Told, Device};
use towline::sip::{Text, TextOptions, Texts};
use towline::{AccountId, ShortId};

use crate::args::Online;
use crate::event::{self, AccountEvent};
use crate::failure::Failure;
use crate::home::{Foreign, Home};
use crate::interrupt::Interrupt;
use crate::known::LOOK;
use crate::output::Output;
use crate::running::{Running, account_failure, name_of, shown_contact, shown_presence, shown_request};

pub(crate) async fn run(args: Online, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    let display = home.profile()?.map(|card| card.name).filter(|name| !name.is_empty());
    let running = Running::reachable(&home, &args.network, output).await?;
    running
        .run(&interrupt, async |running| {
            let options = TextOptions { display, ..TextOptions::default() };
            let texts = Texts::start_with(running.account(), options)
                .map_err(|error| Failure::Internal(error.to_string()))?;
            let desk = Desk { running, accept_requests: args.accept_requests, output };
            let never = tokio::select! {
                biased;
                result = desk.tell() => result?,
                result = desk.read(&texts) => result?,
                result = desk.follow_others() => result?,
            };
            match never {}
        })
        .await
}

/// What is done while online.
struct Desk<'a> {
    running: &'a Running,
    accept_requests: bool,
    output: &'a Output,
}

/// Those whose presence is shown; the showing ends with this.
struct Shown(BTreeMap<AccountId, AbortHandle>);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
    }
}

impl Desk<'_> {
    fn say(&self, event: AccountEvent) {
        self.output.say(&event.into());
    }

    /// Tells what happens with the account.
    async fn tell(&self) -> Result<Infallible, Failure> {
        let account = self.running.account();
        // A device of ours that is there already was told before this.
        let mut events = account.events_since_start().unwrap_or_else(|| account.events());
        let mut shown = Shown(BTreeMap::new());
        let mut announced = false;
        for (id, _) in account.requests() {
            self.requested(id).await;
        }
        loop {
            self.show_presence(&mut shown).await?;
            let event = tokio::select! {
                biased;
                () = account.announced(), if !announced => {
                    announced = true;
                    self.say(AccountEvent::Announced);
                    continue;
                }
                event = events.recv() => match event {
                    Ok(event) => event,
                    // What was missed is kept where it counts.
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return Err(Failure::Internal("the account has ended".to_owned())),
                },
            };
            match event {
                Told::Contact(event) => self.contact_event(event).await,
                Told::Sent { account, confirmation, devices } if devices > 0 => {
                    self.say(AccountEvent::RequestSent {
                        account: account.to_string(),
                        confirmation,
                        devices,
                    });
                }
                Told::NewOwnDevice(device) => self.own_device(device).await,
                Told::Revoked { account, devices } => self.say(AccountEvent::Revocation {
                    account: account.to_string(),
                    devices: devices.iter().map(ToString::to_string).collect(),
                    this_device: false,
                }),
                Told::ThisDeviceRevoked => {
                    let node = account.node();
                    self.say(AccountEvent::Revocation {
                        account: node.account().to_string(),
                        devices: vec![node.identity().short_id().to_string()],
                        this_device: true,
                    });
                }
                Told::NotSaved(error) => self.output.say(&event::Event::Warning {
                    message: format!("what changed could not be saved, so nobody was told: {error}"),
                }),
                // Presence is shown by those who watch, `Announced` above.
                _ => {}
            }
        }
    }

    async fn contact_event(&self, event: ContactEvent) {
        match event {
            ContactEvent::Requested(id) => self.requested(id).await,
            ContactEvent::Confirmed(id) => {
                let name = name_of(&self.running.account().contacts(), id);
                self.say(AccountEvent::ContactConfirmed { account: id.to_string(), name });
            }
            ContactEvent::Added(id)
            | ContactEvent::Removed(id)
            | ContactEvent::Banned(id)
            | ContactEvent::Unbanned(id) => {
                self.say(AccountEvent::Contact(shown_contact(&self.running.account().contacts(), id)));
            }
            _ => {}
        }
    }

    async fn requested(&self, id: AccountId) {
        let account = self.running.account();
        if let Some(request) = shown_request(&account.contacts(), id) {
            self.say(request);
        }
        if self.accept_requests
            && let Err(error) = account.accept(id).await
        {
            self.warn(&error);
        }
    }

    /// Keeps the certificate of another device of this account: it takes that to revoke the device.
    async fn own_device(&self, device: ShortId) {
        let account = self.running.account();
        let devices = account.devices(account.id()).await.unwrap_or_default();
        let found = devices.iter().find(|found| found.short_id() == device);
        if let Some(chain) = found.and_then(|found| found.chain.as_ref()) {
            self.running.store().keep_certificate(chain);
        }
        self.say(AccountEvent::OwnDevice {
            short_id: device.to_string(),
            device: found.and_then(Device::id).map(|id| id.to_string()),
        });
    }

    /// Shows the presence of all contacts, and of nobody else.
    async fn show_presence(&self, shown: &mut Shown) -> Result<(), Failure> {
        let account = self.running.account();
        let contacts = account.contacts();
        shown.0.retain(|id, task| {
            let keep = contacts.get(*id).is_some_and(Contact::is_active);
            if !keep {
                task.abort();
            }
            keep
        });
        let new = contacts.active().map(|(id, _)| id).filter(|id| !shown.0.contains_key(id));
        for id in new.collect::<Vec<_>>() {
            let mut watch = account.presence(id).await.map_err(|error| account_failure(&error))?;
            let (account, output) = (account.clone(), self.output.clone());
            let task = tokio::spawn(async move {
                while let Some(presence) = watch.next().await {
                    let shown = shown_presence(&account.contacts(), id, &presence);
                    output.say(&AccountEvent::Presence(shown).into());
                }
            });
            shown.0.insert(id, task.abort_handle());
        }
        Ok(())
    }

    /// Shows texts.
    async fn read(&self, texts: &Texts) -> Result<Infallible, Failure> {
        while let Some(text) = texts.next().await {
            self.text(text);
        }
        Err(Failure::Internal("the account has ended".to_owned()))
    }

    fn text(&self, text: Text) {
        let (account, device) = (text.peer.account.to_string(), text.peer.device.to_string());
        let plain = text.content_type.split(';').next().unwrap_or_default().trim();
        if !plain.eq_ignore_ascii_case(towline::sip::media::TEXT) {
            let bytes = text.body.len();
            return self.say(AccountEvent::Message {
                account,
                device,
                content_type: text.content_type,
                bytes,
            });
        }
        self.say(AccountEvent::Text(event::TextReceived {
            name: name_of(&self.running.account().contacts(), text.peer.account),
            account,
            device,
            content_type: text.content_type,
            text: String::from_utf8_lossy(&text.body).into_owned(),
            message_id: text.message_id,
        }));
    }

    /// Does what other processes of this device did to contacts and revocation lists.
    async fn follow_others(&self) -> Result<Infallible, Failure> {
        let account = self.running.account();
        let own = account.node().identity().chain().account().cloned();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let (store, own) = (std::sync::Arc::clone(self.running.store()), own.clone());
            let found = tokio::task::spawn_blocking(move || {
                let lists = own.map(|own| store.new_lists(&own)).unwrap_or_default();
                (store.contacts().foreign_changes(), lists)
            });
            let (changes, lists) =
                found.await.map_err(|error| Failure::Internal(format!("looking broke off: {error}")))?;
            match changes {
                Ok(changes) => {
                    for change in changes {
                        if let Err(error) = self.follow(change).await {
                            self.warn(&error);
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "contacts.json"),
            }
            for list in lists {
                if let Err(error) = account.revoke(list).await {
                    self.warn(&error);
                }
            }
        }
    }

    async fn follow(&self, change: Foreign) -> Result<(), AccountError> {
        let account = self.running.account();
        let contacts = account.contacts();
        match change {
            Foreign::Added(id, contact) => account.restore(id, contact).await,
            Foreign::Refused(id) if contacts.request(id).is_some() => account.refuse(id).await,
            Foreign::Removed(id) if contacts.get(id).is_some_and(Contact::is_active) => {
                account.remove(id).await
            }
            Foreign::Banned(id) => account.ban(id).await,
            Foreign::Unbanned(id) if contacts.get(id).is_some_and(|contact| contact.banned) => {
                account.unban(id).await
            }
            Foreign::BannedDevice { device, banned } => account.set_device_banned(device, banned).await,
            Foreign::Named(id, name) if contacts.get(id).is_some() => account.set_name(id, name).await,
            // It is so already.
            _ => Ok(()),
        }
    }

    fn warn(&self, error: &AccountError) {
        self.output.say(&event::Event::Warning { message: error.to_string() });
    }
}
