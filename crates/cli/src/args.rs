//! The command line.

mod account;
mod cert;
mod contact;
mod exit_codes;
mod nc;
mod network;
mod online;
mod relay;
mod why;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueHint};

use towline_lab::Place;

use crate::ids::{PeerId, Remote};
pub(crate) use account::{
    Account, AccountPassword, AddDevice, Create, Export, Import, Revoke, Show, key_size,
};
pub(crate) use cert::Cert;
pub(crate) use contact::{Add, Asked, Contact, Reach, Requests};
pub(crate) use nc::Nc;
pub(crate) use network::{HomeArg, Network, limit_steps};
pub(crate) use online::{Online, Presence, Text};
pub(crate) use relay::Relay;
pub(crate) use why::Why;

/// Dial a device by its key, and move files or streams over named channels.
#[derive(Debug, Parser)]
#[command(
    name = "towline",
    version,
    max_term_width = 100,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = exit_codes::AFTER_HELP,
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Common {
    /// Print one JSON object per line, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print more; twice, three or four times: the log of the layers below. TOWLINE_LOG filters that log.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print results and errors only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// End when the standard input ends: for a program that must not leave this one behind.
    #[arg(long, global = true, hide = true)]
    pub(crate) end_with_stdin: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an account and its first device: the keys that others dial.
    Init(Create),
    /// Make, carry, show and revoke what belongs to an account.
    #[command(subcommand)]
    Account(Account),
    /// Whom this account knows: contacts, requests, bans.
    #[command(subcommand)]
    Contact(Contact),
    /// Show which devices of which contacts are online.
    Presence(Presence),
    /// Be online: seen by contacts, open for requests and texts.
    Online(Online),
    /// Send a line of text to all devices of a contact.
    Text(Text),
    /// Print the ids of this device.
    Id(Id),
    /// Show the identity, who may connect, and whether this device can be found.
    Status(Status),
    /// Run a DHT node that others can bootstrap from.
    Node(Node),
    /// Relay for devices that cannot reach each other: a TURN server for one's own use.
    Relay(Relay),
    /// Send files to a device.
    Send(Send),
    /// Receive files.
    Receive(Receive),
    /// Connect standard input and output to a channel of a device.
    Pipe(Pipe),
    /// Wait for a channel and connect it to standard input and output.
    Listen(Listen),
    /// Reach TCP services of other devices, or let others reach those of this one.
    Nc(Box<Nc>),
    /// Tell how a device is reached, or why it is not.
    Why(Why),
    /// Make certificates in files, and print their ids.
    Cert(Cert),
    /// Show everything at work: two devices on this computer find each other and move two files.
    Demo(Demo),
    /// Play a scene on a simulated network, and draw what moves.
    Lab(Lab),
    /// Print the completion script of a shell.
    #[command(
        after_help = "Example: towline completion bash > ~/.local/share/bash-completion/completions/towline"
    )]
    Completion(Completion),
}

impl Command {
    /// Whether the standard output carries the data of a channel, so that everything else must not go there.
    pub(crate) fn data_on_stdout(&self) -> bool {
        match self {
            Self::Pipe(_) | Self::Listen(_) => true,
            Self::Nc(args) => !args.listen,
            _ => false,
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline id\n  towline id --certificate > device.crt")]
pub(crate) struct Id {
    #[command(flatten)]
    pub(crate) home: HomeArg,
    /// Print the certificate chain in PEM, device first.
    #[arg(long)]
    pub(crate) certificate: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: towline status --timeout 3")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) home: HomeArg,
    #[command(flatten)]
    pub(crate) network: Network,
    /// Longest wait for the DHT, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline node --port 4222 --state /var/lib/towline/dht\n  \
                        towline node --bind 127.0.0.1 --port 0 --no-bootstrap")]
pub(crate) struct Node {
    /// UDP port; 0 takes a free one.
    #[arg(long, default_value = "4222")]
    pub(crate) port: u16,
    /// Address to bind, may be repeated for IPv4 and IPv6; all addresses if not given.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bind: Vec<std::net::IpAddr>,
    /// DHT node to join through; default: bootstrap.jami.net, or none if only loopback is bound.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = network::host)]
    pub(crate) bootstrap: Vec<String>,
    /// Join through nobody: be the first node of a network.
    #[arg(long, conflicts_with = "bootstrap")]
    pub(crate) no_bootstrap: bool,
    /// File that keeps node id, known nodes and stored values between runs.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) state: Option<PathBuf>,
    /// Print statistics every so many seconds; 0: only at the end.
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub(crate) stats: u64,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  towline send holiday.zip --to 3b1f…64 digits…9e\n  towline send *.jpg --to @anna.id\n\n\
                  All files travel at the same time, on one connection. The other side runs `towline receive`."
)]
pub(crate) struct Send {
    /// Files to send.
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// Device to send to: 64 digits, 40 digits (a short id, or an account), or @FILE with an id or a certificate.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) to: Remote,
    #[command(flatten)]
    pub(crate) home: HomeArg,
    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) dial: Dial,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  towline receive\n  towline receive --accept-from 9c40…40 digits…1a --into ~/Downloads\n\n\
                  Without --accept-from, --accept-anyone or --yes it asks on the terminal for each file. A file that \
                  exists is never overwritten."
)]
pub(crate) struct Receive {
    #[command(flatten)]
    pub(crate) admission: Admission,
    /// Do not ask: accept files from devices of this account and those allowed in the file `trust`.
    #[arg(long, conflicts_with = "accept_anyone")]
    pub(crate) yes: bool,
    /// Directory for the files.
    #[arg(long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) into: PathBuf,
    /// End after one file.
    #[arg(long, conflicts_with = "count")]
    pub(crate) once: bool,
    /// End after so many files.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) home: HomeArg,
    #[command(flatten)]
    pub(crate) network: Network,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tar c photos | towline pipe 3b1f…64 digits…9e backup\n  \
                        towline pipe @server.id shell")]
pub(crate) struct Pipe {
    /// Device to connect to: 64 digits, 40 digits (a short id, or an account), or @FILE with an id or a certificate.
    pub(crate) device: Remote,
    /// Name of the channel, as the other side gives it to `towline listen`.
    #[arg(value_parser = channel_name)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) home: HomeArg,
    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) dial: Dial,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: towline listen backup --accept-from 9c40…40 digits…1a | tar x\n\n\
                  Without --accept-from or --accept-anyone, devices of this account and those allowed in the file \
                  `trust` may connect.")]
pub(crate) struct Listen {
    /// Name of the channel to wait for.
    #[arg(value_parser = channel_name)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) admission: Admission,
    /// Go on with the next channel when one has ended.
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) home: HomeArg,
    #[command(flatten)]
    pub(crate) network: Network,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  towline demo\n  towline demo film.mkv notes.txt\n\n\
                        It uses loopback only, makes temporary identities, and leaves nothing behind.")]
pub(crate) struct Demo {
    /// Two files to move; two of its own if not given.
    #[arg(value_name = "FILE", num_args = 2, value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  towline lab\n  towline lab link-death\n  towline lab loss --seed 7\n  \
                  towline lab nat symmetric port-restricted --seed 3\n  towline lab reach symmetric open\n  \
                  towline lab matrix --seeds 5\n  towline lab matrix --cell symmetric,double-nat\n  towline lab crowd --nodes 60"
)]
pub(crate) struct Lab {
    #[command(subcommand)]
    pub(crate) network: Option<LabNetwork>,
    /// The scene; without it, all are listed.
    pub(crate) scenario: Option<crate::lab::Name>,
    #[command(flatten)]
    pub(crate) seed: Seed,
}

/// Scenes that are about networks.
#[derive(Debug, Subcommand)]
pub(crate) enum LabNetwork {
    /// Two devices behind NATs and firewalls try to reach each other: the network, the packets, the mappings.
    Nat {
        /// Where the first device is; without it, all places are listed.
        #[arg(value_name = "PLACE")]
        alice: Option<Place>,
        /// Where the second is; without it, at such a place, too.
        #[arg(value_name = "PLACE")]
        bob: Option<Place>,
        #[command(flatten)]
        seed: Seed,
    },
    /// Two whole devices, wherever they are: what each learns, what it tries, and how one reaches the other.
    Reach {
        /// Where the device is that dials.
        #[arg(value_name = "PLACE")]
        alice: Place,
        /// Where the other is.
        #[arg(value_name = "PLACE")]
        bob: Place,
        #[command(flatten)]
        seed: Seed,
    },
    /// Many whole devices in one network, three of ten of them behind hard NATs and firewalls; random pairs dial each other.
    Crowd {
        /// How many devices there are.
        #[arg(long, value_name = "NUMBER", default_value = "1000", value_parser = clap::value_parser!(u16).range(2..=1127))]
        nodes: u16,
        /// How many dials there are.
        #[arg(long, value_name = "NUMBER", default_value = "1000")]
        dials: u16,
        /// How many of a hundred serve the DHT wherever they are, as nodes of Jami do; the others only where they are reached.
        #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = clap::value_parser!(u8).range(0..=100))]
        stubborn: u8,
        #[command(flatten)]
        seed: Seed,
    },
    /// Dials between eight usual places, many times: how many find a direct path, how soon, and what serves the others.
    Matrix {
        /// Dials for each pair of places; the two take turns.
        #[arg(long, value_name = "NUMBER", default_value = "50", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        seeds: u64,
        /// Only this pair of places. May be repeated.
        #[arg(long = "cell", value_name = "PLACE,PLACE")]
        cells: Vec<Cell>,
        /// Print the table in Markdown.
        #[arg(long)]
        markdown: bool,
    },
}

/// Two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell(pub(crate) [Place; 2]);

impl std::str::FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (a, b) = text.split_once(',').ok_or("two places are named as PLACE,PLACE")?;
        let place = |name: &str| name.parse().map_err(|error: towline_lab::UnknownPlace| error.to_string());
        Ok(Self([place(a)?, place(b)?]))
    }
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Seed {
    /// Everything that is left to chance follows from it.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) seed: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Completion {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// How to dial.
#[derive(Debug, clap::Args)]
pub(crate) struct Dial {
    /// Longest wait for each step of connecting, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// Who may connect.
#[derive(Debug, clap::Args)]
pub(crate) struct Admission {
    /// Accept from this device (64 digits) or the devices of this account (40 digits), and from nobody else.
    #[arg(long, value_name = "ID")]
    pub(crate) accept_from: Vec<PeerId>,
    /// Accept from everybody who knows the id of this device, without asking.
    #[arg(long, conflicts_with = "accept_from")]
    pub(crate) accept_anyone: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.1..=3600.0).contains(&number) {
        return Err("must be between 0.1 and 3600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(number))
}

fn channel_name(text: &str) -> Result<String, String> {
    let longest = towline::Limits::default().channel_name;
    match text.len() {
        0 => Err("a channel name is not empty".to_owned()),
        len if len > longest => Err(format!("a channel name has at most {longest} bytes, this has {len}")),
        _ => Ok(text.to_owned()),
    }
}

fn device_name(text: &str) -> Result<String, String> {
    // X.520: ub-common-name is 64 characters.
    if text.is_empty() || text.chars().count() > 64 || text.chars().any(char::is_control) {
        return Err("a name has 1 to 64 characters, none of them a control character".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn seconds_are_bounded() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        for wrong in ["0", "-1", "nan", "1e9", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
