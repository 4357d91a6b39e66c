//! A way is lost while bytes flow, and another has to do.

use std::time::Duration;

use anyhow::{Result, ensure};
use interop::{Peer, require};
use towline_emulator::towline_link::Link;
use towline_emulator::towline_nat::Rules;

use crate::flow::Flow;
use crate::rig::{Kind, Network, RELAY_TCP, Site};

/// Megabytes that flow; by hand, more.
fn bytes() -> u64 {
    let megabytes = std::env::var("TOWLINE_REACH_MIB").ok().and_then(|text| text.parse().ok());
    megabytes.unwrap_or(64_u64) << 20
}

/// Longest silence at the receiver that passes on a machine that has other things to do.
const STALL: Duration = Duration::from_secs(5);

/// Two homes on lines of 400 Mbit/s and 10 ms.
fn homes(network: &mut Network, kinds: [Kind; 2]) -> Result<[Site; 2]> {
    network.open_station()?;
    let [a, b] = kinds.map(|kind| network.site(kind));
    let sites = [a?, b?];
    let line = Link { rate: Some(50_000_000), queue: 1 << 20, ..Link::delay(Duration::from_millis(5)) };
    for (number, site) in sites.iter().enumerate() {
        site.wire().set_line(line.clone(), line.clone(), [number as u8; 32]);
    }
    Ok(sites)
}

fn rule(sites: &[Site; 2], rules: &Rules) {
    for site in sites {
        site.wire().with(|router, _| router.set_rules(rules.clone()));
    }
}

/// TCP to the station only, for its relay; UDP, or not.
fn station_only(udp: bool) -> Rules {
    Rules { udp, tcp_ports: Some(vec![3478]), ..Rules::open() }
}

#[test]
fn udp_is_dropped_and_the_rest_comes_by_tcp() -> Result<()> {
    if require(&[Peer::Kernel]).is_none() {
        return Ok(());
    }
    let mut network = Network::new()?;
    let sites = homes(&mut network, [Kind::PortRestricted; 2])?;
    rule(&sites, &station_only(true));
    let mut flow = Flow::open(&network, sites.each_ref(), [&["--relay", RELAY_TCP]; 2])?;
    let bytes = bytes();
    flow.pour([bytes, 0])?;
    flow.reach(bytes / 3)?;
    let relayed = network.station_bytes()?;
    flow.mark();
    rule(&sites, &Rules { udp: false, ..Rules::open() });
    let [progress, _] = flow.finish()?;
    let relayed_after = network.station_bytes()? - relayed;
    println!(
        "{relayed} bytes by the relay before, {relayed_after} after; longest stall {:?} at byte {}",
        progress.stall, progress.stalled_at
    );
    ensure!(progress.stall < STALL, "{:?}", progress.stall);
    Ok(())
}

#[test]
fn tcp_is_dropped_and_the_rest_comes_by_udp() -> Result<()> {
    if require(&[Peer::Kernel]).is_none() {
        return Ok(());
    }
    let mut network = Network::new()?;
    let sites = homes(&mut network, [Kind::Open; 2])?;
    let mut flow = Flow::open(&network, sites.each_ref(), [&[]; 2])?;
    let bytes = bytes();
    flow.pour([bytes, 0])?;
    flow.reach(bytes / 3)?;
    flow.mark();
    rule(&sites, &Rules { tcp_ports: Some(Vec::new()), ..Rules::open() });
    let [progress, _] = flow.finish()?;
    println!("longest stall {:?} at byte {}", progress.stall, progress.stalled_at);
    ensure!(progress.stall < STALL, "{:?}", progress.stall);
    Ok(())
}
