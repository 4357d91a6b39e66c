//! Our own program in the manners of others: of 2026 (long ids only), which is in no Debian, and of 2023 (short ids only).
//! Both speak the dialect of Jami.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use interop::jami::{Lab, Steps};
use towline::account::contacts::ContactEvent;
use towline::{ConnectError, Dialect, Eras, Pattern};

use crate::ours::{LIMIT, Ours, Setup, account_of, soon};

/// From the request to the ban, with `us` asking or being asked.
async fn friendship(
    steps: &mut Steps,
    column: &'static str,
    us: &Ours,
    they: &Ours,
    we_ask: bool,
) -> Result<()> {
    let (first, second) = if we_ask { (us, they) } else { (they, us) };
    let (mut asking, mut asked) = (first.account.events(), second.account.events());
    let begun = Instant::now();
    first.account.add_contact(second.account.id()).await?;
    second.contact_event(&mut asked, ContactEvent::Requested(first.account.id())).await?;
    steps.took(column, "request: asked, arrives", begun);
    second.account.accept(first.account.id()).await?;
    first.contact_event(&mut asking, ContactEvent::Confirmed(second.account.id())).await?;
    steps.took(column, "request: asked, confirmed", begun);

    for (from, to, what) in [(us, they, "text: we first"), (they, us, "text: they")] {
        let (sent, line) = (Instant::now(), format!("{what}, {}", from.uri()));
        from.texts.send(to.account.id(), "text/plain", line.clone()).await?;
        let text = soon("a text", to.texts.next()).await?.context("the account runs")?;
        ensure!(text.body == line.as_bytes() && text.peer.account == from.account.id(), "{text:?}");
        steps.took(column, what, sent);
    }
    let node = us.account.node();
    let device = they.account.node().device();
    let established =
        node.connection(device).context("connected")?.info().established.context("established")?;
    ensure!(established.dialect == Dialect::Jami, "{established:?}");

    let mut route = they.account.router().serve(Pattern::prefix("nc://"), towline::Admit::CONTACTS, 4)?;
    let accepting =
        async { route.next().await.context("the account runs")?.accept().await.map_err(Into::into) };
    let opening = async { node.connect(device, "nc://localhost:22").await.map_err(anyhow::Error::from) };
    soon("a channel", async { tokio::try_join!(accepting, opening) }).await??;
    ensure!(!us.try_channel(device, "git://of/nobody").await?, "what is not served is refused");

    they.account.ban(us.account.id()).await?;
    let ended = interop::eventually("the end", async || {
        ensure!(node.connection(device).is_none_or(|connection| connection.is_closed()), "still connected");
        Ok(())
    });
    ended.await?;
    steps.say(format_args!("{column}: banned, disconnected"));
    Ok(())
}

#[test]
fn peers_of_2026_and_2023_by_our_own_hand() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let mut steps = Steps::default();
            let of_2023 = Setup { eras: Eras::ShortOnly, native_dialect: false, ..Setup::default() };
            for (column, setup) in [("of 2026", Setup::of_2026()), ("of 2023", of_2023)] {
                for we_ask in [true, false] {
                    let us = Ours::start(lab, Setup::default()).await?;
                    let they = Ours::start(lab, setup.clone()).await?;
                    friendship(&mut steps, column, &us, &they, we_ask).await?;
                    us.account.shutdown().await;
                    they.account.shutdown().await;
                }
            }
            steps.say(format_args!("the sum:\n{steps}"));
            Ok(())
        })
    })
}

/// The daemon of Debian 12 and programs of today cannot meet (`files-and-calls.md` 0.1); they see each other all the same.
#[test]
fn peers_of_2026_do_not_reach_the_daemon() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;
            let today = Ours::start(lab, Setup::of_2026()).await?;
            let mut watch = today.account.presence(account_of(&daemon)?).await?;
            soon("the daemon to be seen", watch.wait_for(|daemon| daemon.state.is_online())).await?;
            let dialled = today.account.node().connect(daemon.device().parse()?, "sip");
            let dialled = tokio::time::timeout(LIMIT, dialled).await?;
            ensure!(matches!(dialled, Err(ConnectError::Certificate(_))), "{dialled:?}");
            steps.say("seen online, and without a certificate where a program of 2026 looks for it");
            today.account.shutdown().await;
            Ok(())
        })
    })
}
