//! Local candidates of every kind, and candidates that come late.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::time::Duration;

use common::nat::{By, Nat, Node, Peer, Ports, World, introduce};
use common::{addr, ms};
use towline_ice::{
    Agent, Candidate, CandidateKind, Config, Disposition, DropReason, Event, FailureReason, Role, Transport,
    Trickle, TrickleError,
};

const A: &str = "10.0.0.1:5000";
const B: &str = "10.0.1.1:6000";
const A_OUTSIDE: &str = "198.51.100.1";
const B_OUTSIDE: &str = "198.51.100.2";
/// Addresses of relays: what a driver sends there and hears from there goes through its relay.
const A_RELAY: &str = "192.0.2.10:49152";
const B_RELAY: &str = "192.0.2.20:49152";

fn host(address: &str) -> Candidate {
    Candidate::host(Transport::Udp, addr(address), 0)
}

fn relay(address: &str) -> Candidate {
    Candidate::relayed(Transport::Udp, addr(address), 0)
}

/// Two hosts behind NATs, each with a relay; what is mapped without being asked keeps its port.
fn pair(config: &Config, mapping: By, ports: Ports) -> (World, Peer, Peer) {
    let mut world = World::new(3);
    world.host(0, "10.0.0.1", Some(Nat::new(A_OUTSIDE, mapping, By::Port, ports, 1)));
    world.host(1, "10.0.1.1", Some(Nat::new(B_OUTSIDE, mapping, By::Port, ports, 2)));
    world.host(0, "192.0.2.10", None);
    world.host(1, "192.0.2.20", None);
    let agent = |role, seed| Agent::new(config.clone(), role, world.now, [seed; 32]);
    let a = Peer::new(world.now, agent(Role::Controlling, 1), [host(A)]);
    let b = Peer::new(world.now, agent(Role::Controlled, 2), [host(B)]);
    (world, a, b)
}

fn reflexive(outside: &str, base: &str) -> Candidate {
    let base = addr(base);
    let outside = std::net::SocketAddr::new(outside.parse().unwrap(), base.port());
    Candidate::reflexive(Transport::Udp, outside, base, 0)
}

fn talk(world: &mut World, a: &mut Peer, b: &mut Peer) {
    a.send(b"\x40ping");
    b.send(b"\x40pong");
    world.run(&mut [a, b], ms(200), |_| false);
    assert_eq!((&a.data[..], &b.data[..]), (&b"\x40pong"[..], &b"\x40ping"[..]));
}

#[test]
fn reflexive_candidates_meet_through_two_nats() {
    for config in [Config::default(), Config::parallel()] {
        let (mut world, mut a, mut b) = pair(&config, By::Nothing, Ports::Preserving);
        assert!(a.agent.add_local(world.now, reflexive(A_OUTSIDE, A)));
        assert!(b.agent.add_local(world.now, reflexive(B_OUTSIDE, B)));
        introduce(&world, &mut a, &mut b);
        world.run(&mut [&mut a, &mut b], Duration::from_secs(5), |_| false);
        let path = a.selected().unwrap();
        // Packets leave from the base.
        assert_eq!((path.local(), path.remote().ip().to_string()), (addr(A), B_OUTSIDE.to_owned()));
        assert_eq!(b.selected().unwrap().remote(), addr("198.51.100.1:5000"));
        talk(&mut world, &mut a, &mut b);
    }
}

#[test]
fn a_mapped_port_lets_in_whoever_knows_it() {
    // B's router forwards port 7000, and B is otherwise unreachable.
    let (mut world, mut a, mut b) = pair(&Config::default(), By::Port, Ports::Random);
    world.nat(B_OUTSIDE).forward(7000, addr(B));
    b.agent.add_local(world.now, Candidate::reflexive(Transport::Udp, addr("198.51.100.2:7000"), addr(B), 0));
    introduce(&world, &mut a, &mut b);
    world.run(&mut [&mut a, &mut b], Duration::from_secs(5), |_| false);
    assert_eq!(a.selected().unwrap().remote(), addr("198.51.100.2:7000"));
    talk(&mut world, &mut a, &mut b);
}

#[test]
fn one_relay_is_enough_and_both_are_the_last_choice() {
    for relays in [[true, false], [false, true], [true, true]] {
        let (mut world, mut a, mut b) = pair(&Config::parallel(), By::Port, Ports::Random);
        if relays[0] {
            assert!(a.agent.add_local(world.now, relay(A_RELAY)));
        }
        if relays[1] {
            assert!(b.agent.add_local(world.now, relay(B_RELAY)));
        }
        introduce(&world, &mut a, &mut b);
        world.run(&mut [&mut a, &mut b], Duration::from_secs(5), |_| false);
        let (ours, theirs) = (a.selected().unwrap(), b.selected().unwrap());
        let relayed = [ours, theirs].map(|path| [addr(A_RELAY), addr(B_RELAY)].contains(&path.local()));
        assert!(relayed[0] || relayed[1], "{ours:?} {theirs:?}");
        assert!(a.has(|e| matches!(e, Event::PairValid(valid) if valid.is_relayed() || !relays[0])));
        talk(&mut world, &mut a, &mut b);
    }
}

#[test]
fn a_direct_path_that_appears_later_takes_over_from_the_relay() {
    let (mut world, mut a, mut b) = pair(&Config::parallel(), By::Nothing, Ports::Preserving);
    assert!(a.agent.add_local(world.now, relay(A_RELAY)));
    introduce(&world, &mut a, &mut b);
    world.run(&mut [&mut a, &mut b], Duration::from_secs(2), |_| false);
    assert_eq!(a.selected().unwrap().local(), addr(A_RELAY));
    // Each learns how it is seen, and tells the other.
    for (one, outside, base) in [(true, A_OUTSIDE, A), (false, B_OUTSIDE, B)] {
        let candidate = reflexive(outside, base);
        let (from, to) = if one { (&mut a, &mut b) } else { (&mut b, &mut a) };
        from.agent.add_local(world.now, candidate.clone());
        let ufrag = from.agent.local_description().credentials.ufrag().to_owned();
        let trickle = Trickle { ufrag, candidates: vec![candidate], end: true };
        let parsed = Trickle::from_text(trickle.to_text().as_bytes()).unwrap();
        assert_eq!(to.agent.add_trickle(world.now, parsed), Ok(vec![]));
    }
    world.run(&mut [&mut a, &mut b], Duration::from_secs(5), |_| false);
    for peer in [&a, &b] {
        assert!(peer.has(|e| matches!(e, Event::Better(valid) if !valid.is_relayed())));
    }
    assert_eq!((a.selected().unwrap().local(), b.selected().unwrap().local()), (addr(A), addr(B)));
    talk(&mut world, &mut a, &mut b);
}

#[test]
fn the_relay_serves_again_when_the_direct_path_dies() {
    let (mut world, mut a, mut b) = pair(&Config::parallel(), By::Nothing, Ports::Preserving);
    for (peer, outside, base) in [(&mut a, A_OUTSIDE, A), (&mut b, B_OUTSIDE, B)] {
        peer.agent.add_local(world.now, reflexive(outside, base));
    }
    a.agent.add_local(world.now, relay(A_RELAY));
    introduce(&world, &mut a, &mut b);
    world.run(&mut [&mut a, &mut b], Duration::from_secs(5), |_| false);
    assert_eq!(a.selected().unwrap().local(), addr(A));
    world.cut(A_OUTSIDE, B_OUTSIDE);
    world.run(&mut [&mut a, &mut b], Duration::from_secs(31), |_| false);
    for peer in [&a, &b] {
        assert!(peer.has(|e| matches!(e, Event::ConsentLost { .. })));
        assert!(!peer.has(|e| matches!(e, Event::Disconnected)));
    }
    assert_eq!(a.selected().unwrap().local(), addr(A_RELAY));
    talk(&mut world, &mut a, &mut b);
}

#[test]
fn what_comes_to_a_socket_on_all_interfaces_is_not_the_relays() {
    let now = std::time::Instant::now();
    let mut agent = Agent::new(Config::default(), Role::Controlled, now, [1; 32]);
    agent.add_local(now, relay("192.0.2.10:5000"));
    let any = agent.handle_udp(now, addr("0.0.0.0:5000"), addr("192.0.2.1:7"), b"\x40");
    assert_eq!(any, Disposition::Dropped(DropReason::UnknownLocal));
}

#[test]
fn nobody_gives_up_while_candidates_are_being_gathered() {
    let config = Config { trickle: true, ..Config::default() };
    let (mut world, mut a, mut b) = pair(&config, By::Port, Ports::Random);
    a.agent.gathering();
    introduce(&world, &mut a, &mut b);
    a.agent.end_of_remote_candidates(world.now);
    world.run(&mut [&mut a, &mut b], Duration::from_mins(5), |_| false);
    assert!(!a.has(|e| matches!(e, Event::Failed(_))) && !b.has(|e| matches!(e, Event::Failed(_))));
    a.agent.end_of_local_candidates(world.now);
    world.run(&mut [&mut a, &mut b], Duration::from_mins(1), |_| false);
    assert!(a.has(|e| matches!(e, Event::Failed(r) if r.reason == FailureReason::AllPairsFailed)));
    // B still waits for A's candidates.
    assert!(!b.has(|e| matches!(e, Event::Failed(_))));
}

#[test]
fn candidates_of_another_description_are_not_taken() {
    let (world, mut a, mut b) = pair(&Config::parallel(), By::Nothing, Ports::Preserving);
    let trickle = |ufrag: &str| Trickle { ufrag: ufrag.to_owned(), candidates: vec![host(B)], end: false };
    assert_eq!(a.agent.add_trickle(world.now, trickle("x")), Err(TrickleError::OtherGeneration));
    introduce(&world, &mut a, &mut b);
    assert_eq!(a.agent.add_trickle(world.now, trickle("x")), Err(TrickleError::OtherGeneration));
    let ufrag = b.agent.local_description().credentials.ufrag().to_owned();
    let refused = a.agent.add_trickle(world.now, trickle(&ufrag)).unwrap();
    assert_eq!(refused.len(), 1, "known already");
    a.drain(world.now, &mut Vec::new());
    assert_eq!(a.agent.report().remote[0].kind, CandidateKind::Host);
}

#[test]
fn with_many_pairs_repetitions_leave_the_pace_to_new_checks() {
    let (mut world, mut a, _) = pair(&Config::default(), By::Nothing, Ports::Preserving);
    let mut remote = Agent::new(Config::default(), Role::Controlled, world.now, [9; 32]).local_description();
    remote.candidates = (0..30).map(|n| host(&format!("203.0.113.{n}:6000"))).collect();
    a.agent.set_remote(world.now, remote);
    let mut nobody =
        Peer::new(world.now, Agent::new(Config::default(), Role::Controlled, world.now, [8; 32]), []);
    // 8 at once, 22 more by 1.1 s; the first repetition after 30 × 50 ms.
    world.run(&mut [&mut a, &mut nobody], ms(1100), |_| false);
    assert_eq!(world.sent, 30);
    world.run(&mut [&mut a, &mut nobody], ms(390), |_| false);
    assert_eq!(world.sent, 30);
    world.run(&mut [&mut a, &mut nobody], ms(20), |_| false);
    assert_eq!(world.sent, 38);
}
