//! Arguments of `account`, and of `init`, which is one of them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueHint};
use towline::identity::KeySize;

use super::network::{HomeArg, Network};
use super::{device_name, seconds};
use crate::ids::Remote;

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Make an account and its first device; the same as `towline init`.
    Create(Create),
    /// Show the account: its ids, devices and keys, and what is known of others.
    Show(Show),
    /// Make a home directory for a further device of the account, to be carried there.
    AddDevice(AddDevice),
    /// Take a device away from the account: contacts refuse it as soon as they know.
    Revoke(Revoke),
    /// Write the account into a file that other devices, and Jami, can import.
    Export(Export),
    /// Make this computer a further device of an account, from a file that Towline or Jami has written.
    Import(Import),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline init\n  towline init --name laptop --key-size 4096\n  \
                        towline account create --display-name 'Anna B.' --password-file secret.txt\n  \
                        towline init --home /srv/backup/towline\n\n\
                        With a password the keys of the account are encrypted: it takes the password to add and \
                        revoke devices and to export the account, and not to be online.")]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) home: HomeArg,
    /// Length of the three RSA keys in bits.
    #[arg(long, value_name = "BITS", default_value = "3072", value_parser = ["2048", "3072", "4096"])]
    pub(crate) key_size: String,
    /// Name in the device's certificate, which everybody who knows its id can read.
    #[arg(long, default_value = "Towline device", value_parser = device_name)]
    pub(crate) name: String,
    /// What contacts shall call you; goes with requests to them.
    #[arg(long, value_name = "NAME", value_parser = device_name)]
    pub(crate) display_name: Option<String>,
    /// File whose first line is a password for the account's keys; or set `TOWLINE_PASSWORD`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
    /// Replace an identity that is already there. Its keys are lost, and nobody can reach it any more.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: towline account show --json")]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) home: HomeArg,
}

/// How the account's key is opened.
#[derive(Debug, clap::Args)]
pub(crate) struct AccountPassword {
    /// File whose first line is the password of the account's keys; or set `TOWLINE_PASSWORD`; otherwise it is asked for
    /// if there is one.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: towline account add-device /media/stick/phone --name phone\n\n\
                        On the other device: towline online --home /media/stick/phone, or copy the directory to its \
                        usual place. The directory has the key of that device: keep no copy.")]
pub(crate) struct AddDevice {
    /// Directory to make.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,
    /// Name in the device's certificate, which everybody who knows its id can read.
    #[arg(long, default_value = "Towline device", value_parser = device_name)]
    pub(crate) name: String,
    /// Length of the device's RSA key in bits.
    #[arg(long, value_name = "BITS", default_value = "3072", value_parser = ["2048", "3072", "4096"])]
    pub(crate) key_size: String,
    /// Give it the account's key too, under the same password: it can then add and revoke devices, this one included.
    #[arg(long)]
    pub(crate) with_account_key: bool,
    #[command(flatten)]
    pub(crate) password: AccountPassword,
    #[command(flatten)]
    pub(crate) home: HomeArg,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline account revoke 3b1f…64 digits…9e\n  \
                        towline account revoke @phone.crt\n\n\
                        The revocation list is published now, and by `towline online` for as long as that runs. There \
                        is no way back: a revoked device needs new keys.")]
pub(crate) struct Revoke {
    /// Device to revoke: 64 or 40 digits, or @FILE with its certificate.
    #[arg(value_name = "DEVICE")]
    pub(crate) device: Remote,
    /// Longest wait for the DHT, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) password: AccountPassword,
    #[command(flatten)]
    pub(crate) home: HomeArg,
    #[command(flatten)]
    pub(crate) network: Network,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline account export account.gz\n  \
                        towline account export account.gz --password-file secret.txt\n\n\
                        Whoever has the file, and its password, is the account. Jami imports it as a backup.")]
pub(crate) struct Export {
    /// File to write.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// File whose first line is the password to encrypt with; or set `TOWLINE_ARCHIVE_PASSWORD`; otherwise it is asked
    /// for.
    #[arg(long, value_name = "FILE", conflicts_with = "no_password", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
    /// Do not encrypt the file: everybody who can read it is the account.
    #[arg(long)]
    pub(crate) no_password: bool,
    /// File whose first line is the password of the account's keys, if they have one and it is another than that of the
    /// file; or set `TOWLINE_PASSWORD`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) account_password_file: Option<PathBuf>,
    /// Replace a file that exists.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) home: HomeArg,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline account import account.gz --name desktop\n  \
                        towline account import jami-backup.gz --password-file secret.txt\n\n\
                        Contacts and bans come along. The account's keys stay under the password of the file.")]
pub(crate) struct Import {
    /// Archive to read.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// File whose first line is the password of the archive; or set `TOWLINE_ARCHIVE_PASSWORD`; otherwise it is asked for
    /// if there is one.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
    /// Name in the new device's certificate, which everybody who knows its id can read.
    #[arg(long, default_value = "Towline device", value_parser = device_name)]
    pub(crate) name: String,
    /// Length of the device's RSA key in bits.
    #[arg(long, value_name = "BITS", default_value = "3072", value_parser = ["2048", "3072", "4096"])]
    pub(crate) key_size: String,
    /// Keep the device's key only, and not those of the account.
    #[arg(long)]
    pub(crate) device_only: bool,
    /// Replace an identity that is already there. Its keys are lost, and nobody can reach it any more.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) home: HomeArg,
}

/// The size that was chosen.
pub(crate) fn key_size(bits: &str) -> KeySize {
    match bits {
        "2048" => KeySize::Rsa2048,
        "4096" => KeySize::Rsa4096,
        _ => KeySize::Rsa3072,
    }
}
