//! NATs that have no room, no way through, or nobody who tells how they are seen.

use std::net::SocketAddr;
use std::time::Duration;

use towline::net::{Net as _, TcpConnect, UdpBind};
use towline::{Cause, Reach};
use towline_lab::Link;
use towline_lab::towline_nat::{Allocation, Config as Nat};

use crate::common::pass;
use crate::rig::{Rig, Spec, behind, home, on_either_side, placed};

#[test]
fn two_nats_with_random_ports_and_no_relay() {
    on_either_side(20, async |world, at| {
        let rig = Rig::new(world, behind(Nat::symmetric()), behind(Nat::symmetric())).await;
        let said = rig.dial().await;
        for side in [at, at.other()] {
            said.names(side, &Cause::RandomNats { relay: false });
        }
    });
}

#[test]
fn a_nat_without_a_free_port() {
    on_either_side(21, async |world, at| {
        let small =
            Nat { ports: 40_000..=40_031, allocation: Allocation::Random, ..Nat::port_restricted_cone() };
        let [a, b] = placed(at, behind(small), home());
        let rig = Rig::new(world, a, b).await;
        // Another host at home takes all there are.
        let hog = rig.lab.world.host("hog");
        hog.attach(rig.end(at).inside, Link::ethernet());
        let sockets: Vec<_> = (0..40).map(|_| hog.bind_udp(&UdpBind::any_v4()).unwrap()).collect();
        for socket in &sockets {
            socket.send(b"mine", SocketAddr::new(rig.stations[0].0.ipv4(), 9)).await.unwrap();
        }
        let door = SocketAddr::new(rig.stations[0].0.ipv4(), 3478);
        let dial = |_| tokio::spawn(hog.connect_tcp(door, TcpConnect::default()));
        let streams: Vec<_> = (0..40).map(dial).collect();
        pass(Duration::from_millis(100)).await;
        let said = rig.dial().await;
        said.names(at, &Cause::MappingsExhaustedHere);
        said.blames(at.other(), &Cause::NothingPasses);
        drop((sockets, streams));
    });
}

#[test]
fn two_nats_one_behind_the_other_and_nobody_who_tells() {
    on_either_side(22, async |world, at| {
        let unknowing = Spec { reach: Reach::default(), ..behind(Nat::carrier_grade()) };
        let [a, b] = placed(at, unknowing, home());
        let rig = Rig::new(world, a, b).await;
        let said = rig.dial().await;
        said.names(at, &Cause::NoStunHere);
        said.blames(at.other(), &Cause::NothingPasses);
    });
}
