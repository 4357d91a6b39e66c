//! Arguments about the network and the data directory.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use towline::{Config, ConnectionPolicy};

/// Where the identity lies.
#[derive(Debug, clap::Args)]
pub(crate) struct HomeArg {
    /// Directory with the keys of this device; default: a directory for towline among the user's data.
    #[arg(long, value_name = "DIR", env = "TOWLINE_HOME", value_hint = ValueHint::DirPath)]
    pub(crate) home: Option<PathBuf>,
}

/// How to find others.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Network {
    /// DHT node to join through instead of bootstrap.jami.net; may be repeated.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = host)]
    pub(crate) bootstrap: Vec<String>,
    /// Find devices on the local network only.
    #[arg(long, conflicts_with = "loopback")]
    pub(crate) lan: bool,
    /// Stay on this computer: for trials.
    #[arg(long)]
    pub(crate) loopback: bool,
    /// UDP port of the DHT; 0 takes a free one.
    #[arg(long, default_value = "0")]
    pub(crate) port: u16,
}

impl Network {
    /// The node's set-up.
    pub(crate) fn config(&self, policy: ConnectionPolicy) -> Config {
        let mut config = match (self.lan, self.loopback) {
            (true, _) => Config::lan(),
            (_, true) => Config::loopback(),
            _ => Config::internet(),
        };
        if !self.bootstrap.is_empty() {
            config.dht.bootstrap.clone_from(&self.bootstrap);
        }
        if let Some(bind) = &mut config.dht.bind_v4 {
            bind.set_port(self.port);
        }
        if let Some(bind) = &mut config.dht.bind_v6 {
            bind.set_port(self.port);
        }
        config.with_policy(policy)
    }

    /// The set-up for a command that ends soon: others do not remember its DHT node, which will be gone when they
    /// ask it. On the local network it is a full node: there may be no other.
    pub(crate) fn passing_config(&self, policy: ConnectionPolicy) -> Config {
        let mut config = self.config(policy);
        config.dht.node.client_mode = !self.lan;
        config
    }
}

/// No step of connecting waits longer than this.
pub(crate) fn limit_steps(config: &mut Config, longest: Duration) {
    let limits = &mut config.limits;
    for limit in [
        &mut limits.certificate_timeout,
        &mut limits.answer_timeout,
        &mut limits.path_timeout,
        &mut limits.tls_timeout,
        &mut limits.channel_timeout,
    ] {
        *limit = (*limit).min(longest);
    }
}

/// A host to join through.
pub(super) fn host(text: &str) -> Result<String, String> {
    let blank = text.chars().any(|character| character.is_whitespace() || character.is_control());
    // 253 is the longest name in DNS; brackets, colon and port come on top.
    if text.is_empty() || text.len() > 270 || blank {
        return Err("expected a host name or address, with :PORT if it is not 4222".to_owned());
    }
    Ok(text.to_owned())
}
