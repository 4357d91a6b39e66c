//! Mappings that hosts inside ask for.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Duration;

use common::*;
use towline_nat::{Config, Flags, Lease, Limits, MapError, Nat, Request, Transport, Verdict, Way};

const HOUR: Duration = Duration::from_hours(1);

fn ask(transport: Transport, host: u8, port: u16) -> Request {
    Request { transport, inside: inside(host, 5000), port: Some(port), exact: false, lifetime: HOUR }
}

fn box_with(config: Config) -> Nat {
    nat(Config { leases: Some(2 * HOUR), ..config })
}

#[test]
fn a_lease_lets_everybody_in_as_long_as_it_lives() {
    for config in [Config::port_restricted_cone(), Config::symmetric()] {
        let mut nat = box_with(config);
        for transport in [Transport::Udp, Transport::Tcp] {
            let lease = nat.map(secs(0), &ask(transport, 10, 7000)).unwrap();
            assert_eq!(lease, Lease { outside: addr("203.0.113.1:7000"), lifetime: HOUR });
        }
        let outside = addr("203.0.113.1:7000");
        assert_eq!(back(&mut nat, secs(3599), remote(1, 9), outside), Some(inside(10, 5000)));
        let knock = tcp(&mut nat, secs(3599), Way::In, remote(1, 9), outside, Flags::SYN);
        assert_eq!(knock, Verdict::Forward { from: remote(1, 9), to: inside(10, 5000) });
        let answer = tcp(&mut nat, secs(3599), Way::Out, inside(10, 5000), remote(1, 9), Flags::SYN_ACK);
        assert_eq!(answer, Verdict::Forward { from: outside, to: remote(1, 9) });
        // What the host sends to somebody new goes out by it, too.
        assert_eq!(out(&mut nat, secs(3599), inside(10, 5000), remote(9, 9)), outside);
        // Then strangers are refused again, and what is under way goes on.
        assert_eq!(back(&mut nat, secs(3600), remote(2, 9), outside), None);
        let data = tcp(&mut nat, secs(3700), Way::In, remote(1, 9), outside, Flags::ACK);
        assert_eq!(data, Verdict::Forward { from: remote(1, 9), to: inside(10, 5000) });
    }
}

#[test]
fn a_lease_is_renewed_and_given_back() {
    let mut nat = box_with(Config::port_restricted_cone());
    let request = ask(Transport::Udp, 10, 7000);
    let first = nat.map(secs(0), &request).unwrap();
    assert_eq!(nat.map(secs(3000), &Request { port: None, ..request }), Ok(first));
    assert!(back(&mut nat, secs(6000), remote(1, 9), first.outside).is_some());
    assert_eq!(nat.map(secs(6000), &Request { port: Some(1), exact: true, ..request }), Err(MapError::Taken));
    let long = nat.map(secs(6000), &Request { lifetime: 9 * HOUR, ..request }).unwrap();
    assert_eq!(long.lifetime, 2 * HOUR, "no longer than the box allows");
    let end = Request { lifetime: Duration::ZERO, ..request };
    assert_eq!(nat.map(secs(6001), &end).unwrap().outside, first.outside);
    assert_eq!(back(&mut nat, secs(6300), remote(1, 9), first.outside), None);
    assert_eq!(nat.map(secs(6400), &end), Err(MapError::Unknown));
}

#[test]
fn a_mapping_in_use_becomes_the_lease_where_mappings_are_for_all() {
    let mut nat = box_with(Config::port_restricted_cone());
    let outside = out(&mut nat, secs(0), inside(10, 5000), remote(1, 9));
    let lease = nat.map(secs(0), &ask(Transport::Udp, 10, 7000)).unwrap();
    assert_eq!(lease.outside, outside);
    assert_eq!(back(&mut nat, secs(1), remote(2, 9), outside), Some(inside(10, 5000)));
    // Unless another port is insisted on.
    out(&mut nat, secs(1), inside(11, 5000), remote(1, 9));
    let other = nat.map(secs(1), &Request { exact: true, ..ask(Transport::Udp, 11, 7001) }).unwrap();
    assert_eq!(other.outside.port(), 7001);
    // Given back while it is in use, it stays in use.
    let end = Request { lifetime: Duration::ZERO, ..ask(Transport::Udp, 10, 7000) };
    nat.map(secs(2), &end).unwrap();
    assert_eq!(back(&mut nat, secs(3), remote(1, 9), outside), Some(inside(10, 5000)));
    assert_eq!(back(&mut nat, secs(3), remote(3, 9), outside), None);
}

#[test]
fn what_cannot_be_given_is_refused_by_name() {
    let mut off = nat(Config::port_restricted_cone());
    assert_eq!(off.map(secs(0), &ask(Transport::Udp, 10, 7000)), Err(MapError::Disabled));
    let mut nat = box_with(Config {
        limits: Limits { leases_per_host: 2, ..Limits::default() },
        ..Config::port_restricted_cone()
    });
    let six = Request { inside: addr("[2001:db8::1]:5"), ..ask(Transport::Udp, 10, 7000) };
    assert_eq!(nat.map(secs(0), &six), Err(MapError::NoInside));
    nat.map(secs(0), &ask(Transport::Udp, 10, 7000)).unwrap();
    let taken = nat.map(secs(0), &Request { exact: true, ..ask(Transport::Udp, 11, 7000) });
    assert_eq!(taken, Err(MapError::Taken));
    let another = nat.map(secs(0), &ask(Transport::Udp, 11, 7000)).unwrap();
    assert_ne!(another.outside.port(), 7000);
    nat.map(secs(0), &Request { inside: inside(11, 5001), ..ask(Transport::Udp, 11, 7002) }).unwrap();
    let third = Request { inside: inside(11, 5002), ..ask(Transport::Udp, 11, 7003) };
    assert_eq!(nat.map(secs(0), &third), Err(MapError::Quota));
    // Room comes back with time.
    nat.map(secs(3601), &third).unwrap();
}
