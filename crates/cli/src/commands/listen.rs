//! `towline listen`: waits for a channel and joins it to standard input and output.

use towline::{Channel, Code, IncomingChannel};

use super::streams::{Input, Manner, join};
use crate::admission::Admission;
use crate::args::Listen;
use crate::event::Event;
use crate::failure::Failure;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::known::Known;
use crate::output::Output;
use crate::session::{Role, Session};

pub(crate) async fn run(args: Listen, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    let identity = home.identity()?;
    let known = Known::load(&home, &identity)?;
    let policy = Admission::without_questions(&args.admission).policy(&identity, Some(&known));
    let mut config = args.network.config(policy);
    config.revocations = known.revocations();
    config.treated_path = Some(home.treated());
    let session = Session::start(identity, config, Role::Reachable, output).await?;
    let session = session.knowing(Some(known), Role::Reachable, output);
    session
        .run(&interrupt, async |session| {
            let mut input = Input::new();
            loop {
                let channel = wait(session, &args.name, output).await?;
                let result = serve(session, channel, &args, &mut input, output).await;
                if !args.keep {
                    return result;
                }
                if let Err(failure) = result {
                    // The next one may fare better.
                    tracing::warn!(%failure, "a channel failed");
                }
            }
        })
        .await
}

/// The next channel of the right name.
async fn wait(session: &Session, name: &str, output: &Output) -> Result<Channel, Failure> {
    loop {
        let incoming = next(session).await?;
        if incoming.name() != name {
            refuse(incoming, Code::Declined, "nobody waits for a channel of this name", output).await;
            continue;
        }
        match incoming.accept().await {
            Ok(channel) => return Ok(channel),
            Err(error) => tracing::warn!(%error, "a channel was gone before it was accepted"),
        }
    }
}

/// Joins one channel; others are refused meanwhile.
async fn serve(
    session: &Session,
    channel: Channel,
    args: &Listen,
    input: &mut Input,
    output: &Output,
) -> Result<(), Failure> {
    let name = &args.name;
    let manner = Manner { linger: Manner::LINGER, last_on_stdout: !args.keep, ends_idle: false };
    output.say(&Event::ChannelOpened {
        connection: channel.connection().to_string(),
        name: name.clone(),
        device: channel.peer().device.to_string(),
        opened_here: false,
        ms: 0.0,
    });
    let others = async {
        loop {
            refuse(next(session).await?, Code::TooManyChannels, "another channel is in use", output).await;
        }
    };
    let passed = tokio::select! {
        biased;
        passed = join(channel, input, manner) => passed?,
        ended = others => {
            let failure: Result<std::convert::Infallible, Failure> = ended;
            match failure {
                Err(failure) => return Err(failure),
            }
        }
    };
    let name = name.clone();
    output.say(&Event::ChannelClosed { name, sent: passed.sent, received: passed.received });
    Ok(())
}

async fn next(session: &Session) -> Result<IncomingChannel, Failure> {
    let incoming = session.node().incoming().await;
    incoming.ok_or_else(|| Failure::Internal("the node has ended".to_owned()))
}

async fn refuse(incoming: IncomingChannel, code: Code, why: &str, output: &Output) {
    output.say(&Event::ChannelRefused {
        name: incoming.name().to_owned(),
        device: incoming.peer().device.to_string(),
        reason: why.to_owned(),
    });
    incoming.refuse(code, why).await;
}
