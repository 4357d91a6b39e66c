//! Arguments of `contact`.

use std::time::Duration;

use clap::Subcommand;

use super::network::{HomeArg, Network};
use super::seconds;
use crate::ids::{Account, PeerId};

#[derive(Debug, Subcommand)]
pub(crate) enum Contact {
    /// Take an account as a contact, and ask it to do the same.
    Add(Add),
    /// List contacts and bans.
    List(AtHome),
    /// Remove a contact. It is not told.
    Remove(OnAccount),
    /// Ban an account or a device: it is not answered any more.
    Ban(Unrequested),
    /// Lift a ban.
    Unban(Unrequested),
    /// List requests of accounts that want to be contacts.
    Requests(Requests),
    /// Take an account that has asked as a contact, and tell it.
    Accept(Asked),
    /// Refuse a request. Nobody is told; for seven days it may ask again in vain.
    Refuse(Asked),
}

/// Where, and nothing else.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: towline contact list")]
pub(crate) struct AtHome {
    #[command(flatten)]
    pub(crate) home: HomeArg,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline contact add 9c40…40 digits…1a --name Ben\n  \
                        towline contact add @ben.crt --no-request\n\n\
                        The request lies at each device of the account for ten minutes. `towline online` asks again, \
                        until the contact answers, whenever it is online.")]
pub(crate) struct Add {
    /// Account: 40 digits, or @FILE with them or with a certificate of one of its devices.
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: Account,
    /// Do not ask it: it has this account as a contact already, or need not.
    #[arg(long)]
    pub(crate) no_request: bool,
    /// What to call it here; a contact that asks brings a name along.
    #[arg(long, value_parser = super::device_name)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) online: Reach,
}

/// An account, and how it is reached.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: towline contact remove 9c40…40 digits…1a")]
pub(crate) struct OnAccount {
    /// Account: 40 digits, or @FILE with them.
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: Account,
    #[command(flatten)]
    pub(crate) home: HomeArg,
}

/// An account or a device.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  towline contact ban 9c40…40 digits…1a\n  towline contact unban 3b1f…64 digits…9e\n\n\
                        A `towline online`, `receive` or `listen` that runs goes by it within a second or two."
)]
pub(crate) struct Unrequested {
    /// Account (40 digits) or device (64 digits), or @FILE with them.
    #[arg(value_name = "ID")]
    pub(crate) id: PeerId,
    #[command(flatten)]
    pub(crate) home: HomeArg,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: towline contact requests")]
pub(crate) struct Requests {
    /// Show what is known already, without looking for new ones.
    #[arg(long)]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) online: Reach,
}

/// Somebody who has asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: towline contact accept 9c40…40 digits…1a")]
pub(crate) struct Asked {
    /// Account: 40 digits, or @FILE with them.
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: Account,
    #[command(flatten)]
    pub(crate) online: Reach,
}

/// A short time online.
#[derive(Debug, clap::Args)]
pub(crate) struct Reach {
    /// Longest wait for others, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) home: HomeArg,
    #[command(flatten)]
    pub(crate) network: Network,
}
