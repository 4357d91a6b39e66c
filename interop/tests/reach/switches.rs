//! A way is lost while bytes flow, and another has to do.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use interop::{Peer, require};
use towline_emulator::towline_link::Link;
use towline_emulator::towline_nat::Rules;

use crate::flow::{Flow, Progress};
use crate::rig::{Network, RELAY_TCP};
use crate::site::{Kind, Site};

/// Bytes by which it is seen where they go.
const PIECE: u64 = 4 << 20;
/// The port of the relay: all that TCP may reach.
const STATION: [u16; 1] = [3478];
/// How long a way may take to be found.
const FOUND: Duration = Duration::from_secs(20);
/// Longest silence at the receiver that passes. A machine with six times too much to do stays within 0.6 s.
const STALL: Duration = Duration::from_secs(1);

/// Bytes that flow in all; `TOWLINE_REACH_MIB` makes them more.
fn bytes() -> u64 {
    let wish = std::env::var("TOWLINE_REACH_MIB").ok().and_then(|text| text.parse().ok());
    wish.unwrap_or(64_u64) << 20
}

/// Two homes on lines of 400 Mbit/s and 10 ms from door to door.
fn homes(network: &mut Network, kind: Kind) -> Result<[Site; 2]> {
    network.open_station()?;
    let sites = [network.site(kind)?, network.site(kind)?];
    let line = Link { rate: Some(50_000_000), queue: 1 << 20, ..Link::delay(Duration::from_millis(5)) };
    for (number, site) in sites.iter().enumerate() {
        site.wires[0].set_line(line.clone(), line.clone(), [number as u8; 32]);
    }
    Ok(sites)
}

/// UDP passes, or not; TCP to these ports only.
fn rule(sites: &[Site; 2], udp: bool, tcp_ports: &[u16]) {
    let rules = Rules { udp, tcp_ports: Some(tcp_ports.to_vec()), ..Rules::open() };
    for site in sites {
        site.wires[0].with(|router, _| router.set_rules(rules.clone()));
    }
}

/// Two homes from which TCP reaches the relay only, and a channel between them that has found a direct path.
fn direct(network: &mut Network) -> Result<([Site; 2], Flow)> {
    let sites = homes(network, Kind::PortRestricted)?;
    rule(&sites, true, &STATION);
    let mut flow = Flow::open(network, sites.each_ref(), [&["--relay", RELAY_TCP]; 2])?;
    until_relayed(network, &mut flow, false)?;
    Ok((sites, flow))
}

/// The listener was never silent for long.
fn smooth(end: Progress) -> Result<()> {
    ensure!(end.stall < STALL, "{:?} at {}", end.stall, end.stalled_at);
    Ok(())
}

/// Lets bytes flow to the listener until they go by the relay, or do not. Returns how long that took.
fn until_relayed(network: &Network, flow: &mut Flow, relayed: bool) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let (before, came) = (network.station_bytes()?, flow.received()[0].bytes);
        flow.pour([PIECE, 0])?;
        flow.reach([came + PIECE, 0])?;
        if (network.station_bytes()? - before > PIECE / 2) == relayed {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < FOUND, "relayed: {}, after {FOUND:?}", !relayed);
    }
}

#[test]
fn udp_is_dropped_and_the_rest_comes_by_tcp() -> Result<()> {
    if require(&[Peer::Kernel]).is_none() {
        return Ok(());
    }
    let mut network = Network::new()?;
    let (sites, mut flow) = direct(&mut network)?;
    let (bytes, came) = (bytes(), flow.received()[0].bytes);
    flow.pour([bytes, 0])?;
    flow.reach([came + bytes / 3, 0])?;
    let before = network.station_bytes()?;
    flow.mark();
    rule(&sites, false, &STATION);
    let [end, _] = flow.finish()?;
    println!("{bytes} bytes, UDP dropped after a third: longest stall {:?}", end.stall);
    // No TCP connection is let through but that to the relay.
    ensure!(network.station_bytes()? - before > bytes / 3, "it did not go by the relay");
    smooth(end)
}

#[test]
fn tcp_is_dropped_and_the_rest_comes_by_udp() -> Result<()> {
    if require(&[Peer::Kernel]).is_none() {
        return Ok(());
    }
    let mut network = Network::new()?;
    let sites = homes(&mut network, Kind::Open)?;
    let mut flow = Flow::open(&network, sites.each_ref(), [&[]; 2])?;
    let bytes = bytes();
    flow.pour([bytes, 0])?;
    flow.reach([bytes / 3, 0])?;
    flow.mark();
    rule(&sites, true, &[]);
    let [end, _] = flow.finish()?;
    println!("{bytes} bytes, TCP dropped after a third: longest stall {:?}", end.stall);
    smooth(end)
}

#[test]
fn from_the_relay_to_a_direct_path_and_back_while_bytes_flow() -> Result<()> {
    if require(&[Peer::Kernel]).is_none() {
        return Ok(());
    }
    let mut network = Network::new()?;
    let (sites, mut flow) = direct(&mut network)?;
    // Something is always under way.
    flow.pour([PIECE, 0])?;
    for udp in [false, true, false] {
        flow.mark();
        rule(&sites, udp, &STATION);
        let took = until_relayed(&network, &mut flow, !udp)?;
        let (half, came) = (bytes() / 2, flow.received()[0].bytes);
        flow.pour([half, 0])?;
        flow.reach([came + half, 0])?;
        let [end, _] = flow.received();
        println!("UDP {udp}: found after {took:?}, longest stall {:?}", end.stall);
        smooth(end)?;
    }
    flow.finish()?;
    Ok(())
}
