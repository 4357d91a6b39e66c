//! `towline account show`.

use crate::args::Show;
use crate::event::{AccountEvent, AccountShown};
use crate::failure::Failure;
use crate::home::{AccountKey, Home};
use crate::output::Output;

pub(super) fn run(args: &Show, output: &Output) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    let identity = home.identity()?;
    let contacts = home.contacts_file().load()?;
    let revocations = home.revocations(&identity)?;
    let own = identity.chain().account().expect("an identity of a home has an account");
    let revoked = revocations.lists_of(own).iter().map(|list| list.serials().len()).max().unwrap_or(0);
    let shown = AccountShown {
        home: home.path().to_owned(),
        device: identity.device_id().to_string(),
        short_id: identity.short_id().to_string(),
        account: own.short_id().to_string(),
        display_name: home.profile()?.map(|card| card.name).unwrap_or_default(),
        account_key: match home.account_key_state() {
            AccountKey::Absent => "none",
            AccountKey::Open => "open",
            AccountKey::Sealed => "encrypted",
        }
        .to_owned(),
        receipt: home.receipt(&identity)?.is_some(),
        own_devices: contacts.own_devices().map(|device| device.to_string()).collect(),
        revoked,
        contacts: contacts.active().count(),
        requests: contacts.requests().count(),
        banned: contacts.iter().filter(|(_, contact)| contact.banned).count()
            + contacts.banned_devices().count(),
    };
    output.say(&AccountEvent::Account(Box::new(shown)).into());
    Ok(())
}
