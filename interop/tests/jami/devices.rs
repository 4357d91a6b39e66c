//! More than one device: ours in an account of the daemon, the daemon in an account of ours, and taken back again.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use interop::jami::{Jamid, Lab, Steps};
use tokio::io::AsyncReadExt as _;
use towline::account::AccountEvent;
use towline::account::archive::Archive;
use towline::identity::Identity;
use towline::{Admit, CloseReason, ConnectError, Event, Pattern, PeerKind};

use crate::ours::{LIMIT, Ours, Setup, account_of, device_of, keys, now, soon};

/// The account of a daemon, with its keys.
async fn archive_of(lab: &Lab, daemon: &Jamid, password: &str) -> Result<Archive> {
    let file = lab.dir().join("exported.gz");
    daemon.export(&file, password).await?;
    Ok(Archive::open(&std::fs::read(file)?, Some(password))?)
}

/// What the daemon opens to a further device of its account, in any order.
const OPENED: [&str; 3] = ["sync://", "data-transfer://profile.vcf", "sip"];

#[test]
fn ours_in_an_account_of_the_daemon() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let mut steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon
                .add_account(&[("Account.archivePassword", "secret"), ("Account.archiveHasPassword", "true")])
                .await?;
            let archive = archive_of(lab, &daemon, "secret").await?;
            ensure!(archive.account.short_id().to_string() == daemon.uri(), "the archive is of the account");
            steps.say("its archive opens with its password");

            let (mark, begun) = (daemon.mark(), Instant::now());
            let device = device_of(&archive.account)?;
            let ours = device.device_id().to_string();
            let us = Ours::start_device(lab, &archive.account, device, Setup::default()).await?;
            let router = us.account.router();
            let mut sync = router.serve(Pattern::prefix("sync://"), Admit::OWN, 4)?;
            let mut profile = router.serve(Pattern::exact("data-transfer://profile.vcf"), Admit::OWN, 4)?;
            let known =
                daemon.wait(mark, "knownDevicesChanged", |known| !known.member(1, &ours).is_empty()).await?;
            steps.record("Towline in jamid", "device made, known to the daemon", known.at - begun);

            let incoming = soon("its sync channel", sync.next()).await?.context("the account runs")?;
            ensure!(incoming.name() == format!("sync://{ours}"), "{}", incoming.name());
            let mut channel = incoming.accept().await?;
            let mut message = vec![0; 64 * 1024];
            let length = soon("its state", channel.read(&mut message)).await??;
            ensure!(
                message[..length].starts_with(&[0x94]),
                "an array of four: {}",
                hex::encode(&message[..length])
            );
            steps.took("Towline in jamid", "device made, told of the account's state", begun);
            let incoming = soon("its profile channel", profile.next()).await?.context("the account runs")?;
            ensure!(us.account.kind_of(&incoming.peer().chain) == PeerKind::OwnDevice, "it is one of us");
            incoming.accept().await?;
            steps.say(format_args!("it opened {}", OPENED[..2].join(", ")));

            // And we to it. A conversation it does not have is refused to its own devices, too.
            let theirs = daemon.device().parse()?;
            for (name, accepted) in [
                ("sip".to_owned(), true),
                (format!("sync://{ours}"), true),
                ("data-transfer://profile.vcf".to_owned(), true),
                (format!("git://{theirs}/0123456789012345678901234567890123456789"), false),
                ("nc://localhost:22".to_owned(), false),
            ] {
                let found = us.try_channel(theirs, &name).await?;
                steps.say(format_args!("own device: {name}: {}", if found { "accepted" } else { "refused" }));
                ensure!(found == accepted, "{name}: {found}");
            }
            ensure!(daemon.devices().await?.len() == 2, "the daemon lives and knows both");
            us.account.shutdown().await;
            Ok(())
        })
    })
}

#[test]
fn the_daemon_in_an_account_of_ours_and_out_again() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let mut steps = Steps::default();
            let keys = keys()?;
            let file = lab.dir().join("ours.gz");
            let archive = Archive::new(keys.account.clone(), Some(keys.authority.key().clone()));
            std::fs::write(&file, archive.seal(Some("our secret"))?)?;
            let us = Ours::start_device(lab, &keys.account, keys.device, Setup::default()).await?;
            let mut events = us.account.events();
            let (mut daemon, mut friend) = (lab.jamid("a").await?, lab.jamid("b").await?);
            friend.add_account(&[]).await?;
            us.befriend(&friend).await?;

            let begun = Instant::now();
            let path = file.to_str().context("the name of the file is text")?;
            daemon
                .add_account(&[("Account.archivePath", path), ("Account.archivePassword", "our secret")])
                .await?;
            ensure!(daemon.uri() == us.uri(), "it took the account over");
            steps.took("jamid in Towline", "archive imported, registered", begun);
            let new = |event: &AccountEvent| match event {
                AccountEvent::NewOwnDevice(device) => Some(*device),
                _ => None,
            };
            us.event(&mut events, "its device", new).await?;
            let known = us.account.node().device().to_string();
            let both = async {
                while !daemon.devices().await?.contains_key(&known) {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                anyhow::Ok(())
            };
            soon("it to know our device", both).await??;
            steps.took("jamid in Towline", "archive imported, both know each other", begun);

            // Our other device sends as the account does: the friend takes it for what it is.
            let theirs = daemon.device().parse()?;
            let (mark, sent) = (friend.mark(), Instant::now());
            daemon.send_text(friend.uri(), "from the other device").await?;
            let arrived =
                friend.wait(mark, "incomingAccountMessage", |text| text.text(1) == us.uri()).await?;
            steps.record("jamid in Towline", "its text to our friend", arrived.at - sent);
            ensure!(us.try_channel(theirs, "sip").await?, "connected to our own device");

            revoke(&mut steps, &us, &keys.account, &daemon).await?;
            us.account.shutdown().await;
            Ok(())
        })
    })
}

/// The daemon's device is taken back: its connection ends, and it does not get another one.
async fn revoke(steps: &mut Steps, us: &Ours, account: &Identity, daemon: &Jamid) -> Result<()> {
    let node = us.account.node();
    let theirs = daemon.device().parse()?;
    let chain = node.connection(theirs).context("it is connected")?.peer().chain.clone();
    let mut events = node.events();
    let begun = Instant::now();
    let list = account.revoke(None, &[chain.leaf().clone()], now()? + 60)?;
    us.account.revoke(list).await?;
    let ended = async {
        loop {
            if let Event::Disconnected { device, reason, .. } = events.recv().await?
                && device == theirs
            {
                return anyhow::Ok(reason);
            }
        }
    };
    let reason = soon("the end of the connection", ended).await??;
    ensure!(matches!(reason, CloseReason::Revoked(_)), "{reason:?}");
    steps.took("jamid in Towline", "revoked, connection closed", begun);
    let refused = tokio::time::timeout(LIMIT, node.connect(theirs, "sip")).await?;
    ensure!(matches!(refused, Err(ConnectError::Revoked(_))), "{refused:?}");
    let mut events = node.events();
    daemon.calls("placeCall", &(daemon.account(), us.uri())).await?;
    let turned_away = async {
        loop {
            match events.recv().await? {
                Event::IncomingFailed { device, error } if device == theirs => {
                    return anyhow::Ok(Some(error));
                }
                Event::Connected { device, .. } if device == theirs => return Ok(None),
                _ => {}
            }
        }
    };
    match tokio::time::timeout(LIMIT, turned_away).await {
        Ok(Ok(Some(ConnectError::Revoked(_)))) => steps.say("revoked: its own attempt was refused"),
        Ok(Ok(Some(error))) => anyhow::bail!("refused for another reason: {error:?}"),
        Ok(other) => anyhow::bail!("it got in again: {other:?}"),
        // A daemon does not call its own account: it made no attempt.
        Err(_) => steps.say("revoked: it made no attempt"),
    }
    ensure!(account_of(daemon)? == us.account.id());
    Ok(())
}
