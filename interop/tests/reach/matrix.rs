//! Every pair of surroundings: bytes both ways, on the kind of path that is due there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use interop::{Peer, require};

use crate::flow::Flow;
use crate::rig::{Kind, Network, RELAY};

/// Bytes each way, at a time.
const PIECE: u64 = 1 << 20;
/// How long a direct path may take to be found.
const DIRECT: Duration = Duration::from_secs(10);
/// Pieces that go by a relay where no direct path exists.
const RELAYED: usize = 3;

const KINDS: [Kind; 6] =
    [Kind::Open, Kind::FullCone, Kind::PortRestricted, Kind::Kernel, Kind::Sequential, Kind::Symmetric];

/// Which path is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Direct,
    Relayed,
    /// A direct one, if a port is guessed.
    Luck,
}

fn due(a: Kind, b: Kind) -> Due {
    let hard = |kind| matches!(kind, Kind::Symmetric | Kind::Sequential);
    let strict = |kind| hard(kind) || matches!(kind, Kind::PortRestricted | Kind::Kernel);
    match (a, b) {
        (Kind::Symmetric, Kind::Symmetric) => Due::Relayed,
        _ if hard(a) && strict(b) || strict(a) && hard(b) => Due::Luck,
        _ => Due::Direct,
    }
}

/// Lets bytes flow both ways. Returns whether they went by the relay.
fn piece(network: &Network, flow: &mut Flow) -> Result<bool> {
    let before = network.station_bytes()?;
    flow.pour([PIECE; 2])?;
    flow.settle()?;
    // Both directions pass it, with what every packet has on top; else a few words with the servers do.
    Ok(network.station_bytes()? - before > PIECE)
}

/// Two devices meet and fill a channel both ways. Returns a line about it.
fn cell(network: &mut Network, a: Kind, b: Kind) -> Result<String> {
    network.open_station()?;
    let sites = [network.site(a)?, network.site(b)?];
    let begun = Instant::now();
    let mut flow = Flow::open(network, sites.each_ref(), [&["--relay", RELAY]; 2])?;
    let connected = begun.elapsed();
    let due = due(a, b);
    let mut relayed = 0;
    let direct = loop {
        if !piece(network, &mut flow)? {
            break Some(begun.elapsed());
        }
        relayed += 1;
        if due != Due::Direct && relayed == RELAYED || begun.elapsed() > DIRECT {
            break None;
        }
    };
    flow.finish()?;
    match due {
        Due::Direct => ensure!(direct.is_some(), "{a:?} and {b:?}: {relayed} pieces went by the relay"),
        Due::Relayed => ensure!(direct.is_none(), "{a:?} and {b:?}: nothing went by the relay"),
        Due::Luck => {}
    }
    let found = direct.map_or("relayed".to_owned(), |took| format!("direct after {took:.1?}"));
    Ok(format!("{:<15} {:<15} connected after {connected:.1?}, {found}", format!("{a:?}"), format!("{b:?}")))
}

#[test]
fn every_pair_of_nats_is_crossed() -> Result<()> {
    if require(&[Peer::Kernel]).is_none() {
        return Ok(());
    }
    let mut network = Network::new()?;
    for (at, a) in KINDS.into_iter().enumerate() {
        for b in &KINDS[at..] {
            println!("{}", cell(&mut network, a, *b)?);
        }
    }
    Ok(())
}
