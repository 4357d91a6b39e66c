//! `towline receive`: files from other devices.

use std::sync::Arc;

use tokio::task::JoinSet;
use towline::{Code, IncomingChannel};

use super::questions::Questions;
use crate::admission::Admission;
use crate::args::Receive;
use crate::event::Event;
use crate::failure::Failure;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::known::Known;
use crate::output::Output;
use crate::session::{Role, Session};
use crate::text::{self, milliseconds, printable};
use crate::transfer::receive::Offer;
use crate::transfer::{Folder, SCHEME, TransferError};

/// Files received or asked about at the same time; more are refused. One device sends 32 at most.
const AT_ONCE: usize = 128;

/// How an offer ended.
enum Outcome {
    Received,
    Failed,
    Declined,
}

/// What all transfers share.
struct Desk {
    folder: Folder,
    questions: Option<Questions>,
    output: Output,
}

pub(crate) async fn run(args: Receive, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    let identity = home.identity()?;
    let folder = Folder::open(&args.into).map_err(Failure::Local)?;
    let admission = Admission::with_questions(&args.admission, args.yes)?;
    let asks = matches!(admission, Admission::Asked);
    let known = Known::load(&home, &identity)?;
    let mut config = args.network.config(admission.policy(&identity, Some(&known)));
    config.revocations = known.revocations();
    config.treated_path = Some(home.treated());
    let session = Session::start(identity, config, Role::Reachable, output).await?;
    let session = session.knowing(Some(known), Role::Reachable, output);
    let questions = asks.then(|| Questions::new(output));
    let desk = Arc::new(Desk { folder, questions, output: output.clone() });
    let limit = if args.once { Some(1) } else { args.count };
    session.run(&interrupt, async |session| serve(session, &desk, limit).await).await
}

/// Takes files until `limit` of them have been received or have failed.
async fn serve(session: &Session, desk: &Arc<Desk>, limit: Option<u64>) -> Result<(), Failure> {
    let mut transfers = JoinSet::new();
    let (mut received, mut failed) = (0, 0);
    while limit.is_none_or(|limit| received + failed < limit) {
        tokio::select! {
            biased;
            Some(ended) = transfers.join_next() => match ended {
                Ok(Outcome::Received) => received += 1,
                Ok(Outcome::Failed) => failed += 1,
                Ok(Outcome::Declined) => {}
                Err(error) => return Err(Failure::Internal(format!("a transfer broke off: {error}"))),
            },
            incoming = session.node().incoming() => {
                let Some(incoming) = incoming else {
                    return Err(Failure::Internal("the node has ended".to_owned()));
                };
                let under_way = transfers.len() as u64;
                let enough = limit.is_some_and(|limit| received + failed + under_way >= limit);
                match objection(&incoming, enough, transfers.len()) {
                    None => drop(transfers.spawn(Arc::clone(desk).one(incoming))),
                    Some((code, why)) => desk.refuse(incoming, code, why).await,
                }
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Transfer(format!("{failed} of {} files were not received", received + failed))),
    }
}

/// Why a channel is not even listened to.
fn objection(incoming: &IncomingChannel, enough: bool, under_way: usize) -> Option<(Code, &'static str)> {
    if !incoming.name().starts_with(SCHEME) {
        Some((Code::Declined, "only files are received here"))
    } else if enough {
        Some((Code::Declined, "no more files are received here"))
    } else if under_way >= AT_ONCE {
        Some((Code::TooManyChannels, "too many files at the same time"))
    } else {
        None
    }
}

impl Desk {
    async fn refuse(&self, incoming: IncomingChannel, code: Code, why: &str) {
        self.output.say(&Event::ChannelRefused {
            name: incoming.name().to_owned(),
            device: incoming.peer().device.to_string(),
            reason: why.to_owned(),
        });
        incoming.refuse(code, why).await;
    }

    /// Deals with one file and says how it went.
    async fn one(self: Arc<Self>, incoming: IncomingChannel) -> Outcome {
        let device = incoming.peer().device.to_string();
        let mut name = incoming.name().strip_prefix(SCHEME).unwrap_or_default().to_owned();
        match self.transfer(incoming, &device, &mut name).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let reason = error.to_string();
                self.output.say(&Event::FileFailed { name, device, reason });
                Outcome::Failed
            }
        }
    }

    async fn transfer(
        &self,
        incoming: IncomingChannel,
        device: &str,
        name: &mut String,
    ) -> Result<Outcome, TransferError> {
        let device = device.to_owned();
        let account = incoming.peer().account.to_string();
        let channel = incoming.accept().await.map_err(|error| TransferError::Channel(error.to_string()))?;
        self.output.say(&Event::ChannelOpened {
            connection: channel.connection().to_string(),
            name: channel.name().to_owned(),
            device: device.clone(),
            opened_here: false,
            ms: 0.0,
        });
        let offer = Offer::read(channel).await?;
        name.clone_from(&offer.name);
        let (name, size) = (offer.name.clone(), offer.size);
        self.output.say(&Event::FileOffered {
            name: name.clone(),
            bytes: size,
            device: device.clone(),
            account: account.clone(),
        });
        if !self.wanted(&name, size, &device, &account).await {
            offer.decline("the user does not want it").await;
            self.output.say(&Event::FileDeclined { name, device });
            return Ok(Outcome::Declined);
        }
        let received = offer.accept(&self.folder, &self.output).await?;
        self.output.say(&Event::FileReceived {
            name,
            path: received.path,
            device,
            bytes: size,
            ms: milliseconds(received.time),
            blake3: received.hash.to_string(),
        });
        Ok(Outcome::Received)
    }

    async fn wanted(&self, name: &str, size: u64, device: &str, account: &str) -> bool {
        let Some(questions) = &self.questions else { return true };
        let question = format!(
            "Device  {device}\nAccount {account}\nwants to send {} ({}). Receive it?",
            printable(name),
            text::bytes(size)
        );
        questions.yes(&question).await
    }
}
