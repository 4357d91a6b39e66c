//! `towline init`: a new account with its first device.

use towline::identity::{GenerateOptions, KeySize};

use crate::args::Init;
use crate::event::Event;
use crate::failure::Failure;
use crate::home::{self, Home};
use crate::output::Output;
use crate::text::milliseconds;

pub(crate) async fn run(args: Init, output: &Output) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    // Before the work, so that nobody waits for an answer that is known.
    home.check_free(args.force)?;
    let key_size = match &*args.key_size {
        "2048" => KeySize::Rsa2048,
        "4096" => KeySize::Rsa4096,
        _ => KeySize::Rsa3072,
    };
    let options =
        GenerateOptions { key_size, device_name: args.name, ..GenerateOptions::new(home::unix_time()) };
    let began = towline::net::now();
    let made = tokio::task::spawn_blocking(move || {
        let hierarchy = home::generate(&options)?;
        home.create(&hierarchy, args.force)?;
        Ok((home, hierarchy))
    });
    let (home, hierarchy) =
        made.await.map_err(|error| Failure::Internal(format!("making the keys broke off: {error}")))??;
    let device = &hierarchy.device;
    output.say(&Event::Created {
        home: home.path().to_owned(),
        device: device.device_id().to_string(),
        short_id: device.short_id().to_string(),
        account: hierarchy.account.short_id().to_string(),
        key_bits: key_size.bits(),
        ms: milliseconds(began.elapsed()),
    });
    output.remark("Give the device id to those who shall reach you.");
    Ok(())
}
