//! The side that asks: standard input and output through a service of another device.

use towline::ConnectionPolicy;

use super::settings::Settings;
use crate::args::limit_steps;
use crate::commands::streams::{Input, Manner, join};
use crate::event::Event;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::{Role, Session};
use crate::text::milliseconds;

pub(super) async fn run(settings: Settings, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let service = settings.target()?;
    let known = settings.known()?;
    let remote = settings.remote.ok_or_else(|| Failure::Usage("which device?".to_owned()))?;
    // Nobody may connect to us, other than to a client of dnc.
    let mut config = settings.network.passing_config(ConnectionPolicy::RefuseAll);
    limit_steps(&mut config, settings.timeout);
    config.revocations = known.as_ref().map(|known| known.revocations()).unwrap_or_default();
    let session = Session::start(settings.identity, config, Role::Dialling, output).await?;
    let session = session.knowing(known, Role::Dialling, output);
    let manner = Manner { linger: settings.linger, last_on_stdout: true, ends_idle: true };
    session
        .run(&interrupt, async |session| {
            let name = service.channel();
            let (channel, took) = session.open(&remote, &name, output).await?;
            output.say(&Event::ChannelOpened {
                connection: channel.connection().to_string(),
                name: name.clone(),
                device: channel.peer().device.to_string(),
                opened_here: true,
                ms: milliseconds(took),
            });
            let passed = join(channel, &mut Input::new(), manner).await?;
            output.say(&Event::ChannelClosed { name, sent: passed.sent, received: passed.received });
            Ok(())
        })
        .await
}
