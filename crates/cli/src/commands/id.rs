//! `towline id`: who this device is.

use crate::args::Id;
use crate::event::Event;
use crate::failure::Failure;
use crate::home::Home;
use crate::output::Output;
use crate::session::identity_event;

pub(crate) fn run(args: &Id, output: &Output) -> Result<(), Failure> {
    let identity = Home::find(&args.home)?.identity()?;
    let event = if args.certificate {
        Event::Certificate { pem: identity.chain().pack() }
    } else {
        identity_event(&identity)
    };
    output.say(&event);
    Ok(())
}
