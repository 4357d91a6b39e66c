//! Pairs of surroundings: bytes both ways, on the kind of path that is due there.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use interop::{Peer, require};

use crate::flow::Flow;
use crate::rig::{Network, RELAY, RELAY_WEB};
use crate::site::Kind;

/// Bytes each way, at a time.
const PIECE: u64 = 1 << 20;
/// How long a direct path may take to be found, on a machine that has other things to do.
const DIRECT: Duration = Duration::from_secs(20);
/// Pieces that go by a relay where no direct path exists.
const RELAYED: usize = 3;
/// Pairs that are tried at a time, in worlds of their own: most of it is waiting.
const WORLDS: usize = 3;

const KINDS: [Kind; 9] = [
    Kind::Open,
    Kind::FullCone,
    Kind::PortRestricted,
    Kind::Kernel,
    Kind::Sequential,
    Kind::Symmetric,
    Kind::DoubleNat,
    Kind::UdpBlocked,
    Kind::WebOnly,
];

/// Whether a direct path is due. It is, where one side alone has random ports: 256 sockets of that side and 2,500 probes of the
/// other miss each other once in 20,000 times. Where others have to guess them too, by one port at a time, there is none.
fn is_direct(a: Kind, b: Kind) -> bool {
    let with_random = |kind| matches!(kind, Kind::Symmetric | Kind::Sequential | Kind::UdpBlocked);
    let random = a == Kind::Symmetric && with_random(b) || b == Kind::Symmetric && with_random(a);
    // Where only the web is reached, others are if they can be met at its port: not through a NAT that gives another one.
    let other_port = |kind| matches!(kind, Kind::Symmetric | Kind::Sequential | Kind::DoubleNat);
    let out_of_web = a == Kind::WebOnly && other_port(b) || b == Kind::WebOnly && other_port(a);
    !random && !out_of_web
}

/// What the programs of such a pair are told beside the rest.
fn options(a: Kind, b: Kind) -> Vec<&'static str> {
    let web = [a, b].contains(&Kind::WebOnly);
    let listen: &[&str] = if web { &["--tcp-port", "443"] } else { &[] };
    [&["--relay", RELAY, "--relay", RELAY_WEB], listen].concat()
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
    let options = options(a, b);
    let mut flow = Flow::open(network, sites.each_ref(), [&options[..]; 2])?;
    let connected = begun.elapsed();
    let due = is_direct(a, b);
    let mut relayed = 0;
    let direct = loop {
        if !piece(network, &mut flow)? {
            break Some(begun.elapsed());
        }
        relayed += 1;
        if !due && relayed == RELAYED || begun.elapsed() > DIRECT {
            break None;
        }
    };
    flow.finish()?;
    ensure!(direct.is_some() == due, "{relayed} pieces went by the relay; a direct path is due: {due}");
    let found = direct.map_or("relayed".to_owned(), |took| format!("direct after {took:.1?}"));
    Ok(format!("connected after {connected:.1?}, {found}"))
}

#[test]
fn every_pair_of_surroundings_is_crossed() -> Result<()> {
    if require(&[Peer::Kernel]).is_none() {
        return Ok(());
    }
    let each = KINDS.iter().enumerate().flat_map(|(at, a)| KINDS[at..].iter().map(|b| (*a, *b)));
    // The slow ones first: where UDP does not pass it takes seconds to find out.
    let mut cells: Vec<_> = each.collect();
    cells.reverse();
    let through = |world: usize| -> Result<()> {
        let mut network = Network::new()?;
        for (a, b) in cells.iter().copied().skip(world).step_by(WORLDS) {
            let line = cell(&mut network, a, b).map_err(|error| error.context(format!("{a:?} and {b:?}")))?;
            println!("{:<15} {:<15} {line}", format!("{a:?}"), format!("{b:?}"));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let worlds: Vec<_> = (0..WORLDS)
            .map(|world| {
                scope.spawn({
                    let through = &through;
                    move || through(world)
                })
            })
            .collect();
        worlds.into_iter().try_for_each(|world| world.join().map_err(|_| anyhow!("a world panicked"))?)
    })
}
