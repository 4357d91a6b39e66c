//! Which channels the daemon accepts of us, by what we are to it, and we of it.

use anyhow::{Context as _, Result, ensure};
use interop::jami::{Lab, Steps};
use towline::account::contacts::ContactEvent;
use towline::identity::DeviceId;

use crate::ours::{Ours, Setup, account_of};

const NOWHERE: &str = "0123456789012345678901234567890123456789";

/// Names, and whether the daemon accepts them.
fn names(theirs: DeviceId, ours: DeviceId, conversation: &str, contact: bool) -> Vec<(String, bool)> {
    vec![
        ("sip".to_owned(), true),
        (format!("git://{theirs}/{NOWHERE}"), false),
        (format!("git://{theirs}/{conversation}"), contact),
        (format!("data-transfer://{conversation}/{ours}/profile.vcf"), contact),
        (format!("data-transfer://{conversation}/{ours}/{NOWHERE}_1.bin"), false),
        ("data-transfer://profile.vcf".to_owned(), false),
        (format!("sync://{ours}"), false),
        ("nc://localhost:22".to_owned(), false),
        ("no such thing".to_owned(), false),
    ]
}

#[test]
fn by_name_and_kind_of_peer() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;
            let us = Ours::start(lab, Setup::default()).await?;
            let (ours, theirs) = (us.account.node().device(), us.device_of(account_of(&daemon)?).await?);
            ensure!(theirs.to_string() == daemon.device(), "the device it says it is");
            let mut wrong = Vec::new();
            let mut conversation = NOWHERE.to_owned();
            for (kind, contact) in [("a stranger", false), ("a contact", true)] {
                if contact {
                    // Its own request names a conversation, which it has made for the two.
                    let (mark, mut events) = (daemon.mark(), us.account.events());
                    daemon.ask(&us.uri()).await?;
                    let account = account_of(&daemon)?;
                    us.contact_event(&mut events, ContactEvent::Requested(account)).await?;
                    let (_, request) = us.account.requests().pop().context("it waits for us")?;
                    request.conversation_id.clone_into(&mut conversation);
                    us.account.accept(account).await?;
                    daemon.wait(mark, "contactAdded", |added| added.truth(2)).await?;
                }
                for (name, accepted) in names(theirs, ours, &conversation, contact) {
                    let found = us.try_channel(theirs, &name).await?;
                    steps.say(format_args!("{kind}: {name}: {}", if found { "accepted" } else { "refused" }));
                    if found != accepted {
                        wrong.push(format!("{kind}: {name}: {found}"));
                    }
                }
            }
            ensure!(wrong.is_empty(), "not as expected: {wrong:?}");
            us.account.shutdown().await;
            Ok(())
        })
    })
}
