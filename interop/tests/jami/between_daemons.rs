//! Two daemons with each other: what ours are measured against, and what the other tests may rely on.

use std::time::Instant;

use anyhow::{Result, ensure};
use interop::jami::{Jamid, Lab, Steps};

/// The column of the tables.
pub(crate) const DAEMONS: &str = "jamid-jamid";

/// `a` asks, `b` accepts; both see each other come online.
pub(crate) async fn befriend(steps: &mut Steps, a: &Jamid, b: &Jamid) -> Result<()> {
    let (mark_a, mark_b) = (a.mark(), b.mark());
    let asked = Instant::now();
    a.ask(b.uri()).await?;
    let request = b.wait(mark_b, "incomingTrustRequest", |request| request.text(2) == a.uri()).await?;
    steps.record(DAEMONS, "request: asked, arrives", request.at - asked);
    let accepted = Instant::now();
    b.accept(a.uri()).await?;
    let confirmed = |added: &interop::jami::Signal| added.text(1) == b.uri() && added.truth(2);
    let confirmed = a.wait(mark_a, "contactAdded", confirmed).await?;
    steps.record(DAEMONS, "request: accepted, confirmation arrives", confirmed.at - accepted);
    Ok(())
}

/// `a` is told that `b` is online.
pub(crate) async fn see(steps: &mut Steps, a: &Jamid, b: &Jamid) -> Result<()> {
    let (mark, asked) = (a.mark(), Instant::now());
    a.subscribe(b.uri()).await?;
    let seen =
        a.wait(mark, "newBuddyNotification", |buddy| buddy.text(1) == b.uri() && buddy.truth(2)).await?;
    steps.record(DAEMONS, "presence: subscribed, seen online", seen.at - asked);
    Ok(())
}

/// `a` sends a text outside of conversations.
pub(crate) async fn text(steps: &mut Steps, what: &str, a: &Jamid, b: &Jamid) -> Result<()> {
    let (mark, sent) = (b.mark(), Instant::now());
    a.send_text(b.uri(), "a line of text").await?;
    let message = b.wait(mark, "incomingAccountMessage", |message| message.text(1) == a.uri()).await?;
    ensure!(message.member(3, "text/plain") == "a line of text", "{message:?}");
    steps.record(DAEMONS, what, message.at - sent);
    Ok(())
}

/// `a` calls, `b` refuses.
pub(crate) async fn call(steps: &mut Steps, what: &str, a: &Jamid, b: &Jamid) -> Result<()> {
    let (mark_a, mark_b) = (a.mark(), b.mark());
    let placed = Instant::now();
    let call = a.call(b.uri()).await?;
    let ringing = b.wait(mark_b, "incomingCallWithMedia", |call| call.text(0) == b.account()).await?;
    steps.record(DAEMONS, what, ringing.at - placed);
    let refused = Instant::now();
    b.refuse_call(ringing.text(1)).await?;
    let over = |state: &interop::jami::Signal| state.text(1) == call && state.text(2) == "OVER";
    let over = a.wait(mark_a, "callStateChanged", over).await?;
    steps.record(DAEMONS, "call: refused, over", over.at - refused);
    steps.record(DAEMONS, "call: placed, refused, over", over.at - placed);
    let states: Vec<_> = a.signals().since(mark_a);
    let states = states.iter().filter(|signal| signal.name == "callStateChanged");
    let states: Vec<_> = states.map(|state| format!("{} {}", state.text(2), state.number(3))).collect();
    steps.say(format_args!("the caller saw: {}", states.join(", ")));
    Ok(())
}

#[test]
fn two_daemons_alone() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let mut steps = Steps::default();
            let (mut a, mut b) = (lab.jamid("a").await?, lab.jamid("b").await?);
            steps.say("two daemons are on their buses");
            for daemon in [&mut a, &mut b] {
                let begun = Instant::now();
                daemon.add_account(&[]).await?;
                steps.took(DAEMONS, "account made, registered", begun);
            }
            call(&mut steps, "call: stranger, first", &a, &b).await?;
            text(&mut steps, "text: stranger, connected", &a, &b).await?;
            befriend(&mut steps, &a, &b).await?;
            see(&mut steps, &a, &b).await?;
            see(&mut steps, &b, &a).await?;
            text(&mut steps, "text: contact", &b, &a).await?;
            call(&mut steps, "call: contact, connected", &b, &a).await?;
            for daemon in [&mut a, &mut b] {
                let begun = Instant::now();
                daemon.stop().await?;
                steps.took(DAEMONS, "stopped", begun);
            }
            steps.say(format_args!("the sum:\n{steps}"));
            Ok(())
        })
    })
}
