//! A device changes its place, while nothing is said and while bytes flow: its network goes and comes back, it gets another address,
//! another interface takes over. The connection stays, and no byte of it is lost or comes twice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use interop::{Peer, require};
use towline_emulator::towline_link::Link;

use crate::flow::Flow;
use crate::rig::Network;
use crate::site::{Kind, Site};

/// Bytes each way that flow around a change, and bytes each way of what is said after one.
const FLOW: u64 = 24 << 20;
const WORD: u64 = 8;
/// How long a device has no network at all.
const GAP: Duration = Duration::from_secs(1);
/// Longest silence where one side moves, on a machine that has other things to do. Nearly always it is a third of a second.
const ONE: Duration = Duration::from_secs(4);
/// The same where both do: neither can be told of it but by the DHT, which has to find out itself that they are elsewhere.
const BOTH: Duration = Duration::from_secs(20);

/// Who moves.
const WHO: [&[usize]; 3] = [&[0], &[1], &[0, 1]];

/// Two devices at home, and a channel between them.
struct Scene {
    network: Network,
    sites: [Site; 2],
    flow: Flow,
}

impl Scene {
    fn new() -> Result<Self> {
        let mut network = Network::new()?;
        network.open_station()?;
        let sites = [network.site(Kind::PortRestricted)?, network.site(Kind::PortRestricted)?];
        sites.iter().for_each(slow);
        let flow = Flow::open(&network, sites.each_ref(), [&[]; 2])?;
        Ok(Self { network, sites, flow })
    }

    /// Lets bytes flow both ways, and something happen after a third of them. Returns the longest time in which nothing came.
    fn sending(&mut self, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<Duration> {
        let before = self.flow.received().map(|progress| progress.bytes);
        self.flow.pour([FLOW; 2])?;
        self.flow.reach(before.map(|bytes| bytes + FLOW / 3))?;
        self.flow.mark();
        act(self)?;
        self.flow.settle()?;
        Ok(self.flow.received().map(|progress| progress.stall).into_iter().max().unwrap_or_default())
    }

    /// Lets something happen while nothing is said. Returns how long it takes then to say something both ways.
    fn idle(&mut self, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<Duration> {
        act(self)?;
        let begun = Instant::now();
        self.flow.pour([WORD; 2])?;
        self.flow.settle()?;
        Ok(begun.elapsed())
    }

    /// Lets each of `who` move like this, while bytes flow and while none do.
    fn through(
        &mut self,
        what: &str,
        gap: Duration,
        mut act: impl FnMut(&mut Self, &[usize]) -> Result<()>,
    ) -> Result<()> {
        for who in WHO {
            let sending = self.sending(|scene| act(scene, who))?;
            let idle = self.idle(|scene| act(scene, who))?;
            println!("{what} of {who:?}: {sending:.2?} without a byte while sending, {idle:.2?} if idle");
            let bound = if who.len() == 2 { BOTH } else { ONE };
            ensure!(sending < gap + bound, "{what} of {who:?}: {sending:?} without a byte");
            ensure!(idle < bound, "{what} of {who:?}: {idle:?} until something is said");
        }
        Ok(())
    }
}

/// 100 Mbit/s, 10 ms from door to door.
fn slow(site: &Site) {
    let line = Link { rate: Some(12_500_000), queue: 1 << 18, ..Link::delay(Duration::from_millis(5)) };
    let last = site.wires.last().expect("an emulator");
    last.set_line(line.clone(), line, [site.wires.len() as u8; 32]);
}

/// Lets each of two devices at home, and then both, move like this.
fn moving(what: &str, gap: Duration, act: impl FnMut(&mut Scene, &[usize]) -> Result<()>) -> Result<()> {
    if require(&[Peer::Kernel]).is_none() {
        return Ok(());
    }
    let mut scene = Scene::new()?;
    scene.through(what, gap, act)?;
    scene.flow.finish()?;
    Ok(())
}

#[test]
fn a_network_that_goes_and_comes_back_costs_little_more_than_it_was_away() -> Result<()> {
    moving("a gap", GAP, |scene, who| {
        who.iter().try_for_each(|at| scene.sites[*at].unplug(0))?;
        std::thread::sleep(GAP);
        who.iter().try_for_each(|at| scene.sites[*at].plug(0))
    })
}

#[test]
fn a_device_that_gets_another_address_keeps_its_connections() -> Result<()> {
    let mut addresses = (20..).map(|host| format!("192.168.1.{host}"));
    moving("another address", Duration::ZERO, |scene, who| {
        who.iter().zip(&mut addresses).try_for_each(|(at, address)| scene.sites[*at].readdress(0, &address))
    })
}

#[test]
fn another_interface_takes_over_with_and_without_overlap() -> Result<()> {
    for overlap in [true, false] {
        let mut newest = [0; 2];
        let gap = if overlap { Duration::ZERO } else { GAP };
        let what = if overlap { "another interface" } else { "another interface, later," };
        moving(what, gap, |scene, who| {
            if !overlap {
                who.iter().try_for_each(|at| scene.sites[*at].leave(newest[*at]))?;
            }
            std::thread::sleep(gap);
            for at in who {
                scene.sites[*at].attach(Kind::PortRestricted, scene.network.line())?;
                slow(&scene.sites[*at]);
            }
            if overlap {
                std::thread::sleep(GAP);
                who.iter().try_for_each(|at| scene.sites[*at].leave(newest[*at]))?;
            }
            for at in who {
                newest[*at] += 1;
            }
            Ok(())
        })?;
    }
    Ok(())
}
