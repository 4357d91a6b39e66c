//! `towline account`: what belongs to an account, and `init`, its beginning.

mod archive;
mod create;
mod device;
mod revoke;
mod show;

use towline::identity::Identity;

use crate::args::{Account, AccountPassword};
use crate::failure::Failure;
use crate::home::{Home, KeyFault};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::password::{Password, Source};

pub(crate) use create::run as create;

pub(crate) async fn run(args: Account, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let work = async {
        match args {
            Account::Create(args) => create(args, output).await,
            Account::Show(args) => show::run(&args, output),
            Account::AddDevice(args) => device::run(args, output).await,
            Account::Revoke(args) => revoke::run(args, output).await,
            Account::Export(args) => archive::export(args, output).await,
            Account::Import(args) => archive::import(args, output).await,
        }
    };
    interrupt.stops(work).await
}

/// The variable with the password of the account's keys.
const KEY_VARIABLE: &str = "TOWLINE_PASSWORD";

/// The password of the account's keys.
fn key_source(args: &AccountPassword) -> Source<'_> {
    Source {
        of: "the account's key",
        file: args.password_file.as_deref(),
        option: "--password-file",
        variable: KEY_VARIABLE,
    }
}

/// The account, by its key in the home directory. Asks for the password if there is one that was not given.
async fn account(
    home: &Home,
    device: &Identity,
    source: Source<'_>,
    output: &Output,
) -> Result<(Identity, Option<Password>), Failure> {
    let mut password = source.given()?;
    loop {
        let asked = password.clone();
        // Opening a sealed key takes a good part of a second.
        let (at, of) = (home.clone(), device.clone());
        let opened = blocking(move || Ok(at.account(&of, asked.as_ref().map(|text| text.as_str())))).await?;
        match opened {
            Ok(account) => return Ok((account, password)),
            Err(KeyFault::PasswordNeeded) => password = Some(source.ask(output).await?),
            Err(KeyFault::WrongPassword) => {
                return Err(Failure::Local(
                    "wrong password of the account's key, or a damaged key file".to_owned(),
                ));
            }
            Err(KeyFault::Failure(failure)) => return Err(failure),
        }
    }
}

/// Runs what takes long on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::Internal(format!("the work broke off: {error}")))?
}
