//! A router that opens ports lets the DHT come in, and others are served from behind it.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Duration;

use common::{Lab, home, identity, pass, story};
use towline::dht::{Dht, DhtConfig, NodeMode, Reachability};
use towline::{Node, Reach};
use towline_lab::towline_nat::{Config as Nat, Transport};
use towline_lab::{Gate, Place, Site, Surroundings};

/// Time for nodes to hear of each other.
const SETTLING: Duration = Duration::from_mins(2);

/// A device at home, where the router opens ports.
async fn at_home(lab: &Lab, surroundings: impl Into<Surroundings>, mode: NodeMode) -> (Node, Site) {
    let site = lab.world.site("home", lab.internet, surroundings.into());
    home::open_ports(&lab.world, &site);
    let mut config = lab.config().with_reach(Reach { port_mapping: true, ..Reach::default() });
    config.dht.node.mode = mode;
    let node = lab.node_on(&site.host, identity(0), config).await;
    node.registered().await;
    (node, site)
}

/// Ports for datagrams that the home's router has opened because it was asked.
fn opened(site: &Site) -> Vec<u16> {
    let router = site.gateways[0].nat.clone().unwrap();
    let leased = router.mappings().into_iter().filter(|mapped| mapped.lease.is_some());
    leased.filter(|mapped| mapped.transport == Transport::Udp).map(|mapped| mapped.outside.port()).collect()
}

async fn known(dht: &Dht) -> usize {
    dht.stats().await.unwrap().nodes.v4.known
}

async fn stranger(lab: &Lab, place: Place) -> Dht {
    let site = lab.world.site(&format!("stranger {place}"), lab.internet, place);
    let config = DhtConfig::default().with_bootstrap(lab.bootstrap.to_string());
    Dht::start(std::sync::Arc::new(site.host), config, None).await.unwrap()
}

#[test]
fn strangers_come_through_the_door_and_it_is_closed_in_the_end() {
    story(1, async |world| {
        let lab = Lab::new(world).await;
        let (node, site) = at_home(&lab, Place::PortMapping, NodeMode::Automatic).await;
        pass(SETTLING).await;
        assert_eq!(opened(&site), [node.dht().local_addrs().v4.unwrap().port()]);
        assert_eq!(node.dht().reachability().v4, Reachability::Presumed);
        assert_eq!(known(&lab.dht).await, 1, "it is remembered");

        // Somebody it has never heard of, behind a NAT as strict as they come, is sent there and answered.
        let stranger = stranger(&lab, Place::Symmetric).await;
        pass(SETTLING).await;
        assert_eq!(known(&stranger).await, 2);
        assert_eq!(stranger.stats().await.unwrap().nodes.v4.good, 2);
        assert_eq!(node.dht().reachability().v4, Reachability::Proved);

        node.shutdown().await;
        assert_eq!(opened(&site), [0; 0]);
    });
}

#[test]
fn behind_a_carrier_the_door_leads_nowhere() {
    story(2, async |world| {
        let lab = Lab::new(world).await;
        let gates = vec![Gate::nat(Nat::home_router()), Gate::nat(Nat::carrier_grade())];
        let (node, site) = at_home(&lab, gates, NodeMode::Automatic).await;
        pass(SETTLING).await;
        assert_eq!(opened(&site).len(), 1);
        assert_eq!(node.dht().reachability().v4, Reachability::Translated);
        assert_eq!(known(&lab.dht).await, 0);
    });
}

#[test]
fn who_only_asks_opens_no_door() {
    story(3, async |world| {
        let lab = Lab::new(world).await;
        let (_node, site) = at_home(&lab, Place::PortMapping, NodeMode::Client).await;
        pass(SETTLING).await;
        assert_eq!(opened(&site), [0; 0]);
        assert_eq!(known(&lab.dht).await, 0);
    });
}
