//! `towline relay`: a TURN server for one's own use.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use towline_net::{Net as _, Os};
use towline_turn_tokio::proto::{PeerPolicy, ServerConfig, ServerEvent, Users};
use towline_turn_tokio::{RelayServer, ServerOptions, server_tls};

use crate::args::Relay;
use crate::event::{Event, RelayEvent};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::key_files::{MAX_KEY, read, wrong};
use crate::output::Output;

/// Longest file with a certificate chain that is read, in bytes.
const MAX_CHAIN: u64 = 256 * 1024;

pub(crate) async fn run(args: Relay, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let options = options(args)?;
    let mut server = RelayServer::start(Arc::new(Os), options)
        .map_err(|error| Failure::Local(format!("cannot listen: {error}")))?;
    let texts = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect();
    let (addresses, tls_addresses) = (texts(server.addresses()), texts(server.tls_addresses()));
    output.say(&Event::Relay(RelayEvent::Ready { addresses, tls_addresses }));
    loop {
        let event = tokio::select! {
            biased;
            () = interrupt.wait() => return Ok(()),
            event = server.event() => event,
        };
        output.say(&Event::Relay(match event {
            ServerEvent::Allocated { user, client, relayed } => RelayEvent::Allocated {
                user,
                client: client.to_string(),
                relayed: relayed.iter().map(ToString::to_string).collect(),
            },
            ServerEvent::Released { user, client } => {
                RelayEvent::Released { user, client: client.to_string() }
            }
        }));
    }
}

fn options(args: Relay) -> Result<ServerOptions, Failure> {
    if args.user.is_empty() && args.secret.is_none() {
        return Err(Failure::Usage("a relay needs users: --user NAME:PASSWORD, or --secret KEY".to_owned()));
    }
    let (mut relay_v4, mut relay_v6) = (None, None);
    for address in args.addresses {
        let taken = match address {
            IpAddr::V4(ip) => relay_v4.replace(ip).is_some(),
            IpAddr::V6(ip) => relay_v6.replace(ip).is_some(),
        };
        if taken || address.is_unspecified() {
            return Err(Failure::Usage(
                "--relay-ip takes one address of IPv4 and one of IPv6, by which others reach this host"
                    .to_owned(),
            ));
        }
    }
    if args.external_ip.is_some_and(|ip| relay_v4.is_none() || ip.is_unspecified()) {
        return Err(Failure::Usage(
            "--external-ip goes with an IPv4 address at --relay-ip, and is no wildcard".to_owned(),
        ));
    }
    let tls = match (&args.tls_certificate, &args.tls_key) {
        (Some(chain), Some(key)) => {
            let (shown, proof) = (read(chain, MAX_CHAIN)?, read(key, MAX_KEY)?);
            let tls = server_tls(&shown, &proof, Os.unix_time());
            let tls = tls.map_err(|error| wrong(if error.is_of_key() { key } else { chain }, &error))?;
            Some((args.tls_listen, tls))
        }
        _ => None,
    };
    let config = ServerConfig {
        realm: args.realm,
        users: Users { fixed: args.user.into_iter().collect(), secret: args.secret.map(String::into_bytes) },
        peers: if args.allow_private_peers { PeerPolicy::DangerouslyAll } else { PeerPolicy::Public },
        allocations: args.allocations,
        allocations_per_user: args.allocations_per_user,
        bytes_per_second: args.rate_per_user.saturating_mul(1_000_000 / 8),
        ..ServerConfig::default()
    };
    Ok(ServerOptions { config, listen: args.listen, tls, relay_v4, relay_v6, external_v4: args.external_ip })
}
