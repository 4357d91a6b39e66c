//! A home whose router opens ports to whoever asks: whole programs find it, are met through what it opened, and leave nothing open.

use anyhow::{Result, ensure};
use interop::{Peer, require};

use crate::flow::Flow;
use crate::rig::Network;
use crate::site::{Kind, Site};

/// Bytes each way.
const PIECE: u64 = 1 << 20;

/// Nobody tells the devices at which addresses they are seen, and there is no relay: what the router opens is the only way.
#[test]
fn two_programs_meet_at_a_port_of_miniupnpd_which_is_closed_when_they_end() -> Result<()> {
    if require(&[Peer::Kernel, Peer::Miniupnpd]).is_none() {
        return Ok(());
    }
    let mut network = Network::new()?;
    network.stun = false;
    for kinds in [[Kind::Symmetric, Kind::Mapping], [Kind::Mapping, Kind::Symmetric], [Kind::Mapping; 2]] {
        network.open_station()?;
        let sites = [network.site(kinds[0])?, network.site(kinds[1])?];
        let mut flow = Flow::open(&network, sites.each_ref(), [&[]; 2])?;
        flow.pour([PIECE; 2])?;
        flow.settle()?;
        let mapping = |(at, kind): (usize, &Kind)| (*kind == Kind::Mapping).then_some(&sites[at]);
        let homes: Vec<&Site> = kinds.iter().enumerate().filter_map(mapping).collect();
        for home in &homes {
            let open = home.opened()?;
            ensure!(open.len() > 1, "{kinds:?}: nothing is open beside the port of the DHT: {open:?}");
        }
        flow.finish()?;
        for home in &homes {
            let left = home.opened()?;
            ensure!(left.is_empty(), "{kinds:?}: {left:?}");
        }
    }
    Ok(())
}
