//! Arguments of `nc`: those of dnc by the same letters, and some more.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;

use super::network::{HomeArg, Network, ReachArgs, host};
use super::{Dial, seconds};
use crate::ids::{PeerId, Remote};
use crate::nc::service::{Host, Service};

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "towline nc [OPTIONS] PEER -P PORT\n       towline nc [OPTIONS] -l",
    after_help = "Examples:\n  towline nc -l --service 127.0.0.1:22\n  \
                  towline nc -l -d /etc/dhtnet/dnc.yaml\n  \
                  towline nc 3b1f…64 digits…9e -P 22\n  \
                  ssh -o ProxyCommand='towline nc -q %h -P %p' user@3b1f…64 digits…9e\n\n\
                  It speaks with dhtnet's dnc in both roles and reads its YAML files. Other than dnc, -l forwards to \
                  nothing unless it is told the services, and -v prints more instead of the version."
)]
pub(crate) struct Nc {
    /// Device whose service to reach: 64 or 40 digits, or @FILE with an id or a certificate.
    #[arg(value_name = "PEER", required_unless_present = "listen", conflicts_with = "listen")]
    pub(crate) peer: Option<Remote>,
    /// Be the other side: forward channels of others to services.
    #[arg(short, long)]
    pub(crate) listen: bool,
    /// Host of the service, as the listening device sees it; default: 127.0.0.1.
    #[arg(short, long, value_name = "ADDR")]
    pub(crate) ip: Option<Host>,
    /// TCP port of the service.
    #[arg(short = 'P', long, value_name = "PORT")]
    pub(crate) port: Option<NonZeroU16>,
    /// YAML file of dnc. What is said on the command line counts more.
    #[arg(short = 'd', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) configuration: Option<PathBuf>,
    /// How long to wait in silence when one direction has ended and the other cannot go on alone, in seconds: for
    /// answers of dnc to piped input, and for input when the service has ended.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = linger)]
    pub(crate) linger: Duration,
    #[command(flatten)]
    pub(crate) dial: Dial,
    #[command(flatten)]
    pub(crate) services: Services,
    #[command(flatten)]
    pub(crate) identity: IdentityFiles,
    #[command(flatten)]
    pub(crate) network: NcNetwork,
    #[command(flatten)]
    pub(crate) relay: Relay,
}

/// What `-l` forwards to, and for whom.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
pub(crate) struct Services {
    /// Forward to this service, besides those in the YAML file; may be repeated.
    #[arg(long = "service", value_name = "HOST:PORT", requires = "listen")]
    pub(crate) listed: Vec<Service>,
    /// Forward to whatever is asked for: every host and port that this computer can reach.
    #[arg(long, requires = "listen", conflicts_with = "listed")]
    pub(crate) any_service: bool,
    /// Accept everybody who knows the id of this device; otherwise devices that the same CA signed, and those allowed
    /// in the file `trust`.
    #[arg(short, long)]
    pub(crate) anonymous: bool,
    /// Accept from this device or the devices of this account, and from nobody else; may be repeated.
    #[arg(long, value_name = "ID", requires = "listen", conflicts_with = "anonymous")]
    pub(crate) accept_from: Vec<PeerId>,
}

/// Who this device is.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Identity")]
pub(crate) struct IdentityFiles {
    /// Certificate chain in PEM, this device's first, instead of that in the home directory.
    #[arg(short, long, value_name = "FILE", requires = "private_key", value_hint = ValueHint::FilePath)]
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key in PEM.
    #[arg(short, long, alias = "privateKey", value_name = "FILE", requires = "certificate",
          value_hint = ValueHint::FilePath)]
    pub(crate) private_key: Option<PathBuf>,
    /// File whose first line is the password of the private key.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) home: HomeArg,
}

/// [`Network`] where `--port` is that of the service.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NcNetwork {
    /// DHT node to join through instead of bootstrap.jami.net; may be repeated.
    #[arg(short, long, value_name = "HOST[:PORT]", value_parser = host)]
    bootstrap: Vec<String>,
    /// Find devices on the local network only.
    #[arg(long, conflicts_with = "loopback")]
    lan: bool,
    /// Stay on this computer: for trials.
    #[arg(long)]
    loopback: bool,
    /// UDP port of the DHT; 0 takes a free one.
    #[arg(long, default_value = "0", value_name = "PORT")]
    dht_port: u16,
    #[command(flatten)]
    reach: ReachArgs,
}

impl NcNetwork {
    /// The network, joined through `bootstrap` of a file if no other node was named.
    pub(crate) fn or_through(self, bootstrap: Option<String>) -> Result<Network, String> {
        let bootstrap = match (self.bootstrap.is_empty(), bootstrap) {
            (true, Some(named)) => vec![host(&named)?],
            _ => self.bootstrap,
        };
        Ok(Network {
            bootstrap,
            lan: self.lan,
            loopback: self.loopback,
            port: self.dht_port,
            reach: self.reach,
        })
    }
}

/// A relay in the words of dnc; understood so that its command lines work. Towline takes its relays from `--relay`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Relay of dnc (understood, but not used: see --relay)")]
pub(crate) struct Relay {
    /// TURN server.
    #[arg(short = 't', long = "turn-host", alias = "turn_host", value_name = "HOST")]
    host: Option<String>,
    /// User there.
    #[arg(short = 'u', long = "turn-user", alias = "turn_user", value_name = "USER")]
    user: Option<String>,
    /// Password of the user.
    #[arg(short = 'w', long = "turn-pass", alias = "turn_pass", value_name = "SECRET")]
    pass: Option<String>,
    /// Realm of the server.
    #[arg(short = 'r', long = "turn-realm", alias = "turn_realm", value_name = "REALM")]
    realm: Option<String>,
}

impl Relay {
    /// The options that were given.
    pub(crate) fn given(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("turn_host", &self.host),
            ("turn_user", &self.user),
            ("turn_pass", &self.pass),
            ("turn_realm", &self.realm),
        ];
        all.into_iter().filter_map(|(name, value)| value.is_some().then_some(name))
    }
}

fn linger(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
}
