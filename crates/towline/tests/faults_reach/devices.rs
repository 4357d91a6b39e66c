//! Faults of a device itself: its clock, its sockets, its certificate, its manners.

use std::net::SocketAddr;
use std::time::Duration;

use towline::net::{Net as _, UdpBind};
use towline::{Cause, Config, ConnectError, ConnectionPolicy, Limits, SharedRevocations};
use towline_ice::{Agent, Role, host_candidates};
use towline_lab::{Host, World};

use crate::common::rogue::{Rogue, request};
use crate::common::{Lab, family, identity, pass, story};
use crate::rig::{At, Rig, SOON, Spec, home, on_either_side, placed, public};

/// Long before and long after everything the certificates and announcements speak of.
const CLOCKS: [fn(&Host); 2] = [
    |host| host.set_clock(Duration::from_hours(24 * 365 * 20)),
    |host| host.set_clock(Duration::from_hours(24 * 365 * 80)),
];

#[test]
fn a_clock_that_is_far_off() {
    for prepare in CLOCKS {
        on_either_side(40, async |world, at| {
            let [a, b] = placed(at, Spec { prepare, ..public() }, public());
            let rig = Rig::new(world, a, b).await;
            let said = rig.dial().await;
            said.names(at, &Cause::ClockHere);
            said.blames(at.other(), &Cause::ClockThere);
        });
    }
}

#[test]
fn a_program_that_can_open_no_more_files() {
    on_either_side(41, async |world, at| {
        let rig = Rig::new(world, public(), public()).await;
        let host = &rig.end(at).host;
        host.set_room(host.sockets());
        let said = rig.dial().await;
        said.names(at, &Cause::FilesExhaustedHere);
        said.is_not_told(at);
    });
}

#[test]
fn a_host_without_a_free_port() {
    on_either_side(42, async |world, at| {
        let rig = Rig::new(world, public(), public()).await;
        let host = &rig.end(at).host;
        // Others have all that are given out where none is asked for.
        host.set_ports(60_000..=60_007);
        let udp: Vec<_> = std::iter::from_fn(|| host.bind_udp(&UdpBind::any_v4()).ok()).collect();
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let tcp: Vec<_> = std::iter::from_fn(|| host.listen_tcp(any).ok()).collect();
        assert_eq!((udp.len(), tcp.len()), (8, 8));
        let said = rig.dial().await;
        said.names(at, &Cause::PortsExhaustedHere);
        said.is_not_told(at);
    });
}

#[test]
fn a_device_that_is_revoked() {
    on_either_side(43, async |world, at| {
        // The other side goes by a list that names the device.
        let revoked = Spec { identity: Some(family().1), ..public() };
        let configure = |config| {
            let (account, device) = family();
            let lists = SharedRevocations::default();
            let list = account.revoke([], &[device.chain().leaf().clone()], 1_800_000_000).unwrap();
            lists.insert(list, account.chain().leaf()).unwrap();
            Config { revocations: lists, ..config }
        };
        let [a, b] = placed(at, revoked, Spec { configure, ..public() });
        let rig = Rig::new(world, a, b).await;
        let said = rig.dial().await;
        said.blames(at.other(), &Cause::RevokedThere);
        if at == At::Dialler {
            said.names(at, &Cause::RevokedHere);
        } else {
            said.knows_nothing(at);
        }
    });
}

#[test]
fn a_device_that_is_not_admitted() {
    story(44, async |world| {
        let configure = |config| Config { policy: ConnectionPolicy::OwnAccount, ..config };
        let rig = Rig::new(world, public(), Spec { configure, ..public() }).await;
        let said = rig.dial().await;
        said.blames(At::Dialler, &Cause::RefusedThere);
        said.names(At::Answerer, &Cause::NotAdmittedHere);
    });
}

#[test]
fn a_device_that_has_no_room() {
    story(45, async |world| {
        let configure =
            |config: Config| Config { limits: Limits { connections: 0, ..config.limits }, ..config };
        let rig = Rig::new(world, public(), Spec { configure, ..public() }).await;
        let said = rig.dial().await;
        said.blames(At::Dialler, &Cause::BusyThere);
        said.knows_nothing(At::Answerer);
    });
    story(46, async |world| {
        let configure = |config: Config| Config { limits: Limits { dials: 0, ..config.limits }, ..config };
        let rig = Rig::new(world, Spec { configure, ..public() }, public()).await;
        let error = rig.dialler.node.connect(rig.answerer.node.device(), "no room").await.unwrap_err();
        assert!(matches!(error, ConnectError::Busy { limit: 0, .. }), "{error}");
        let said = rig.said().await;
        said.knows_nothing(At::Dialler);
        said.knows_nothing(At::Answerer);
    });
}

#[test]
fn a_device_that_is_off() {
    story(47, async |world| {
        let rig = Rig::new(world, home(), home()).await;
        rig.answerer.host.crash();
        rig.dial().await.blames(At::Dialler, &Cause::OfflineThere);
    });
}

/// A device whose program answers, and does nothing any more: its sockets are open, and nobody reads them.
struct Hung {
    rogue: Rogue,
    _sockets: (Box<dyn towline::net::UdpSocket>, Box<dyn towline::net::TcpListener>),
    blob: String,
}

async fn hung(lab: &Lab) -> Hung {
    let host = lab.host("hung");
    let udp = host.bind_udp(&UdpBind::new(SocketAddr::new(host.ipv4(), 0))).unwrap();
    let tcp = host.listen_tcp(SocketAddr::new(host.ipv4(), 0)).unwrap();
    let mut agent =
        Agent::new(towline_ice::Config::default(), Role::Controlling, towline::net::now(), [3; 32]);
    for candidate in host_candidates(&[host.ipv4()], Some(tcp.local_addr().port()), None) {
        agent.add_local(towline::net::now(), candidate);
    }
    let blob = agent.local_description().to_blob();
    Hung { rogue: Rogue::new(lab, identity(2)).await, _sockets: (udp, tcp), blob }
}

async fn lab_with_one_node(world: World) -> (Lab, towline::Node, Hung) {
    let lab = Lab::new(world).await;
    let node = lab.node(0).await;
    node.registered().await;
    let hung = hung(&lab).await;
    (lab, node, hung)
}

#[test]
fn a_device_that_answers_and_then_hangs() {
    story(48, async |world| {
        let (_lab, alice, hung) = lab_with_one_node(world).await;
        let device = hung.rogue.identity.device_id();
        let dialling = alice.clone();
        tokio::spawn(async move { dialling.connect(device, "hangs").await.map(drop) });
        let asked = hung.rogue.asked().await;
        let mut answer = request(asked.id, &hung.blob);
        answer.is_answer = true;
        hung.rogue.put(alice.identity().key().public(), answer.encode()).await;
        pass(SOON).await;
        let report = alice.report(device).await.unwrap();
        assert_eq!(report.cause(), Some(&Cause::SilentThere), "{report}");
    });
}

#[test]
fn a_device_that_asks_and_then_hangs() {
    story(49, async |world| {
        let (_lab, alice, hung) = lab_with_one_node(world).await;
        hung.rogue.put(alice.identity().key().public(), request(7, &hung.blob).encode()).await;
        pass(SOON).await;
        let report = alice.report(hung.rogue.identity.device_id()).await.unwrap();
        assert_eq!(report.cause(), Some(&Cause::SilentThere), "{report}");
    });
}
