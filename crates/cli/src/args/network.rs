//! Arguments about the network and the data directory.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use towline::dht::NodeMode;
use towline::ice::Preference;
use towline::{Config, ConnectionPolicy, Relay};

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
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// What helps to reach and to be reached through NATs. Towlines use it among themselves.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Reach")]
pub(crate) struct ReachArgs {
    /// Server that tells this device's address (STUN); may be repeated. Without one nobody is asked.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = server)]
    stun: Vec<String>,
    /// Relay (TURN) where no direct path exists; may be repeated, the fastest is used. With ?transport=tcp behind it
    /// the relay is spoken to on TCP, with turns: on TLS.
    #[arg(long, value_name = "turn:USER:SECRET@HOST[:PORT]")]
    relay: Vec<Relay>,
    /// TCP port at which others reach this device, beside others that are chosen at random; may be repeated. 443 is reached
    /// from networks that let nothing else out. The program ends if it cannot be had.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    tcp_port: Vec<u16>,
    /// Send and receive data over UDP where both it and TCP work: lost packets hold up nothing behind them, at more work for
    /// the processor. Not for Jami peers.
    #[arg(long)]
    udp_first: bool,
    /// Do not ask the router to let peers in (PCP, NAT-PMP, UPnP).
    #[arg(long)]
    no_port_mapping: bool,
}

impl ReachArgs {
    fn apply(&self, config: &mut Config) {
        let reach = &mut config.reach;
        reach.stun.clone_from(&self.stun);
        reach.relays.clone_from(&self.relay);
        reach.tcp_ports.clone_from(&self.tcp_port);
        reach.port_mapping &= !self.no_port_mapping;
        if self.udp_first {
            config.ice.preference = Preference::UdpFirst;
        }
    }
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
        self.reach.apply(&mut config);
        config.with_policy(policy)
    }

    /// The set-up for a command that ends soon: others do not remember its DHT node, which will be gone when they
    /// ask it. On the local network it is a full node: there may be no other.
    pub(crate) fn passing_config(&self, policy: ConnectionPolicy) -> Config {
        let mut config = self.config(policy);
        if !self.lan {
            config.dht.node.mode = NodeMode::Client;
        }
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

/// A server that is asked.
fn server(text: &str) -> Result<String, String> {
    host(text).map_err(|_| "expected a host name or address, with :PORT if it is not 3478".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        network: Network,
    }

    fn reach(args: &[&str]) -> towline::Reach {
        let program = Program::parse_from([&["program"], args].concat());
        program.network.config(ConnectionPolicy::default()).reach
    }

    #[test]
    fn reach_is_what_the_options_say() {
        assert!(reach(&[]).port_mapping);
        assert!(!reach(&["--no-port-mapping"]).port_mapping);
        assert!(!reach(&["--loopback"]).port_mapping);
        let told =
            reach(&["--stun", "stun.example:3479", "--relay", "turn:ann:secret@relay.example?transport=tcp"]);
        assert_eq!(told.stun, ["stun.example:3479"]);
        assert_eq!(told.relays[0].to_string(), "turn:ann@relay.example:3478?transport=tcp");
        assert!(Program::try_parse_from(["program", "--relay", "relay.example"]).is_err());
        assert_eq!(reach(&["--tcp-port", "443", "--tcp-port", "8443"]).tcp_ports, [443, 8443]);
        assert!(Program::try_parse_from(["program", "--tcp-port", "0"]).is_err());
        let preference = |args: &[&str]| {
            let program = Program::parse_from([&["program"], args].concat());
            program.network.config(ConnectionPolicy::default()).ice.preference
        };
        assert_eq!(preference(&[]), Preference::default());
        assert_eq!(preference(&["--udp-first"]), Preference::UdpFirst);
        let told = reach(&[
            "--relay",
            "turns:ann:secret@relay.example",
            "--relay",
            "turn:ann:key@b?auth=shared-secret",
        ]);
        assert_eq!(told.relays[0].to_string(), "turns:ann@relay.example:5349?transport=tcp");
        assert_eq!(told.relays[1].to_string(), "turn:ann@b:3478?transport=udp&auth=shared-secret");
    }
}
