//! `towline contact`: whom this account knows.

use tokio::time::Instant;
use towline::AccountId;
use towline::account::contacts::{ContactError, Contacts};

use crate::args::{Add, Asked, Contact, Reach, Requests};
use crate::event::AccountEvent;
use crate::failure::Failure;
use crate::home::{Home, unix_time};
use crate::ids::PeerId;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::running::{Running, account_failure, contact_failure, shown_contact, shown_request};

pub(crate) async fn run(args: Contact, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    match args {
        Contact::Add(args) if args.no_request => add_silently(&args, output),
        Contact::Add(args) => add(&args, output, &interrupt).await,
        Contact::List(args) => list(&Home::find(&args.home)?, output),
        Contact::Remove(args) => {
            let id = args.account.0;
            change(&Home::find(&args.home)?, id, output, |contacts, _| contacts.remove(unix_time(), id))
        }
        Contact::Ban(args) => set_banned(&Home::find(&args.home)?, args.id, true, output),
        Contact::Unban(args) => set_banned(&Home::find(&args.home)?, args.id, false, output),
        Contact::Requests(args) => requests(&args, output, &interrupt).await,
        Contact::Accept(args) => accept(&args, output, &interrupt).await,
        Contact::Refuse(args) => refuse(&args, output, &interrupt).await,
    }
}

/// Changes the contacts without going online, and shows what an account is then.
fn change<T>(
    home: &Home,
    account: AccountId,
    output: &Output,
    change: impl FnOnce(&mut Contacts, AccountId) -> Result<T, ContactError>,
) -> Result<(), Failure> {
    let own = own(home)?;
    let changed = home
        .contacts_file()
        .update(|contacts| change(contacts, own).map(drop).map_err(|error| contact_failure(&error)));
    let ((), contacts) = changed?;
    output.say(&AccountEvent::Contact(shown_contact(&contacts, account)).into());
    Ok(())
}

fn own(home: &Home) -> Result<AccountId, Failure> {
    Ok(home.identity()?.account_id().expect("an identity of a home has an account"))
}

fn list(home: &Home, output: &Output) -> Result<(), Failure> {
    home.identity()?;
    let contacts = home.contacts_file().load()?;
    for (account, contact) in contacts.iter() {
        if contact.is_active() || contact.banned {
            output.say(&AccountEvent::Contact(shown_contact(&contacts, account)).into());
        }
    }
    for device in contacts.banned_devices() {
        output.say(&AccountEvent::BannedDevice { device: device.to_string(), banned: true }.into());
    }
    if contacts.iter().all(|(_, contact)| !contact.is_active()) {
        output.remark("No contacts; ask somebody with `towline contact add`");
    }
    Ok(())
}

fn set_banned(home: &Home, id: PeerId, banned: bool, output: &Output) -> Result<(), Failure> {
    match id {
        PeerId::Short(id) if banned => {
            change(home, id, output, |contacts, own| contacts.ban(unix_time(), own, id))
        }
        PeerId::Short(id) => change(home, id, output, |contacts, _| contacts.unban(id)),
        PeerId::Device(id) => {
            if id == home.identity()?.device_id() {
                return Err(Failure::Usage("this is the own device".to_owned()));
            }
            home.contacts_file().update(|contacts| {
                contacts.set_device_banned(id, banned).map_err(|error| contact_failure(&error))
            })?;
            output.say(&AccountEvent::BannedDevice { device: id.to_string(), banned }.into());
            Ok(())
        }
    }
}

fn add_silently(args: &Add, output: &Output) -> Result<(), Failure> {
    let id = args.account.0;
    change(&Home::find(&args.online.home)?, id, output, |contacts, own| {
        let now = unix_time();
        contacts.add(now, own, id, "")?;
        // It is not to be asked, so it needs not answer.
        if let Some(mut contact) = contacts.get(id).cloned() {
            contact.confirmed = true;
            contacts.restore(id, contact);
        }
        name(contacts, id, args)
    })
}

fn name(contacts: &mut Contacts, id: AccountId, args: &Add) -> Result<(), ContactError> {
    match &args.name {
        Some(name) => contacts.set_name(id, Some(name.clone())),
        None => Ok(()),
    }
}

async fn add(args: &Add, output: &Output, interrupt: &Interrupt) -> Result<(), Failure> {
    let id = args.account.0;
    online(&args.online, output, interrupt, async |running, until| {
        let account = running.account();
        let mut events = account.events();
        let knows = |contacts: &Contacts| {
            contacts.get(id).is_some_and(|contact| contact.is_active() && contact.confirmed)
        };
        let knew = knows(&account.contacts());
        account.add_contact(id).await.map_err(|error| account_failure(&error))?;
        if let Some(name) = &args.name {
            account.set_name(id, Some(name.clone())).await.map_err(|error| account_failure(&error))?;
        }
        output.say(&AccountEvent::Contact(shown_contact(&account.contacts(), id)).into());
        if knew {
            return Ok(());
        }
        told(running, &mut events, id, until, output).await
    })
    .await
}

/// Waits until a request or an answer lies at the devices of an account.
async fn told(
    running: &Running,
    events: &mut tokio::sync::broadcast::Receiver<towline::account::AccountEvent>,
    id: AccountId,
    until: Instant,
    output: &Output,
) -> Result<(), Failure> {
    let unreachable = |step: &str, why: &str| Failure::Unreachable {
        step: step.to_owned(),
        message: format!(
            "{id} is a contact here, but does not know it: {why}\n  `towline online` tells it as soon as one of its \
             devices is online."
        ),
    };
    match running.sent(events, id, until).await {
        Some((confirmation, devices)) if devices > 0 => {
            let account = id.to_string();
            output.say(&AccountEvent::RequestSent { account, confirmation, devices }.into());
            Ok(())
        }
        Some(_) => Err(unreachable("devices", "none of its devices announces itself now")),
        None if running.is_joined() => Err(unreachable("devices", "its devices were not found in time")),
        None => Err(unreachable("dht", "no node of the DHT answers")),
    }
}

/// Goes online for as long as `work` takes.
async fn online(
    reach: &Reach,
    output: &Output,
    interrupt: &Interrupt,
    work: impl AsyncFnOnce(&Running, Instant) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let home = Home::find(&reach.home)?;
    let running = Running::passing(&home, &reach.network, reach.timeout, output).await?;
    let until = Instant::now() + reach.timeout;
    running.run(interrupt, async |running| work(running, until).await).await
}

async fn requests(args: &Requests, output: &Output, interrupt: &Interrupt) -> Result<(), Failure> {
    let show = |contacts: &Contacts| {
        for (account, _) in contacts.requests() {
            if let Some(request) = shown_request(contacts, account) {
                output.say(&request.into());
            }
        }
    };
    if args.offline {
        let home = Home::find(&args.online.home)?;
        home.identity()?;
        show(&home.contacts_file().load()?);
        return Ok(());
    }
    online(&args.online, output, interrupt, async |running, until| {
        let looked = running.take_requests(until).await;
        show(&running.account().contacts());
        looked
    })
    .await
}

/// Looks for the request of an account, unless it is known.
async fn find_request(running: &Running, id: AccountId, until: Instant) -> Result<(), Failure> {
    if running.account().contacts().request(id).is_some() {
        return Ok(());
    }
    running.take_requests(until).await
}

async fn accept(args: &Asked, output: &Output, interrupt: &Interrupt) -> Result<(), Failure> {
    let id = args.account.0;
    online(&args.online, output, interrupt, async |running, until| {
        find_request(running, id, until).await?;
        let account = running.account();
        let mut events = account.events();
        account.accept(id).await.map_err(|error| account_failure(&error))?;
        output.say(&AccountEvent::Contact(shown_contact(&account.contacts(), id)).into());
        told(running, &mut events, id, until, output).await
    })
    .await
}

async fn refuse(args: &Asked, output: &Output, interrupt: &Interrupt) -> Result<(), Failure> {
    let id = args.account.0;
    let home = Home::find(&args.online.home)?;
    home.identity()?;
    if home.contacts_file().load()?.request(id).is_some() {
        return change(&home, id, output, |contacts, _| contacts.refuse(unix_time(), id));
    }
    online(&args.online, output, interrupt, async |running, until| {
        find_request(running, id, until).await?;
        let account = running.account();
        account.refuse(id).await.map_err(|error| account_failure(&error))?;
        output.say(&AccountEvent::Contact(shown_contact(&account.contacts(), id)).into());
        Ok(())
    })
    .await
}
