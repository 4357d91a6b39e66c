//! `towline send`: files to a device, all at the same time on one connection.

use futures_util::future;
use towline::{ConnectionPolicy, DeviceId};

use crate::args::{Send, limit_steps};
use crate::event::Event;
use crate::failure::Failure;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::known::Known;
use crate::output::Output;
use crate::session::{Role, Session};
use crate::text::milliseconds;
use crate::transfer::send::send;
use crate::transfer::{Source, TransferError};

/// Files sent at the same time; a limit on open files. More wait for their turn.
const AT_ONCE: usize = 32;

pub(crate) async fn run(args: Send, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    // Everything that can be wrong here is found out before anybody is disturbed.
    for path in &args.files {
        Source::open(path).map_err(Failure::Local)?;
    }
    let home = Home::find(&args.home)?;
    let identity = home.identity()?;
    let known = Known::load(&home, &identity)?;
    let mut config = args.network.passing_config(ConnectionPolicy::RefuseAll);
    config.revocations = known.revocations();
    limit_steps(&mut config, args.dial.timeout);
    let session = Session::start(identity, config, Role::Dialling, output).await?;
    let session = session.knowing(Some(known), Role::Dialling, output);
    session
        .run(&interrupt, async |session| {
            let device = session.reach(&args.to, output).await?;
            let places = tokio::sync::Semaphore::new(AT_ONCE);
            let transfers = args.files.iter().map(async |path| {
                let _place = places.acquire().await.expect("it is never closed");
                one(session, device, path, output).await
            });
            summary(session, device, future::join_all(transfers).await).await
        })
        .await
}

/// Sends one file and says how it went.
async fn one(
    session: &Session,
    device: DeviceId,
    path: &std::path::Path,
    output: &Output,
) -> Result<(), TransferError> {
    let source = Source::open(path).map_err(TransferError::Local)?;
    let (name, bytes) = (source.name.clone(), source.size);
    let result = send(session.node(), device, source, output).await;
    let device = device.to_string();
    output.say(&match &result {
        Ok(sent) => Event::FileSent {
            name,
            path: path.to_owned(),
            device,
            bytes,
            ms: milliseconds(sent.time),
            blake3: sent.hash.to_string(),
        },
        Err(error) => Event::FileFailed { name, device, reason: error.to_string() },
    });
    result.map(drop)
}

/// One failure for all files. What broke counts more than what was declined.
async fn summary(
    session: &Session,
    device: DeviceId,
    results: Vec<Result<(), TransferError>>,
) -> Result<(), Failure> {
    let all = results.len();
    let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    let Some(first) = failed.first() else { return Ok(()) };
    let message = match all {
        1 => format!("the file was not sent: {first}"),
        _ => format!("{} of {all} files were not sent; the first: {first}", failed.len()),
    };
    let explained = async |error: &TransferError| match error {
        TransferError::Declined(why) => Failure::Refused(why.clone()),
        TransferError::Connect(error) => session.explain(device, error).await,
        error => Failure::Transfer(error.to_string()),
    };
    let failures: Vec<_> = future::join_all(failed.iter().map(explained)).await;
    let all_are = |code: fn(&Failure) -> bool| failures.iter().all(code);
    Err(if all_are(|failure| matches!(failure, Failure::Refused(_))) {
        Failure::Refused(message)
    } else if all_are(|failure| matches!(failure, Failure::Unreachable { .. })) {
        failures.into_iter().next().expect("something failed")
    } else {
        Failure::Transfer(message)
    })
}
