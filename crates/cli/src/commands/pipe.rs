//! `towline pipe`: standard input and output through a channel of another device.

use towline::ConnectionPolicy;

use super::streams::{Input, Manner, join};
use crate::args::{Pipe, limit_steps};
use crate::event::Event;
use crate::failure::Failure;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::known::Known;
use crate::output::Output;
use crate::session::{Role, Session};
use crate::text::milliseconds;

pub(crate) async fn run(args: Pipe, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    let identity = home.identity()?;
    let known = Known::load(&home, &identity)?;
    let mut config = args.network.passing_config(ConnectionPolicy::RefuseAll);
    config.revocations = known.revocations();
    limit_steps(&mut config, args.dial.timeout);
    let session = Session::start(identity, config, Role::Dialling, output).await?;
    let session = session.knowing(Some(known), Role::Dialling, output);
    let manner = Manner { linger: Manner::LINGER, last_on_stdout: true, ends_idle: false };
    session
        .run(&interrupt, async |session| {
            let (channel, took) = session.open(&args.device, &args.name, output).await?;
            output.say(&Event::ChannelOpened {
                connection: channel.connection().to_string(),
                name: args.name.clone(),
                device: channel.peer().device.to_string(),
                opened_here: true,
                ms: milliseconds(took),
            });
            let passed = join(channel, &mut Input::new(), manner).await?;
            output.say(&Event::ChannelClosed {
                name: args.name.clone(),
                sent: passed.sent,
                received: passed.received,
            });
            Ok(())
        })
        .await
}
