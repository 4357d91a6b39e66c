//! `towline presence`: who is online.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use towline::AccountId;
use towline::account::presence::PresenceState;
use towline::account::{Account, AccountPresence, DevicePresence};

use crate::args::Presence;
use crate::event::AccountEvent;
use crate::failure::Failure;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::running::{Running, account_failure, shown_presence};

pub(crate) async fn run(args: Presence, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let home = Home::find(&args.online.home)?;
    let running = Running::passing(&home, &args.online.network, args.online.timeout, output).await?;
    running
        .run(&interrupt, async |running| {
            let until = Instant::now() + args.online.timeout;
            let account = running.account();
            let contacts = account.contacts();
            let named = args.accounts.iter().map(|contact| contact.resolve(&contacts));
            let mut accounts = named.collect::<Result<Vec<AccountId>, Failure>>()?;
            if accounts.is_empty() {
                accounts = contacts.active().map(|(id, _)| id).collect();
            }
            if accounts.is_empty() {
                output.remark("No contacts; name an account, or ask somebody with `towline contact add`");
                return Ok(());
            }
            running.joined().await?;
            let mut seen = BTreeMap::new();
            let looked = join_all(accounts.iter().map(|id| look_up(account, *id, until))).await;
            for (id, presence) in accounts.iter().zip(looked) {
                let presence = presence?;
                output
                    .say(&AccountEvent::Presence(shown_presence(&account.contacts(), *id, &presence)).into());
                seen.insert(*id, presence);
            }
            if args.watch { watch(account, seen, output).await } else { Ok(()) }
        })
        .await
}

/// Who of an account is there, by its announcements and our connections.
async fn look_up(account: &Account, id: AccountId, until: Instant) -> Result<AccountPresence, Failure> {
    let devices =
        tokio::time::timeout_at(until, account.devices(id)).await.map_err(|_| Failure::Unreachable {
            step: "dht".to_owned(),
            message: format!("the devices of {id} could not be looked up in time"),
        })?;
    let devices = devices.map_err(|error| account_failure(&error))?;
    let state = PresenceState::Announced;
    let devices: BTreeMap<_, _> =
        devices.iter().map(|device| (device.short_id(), DevicePresence { state, id: device.id() })).collect();
    let state = if devices.is_empty() { PresenceState::Offline } else { state };
    Ok(AccountPresence { state, devices })
}

/// Shows changes, for ever.
async fn watch(
    account: &Account,
    mut seen: BTreeMap<AccountId, AccountPresence>,
    output: &Output,
) -> Result<(), Failure> {
    let (news, mut changes) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    for id in seen.keys() {
        let mut watch = account.presence(*id).await.map_err(|error| account_failure(&error))?;
        let (id, news) = (*id, news.clone());
        tasks.spawn(async move {
            while let Some(presence) = watch.next().await {
                if news.send((id, presence)).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(news);
    while let Some((id, presence)) = changes.recv().await {
        if seen.get(&id) != Some(&presence) {
            output.say(&AccountEvent::Presence(shown_presence(&account.contacts(), id, &presence)).into());
            seen.insert(id, presence);
        }
    }
    Err(Failure::Internal("the account has ended".to_owned()))
}
