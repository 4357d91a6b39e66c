//! `towline account create` and `towline init`: a new account with its first device.

use towline::account::vcard::VCard;
use towline::identity::GenerateOptions;

use super::{KEY_VARIABLE, blocking};
use crate::args::{Create, key_size};
use crate::event::Event;
use crate::failure::Failure;
use crate::home::{self, Home};
use crate::output::Output;
use crate::password::Source;
use crate::text::milliseconds;

pub(crate) async fn run(args: Create, output: &Output) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    // Before the work, so that nobody waits for an answer that is known.
    home.check_free(args.force)?;
    let source = Source {
        of: "the account's keys",
        file: args.password_file.as_deref(),
        option: "--password-file",
        variable: KEY_VARIABLE,
    };
    let password = source.given()?;
    let key_size = key_size(&args.key_size);
    let options =
        GenerateOptions { key_size, device_name: args.name, ..GenerateOptions::new(home::unix_time()) };
    let profile = args.display_name.map(VCard::named);
    let began = towline::net::now();
    let (home, hierarchy) = blocking(move || {
        let hierarchy = home::generate(&options)?;
        let password = password.as_ref().map(|text| text.as_str());
        home.create_first(&hierarchy, profile.as_ref(), password, args.force)?;
        Ok((home, hierarchy))
    })
    .await?;
    let device = &hierarchy.device;
    output.say(&Event::Created {
        home: home.path().to_owned(),
        device: device.device_id().to_string(),
        short_id: device.short_id().to_string(),
        account: hierarchy.account.short_id().to_string(),
        key_bits: key_size.bits(),
        ms: milliseconds(began.elapsed()),
    });
    output.remark(
        "Give the device id to those who shall reach you, or the account to those who shall be contacts.",
    );
    Ok(())
}
