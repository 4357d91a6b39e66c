//! Arguments of `presence`, `online` and `text`.

use std::time::Duration;

use super::contact::Reach;
use super::network::{HomeArg, Network};
use super::seconds;

use crate::ids::Contact;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline presence\n  towline presence 9c40…40 digits…1a --watch\n\n\
                        A device that has just gone may be shown for ten minutes more: so long its announcement lives \
                        on the DHT.")]
pub(crate) struct Presence {
    /// Accounts: names of contacts, or 40 digits each; all contacts if none is named.
    #[arg(value_name = "ACCOUNT")]
    pub(crate) accounts: Vec<Contact>,
    /// Go on, and show changes.
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) online: Reach,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  towline online\n  towline online --accept-requests --json | my-program\n\n\
                        It shows who of the contacts is online, requests of others, and texts of contacts; calls are \
                        refused. Other commands of this account can be used meanwhile: it goes by what they change."
)]
pub(crate) struct Online {
    /// Accept every request to become a contact. Everybody who knows the id of this account can ask.
    #[arg(long)]
    pub(crate) accept_requests: bool,
    #[command(flatten)]
    pub(crate) home: HomeArg,
    #[command(flatten)]
    pub(crate) network: Network,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline text Ben 'Dinner is ready'\n  \
                        tail -f door.log | towline text 9c40…40 digits…1a\n\n\
                        It reaches the devices that are online now. Others do not get it later.")]
pub(crate) struct Text {
    /// Account: the name of a contact, 40 digits, or @FILE with them.
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: Contact,
    /// The text; without it, each line of the standard input is one.
    #[arg(value_name = "LINE")]
    pub(crate) line: Option<String>,
    /// Longest wait for the devices of the account, for each text, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) home: HomeArg,
    #[command(flatten)]
    pub(crate) network: Network,
}
