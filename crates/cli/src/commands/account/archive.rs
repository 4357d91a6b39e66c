//! `towline account export` and `import`: Jami's `archive.gz`.

use std::path::Path;

use towline::account::archive::{Archive, ArchiveError, MAX_ARCHIVE_LEN};
use towline::account::vcard::{MAX_FIELD_LEN, VCard};

use super::device::Plan;
use super::{KEY_VARIABLE, account, blocking};
use crate::args::{Export, Import};
use crate::event::AccountEvent;
use crate::failure::Failure;
use crate::home::{self, Home, KeyFault};
use crate::output::Output;
use crate::password::{Password, Source};
use crate::text::milliseconds;

/// The member of the archive with the name that contacts see.
const DISPLAY_NAME: &str = "Account.displayName";
/// Nothing shorter is an archive, in bytes: salt, nonce and tag of an encrypted one.
const SHORTEST: usize = 16 + 12 + 16;

pub(super) async fn export(args: Export, output: &Output) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    let this = home.identity()?;
    if !args.force && args.file.symlink_metadata().is_ok() {
        return Err(Failure::Local(format!("{} exists; replace it with --force", args.file.display())));
    }
    // Often they are the same, as in Jami.
    let same = args.password_file.as_deref().filter(|_| std::env::var_os(KEY_VARIABLE).is_none());
    let of_key = Source {
        of: "the account's key",
        file: args.account_password_file.as_deref().or(same),
        option: "--account-password-file",
        variable: KEY_VARIABLE,
    };
    let (account, key_password) = account(&home, &this, of_key, output).await?;
    let password = if args.no_password {
        None
    } else {
        new_password(source(args.password_file.as_deref()), output).await?
    };
    let (path, force, encrypted) = (args.file, args.force, password.is_some());
    let (path, archive) = blocking(move || {
        // Without the key above the account's the archive is as good to others.
        let authority = home.authority_key(key_password.as_ref().map(|text| text.as_str()));
        let authority = match authority {
            Err(KeyFault::Failure(failure)) => return Err(failure),
            authority => authority.ok().flatten(),
        };
        let mut archive = Archive::new(account, authority);
        archive.contacts = home.contacts_file().load()?;
        let revocations = home.revocations(&this)?;
        archive.revocations = match revocations.lists_of(archive.account.chain().leaf()) {
            [] => None,
            [list] => Some(list.clone()),
            // Made by several devices that did not know of each other.
            lists => Some(archive.account.revoke(lists, &[], home::unix_time()).map_err(|error| {
                Failure::Local(format!("the revocation lists cannot be united: {error}"))
            })?),
        };
        if let Some(card) = home.profile()? {
            archive.set_text(DISPLAY_NAME, &card.name);
        }
        let sealed = archive
            .seal(password.as_ref().map(|text| text.as_str()))
            .map_err(|error| Failure::Local(format!("cannot make the archive: {error}")))?;
        home::write(&path, &sealed, force)
            .map_err(|error| Failure::Local(format!("{}: {error}", path.display())))?;
        Ok((path, archive))
    })
    .await?;
    output.say(
        &AccountEvent::Exported {
            path,
            account: archive.account.short_id().to_string(),
            encrypted,
            contacts: archive.contacts.active().count(),
        }
        .into(),
    );
    Ok(())
}

pub(super) async fn import(args: Import, output: &Output) -> Result<(), Failure> {
    let home = Home::find(&args.home)?;
    home.check_free(args.force)?;
    let (archive, password) = open(&args, output).await?;
    let name = archive.text(DISPLAY_NAME).filter(|name| !name.is_empty() && name.len() <= MAX_FIELD_LEN);
    let contacts = archive.contacts.active().count();
    let revocations = archive.revocations.clone();
    let began = towline::net::now();
    let plan = Plan {
        keys: (!args.device_only).then_some((archive.authority_key, password)),
        account: archive.account,
        name: args.name,
        key_size: args.key_size,
        profile: name.map(VCard::named),
        contacts: archive.contacts,
        replace: args.force,
    };
    let (home, device) = blocking(move || {
        let device = plan.carry_out(&home)?;
        if let Some(list) = revocations {
            home.keep_list(&plan.account, &list).map_err(|error| {
                Failure::Local(format!("cannot write to {}: {error}", home.path().display()))
            })?;
        }
        Ok((home, device))
    })
    .await?;
    output.say(
        &AccountEvent::Imported {
            home: home.path().to_owned(),
            device: device.device_id().to_string(),
            short_id: device.short_id().to_string(),
            account: device.account_id().map(|id| id.to_string()).unwrap_or_default(),
            contacts,
            ms: milliseconds(began.elapsed()),
        }
        .into(),
    );
    Ok(())
}

/// Reads the archive, and asks for its password if it has one that was not given.
async fn open(args: &Import, output: &Output) -> Result<(Archive, Option<Password>), Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Local(format!("{}: {error}", args.file.display()));
    let file = home::read(&args.file, MAX_ARCHIVE_LEN as u64).map_err(|error| wrong(&error))?;
    let file = file.ok_or_else(|| wrong(&"no such file"))?;
    if file.len() < SHORTEST {
        return Err(wrong(&"not an archive of an account"));
    }
    let source = source(args.password_file.as_deref());
    // A password that is not needed is not used for the keys either.
    let mut password = None;
    loop {
        let (bytes, with) = (file.clone(), password.clone());
        let opened =
            blocking(move || Ok(Archive::open(&bytes, with.as_ref().map(|text: &Password| text.as_str()))))
                .await?;
        match opened {
            Ok(archive) => return Ok((archive, password)),
            Err(ArchiveError::PasswordNeeded) => {
                let given = source.given()?;
                password = Some(match given {
                    Some(given) => given,
                    None => source.ask(output).await?,
                });
                if password.as_ref().is_some_and(|text| text.is_empty()) {
                    return Err(wrong(&ArchiveError::PasswordNeeded));
                }
            }
            Err(error) => return Err(wrong(&error)),
        }
    }
}

async fn new_password(source: Source<'_>, output: &Output) -> Result<Option<Password>, Failure> {
    if let Some(given) = source.given()? {
        return Ok(Some(given));
    }
    if source.file.is_some() {
        return Err(Failure::Usage("the password file is empty; say --no-password to use none".to_owned()));
    }
    source.ask_new(output).await.map_err(|failure| match failure {
        Failure::Usage(text) if text.contains("no terminal") => {
            Failure::Usage(format!("{text}, or say --no-password"))
        }
        other => other,
    })
}

fn source(file: Option<&Path>) -> Source<'_> {
    Source { of: "the archive", file, option: "--password-file", variable: "TOWLINE_ARCHIVE_PASSWORD" }
}
