//! `towline node`: a DHT node that others can bootstrap from.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use towline::dht::{Dht, DhtConfig, NodeMode};

use crate::args::Node;
use crate::event::{DhtStats, Event};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;

/// The DHT node that everybody knows.
const PUBLIC: &str = "bootstrap.jami.net:4222";

pub(crate) async fn run(args: Node, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let pause = Duration::from_secs(args.stats);
    let dht = Dht::start(Arc::new(towline::net::Os), config(args)?, None).await.map_err(|error| {
        use towline::dht::StartError::{Bind, NotAStateFile, NothingToBind, StateUnreadable};
        match error {
            StateUnreadable { .. } | NotAStateFile { .. } | Bind { .. } => Failure::Local(error.to_string()),
            NothingToBind => Failure::Internal(error.to_string()),
        }
    })?;
    let bound = dht.local_addrs();
    output.say(&Event::DhtNode {
        id: dht.node_id().to_string(),
        addresses: [bound.v4, bound.v6].into_iter().flatten().map(|address| address.to_string()).collect(),
    });
    tokio::select! {
        () = interrupt.wait() => {}
        () = report(&dht, pause, output) => {}
    }
    if let Some(stats) = stats(&dht, true).await {
        output.say(&Event::DhtStats(stats));
    }
    dht.shutdown().await.map_err(|error| Failure::Local(format!("the state was not saved: {error}")))
}

/// Says how it goes, for ever.
async fn report(dht: &Dht, pause: Duration, output: &Output) {
    loop {
        if pause.is_zero() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(pause).await;
        if let Some(stats) = stats(dht, false).await {
            output.say(&Event::DhtStats(stats));
        }
    }
}

async fn stats(dht: &Dht, last: bool) -> Option<DhtStats> {
    let stats = dht.stats().await.ok()?;
    Some(DhtStats {
        good: stats.nodes.v4.good + stats.nodes.v6.good,
        dubious: stats.nodes.v4.dubious + stats.nodes.v6.dubious,
        received: stats.received,
        sent: stats.sent,
        malformed: stats.malformed,
        limited: stats.limited,
        stored_values: stats.stored_values,
        stored_bytes: stats.stored_bytes,
        listeners: stats.listeners,
        reached: dht.reachability().into(),
        last,
    })
}

fn config(args: Node) -> Result<DhtConfig, Failure> {
    let mut config = DhtConfig { state_path: args.state, ..DhtConfig::on_port(args.port) };
    config.node.is_bootstrap = true;
    // Whoever runs one has seen to it that others reach it.
    config.node.mode = NodeMode::Full;
    if !args.bind.is_empty() {
        (config.bind_v4, config.bind_v6) = (None, None);
        for address in &args.bind {
            let taken = match address {
                IpAddr::V4(ip) => config.bind_v4.replace(SocketAddrV4::new(*ip, args.port)).is_some(),
                IpAddr::V6(ip) => config.bind_v6.replace(SocketAddrV6::new(*ip, args.port, 0, 0)).is_some(),
            };
            if taken {
                return Err(Failure::Usage("--bind takes one address of IPv4 and one of IPv6".to_owned()));
            }
        }
    }
    let only_here = !args.bind.is_empty() && args.bind.iter().all(IpAddr::is_loopback);
    config.bootstrap = match args.bootstrap {
        hosts if !hosts.is_empty() => hosts,
        _ if args.no_bootstrap || only_here => Vec::new(),
        _ => vec![PUBLIC.to_owned()],
    };
    Ok(config)
}
