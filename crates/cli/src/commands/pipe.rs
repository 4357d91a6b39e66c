//! `towline pipe`: standard input and output through a channel of another device.

use towline::ConnectionPolicy;

use super::streams::{Input, join};
use crate::args::{Pipe, limit_steps};
use crate::event::Event;
use crate::failure::Failure;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::{Role, Session};
use crate::text::milliseconds;

pub(crate) async fn run(args: Pipe, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let identity = Home::find(&args.home)?.identity()?;
    let mut config = args.network.passing_config(ConnectionPolicy::RefuseAll);
    limit_steps(&mut config, args.dial.timeout);
    let session = Session::start(identity, config, Role::Dialling, output).await?;
    session
        .run(&interrupt, async |session| {
            session.dial(args.device).await?;
            let began = towline::net::now();
            let channel = session.node().connect(args.device, &args.name).await;
            let channel = channel.map_err(|error| session.explain(&error))?;
            output.say(&Event::ChannelOpened {
                connection: channel.connection().to_string(),
                name: args.name.clone(),
                device: args.device.to_string(),
                opened_here: true,
                ms: milliseconds(began.elapsed()),
            });
            let passed = join(channel, &mut Input::new()).await?;
            output.say(&Event::ChannelClosed {
                name: args.name.clone(),
                sent: passed.sent,
                received: passed.received,
            });
            Ok(())
        })
        .await
}
