//! Requests that come to nothing, and those whose answer was lost.

use anyhow::{Context as _, Result, ensure};
use interop::jami::{Lab, Signal, Steps};
use towline::account::AccountEvent;
use towline::account::contacts::{Contact, ContactEvent, Contacts};
use towline::sip::TextOptions;
use towline::{Admit, ConnectError, Event};

use crate::ours::{Ours, Setup, account_of, now, soon};

#[test]
fn strangers_get_no_answer_unless_we_say_so() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;

            let us = Ours::start(lab, Setup::default()).await?;
            let mut events = us.account.node().events();
            daemon.call(&us.uri()).await?;
            let turned_away = async {
                loop {
                    if let Event::IncomingFailed { device, error } = events.recv().await? {
                        return anyhow::Ok((device, error));
                    }
                }
            };
            let (device, error) = soon("the call of a stranger", turned_away).await??;
            steps.say(format_args!("a stranger called, and was turned away: {error}"));
            ensure!(device.to_string() == daemon.device() && error == ConnectError::NotAdmitted, "{error:?}");
            ensure!(us.account.node().connections().await.is_empty(), "nothing is left of it");
            us.account.shutdown().await;

            let mut open = Setup::default();
            open.account.strangers_may_connect = true;
            open.texts = TextOptions { admit: Admit::EVERYBODY, ..TextOptions::default() };
            let us = Ours::start(lab, open).await?;
            let mark = daemon.mark();
            let call = daemon.call(&us.uri()).await?;
            let refused = |state: &Signal| state.text(1) == call && state.text(2) == "HUNGUP";
            let refused = daemon.wait(mark, "callStateChanged", refused).await?;
            ensure!(refused.number(3) == 103, "as if a person had refused: {refused:?}");
            steps.say("where strangers are let in, the call arrives and is refused");
            daemon.send_text(&us.uri(), "from a stranger").await?;
            let text = soon("its text", us.texts.next()).await?.context("the account runs")?;
            ensure!(text.body == b"from a stranger", "{text:?}");
            us.account.shutdown().await;
            Ok(())
        })
    })
}

#[test]
fn refused_on_either_side() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let (mut a, mut b) = (lab.jamid("a").await?, lab.jamid("b").await?);
            tokio::try_join!(a.add_account(&[]), b.add_account(&[]))?;
            let us = Ours::start(lab, Setup::default()).await?;
            let mut events = us.account.events();

            let account = account_of(&a)?;
            a.ask(&us.uri()).await?;
            us.contact_event(&mut events, ContactEvent::Requested(account)).await?;
            us.account.refuse(account).await?;
            ensure!(us.account.requests().is_empty() && us.account.contacts().get(account).is_none());
            steps.say("it asked, and we refused");

            let (mark, account) = (b.mark(), account_of(&b)?);
            us.account.add_contact(account).await?;
            b.wait(mark, "incomingTrustRequest", |request| request.text(2) == us.uri()).await?;
            b.refuse(&us.uri()).await?;
            let contacts = us.account.contacts();
            let contact = contacts.get(account).context("we wanted it")?;
            ensure!(contact.is_active() && !contact.confirmed, "{contact:?}");
            steps.say("we asked, and it refused: we are not told");

            // Neither was told, so neither believes more than before.
            let contact = a.contact(&us.uri()).await?;
            ensure!(contact.get("confirmed").is_none_or(|confirmed| confirmed == "false"), "{contact:?}");
            us.account.shutdown().await;
            Ok(())
        })
    })
}

/// The daemon never learnt that we accepted, and asks again: it is told again, without anybody of ours.
#[test]
fn a_lost_confirmation_is_repaired() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;
            let mut contacts = Contacts::default();
            let mut known = Contact::default();
            (known.added, known.confirmed) = (now()?, true);
            ensure!(contacts.restore(account_of(&daemon)?, known), "there is room");
            let mut setup = Setup::default();
            setup.account.contacts = contacts;
            let us = Ours::start(lab, setup).await?;
            let (mark, mut events) = (daemon.mark(), us.account.events());
            daemon.ask(&us.uri()).await?;
            let sent = |event: &AccountEvent| match event {
                AccountEvent::Sent { confirmation: true, devices: 1, .. } => Some(()),
                _ => None,
            };
            us.event(&mut events, "the answer", sent).await?;
            daemon.wait(mark, "contactAdded", |added| added.text(1) == us.uri() && added.truth(2)).await?;
            steps.say("it asked again, and was told again");
            us.account.shutdown().await;
            Ok(())
        })
    })
}
