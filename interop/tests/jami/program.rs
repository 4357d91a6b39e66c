//! The `towline` program and the daemon, as two people use them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use interop::jami::{Jamid, Lab, Steps};
use interop::{Process, program};
use serde_json::Value as Json;
use tokio::process::Command;
use towline::sip::media;

use crate::ours::LIMIT;

/// Making keys of 2048 bits takes longest.
const COMMAND: Duration = Duration::from_mins(1);

/// A device of somebody who uses the program.
struct Person {
    program: PathBuf,
    home: PathBuf,
    bootstrap: String,
}

impl Person {
    /// A command with its words, and whether it goes online.
    fn command(&self, words: &[&str], online: bool) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).args(["--json", "--home"]).arg(&self.home);
        command.env_remove("TOWLINE_HOME").env_remove("TOWLINE_LOG").env("TOWLINE_PASSWORD", "our secret");
        if online {
            command.args(["--bootstrap", &self.bootstrap]);
        }
        command
    }

    /// Runs a command to its end; the event of that name.
    async fn run(&self, words: &[&str], online: bool, event: &str) -> Result<Json> {
        let run = self.command(words, online).kill_on_drop(true).output();
        let ended = tokio::time::timeout(COMMAND, run).await.with_context(|| words.join(" "))??;
        let out = String::from_utf8_lossy(&ended.stdout).into_owned();
        ensure!(
            ended.status.success(),
            "{}: {out}{}",
            words.join(" "),
            String::from_utf8_lossy(&ended.stderr)
        );
        let found = out.lines().find_map(|line| named(line, event));
        found.with_context(|| format!("{}: no {event} in {out}", words.join(" ")))
    }

    /// `towline online`, registered and announced.
    async fn online(&self) -> Result<Online> {
        let mut process = Process::start("towline online", self.command(&["online"], true))?;
        let (mut missing, mut passed) = (vec!["announced", "registered"], Vec::new());
        while !missing.is_empty() {
            let line = process.expect("that it is there", LIMIT, |line| Some(line.to_owned())).await?;
            missing.retain(|event| named(&line, event).is_none());
            passed.push(line);
        }
        Ok(Online { process, passed })
    }
}

/// `towline online` while it runs.
struct Online {
    process: Process,
    /// What it said before it was there.
    passed: Vec<String>,
}

impl Online {
    /// The next event of that name that fits.
    async fn next(&mut self, event: &str, limit: Duration, fits: impl Fn(&Json) -> bool) -> Result<Json> {
        let pick = |line: &str| named(line, event).filter(&fits);
        if let Some((place, found)) =
            self.passed.iter().enumerate().find_map(|(place, line)| Some((place, pick(line)?)))
        {
            self.passed.drain(..=place);
            return Ok(found);
        }
        self.passed.clear();
        self.process.expect(event, limit, pick).await
    }
}

/// The line as an event, if it is the one of that name.
fn named(line: &str, event: &str) -> Option<Json> {
    let json: Json = serde_json::from_str(line).ok()?;
    (json["event"] == event).then_some(json)
}

/// A contact, asked by the program; presence, and texts both ways.
async fn befriend(steps: &mut Steps, us: &Person, online: &mut Online, daemon: &Jamid) -> Result<String> {
    let shown = us.run(&["account", "show"], false, "account").await?;
    let own = shown["account"].as_str().context("an id")?.to_owned();
    let (mark, begun) = (daemon.mark(), Instant::now());
    let uri = daemon.uri();
    let asked = us.run(&["contact", "add", uri, "--name", "Jami"], true, "request_sent").await?;
    ensure!(asked["devices"] == 1, "{asked}");
    let request = daemon.wait(mark, "incomingTrustRequest", |request| request.text(2) == own).await?;
    steps.record("program-jamid", "contact add -> incoming", request.at - begun);
    let begun = Instant::now();
    daemon.accept(&own).await?;
    online.next("contact_confirmed", LIMIT, |_| true).await?;
    steps.took("program-jamid", "accepted -> shown", begun);
    let present = us.run(&["presence"], true, "presence").await?;
    ensure!(present["name"] == "Jami" && present["state"] == "announced", "{present}");
    steps.say("the daemon is shown online");

    let (mark, begun) = (daemon.mark(), Instant::now());
    let sent = us.run(&["text", uri, "Grüße vom Programm"], true, "text_sent").await?;
    ensure!(sent["devices"].as_array().is_some_and(|devices| devices.len() == 1), "{sent}");
    let got = daemon.wait(mark, "incomingAccountMessage", |text| text.text(1) == own).await?;
    ensure!(got.member(3, media::TEXT) == "Grüße vom Programm", "{got:?}");
    steps.record("program-jamid", "towline text -> told", got.at - begun);
    let begun = Instant::now();
    daemon.send_text(&own, "and back").await?;
    let text = online.next("text", LIMIT, |_| true).await?;
    ensure!(text["text"] == "and back" && text["name"] == "Jami", "{text}");
    steps.took("program-jamid", "text -> shown", begun);
    Ok(own)
}

#[test]
fn program_contact() -> Result<()> {
    let program = program()?;
    Lab::run(|lab| {
        Box::pin(async move {
            let mut steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;
            let home = lab.dir().join("ours");
            let us = Person { program, home, bootstrap: lab.bootstrap().to_string() };
            let create = ["account", "create", "--key-size", "2048", "--display-name", "Towline"];
            us.run(&create, false, "created").await?;
            let mut online = us.online().await?;
            let own = befriend(&mut steps, &us, &mut online, &daemon).await?;

            // A call is refused; then nothing is had with it any more.
            let mark = daemon.mark();
            let call = daemon.call(&own).await?;
            daemon
                .wait(mark, "callStateChanged", |state| state.text(1) == call && state.text(2) == "OVER")
                .await?;
            steps.say("its call was refused");
            us.run(&["contact", "ban", daemon.uri()], false, "contact").await?;
            online.next("contact", LIMIT, |contact| contact["state"] == "banned").await?;
            daemon.send_text(&own, "anybody there?").await?;
            let heard = online.next("text", Duration::from_secs(3), |_| true).await;
            ensure!(heard.is_err(), "it was heard: {heard:?}");
            steps.say(format_args!("the sum:\n{steps}"));
            Ok(())
        })
    })
}

#[test]
fn program_devices() -> Result<()> {
    let program = program()?;
    Lab::run(|lab| {
        Box::pin(async move {
            let mut steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            let bootstrap = lab.bootstrap().to_string();
            let person = |name: &str| Person {
                program: program.clone(),
                home: lab.dir().join(name),
                bootstrap: bootstrap.clone(),
            };
            daemon
                .add_account(&[
                    ("Account.archivePassword", "our secret"),
                    ("Account.archiveHasPassword", "true"),
                ])
                .await?;

            // This program becomes a further device of the daemon's account.
            let (file, secret) = (lab.dir().join("theirs.gz"), lab.dir().join("secret"));
            std::fs::write(&secret, "our secret\n")?;
            daemon.export(&file, "our secret").await?;
            let text = |path: &Path| path.to_str().map(str::to_owned).context("paths are text here");
            let (file, secret) = (text(&file)?, text(&secret)?);
            let us = person("further");
            let (mark, begun) = (daemon.mark(), Instant::now());
            let import = ["account", "import", &file, "--key-size", "2048", "--password-file", &secret];
            let imported = us.run(&import, false, "imported").await?;
            ensure!(imported["account"] == daemon.uri(), "{imported}");
            let mut online = us.online().await?;
            let device = imported["device"].as_str().context("an id")?.to_owned();
            daemon.wait(mark, "knownDevicesChanged", |known| !known.member(1, &device).is_empty()).await?;
            steps.took("program-jamid", "account import -> known to the daemon", begun);
            online.next("own_device", LIMIT, |own| own["device"] == daemon.device()).await?;

            // And the daemon one of ours, until it is revoked.
            let ours = person("ours");
            ours.run(&["account", "create", "--key-size", "2048"], false, "created").await?;
            let mut online = ours.online().await?;
            let file = text(&lab.dir().join("ours.gz"))?;
            ours.run(&["account", "export", &file, "--password-file", &secret], false, "exported").await?;
            let mut second = lab.jamid("b").await?;
            let begun = Instant::now();
            second
                .add_account(&[("Account.archivePath", &file), ("Account.archivePassword", "our secret")])
                .await?;
            online.next("own_device", LIMIT, |own| own["device"] == second.device()).await?;
            steps.took("program-jamid", "account export, imported -> shown", begun);
            let revoked = ours.run(&["account", "revoke", second.device()], true, "device_revoked").await?;
            ensure!(revoked["published_on"].as_u64() >= Some(1), "{revoked}");
            let seen = ours.run(&["presence", second.uri()], true, "presence").await?;
            let left = seen["devices"].as_array().context("a list")?;
            ensure!(left.iter().all(|device| device["device"] != second.device()), "{seen}");
            steps.say(format_args!("the sum:\n{steps}"));
            Ok(())
        })
    })
}
