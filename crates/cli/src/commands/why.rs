//! `towline why`: how a device is reached, or why it is not.

use std::time::Duration;

use futures_util::future::join_all;
use towline::{Cause, ConnectError, ConnectionPolicy};

use crate::args::{Why, limit_steps};
use crate::event::{Event, WhyEvent};
use crate::failure::Failure;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::known::Known;
use crate::output::Output;
use crate::reach::{Device, summary};
use crate::session::{Role, Session, banned};

/// How often is looked what the attempt looks like so far.
const LOOK: Duration = Duration::from_millis(250);
/// How long other paths get to show themselves once one stands.
const OTHERS: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Why, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
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
            let devices = session.devices(&args.device, output).await?;
            let looks = devices.iter().map(|device| look(session, device, output));
            let (reached, failures): (Vec<_>, Vec<_>) =
                join_all(looks).await.into_iter().partition(Result::is_ok);
            let failures: Vec<Failure> = failures.into_iter().filter_map(Result::err).collect();
            if reached.is_empty() { Err(summary(failures)) } else { Ok(()) }
        })
        .await
}

/// Dials a device and tells what comes of it.
async fn look(session: &Session, meant: &Device, output: &Output) -> Result<(), Failure> {
    let (node, device) = (session.node(), meant.id);
    if device == node.device() {
        return Err(session.explain(device, &ConnectError::OwnDevice(device)).await);
    }
    // If it is not found so, the dial says why.
    let _ = session.find_announced(meant).await;
    if session.is_banned(device).await == Ok(true) {
        return Err(banned(device));
    }
    let dial = node.dial(device);
    tokio::pin!(dial);
    let mut said: Vec<Cause> = Vec::new();
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut dial => break outcome,
            () = tokio::time::sleep(LOOK) => {}
        }
        if let Some(report) = node.report(device).await
            && report.causes != said
        {
            output.say(&Event::Why(WhyEvent::so_far(&report)));
            said = report.causes;
        }
    };
    if outcome.is_ok() {
        tokio::time::sleep(OTHERS).await;
    }
    if let Some(report) = node.report(device).await {
        output.say(&Event::Why(WhyEvent::report(&report)));
    }
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => Err(session.explain(device, &error).await),
    }
}
