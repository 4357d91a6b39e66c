//! Devices that vanish without a word are taken for present until what they announced expires: ten minutes after it was
//! made (`files-and-calls.md` 1.3).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use interop::jami::{Jamid, Lab, Signal, Steps};

use crate::between_daemons::DAEMONS;
use crate::ours::{Ours, Setup, account_of, soon};

/// Life of an announcement on the DHT.
const LIFE: Duration = Duration::from_mins(10);

/// Nodes look for what has expired now and then, and tell those who listen.
const SLACK: Duration = Duration::from_mins(1);

/// When the daemon says that `uri` is gone.
async fn gone(daemon: &Jamid, uri: &str) -> Result<Instant> {
    let mark = daemon.mark();
    let gone = |buddy: &Signal| buddy.text(1) == uri && !buddy.truth(2);
    let gone = daemon.signals().wait(mark, "newBuddyNotification", LIFE + SLACK, gone).await?;
    Ok(gone.at)
}

#[test]
fn offline_when_the_announcement_expires() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let mut steps = Steps::default();
            let (mut watcher, mut mortal) = (lab.jamid("a").await?, lab.jamid("b").await?);
            watcher.add_account(&[]).await?;
            let us = Ours::start(lab, Setup::default()).await?;
            let announced = Instant::now();
            mortal.add_account(&[]).await?;
            let ours = Ours::start(lab, Setup::default()).await?;

            for uri in [mortal.uri(), &ours.uri()] {
                let mark = watcher.mark();
                watcher.subscribe(uri).await?;
                let online = |buddy: &Signal| buddy.text(1) == uri && buddy.truth(2);
                watcher.wait(mark, "newBuddyNotification", online).await?;
            }
            let mut watch_daemon = us.account.presence(account_of(&mortal)?).await?;
            let mut watch_ours = us.account.presence(ours.account.id()).await?;
            for watch in [&mut watch_daemon, &mut watch_ours] {
                soon("both to be seen", watch.wait_for(|who| who.state.is_online())).await?;
            }
            let (daemon_uri, our_uri) = (mortal.uri().to_owned(), ours.uri());
            mortal.kill().await?;
            drop(ours);
            steps.say(
                "a daemon was killed, and an account of ours dropped; both were seen by a daemon and by us",
            );

            let ours_sees = async |mut watch: towline::account::PresenceWatch| {
                let gone = watch.wait_for(|who| !who.state.is_online());
                tokio::time::timeout(LIFE + SLACK, gone).await?.context("our account runs")?;
                anyhow::Ok(Instant::now())
            };
            let (theirs_by_them, ours_by_them, theirs_by_us, ours_by_us) = tokio::try_join!(
                gone(&watcher, &daemon_uri),
                gone(&watcher, &our_uri),
                ours_sees(watch_daemon),
                ours_sees(watch_ours),
            )?;
            let what = "announced, killed, seen offline";
            for (column, at) in [
                (DAEMONS, theirs_by_them),
                ("Towline by jamid", ours_by_them),
                ("jamid by Towline", theirs_by_us),
                ("Towline-Towline", ours_by_us),
            ] {
                steps.record(column, what, at - announced);
                ensure!(at - announced <= LIFE + SLACK, "{column}: {:?}", at - announced);
            }
            steps.say(format_args!("the sum:\n{steps}"));
            us.account.shutdown().await;
            Ok(())
        })
    })
}
