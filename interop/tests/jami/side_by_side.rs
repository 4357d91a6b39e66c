//! A friendship from the request to the call, between a daemon and us, and between two daemons in the same lab.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use interop::jami::{Jamid, Lab, Signal, Steps};
use towline::account::contacts::ContactEvent;

use crate::between_daemons::{self, DAEMONS};
use crate::ours::{Ours, Setup, account_of, soon};

/// The daemon does, we answer.
const THEY: &str = "jamid-Towline";
/// We do, the daemon answers.
const WE: &str = "Towline-jamid";

/// The daemon asks `us` and we accept.
async fn asked(steps: &mut Steps, daemon: &Jamid, us: &Ours) -> Result<()> {
    let mark = daemon.mark();
    let mut events = us.account.events();
    let account = account_of(daemon)?;
    let asked = Instant::now();
    daemon.ask(&us.uri()).await?;
    us.contact_event(&mut events, ContactEvent::Requested(account)).await?;
    steps.took(THEY, "request: asked, arrives", asked);
    let accepted = Instant::now();
    us.account.accept(account).await?;
    let confirmed = |added: &Signal| added.text(1) == us.uri() && added.truth(2);
    let confirmed = daemon.wait(mark, "contactAdded", confirmed).await?;
    steps.record(THEY, "request: accepted, confirmation arrives", confirmed.at - accepted);
    Ok(())
}

/// We ask the daemon and it accepts.
async fn asks(steps: &mut Steps, us: &Ours, daemon: &Jamid) -> Result<()> {
    let mark = daemon.mark();
    let mut events = us.account.events();
    let account = account_of(daemon)?;
    let asked = Instant::now();
    us.account.add_contact(account).await?;
    let request = daemon.wait(mark, "incomingTrustRequest", |request| request.text(2) == us.uri()).await?;
    steps.record(WE, "request: asked, arrives", request.at - asked);
    let accepted = Instant::now();
    daemon.accept(&us.uri()).await?;
    us.contact_event(&mut events, ContactEvent::Confirmed(account)).await?;
    steps.took(WE, "request: accepted, confirmation arrives", accepted);
    Ok(())
}

async fn presence(steps: &mut Steps, us: &Ours, daemon: &Jamid) -> Result<()> {
    let (mark, asked) = (daemon.mark(), Instant::now());
    daemon.subscribe(&us.uri()).await?;
    let online = |buddy: &Signal| buddy.text(1) == us.uri() && buddy.truth(2);
    let seen = daemon.wait(mark, "newBuddyNotification", online).await?;
    steps.record(THEY, "presence: subscribed, seen online", seen.at - asked);

    let asked = Instant::now();
    let mut watch = us.account.presence(account_of(daemon)?).await?;
    soon("the daemon to be seen", watch.wait_for(|daemon| daemon.state.is_online())).await?;
    steps.took(WE, "presence: subscribed, seen online", asked);
    Ok(())
}

/// We first: without a channel the daemon would put its text on the DHT.
async fn texts(steps: &mut Steps, what: &str, us: &Ours, daemon: &Jamid) -> Result<()> {
    let (mark, sent) = (daemon.mark(), Instant::now());
    let delivery = us.texts.send(account_of(daemon)?, "text/plain", "a line from us").await?;
    steps.took(WE, "text: confirmed", sent);
    ensure!(delivery.delivered.len() == 1 && delivery.failed.is_empty(), "{delivery:?}");
    let message = daemon.wait(mark, "incomingAccountMessage", |message| message.text(1) == us.uri()).await?;
    ensure!(message.member(3, "text/plain") == "a line from us", "{message:?}");
    steps.record(WE, what, message.at.duration_since(sent));

    let sent = Instant::now();
    daemon.send_text(&us.uri(), "a line from the daemon").await?;
    let text = soon("its text", us.texts.next()).await?.context("the account runs")?;
    ensure!(text.peer.account == account_of(daemon)?, "a text of somebody else: {text:?}");
    ensure!(text.content_type.starts_with("text/plain"), "{text:?}");
    ensure!(text.body == b"a line from the daemon", "{text:?}");
    steps.took(THEY, what, sent);
    Ok(())
}

/// The daemon calls, which we refuse; it says so to its user as if another daemon had.
async fn call(steps: &mut Steps, us: &Ours, daemon: &Jamid) -> Result<()> {
    let (mark, placed) = (daemon.mark(), Instant::now());
    let call = daemon.call(&us.uri()).await?;
    let over = |state: &Signal| state.text(1) == call && state.text(2) == "OVER";
    let over = daemon.wait(mark, "callStateChanged", over).await?;
    steps.record(THEY, "call: placed, refused, over", over.at - placed);
    let states = daemon.signals().since(mark).into_iter();
    let states = states.filter(|signal| signal.name == "callStateChanged" && signal.text(1) == call);
    let states: Vec<_> = states.map(|state| format!("{} {}", state.text(2), state.number(3))).collect();
    steps.say(format_args!("the daemon saw: {}", states.join(", ")));
    ensure!(states.iter().any(|state| state == "HUNGUP 103"), "not the end of a refused call");
    Ok(())
}

#[test]
fn from_the_request_to_the_call() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let mut steps = Steps::default();
            let (mut a, mut b) = (lab.jamid("a").await?, lab.jamid("b").await?);
            for daemon in [&mut a, &mut b] {
                let begun = Instant::now();
                daemon.add_account(&[]).await?;
                steps.took(DAEMONS, "account made, registered, announced", begun);
            }
            let begun = Instant::now();
            let us = Ours::start(lab, Setup::default()).await?;
            steps.took(WE, "account made, registered, announced", begun);

            presence(&mut steps, &us, &a).await?;
            asked(&mut steps, &a, &us).await?;
            asks(&mut steps, &us, &b).await?;
            texts(&mut steps, "text: first, or soon after the request", &us, &a).await?;
            texts(&mut steps, "text: connected", &us, &a).await?;
            call(&mut steps, &us, &a).await?;
            call(&mut steps, &us, &b).await?;
            texts(&mut steps, "text: after a call", &us, &b).await?;

            between_daemons::see(&mut steps, &a, &b).await?;
            between_daemons::befriend(&mut steps, &a, &b).await?;
            between_daemons::text(&mut steps, "text: first, or soon after the request", &a, &b).await?;
            between_daemons::text(&mut steps, "text: connected", &a, &b).await?;
            between_daemons::call(&mut steps, "call: placed, rings", &a, &b).await?;
            between_daemons::text(&mut steps, "text: after a call", &b, &a).await?;
            for connection in us.account.node().established() {
                let info = connection.info();
                steps.say(format_args!(
                    "{:?}, {:?}",
                    info.origin,
                    info.established.map(|info| info.timeline)
                ));
            }
            let begun = Instant::now();
            us.account.shutdown().await;
            steps.took(WE, "stopped", begun);
            let begun = Instant::now();
            b.stop().await?;
            steps.took(DAEMONS, "stopped", begun);
            steps.say(format_args!("the sum:\n{steps}"));
            Ok(())
        })
    })
}
