//! More than one device: ours in an account of the daemon, the daemon in an account of ours, and taken back again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use interop::jami::{Jamid, Lab, Signal, Steps};
use tokio::io::AsyncReadExt as _;
use towline::account::AccountEvent;
use towline::account::archive::Archive;
use towline::account::contacts::Contacts;
use towline::identity::{DeviceId, Identity};
use towline::{CloseReason, ConnectError, Event, PeerKind};

use crate::ours::{LIMIT, Ours, Setup, account_of, device_of, keys, now, soon};

/// The account of a daemon, with its keys.
async fn archive_of(lab: &Lab, daemon: &Jamid, password: &str) -> Result<Archive> {
    let file = lab.dir().join("exported.gz");
    daemon.export(&file, password).await?;
    Ok(Archive::open(&std::fs::read(file)?, Some(password))?)
}

/// What the daemon opens to a further device of its account, beside `sip`.
const SYNC: &str = "sync://";
const PROFILE: &str = "data-transfer://profile.vcf";

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
            let setup = Setup { serve: vec![SYNC, PROFILE], ..Setup::default() };
            let mut us = Ours::start_device(lab, &archive.account, device, setup).await?;
            let mut profile = us.routes.pop().context("two were asked for")?;
            let mut sync = us.routes.pop().context("two were asked for")?;
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
            steps.say(format_args!("it opened {SYNC} and {PROFILE}"));

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

            let mut events = us.account.events();
            let begun = Instant::now();
            daemon.revoke("secret", &ours).await?;
            // It publishes the list when it starts.
            daemon.stop().await?;
            daemon.restart().await?;
            let revoked =
                |event: &AccountEvent| matches!(event, AccountEvent::ThisDeviceRevoked).then_some(());
            us.event(&mut events, "the revocation of our device", revoked).await?;
            steps.took("Towline in jamid", "revoked by it, known here", begun);
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

/// A friend of ours is a daemon, which learns of the revocation when it looks for our devices.
#[test]
fn a_device_of_ours_that_is_revoked() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let mut friend = lab.jamid("a").await?;
            friend.add_account(&[]).await?;
            let keys = keys()?;
            let us = Ours::start_device(lab, &keys.account, keys.device, Setup::default()).await?;
            us.befriend(&friend).await?;
            let account = account_of(&friend)?;
            let mut setup = Setup { answer_timeout: Duration::from_secs(4), ..Setup::default() };
            setup.account.contacts = Contacts::clone(&us.account.contacts());
            let lost = device_of(&keys.account)?;
            let revoked = lost.chain().leaf().clone();
            let lost = Ours::start_device(lab, &keys.account, lost, setup).await?;
            lost.texts.send(account, "text/plain", "from a device that will be lost").await?;
            lost.account.node().close_with(friend.device().parse::<DeviceId>()?).await;
            steps.say("a second device of ours talked to our friend");

            us.account.revoke(keys.account.revoke(None, &[revoked], now()? + 60)?).await?;
            let mark = friend.mark();
            let call = friend.call(&us.uri()).await?;
            let refused = |state: &Signal| state.text(1) == call && state.text(2) == "HUNGUP";
            friend.wait(mark, "callStateChanged", refused).await?;
            // It rang the lost one, too. What is in the list counts when it has read its files again.
            steps.say("our friend looked for our devices, called them, and has the list now");
            lost.account.node().close_with(friend.device().parse::<DeviceId>()?).await;
            friend.stop().await?;
            friend.restart().await?;
            let refused = lost.account.node().connect(friend.device().parse()?, "sip").await;
            ensure!(refused.is_err(), "the revoked device got in");
            steps.say(format_args!(
                "the revoked one: {}",
                refused.err().map(|error| error.to_string()).unwrap_or_default()
            ));
            us.texts.send(account, "text/plain", "from the device that is left").await?;
            us.account.shutdown().await;
            Ok(())
        })
    })
}

/// A daemon that wants to connect does so by then.
const ATTEMPT: Duration = Duration::from_secs(10);

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
    // It may have come back by itself already.
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
    match tokio::time::timeout(ATTEMPT, turned_away).await {
        Ok(Ok(Some(ConnectError::Revoked(_)))) => steps.say("revoked: its own attempt was refused"),
        Ok(Ok(Some(error))) => anyhow::bail!("refused for another reason: {error:?}"),
        Ok(other) => anyhow::bail!("it got in again: {other:?}"),
        // A daemon does not call its own account: it made no attempt.
        Err(_) => steps.say("revoked: it made no attempt"),
    }
    ensure!(account_of(daemon)? == us.account.id());
    Ok(())
}
