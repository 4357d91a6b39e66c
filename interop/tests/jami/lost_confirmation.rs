//! The answer of a daemon that was lost on its way, and how it is had again.

use std::time::Duration;

use anyhow::{Result, ensure};
use interop::jami::{Lab, Steps};
use towline::account::AccountConfig;
use towline::account::contacts::{ContactEvent, Contacts};

use crate::ours::{Ours, Setup, account_of, device_of, keys};

const CONVERSATION: &str = "44e9279e676b9870783cdbf65742e9145fff3b39";
/// Longer than an answer takes that comes.
const SILENCE: Duration = Duration::from_secs(4);

/// A contact that was asked so often, and has not answered.
fn asked(uri: &str, times: u32) -> Result<Contacts> {
    let text = format!(
        r#"{{"contacts":{{"{uri}":{{"added":1,"conversationId":"{CONVERSATION}","asked":{times},"askedAt":1}}}}}}"#
    );
    Ok(Contacts::from_json(&text)?)
}

#[test]
fn repaired() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;
            let theirs = account_of(&daemon)?;
            let keys = keys()?;
            let first = Ours::start_device(lab, &keys.account, keys.device.clone(), Setup::default()).await?;
            let (mark, mut events) = (daemon.mark(), first.account.events());
            first.account.add_contact_with(theirs, CONVERSATION).await?;
            daemon.wait(mark, "incomingTrustRequest", |_| true).await?;
            daemon.accept(&first.uri()).await?;
            first.contact_event(&mut events, ContactEvent::Confirmed(theirs)).await?;
            steps.say("accepted, and confirmed to the device that has asked");
            first.account.shutdown().await;

            // For another device of ours that answer is lost, as if it had not come in ten minutes.
            let device = device_of(&keys.account)?;
            for (times, answered) in [(1, false), (2, true)] {
                let account =
                    AccountConfig { contacts: asked(daemon.uri(), times)?, ..AccountConfig::default() };
                let setup = Setup { account, ..Setup::default() };
                let second = Ours::start_device(lab, &keys.account, device.clone(), setup).await?;
                let confirmed = async {
                    while !second.account.contacts().get(theirs).is_some_and(|contact| contact.confirmed) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                let confirmed = tokio::time::timeout(SILENCE, confirmed).await.is_ok();
                steps.say(format_args!(
                    "asked again, time {times}: {}",
                    if confirmed { "confirmed" } else { "silence" }
                ));
                ensure!(confirmed == answered, "time {times}");
                second.account.shutdown().await;
            }
            Ok(())
        })
    })
}
