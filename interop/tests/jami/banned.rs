//! Who is banned gets nothing, on either side.

use std::time::Duration;

use anyhow::{Result, ensure};
use interop::jami::{Lab, Steps};
use towline::{ConnectError, Event};

use crate::ours::{Ours, Setup, account_of, soon};

/// A refusal by silence is believed after this time.
const SILENCE: Duration = Duration::from_secs(4);

#[test]
fn neither_side_connects() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let (mut a, mut b) = (lab.jamid("a").await?, lab.jamid("b").await?);
            tokio::try_join!(a.add_account(&[]), b.add_account(&[]))?;
            let us = Ours::start(lab, Setup { answer_timeout: SILENCE, ..Setup::default() }).await?;
            for daemon in [&a, &b] {
                us.befriend(daemon).await?;
                us.texts.send(account_of(daemon)?, "text/plain", "still friends").await?;
            }
            let node = us.account.node();
            let of = |device: &str| {
                let connections = node.established().into_iter();
                connections.filter(|connection| connection.peer().device.to_string() == device).count()
            };
            ensure!(of(a.device()) > 0 && of(b.device()) > 0, "both are connected");

            us.account.ban(account_of(&a)?).await?;
            ensure!(of(a.device()) == 0, "the connection ends with the friendship");
            let mut events = node.events();
            a.call(&us.uri()).await?;
            let turned_away = async {
                loop {
                    match events.recv().await? {
                        Event::IncomingFailed { device, error } if device.to_string() == a.device() => {
                            return anyhow::Ok(error);
                        }
                        Event::Connected { device, .. } => ensure!(device.to_string() != a.device()),
                        _ => {}
                    }
                }
            };
            let error = soon("the call of the banned", turned_away).await??;
            ensure!(error == ConnectError::NotAdmitted, "{error:?}");
            steps.say("banned by us: connection closed, its call not answered");

            let theirs = us.device_of(account_of(&b)?).await?;
            let mark = b.mark();
            b.remove(&us.uri(), true).await?;
            b.wait(mark, "contactRemoved", |removed| removed.text(1) == us.uri() && removed.truth(2)).await?;
            node.close_with(theirs).await;
            match node.connect(theirs, "sip").await {
                Err(ConnectError::NoAnswer { waited, asked, .. }) => {
                    steps.say(format_args!("banned by it: no answer in {waited:?} at {asked} keys"));
                }
                other => anyhow::bail!("connected to who banned us: {other:?}"),
            }
            us.account.shutdown().await;
            Ok(())
        })
    })
}
