//! `towline account add-device`: a home directory for a further device.

use towline::account::contacts::Contacts;
use towline::account::receipt::Receipt;
use towline::account::vcard::VCard;
use towline::identity::{Identity, PrivateKey, Validity};

use super::{account, blocking, key_source};
use crate::args::{AddDevice, key_size};
use crate::event::AccountEvent;
use crate::failure::Failure;
use crate::home::{Home, KeyFault, NewHome, unix_time, usable};
use crate::output::Output;
use crate::password::Password;
use crate::text::milliseconds;

/// What a further device gets from its account.
pub(super) struct Plan {
    pub(super) account: Identity,
    /// The keys it shall have besides its own: that of the account, maybe of the authority, and the password for them.
    pub(super) keys: Option<(Option<PrivateKey>, Option<Password>)>,
    pub(super) name: String,
    pub(super) key_size: String,
    pub(super) profile: Option<VCard>,
    pub(super) contacts: Contacts,
    pub(super) replace: bool,
}

impl Plan {
    /// Makes the device's key, certificate and directory. Takes about a second.
    pub(super) fn carry_out(&self, home: &Home) -> Result<Identity, Failure> {
        let now = unix_time();
        usable(self.account.chain(), now)?;
        let failed =
            |error: &dyn std::fmt::Display| Failure::Internal(format!("cannot make the device: {error}"));
        let key = PrivateKey::generate(key_size(&self.key_size)).map_err(|error| failed(&error))?;
        let mut validity = Validity::ten_years_from(now);
        // It counts no longer than what signed it.
        for above in self.account.chain().certificates() {
            validity.not_after = validity.not_after.min(above.validity().not_after);
        }
        let device = self.account.issue_device(key, &self.name, validity).map_err(|error| failed(&error))?;
        let receipt = Receipt::make(&self.account, device.key().public());
        let keys = self.keys.as_ref().map(|(authority, password)| {
            (self.account.key(), authority.as_ref(), password.as_ref().map(|text| text.as_str()))
        });
        home.create(
            &NewHome {
                device: &device,
                receipt: &receipt,
                account: keys,
                profile: self.profile.as_ref(),
                contacts: Some(&self.contacts),
            },
            self.replace,
        )?;
        Ok(device)
    }
}

pub(super) async fn run(args: AddDevice, output: &Output) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    let this = home.identity()?;
    let new = Home::at(&args.directory);
    new.check_free(false)?;
    let (account, password) = account(&home, &this, key_source(&args.password), output).await?;
    let began = towline::net::now();
    let (home, new, device, name) = blocking(move || {
        let keys = if args.with_account_key {
            let authority = home.authority_key(password.as_ref().map(|text| text.as_str()));
            let authority = authority.map_err(|fault| match fault {
                KeyFault::Failure(failure) => failure,
                KeyFault::PasswordNeeded | KeyFault::WrongPassword => {
                    Failure::Local("authority.key is under another password than account.key".to_owned())
                }
            })?;
            Some((authority, password))
        } else {
            None
        };
        let plan = Plan {
            account,
            keys,
            name: args.name.clone(),
            key_size: args.key_size,
            profile: home.profile()?,
            contacts: home.contacts_file().load()?,
            replace: false,
        };
        let device = plan.carry_out(&new)?;
        home.share_with(&new)?;
        Ok((home, new, device, args.name))
    })
    .await?;
    if let Err(error) = home.keep_certificate(device.chain()) {
        // It can be had from the other device, too.
        tracing::warn!(%error, "the certificate of the new device is not kept here");
    }
    output.say(
        &AccountEvent::DeviceAdded {
            home: new.path().to_owned(),
            device: device.device_id().to_string(),
            short_id: device.short_id().to_string(),
            account: device.account_id().map(|id| id.to_string()).unwrap_or_default(),
            name,
            ms: milliseconds(began.elapsed()),
        }
        .into(),
    );
    output.remark("Carry the directory to that device and keep no copy: it has the device's key.");
    Ok(())
}
