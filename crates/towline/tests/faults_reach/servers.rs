//! Servers that are dead, refuse, or lie, for one of the devices.

use std::net::SocketAddr;

use towline::ice::stun::{Class, Encoder, Message};
use towline::net::{Net as _, UdpBind};
use towline::{Cause, Reach, Relay, RelaySecret, RelayTransport};
use towline_lab::towline_nat::Config as Nat;
use towline_lab::{Host, Names};

use crate::rig::{At, NOBODY, Rig, Spec, behind, home, on_either_side, placed, relay, relayed, stun};

/// What the side without a relay says: a way there would be, had it one itself.
const NO_RELAY: Cause = Cause::RandomNats { relay: false };

#[test]
fn a_relay_that_knows_other_credentials() {
    on_either_side(30, async |world, at| {
        let wrong = Relay { secret: RelaySecret::Password("guessed".to_owned()), ..relay() };
        let cause = Cause::RelayCredentials { relay: wrong.server.clone() };
        let [a, b] = placed(at, relayed(wrong), behind(Nat::symmetric()));
        let rig = Rig::new(world, a, b).await;
        let said = rig.dial().await;
        said.names(at, &cause);
        said.blames(at.other(), &NO_RELAY);
    });
}

#[test]
fn a_relay_whose_quota_is_used_up() {
    on_either_side(31, async |world, at| {
        let cause = Cause::RelayFull { relay: relay().server };
        let [a, b] = placed(at, relayed(relay()), behind(Nat::symmetric()));
        let rig = Rig::with(world, a, b, |config| config.allocations_per_user = 0).await;
        let said = rig.dial().await;
        said.names(at, &cause);
        said.blames(at.other(), &NO_RELAY);
    });
}

#[test]
fn a_relay_that_is_not_there() {
    for transport in [RelayTransport::Udp, RelayTransport::Tcp] {
        on_either_side(32, async |world, at| {
            let gone = Relay { server: format!("{NOBODY}:3478"), transport, ..relay() };
            let cause = Cause::RelayDown { relay: gone.server.clone() };
            let [a, b] = placed(at, relayed(gone), behind(Nat::symmetric()));
            let rig = Rig::new(world, a, b).await;
            let said = rig.dial().await;
            said.names(at, &cause);
            said.blames(at.other(), &NO_RELAY);
        });
    }
}

#[test]
fn stun_servers_that_are_dead() {
    on_either_side(33, async |world, at| {
        let dead = Reach { stun: vec![format!("{NOBODY}:3478")], ..Reach::default() };
        let [a, b] = placed(at, Spec { reach: dead, ..home() }, home());
        let rig = Rig::new(world, a, b).await;
        let said = rig.dial().await;
        said.names(at, &Cause::StunDown);
        said.blames(at.other(), &Cause::NothingPasses);
    });
}

/// Tells everybody the same address.
fn lie(host: &Host) {
    let socket = host.bind_udp(&UdpBind::new(SocketAddr::new(host.ipv4(), 3479))).unwrap();
    tokio::spawn(async move {
        let mut buf = [0; 2048];
        loop {
            let received = socket.recv(&mut buf).await.unwrap();
            if let Ok(asked) = Message::decode(&buf[..received.len]) {
                let answer = Encoder::new(Class::Success, asked.method, asked.transaction)
                    .mapped_address("45.66.66.66:6666".parse().unwrap())
                    .finish(None);
                socket.send(&answer, received.from).await.unwrap();
            }
        }
    });
}

#[test]
fn a_stun_server_that_lies() {
    on_either_side(34, async |world, at| {
        let mut reach = stun();
        reach.stun.push(format!("{NOBODY}:3479"));
        let [a, b] = placed(at, Spec { reach, ..home() }, home());
        let rig = Rig::new(world, a, b).await;
        lie(&rig.nobody);
        let said = rig.dial().await;
        said.stands(at, &[Cause::StunLies]);
        said.stands(at.other(), &[]);
    });
}

#[test]
fn names_of_servers_that_nobody_knows() {
    for names in [Names::Unknown, Names::Silent] {
        on_either_side(35, async |world, at| {
            let reach = Reach { stun: vec!["station:3478".to_owned()], ..Reach::default() };
            let prepare: fn(&Host) = match names {
                Names::Silent => |host| host.set_names(Names::Silent),
                _ => |host| host.set_names(Names::Unknown),
            };
            let [a, b] = placed(at, Spec { reach, prepare, ..home() }, home());
            let rig = Rig::new(world, a, b).await;
            let said = rig.dial().await;
            said.names(at, &Cause::NameUnknown { name: "station:3478".to_owned() });
            said.blames(at.other(), &Cause::NothingPasses);
        });
    }
}

#[test]
fn a_name_of_a_relay_that_nobody_knows() {
    on_either_side(36, async |world, at| {
        let named = Relay { server: "station:3478".to_owned(), ..relay() };
        let [a, b] = placed(at, relayed(named), behind(Nat::symmetric()));
        let prepare: fn(&Host) = |host| host.set_names(Names::Unknown);
        let [a, b] = match at {
            At::Dialler => [Spec { prepare, ..a }, b],
            At::Answerer => [a, Spec { prepare, ..b }],
        };
        let rig = Rig::new(world, a, b).await;
        let said = rig.dial().await;
        said.names(at, &Cause::NameUnknown { name: "station:3478".to_owned() });
        said.blames(at.other(), &NO_RELAY);
    });
}
