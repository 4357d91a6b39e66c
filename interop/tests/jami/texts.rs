//! What the daemon does with texts: of all types, of the greatest length, twice, and without a channel.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use interop::jami::{Jamid, Lab, Signal, Steps};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::Channel;
use towline::sip::{CHANNEL, TextError, media};

use crate::ours::{Ours, Setup, account_of, soon};

const TYPED: &str = "<isComposing><state>active</state></isComposing>";

/// One of each type, from the daemon.
async fn every_type(us: &Ours, daemon: &Jamid) -> Result<()> {
    for (kind, text) in [
        (media::TEXT, "é中\nsecond line"),
        (media::COMPOSING, TYPED),
        (media::COMMIT, r#"{"id":"0","commit":"0","deviceId":"0"}"#),
        ("application/x-unheard-of", "{}"),
    ] {
        let payloads = HashMap::from([(kind, text)]);
        daemon.configuration("sendTextMessage", &(daemon.account(), us.uri(), payloads)).await?;
        let got = soon(kind, us.texts.next()).await?.context("the account runs")?;
        ensure!((&*got.content_type, &got.body[..]) == (kind, text.as_bytes()), "{got:?}");
        ensure!(got.message_id.is_some_and(|id| id.len() == 16), "it has an id");
    }
    Ok(())
}

/// The longest text that a message holds arrives, one byte more is not sent.
async fn longest(us: &Ours, daemon: &Jamid) -> Result<usize> {
    let account = account_of(daemon)?;
    let error = us.texts.send(account, media::TEXT, "x".repeat(8000)).await;
    let Err(TextError::TooLong { length, max }) = error else { anyhow::bail!("{error:?}") };
    let longest = 8000 - (length - max);
    ensure!(us.texts.send(account, media::TEXT, "x".repeat(longest + 1)).await.is_err());
    let mark = daemon.mark();
    us.texts.send(account, media::TEXT, "x".repeat(longest)).await?;
    let got = daemon.wait(mark, "incomingAccountMessage", |text| text.text(1) == us.uri()).await?;
    ensure!(got.member(3, media::TEXT).len() == longest, "{got:?}");
    Ok(longest)
}

/// Writes a message by hand; the first line of the answer.
async fn write(channel: &mut Channel, us: &Ours, branch: u32, id: &str, text: &str) -> Result<String> {
    let us = us.uri();
    let message = format!(
        "MESSAGE sip:x@ring.dht SIP/2.0\r\nVia: SIP/2.0/TLS 10.0.0.1:1;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:{us}@ring.dht>;tag=1\r\nTo: <sip:x@ring.dht>\r\nCall-ID: {branch}\r\nCSeq: 1 MESSAGE\r\n\
         Message-ID: {id}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    channel.write_all(message.as_bytes()).await?;
    let mut answer = vec![0; 2000];
    let length = soon("an answer", channel.read(&mut answer)).await??;
    let answer = String::from_utf8_lossy(&answer[..length]);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// A text that comes twice with one id is told once, so that ours may be sent again when a channel is lost.
async fn twice(us: &Ours, daemon: &Jamid) -> Result<()> {
    let device = us.device_of(account_of(daemon)?).await?;
    let mut channel = us.account.node().connect(device, CHANNEL).await?;
    let mark = daemon.mark();
    for (branch, id, text) in
        [(1, "00000000000000aa", "one"), (2, "00000000000000aa", "one"), (3, "ab", "two")]
    {
        let answer = write(&mut channel, us, branch, id, text).await?;
        ensure!(answer == "SIP/2.0 200 OK", "{answer}");
    }
    let second = |got: &Signal| got.member(3, media::TEXT) == "two";
    daemon.wait(mark, "incomingAccountMessage", second).await?;
    let told = daemon.signals().since(mark);
    let told = told.iter().filter(|signal| signal.name == "incomingAccountMessage").count();
    ensure!(told == 2, "{told} texts were told");
    Ok(())
}

/// Without a channel the daemon leaves its text in the inbox on the DHT. It is told once, and the daemon learns of it.
async fn without_a_channel(steps: &mut Steps, us: &Ours, daemon: &Jamid) -> Result<()> {
    for text in ["first in the inbox", "second in the inbox"] {
        us.account.node().close_with(account_of(daemon)?).await;
        let (mark, sent) = (daemon.mark(), Instant::now());
        let number = daemon.send_text(&us.uri(), text).await?.to_string();
        let got = soon("a text from the inbox", us.texts.next()).await?.context("the account runs")?;
        ensure!(got.body == text.as_bytes(), "{got:?}");
        ensure!(got.peer.account == account_of(daemon)?, "{got:?}");
        steps.took("jamid-Towline", "text: no channel, told", sent);
        let known = |status: &Signal| status.text(3) == number && status.number(4) == 2;
        let known = daemon.wait(mark, "accountMessageStatusChanged", known).await?;
        steps.record("jamid-Towline", "text: no channel, sender knows", known.at - sent);
    }
    let more = tokio::time::timeout(Duration::from_secs(3), us.texts.next()).await;
    ensure!(more.is_err(), "it came again: {more:?}");
    Ok(())
}

#[test]
fn texts_of_all_sorts() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let mut steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;
            let us = Ours::start(lab, Setup::default()).await?;
            us.befriend(&daemon).await?;
            us.texts.send(account_of(&daemon)?, media::TEXT, "hello").await?;
            every_type(&us, &daemon).await?;
            steps.say("texts of every type arrived");
            let longest = longest(&us, &daemon).await?;
            steps.say(format_args!("the longest text has {longest} bytes"));
            twice(&us, &daemon).await?;
            steps.say("a text that comes twice is told once");
            without_a_channel(&mut steps, &us, &daemon).await?;
            us.account.shutdown().await;
            steps.say(format_args!("the sum:\n{steps}"));
            Ok(())
        })
    })
}
