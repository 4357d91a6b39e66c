//! Faults of what lies between a device and the world.

use towline::Cause;
use towline::Reach;
use towline_lab::Way;

use crate::rig::{At, Rig, Spec, home, on_either_side, placed, public, relay, stun};
use towline::{Relay, RelayTransport};

/// A relay where also the web gets, beside STUN.
fn with_web_relay(spec: Spec) -> Spec {
    let server = relay().server.replace(":3478", ":443");
    let web = Relay { server, transport: RelayTransport::Tcp, ..relay() };
    Spec { reach: Reach { relays: vec![web], ..stun() }, ..spec }
}

#[test]
fn a_network_without_udp() {
    on_either_side(1, async |world, at| {
        let [a, b] = placed(at, with_web_relay(home()), home());
        let rig = Rig::new(world, a, b).await;
        rig.end(at).tamper.drop_udp();
        let said = rig.dial().await;
        said.cut_off(at, &Cause::UdpBlockedHere);
    });
}

#[test]
fn a_network_that_lets_nothing_but_the_web_through() {
    on_either_side(2, async |world, at| {
        let [a, b] = placed(at, with_web_relay(home()), home());
        let rig = Rig::new(world, a, b).await;
        rig.end(at).tamper.only_web();
        let said = rig.dial().await;
        said.cut_off(at, &Cause::OnlyWebHere);
    });
}

#[test]
fn a_cable_that_is_pulled() {
    on_either_side(3, async |world, at| {
        let rig = Rig::new(world, home(), home()).await;
        let end = rig.end(at);
        end.host.unplug(end.interface);
        let said = rig.dial().await;
        said.cut_off(at, &Cause::NoNetworkHere);
    });
}

#[test]
fn a_line_that_is_dead_behind_the_router() {
    on_either_side(4, async |world, at| {
        let [a, b] = placed(at, with_web_relay(home()), home());
        let rig = Rig::new(world, a, b).await;
        rig.end(at).tamper.drop(|_, _| true);
        let said = rig.dial().await;
        said.cut_off(at, &Cause::OfflineHere);
    });
}

#[test]
fn nodes_of_the_dht_that_cannot_be_reached() {
    on_either_side(5, async |world, at| {
        let rig = Rig::new(world, home(), home()).await;
        rig.end(at).tamper.drop_dht();
        let said = rig.dial().await;
        said.cut_off(at, &Cause::DhtDown);
    });
}

#[test]
fn a_hole_that_swallows_large_packets() {
    on_either_side(6, async |world, at| {
        let rig = Rig::new(world, public(), public()).await;
        rig.end(at).tamper.hole(1000, rig.addresses(at.other()));
        let said = rig.dial().await;
        for side in [At::Dialler, At::Answerer] {
            said.names(side, &Cause::LargePacketsLost);
        }
    });
}

#[test]
fn what_a_device_sends_is_lost() {
    on_either_side(7, async |world, at| {
        let rig = Rig::new(world, public(), public()).await;
        rig.end(at).tamper.lose(Some(Way::Out), rig.addresses(at.other()));
        let said = rig.dial().await;
        said.names(at, &Cause::LostOutward);
        said.names(at.other(), &Cause::LostInward);
    });
}

#[test]
fn a_firewall_that_drops_what_comes_in_as_it_looks_from_outside() {
    on_either_side(8, async |world, at| {
        let rig = Rig::new(world, public(), public()).await;
        rig.end(at).tamper.lose(Some(Way::In), rig.addresses(at.other()));
        let said = rig.dial().await;
        said.names(at, &Cause::LostInward);
        said.names(at.other(), &Cause::LostOutward);
    });
}

#[test]
fn a_firewall_that_rejects_what_comes_in() {
    on_either_side(9, async |world, at| {
        let rig = Rig::new(world, public(), public()).await;
        rig.end(at).tamper.reject(Way::In, rig.addresses(at.other()));
        let said = rig.dial().await;
        // Nobody sees at which end of the way it is closed, and each tells the other what it meets with.
        said.names(at, &Cause::LostInward);
        said.names(at.other(), &Cause::Rejected);
    });
}

#[test]
fn a_firewall_that_rejects_what_goes_out() {
    on_either_side(10, async |world, at| {
        let rig = Rig::new(world, public(), public()).await;
        let tamper = &rig.end(at).tamper;
        tamper.reject(Way::Out, rig.addresses(at.other()));
        let said = rig.dial().await;
        said.names(at, &Cause::Rejected);
        said.names(at.other(), &Cause::LostInward);
    });
}

#[test]
fn a_network_whose_ways_between_the_two_are_all_dead() {
    on_either_side(11, async |world, at| {
        let rig = Rig::new(world, public(), public()).await;
        rig.end(at).tamper.lose(None, rig.addresses(at.other()));
        let said = rig.dial().await;
        for side in [At::Dialler, At::Answerer] {
            said.names(side, &Cause::NothingPasses);
        }
    });
}

#[test]
fn one_side_has_ipv4_and_the_other_ipv6() {
    on_either_side(12, async |world, at| {
        let six = Spec { six: true, reach: Reach::default(), ..public() };
        let [a, b] = placed(at, six, public());
        let rig = Rig::new(world, a, b).await;
        let said = rig.dial().await;
        said.names(At::Dialler, &Cause::NoCommonFamily);
        said.names(At::Answerer, &Cause::NoCommonFamily);
    });
}
