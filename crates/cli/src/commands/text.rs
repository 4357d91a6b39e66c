//! `towline text`: lines of text to all devices of an account.

use std::io::BufRead as _;

use tokio::sync::mpsc;
use towline::signal::RefusalReason;
use towline::sip::{DeviceError, TextError, TextOptions, Texts, media};
use towline::{AccountId, ConnectError};

use crate::args::Text;
use crate::event::{AccountEvent, TextFailure};
use crate::failure::Failure;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::running::Running;
use crate::text::milliseconds;

/// Longest line that is read, in bytes. What of it can be sent, the protocol says.
const LONGEST: u64 = 1 << 20;
/// Lines that are read ahead.
const LINES: usize = 16;

pub(crate) async fn run(args: Text, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    let display = home.profile()?.map(|card| card.name).filter(|name| !name.is_empty());
    let running = Running::passing(&home, &args.network, args.timeout, output).await?;
    running
        .run(&interrupt, async |running| {
            let id = args.account.resolve(&running.account().contacts())?;
            if running.account().contacts().get(id).is_some_and(|contact| contact.banned) {
                return Err(Failure::Usage(format!(
                    "{id} is banned here: see `towline contact unban`, and the file `trust` of the home directory"
                )));
            }
            if running.account().is_revoked() {
                return Err(Failure::Local(
                    "this device is revoked by its account: contacts refuse it".to_owned(),
                ));
            }
            running.joined().await?;
            let options = TextOptions { display, patience: args.timeout, ..TextOptions::default() };
            let texts = Texts::start_with(running.account(), options)
                .map_err(|error| Failure::Internal(error.to_string()))?;
            if let Some(text) = &args.line {
                return send(&texts, id, text, output).await;
            }
            let mut lines = lines();
            let mut result = Ok(());
            while let Some(line) = lines.recv().await {
                let line =
                    line.map_err(|error| Failure::Local(format!("cannot read the standard input: {error}")))?;
                if line.is_empty() {
                    continue;
                }
                if let Err(failure) = send(&texts, id, &line, output).await {
                    // The next one may fare better; whether all did, the exit code tells.
                    let (account, reason) = (id.to_string(), failure.to_string());
                    output.say(&AccountEvent::TextFailed { account, reason }.into());
                    result = Err(failure);
                }
            }
            result
        })
        .await
}

async fn send(texts: &Texts, id: AccountId, text: &str, output: &Output) -> Result<(), Failure> {
    let began = towline::net::now();
    let delivery = texts.send(id, media::TEXT, text).await.map_err(|error| text_failure(&error))?;
    output.say(
        &AccountEvent::TextSent {
            account: id.to_string(),
            message_id: format!("{:016x}", delivery.message_id),
            devices: delivery.delivered.iter().map(ToString::to_string).collect(),
            failed: delivery
                .failed
                .iter()
                .map(|(device, error)| TextFailure { device: device.to_string(), reason: error.to_string() })
                .collect(),
            ms: milliseconds(began.elapsed()),
        }
        .into(),
    );
    Ok(())
}

/// Why nobody has the text. A refusal tells more than silence.
fn text_failure(error: &TextError) -> Failure {
    match error {
        TextError::TooLong { .. } | TextError::ContentType => Failure::Usage(error.to_string()),
        TextError::Closed => Failure::Internal(error.to_string()),
        TextError::Unreachable(devices) => {
            let failures = devices.iter().map(|(device, error)| match error {
                DeviceError::Connect(ConnectError::Refused(RefusalReason::NotAllowed)) => Failure::Refused(format!(
                    "{device:.8} takes no texts of strangers: ask it to become a contact with `towline contact add`"
                )),
                DeviceError::Connect(error) => Failure::connecting(error, None),
                DeviceError::Refused(_) => Failure::Refused(format!("{device:.8}: {error}")),
                error => {
                    Failure::Unreachable { step: "text".to_owned(), message: format!("{device:.8}: {error}") }
                }
            });
            let failures: Vec<Failure> = failures.collect();
            let refused = failures.iter().position(|failure| matches!(failure, Failure::Refused(_)));
            failures.into_iter().nth(refused.unwrap_or(0)).unwrap_or_else(|| nobody(error))
        }
        error => nobody(error),
    }
}

fn nobody(error: &TextError) -> Failure {
    Failure::Unreachable { step: "devices".to_owned(), message: error.to_string() }
}

/// The lines of the standard input, read by a thread of its own, which may stay in the read until the process ends.
fn lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (read, lines) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let line = read_line(&mut input);
            let last = !matches!(&line, Ok(Some(_)));
            if line.transpose().is_some_and(|line| read.blocking_send(line).is_err()) || last {
                return;
            }
        }
    });
    lines
}

fn read_line(input: &mut impl std::io::BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let length = std::io::Read::take(&mut *input, LONGEST).read_until(b'\n', &mut line)?;
    if length == 0 {
        return Ok(None);
    }
    if length as u64 == LONGEST && !line.ends_with(b"\n") {
        return Err(std::io::Error::other(format!("a line is longer than {LONGEST} bytes")));
    }
    let line = String::from_utf8_lossy(&line);
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}
