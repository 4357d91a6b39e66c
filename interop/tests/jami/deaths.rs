//! Either side is killed at each stage of a connection. The other one notices, and is of use again at once.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use interop::eventually;
use interop::jami::{Jamid, Lab, Signal, Steps};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, oneshot};
use towline::account::contacts::Contacts;
use towline::identity::{DeviceId, Hierarchy};
use towline::{ConnectionState, Event};

use crate::ours::{LIMIT, Ours, Setup, account_of, keys, soon};

/// When death comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the request is made.
    Before,
    /// The attempt has come so far.
    Reached(ConnectionState),
    /// A channel is open.
    Channel,
}

impl Stage {
    const ALL: [Self; 6] = [
        Self::Before,
        Self::Reached(ConnectionState::Signalling),
        Self::Reached(ConnectionState::Path),
        Self::Reached(ConnectionState::Securing),
        Self::Reached(ConnectionState::Established),
        Self::Channel,
    ];

    /// Waits until an attempt with `device` is there; [`Before`](Self::Before) is at once, and [`Channel`](Self::Channel)
    /// the connection it is opened on.
    async fn reached(self, events: &mut broadcast::Receiver<Event>, device: DeviceId) -> Result<()> {
        let wanted = match self {
            Self::Before => return Ok(()),
            Self::Reached(state) => state,
            Self::Channel => ConnectionState::Established,
        };
        loop {
            match events.recv().await? {
                Event::Progress { device: of, state, .. } if of == device && state >= wanted => return Ok(()),
                Event::Connected { device: of, .. } if of == device => return Ok(()),
                _ => {}
            }
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before => f.write_str("before the request"),
            Self::Reached(state) => write!(f, "{state:?}"),
            Self::Channel => f.write_str("a channel open"),
        }
    }
}

#[test]
fn the_daemon_is_killed_at_each_stage() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;
            let us = Ours::start(lab, Setup { answer_timeout: Duration::from_secs(3), ..Setup::default() })
                .await?;
            us.befriend(&daemon).await?;
            let node = us.account.node();
            let theirs = us.device_of(account_of(&daemon)?).await?;
            for stage in Stage::ALL {
                node.close_with(theirs).await;
                let mut events = node.events();
                let dial = {
                    let node = node.clone();
                    async move { node.connect(theirs, "sip").await }
                };
                let outcome = if stage == Stage::Before {
                    daemon.kill().await?;
                    soon("the end of the attempt", dial).await?
                } else {
                    let dial = tokio::spawn(dial);
                    soon("the stage", stage.reached(&mut events, theirs)).await??;
                    if stage == Stage::Channel {
                        let channel = soon("the channel", dial).await???;
                        daemon.kill().await?;
                        Ok(channel)
                    } else {
                        daemon.kill().await?;
                        soon("the end of the attempt", dial).await??
                    }
                };
                let killed = Instant::now();
                let outcome = match outcome {
                    Ok(channel) => {
                        let lost = us.texts.send(account_of(&daemon)?, "text/plain", "anybody?").await;
                        ensure!(lost.is_err(), "the dead confirmed a text");
                        drop(channel);
                        "connected, then lost".to_owned()
                    }
                    Err(error) => error.to_string(),
                };
                soon("nothing to be left", nothing_left(&us)).await??;
                steps.say(format_args!("killed at: {stage}: {} ms: {outcome}", killed.elapsed().as_millis()));

                daemon.restart().await?;
                let back = Instant::now();
                let text = eventually("a text", async || {
                    Ok(us.texts.send(account_of(&daemon)?, "text/plain", "welcome back").await?)
                });
                text.await?;
                steps.say(format_args!("it is back, and has a text after {} ms", back.elapsed().as_millis()));
            }
            us.account.shutdown().await;
            Ok(())
        })
    })
}

async fn nothing_left(us: &Ours) -> Result<()> {
    eventually("no connections", async || {
        let connections = us.account.node().connections().await;
        ensure!(connections.is_empty(), "{connections:?}");
        Ok(())
    })
    .await
}

/// An account of ours on threads of its own, which can be ended as a process is: without a word, wherever it is.
struct Mortal {
    ours: Ours,
    runtime: Runtime,
}

impl Mortal {
    async fn start(lab: &Lab, keys: &Hierarchy, contacts: Contacts) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (sender, started) = oneshot::channel();
        let (account, device, bootstrap) = (keys.account.clone(), keys.device.clone(), lab.bootstrap());
        runtime.spawn(async move {
            let mut setup = Setup::default();
            setup.account.contacts = contacts;
            let _ = sender.send(Ours::start_at(bootstrap, &account, device, setup).await);
        });
        Ok(Self { ours: started.await??, runtime })
    }

    /// What it knew is all that is left: the sockets are closed by the system.
    fn kill(self) -> Contacts {
        let contacts = Contacts::clone(&self.ours.account.contacts());
        self.runtime.shutdown_background();
        contacts
    }
}

#[test]
fn ours_is_killed_at_each_stage() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;
            let keys = keys()?;
            let mut mortal = Mortal::start(lab, &keys, Contacts::default()).await?;
            mortal.ours.befriend(&daemon).await?;
            let theirs = mortal.ours.device_of(account_of(&daemon)?).await?;
            for stage in Stage::ALL {
                let node = mortal.ours.account.node().clone();
                node.close_with(theirs).await;
                let mut events = node.events();
                let dial = tokio::spawn({
                    let node = node.clone();
                    async move { node.connect(theirs, "sip").await }
                });
                soon("the stage", stage.reached(&mut events, theirs)).await??;
                if stage == Stage::Channel {
                    soon("the channel", dial).await???;
                }
                let contacts = mortal.kill();
                let killed = Instant::now();
                mortal = Mortal::start(lab, &keys, contacts).await?;
                answers(&daemon, &mortal.ours).await.with_context(|| stage.to_string())?;
                steps.say(format_args!(
                    "killed at: {stage}: started again, and texts went both ways after {} ms",
                    killed.elapsed().as_millis()
                ));
            }
            mortal.ours.account.shutdown().await;
            mortal.runtime.shutdown_background();
            Ok(())
        })
    })
}

/// The daemon takes a text of ours, and calls us.
async fn answers(daemon: &Jamid, us: &Ours) -> Result<()> {
    us.texts.send(account_of(daemon)?, "text/plain", "risen").await?;
    let mark = daemon.mark();
    let call = daemon.call(&us.uri()).await?;
    let refused = |state: &Signal| state.text(1) == call && state.text(2) == "HUNGUP";
    let refused = daemon.signals().wait(mark, "callStateChanged", LIMIT, refused).await?;
    ensure!(refused.number(3) == 103, "{refused:?}");
    Ok(())
}

/// Longer than a connection without a sign of life is believed in.
const SILENCE: Duration = Duration::from_secs(90);

/// Nobody says anything, not even the system of the other side.
#[test]
fn the_cable_is_pulled() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;
            let us = Ours::start(lab, Setup::default()).await?;
            us.befriend(&daemon).await?;
            us.texts.send(account_of(&daemon)?, "text/plain", "connected").await?;
            let theirs = us.device_of(account_of(&daemon)?).await?;
            let mut events = us.account.node().events();

            lab.set_plugged("a", false)?;
            let pulled = Instant::now();
            let ended = async {
                while us.account.node().connection(theirs).is_some() {
                    if let Event::Disconnected { reason, .. } = events.recv().await? {
                        steps.say(format_args!("after {} ms: {reason}", pulled.elapsed().as_millis()));
                    }
                }
                anyhow::Ok(())
            };
            tokio::time::timeout(SILENCE, ended).await.context("the connection still stands")??;

            lab.set_plugged("a", true)?;
            let plugged = Instant::now();
            let text = eventually("a text", async || {
                Ok(us.texts.send(account_of(&daemon)?, "text/plain", "plugged in again").await?)
            });
            text.await?;
            steps.say(format_args!("plugged in again: a text after {} ms", plugged.elapsed().as_millis()));
            us.account.shutdown().await;
            Ok(())
        })
    })
}
