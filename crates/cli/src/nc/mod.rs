//! `towline nc`: TCP services of other devices through channels, on the wire of dhtnet's `dnc`.

mod client;
mod file;
mod forward;
mod listener;
pub(crate) mod service;
mod settings;

use crate::args::Nc;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;

use settings::Settings;

pub(crate) async fn run(args: Nc, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let (settings, output) = Settings::gather(args, output)?;
    if settings.listen {
        listener::run(settings, &output, interrupt).await
    } else {
        client::run(settings, &output, interrupt).await
    }
}
