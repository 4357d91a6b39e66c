//! Faults that come when a connection stands, and data flows.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::Cause;
use towline_lab::towline_nat::Config as Nat;

use crate::common::{echo, pass};
use crate::rig::{At, Rig, SOON, behind, on_either_side, placed, public, relay, relayed};

/// Has both sides talk to each other for as long as they are let.
async fn talk(rig: &Rig, wrong: &[Cause]) {
    tokio::spawn(echo(rig.answerer.node.clone()));
    let channel = rig.dialler.node.connect(rig.answerer.node.device(), "talk").await.unwrap();
    let (mut reader, mut writer) = channel.split();
    tokio::spawn(async move {
        while writer.write_all(&[0; 1000]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    tokio::spawn(async move { while reader.read(&mut [0; 4096]).await.is_ok_and(|len| len > 0) {} });
    // Long enough for all links to be found.
    pass(Duration::from_secs(5)).await;
    let said = rig.said().await;
    for at in [At::Dialler, At::Answerer] {
        said.stands(at, wrong);
    }
}

#[test]
fn a_relay_that_dies_while_it_is_used() {
    on_either_side(50, async |world, at| {
        let [a, b] = placed(at, relayed(relay()), behind(Nat::symmetric()));
        let mut rig = Rig::new(world, a, b).await;
        talk(&rig, &[Cause::RandomNats { relay: true }]).await;
        // The host of the relay loses its power; that of the other STUN server does not.
        let (host, server) = rig.stations.remove(0);
        host.crash();
        drop(server);
        pass(SOON).await;
        let said = rig.said().await;
        said.names(at, &Cause::RelayLost { relay: relay().server });
        // It has none itself, and knows that all went by that of the other.
        said.names(at.other(), &Cause::RelayThere);
    });
}

#[test]
fn a_peer_that_loses_its_power() {
    on_either_side(51, async |world, at| {
        let rig = Rig::new(world, public(), public()).await;
        talk(&rig, &[]).await;
        rig.end(at).host.crash();
        pass(SOON).await;
        rig.said().await.blames(at.other(), &Cause::SilentThere);
    });
}

#[test]
fn a_cable_that_is_pulled_while_data_flows() {
    on_either_side(52, async |world, at| {
        let rig = Rig::new(world, public(), public()).await;
        talk(&rig, &[]).await;
        let end = rig.end(at);
        end.host.unplug(end.interface);
        pass(SOON).await;
        let said = rig.said().await;
        said.names(at, &Cause::NoNetworkHere);
        said.blames(at.other(), &Cause::SilentThere);
    });
}
