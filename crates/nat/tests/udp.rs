//! The requirements of RFC 4787, by number, and every kind of NAT.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::collections::BTreeSet;

use common::*;
use towline_nat::{
    Allocation, Config, Event, Exhausted, Filtering, Header, Limits, Mapping, Nat, Pooling, Reason, Reply,
    Taken, Timeouts, Transport, Verdict, Way,
};

/// Which of three destinations get the same outside end as the first, and which of three sources may answer.
#[test]
fn every_kind_maps_and_filters_as_its_name_says() {
    for (mapping, filtering, allocation) in kinds() {
        let kind = format!("{mapping:?}, {filtering:?}, {allocation:?}");
        let mut nat = nat(Config::of_kind(mapping, filtering, allocation));
        let host = inside(10, 5000);
        let first = out(&mut nat, secs(0), host, remote(1, 1000));
        // RFC 4787 5, before anything else is sent: same end, same address, stranger.
        let mut passes = [remote(1, 1000), remote(1, 1001), remote(2, 1000)]
            .map(|from| back(&mut nat, secs(0), from, first) == Some(host));
        let wanted = match filtering {
            Filtering::EndpointIndependent => [true, true, true],
            Filtering::AddressDependent => [true, true, false],
            Filtering::AddressAndPortDependent => [true, false, false],
        };
        assert_eq!(passes, wanted, "{kind}");
        // RFC 4787 4.1, of another socket.
        let host = inside(10, 6000);
        let first = out(&mut nat, secs(0), host, remote(1, 1000));
        let same = [remote(1, 1000), remote(1, 1001), remote(2, 1000)]
            .map(|to| out(&mut nat, secs(0), host, to) == first);
        let wanted = match mapping {
            Mapping::EndpointIndependent => [true, true, true],
            Mapping::AddressDependent => [true, true, false],
            Mapping::AddressAndPortDependent => [true, false, false],
        };
        assert_eq!(same, wanted, "{kind}");
        // REQ-8: what was sent to by this end may answer now.
        passes = [remote(1, 1000), remote(1, 1001), remote(2, 1000)]
            .map(|from| back(&mut nat, secs(0), from, first) == Some(host));
        match filtering {
            Filtering::EndpointIndependent => assert_eq!(passes, [true; 3], "{kind}"),
            Filtering::AddressDependent => assert_eq!(passes, [true, true, same[2]], "{kind}"),
            Filtering::AddressAndPortDependent => assert_eq!(passes, same, "{kind}"),
        }
    }
}

#[test]
fn every_allocation_gives_the_ports_it_says() {
    let ports = |allocation, parity| -> Vec<u16> {
        let kind =
            Config::of_kind(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent, allocation);
        let mut nat = nat(Config { parity, ..kind });
        (1..=6).map(|host| out(&mut nat, secs(0), inside(10, 5001), remote(host, 9)).port()).collect()
    };
    assert_eq!(ports(Allocation::Sequential { step: 1 }, false), [1024, 1025, 1026, 1027, 1028, 1029]);
    assert_eq!(ports(Allocation::Sequential { step: 0 }, false), [1024, 1025, 1026, 1027, 1028, 1029]);
    assert_eq!(ports(Allocation::Sequential { step: 3 }, false), [1024, 1027, 1030, 1033, 1036, 1039]);
    assert_eq!(ports(Allocation::Sequential { step: -1 }, false), [1024, 65535, 65534, 65533, 65532, 65531]);
    // REQ-4: an odd port gets odd ones, so every second is skipped.
    assert_eq!(ports(Allocation::Sequential { step: 1 }, true), [1025, 1027, 1029, 1031, 1033, 1035]);
    assert_eq!(
        ports(Allocation::Preserving { taken: Taken::Next }, false),
        [5001, 5002, 5003, 5004, 5005, 5006]
    );
    let random = ports(Allocation::Random, true);
    assert!(random.iter().all(|port| port % 2 == 1), "{random:?}");
    assert_eq!(random.iter().collect::<BTreeSet<_>>().len(), 6);
    let steps: BTreeSet<_> = random.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
    assert!(steps.len() == 5, "no sequence: {random:?}");
    let preserved = ports(Allocation::Preserving { taken: Taken::Random }, false);
    assert_eq!(preserved[0], 5001);
    assert!(preserved[1..].iter().all(|port| *port != 5001));
}

/// REQ-2: all mappings of a host have one address; otherwise they are spread.
#[test]
fn req_2_pooling() {
    let pool: Vec<_> = (1..=8).map(|host| ip(&format!("203.0.113.{host}"))).collect();
    let used = |pooling| -> Vec<BTreeSet<_>> {
        let mut nat = Nat::new(Config { pooling, ..Config::symmetric() }, &pool, [1; 32]);
        let of = |nat: &mut Nat, host| {
            (1..=20u8).map(|to| out(nat, secs(0), inside(host, 5000), remote(to, 9)).ip()).collect()
        };
        (10..20).map(|host| of(&mut nat, host)).collect()
    };
    let paired = used(Pooling::Paired);
    assert!(paired.iter().all(|addresses| addresses.len() == 1), "{paired:?}");
    assert!(paired.iter().flatten().collect::<BTreeSet<_>>().len() > 2, "hosts are spread: {paired:?}");
    assert!(used(Pooling::Arbitrary).iter().all(|addresses| addresses.len() > 3));
}

/// REQ-3: no port is given twice, preserved or not; REQ-3a: a port below 1024 may stay one.
#[test]
fn req_3_ports_are_not_overloaded() {
    for (mapping, filtering, allocation) in kinds() {
        let mut nat = nat(Config::of_kind(mapping, filtering, allocation));
        let ends: Vec<_> =
            (10..40).map(|host| out(&mut nat, secs(0), inside(host, 500), remote(1, 9))).collect();
        assert_eq!(ends.iter().collect::<BTreeSet<_>>().len(), ends.len());
        if matches!(allocation, Allocation::Preserving { .. }) {
            assert_eq!(ends[0].port(), 500);
        } else {
            assert!(ends[0].port() >= 1024);
        }
    }
}

/// REQ-4: with parity, an even port stays even and an odd one odd, also when the preserved one is taken.
#[test]
fn req_4_parity() {
    for allocation in ALLOCATIONS {
        let kind = Config::of_kind(Mapping::EndpointIndependent, Filtering::AddressDependent, allocation);
        let mut nat = nat(Config { parity: true, ..kind });
        for host in 10..60 {
            for port in [5000, 5001] {
                let outside = out(&mut nat, secs(0), inside(host, port), remote(1, 9));
                assert_eq!(outside.port() % 2, port % 2, "{allocation:?}");
            }
        }
    }
}

/// REQ-5: the default is five minutes; a shorter time can be configured, and one for what was not answered.
#[test]
fn req_5_timeouts() {
    let host = inside(10, 5000);
    let mut recommended = nat(Config::default());
    let first = out(&mut recommended, secs(0), host, remote(1, 9));
    assert_eq!(back(&mut recommended, secs(299), remote(1, 9), first), Some(host));
    assert_eq!(back(&mut recommended, secs(300), remote(1, 9), first), None);
    assert_eq!(recommended.mappings(secs(300)).count(), 0);

    let mut home = nat(Config::port_restricted_cone());
    let silent = out(&mut home, secs(0), host, remote(1, 9));
    assert_eq!(back(&mut home, secs(30), remote(1, 9), silent), None, "30 s without an answer");
    let answered = out(&mut home, secs(100), host, remote(1, 9));
    assert_eq!(back(&mut home, secs(129), remote(1, 9), answered), Some(host));
    assert_eq!(back(&mut home, secs(248), remote(1, 9), answered), Some(host), "120 s with one");
    assert_eq!(back(&mut home, secs(368), remote(1, 9), answered), None);
}

/// REQ-6: packets from inside prolong a mapping; those from outside only if configured, and never by strangers.
#[test]
fn req_6_refresh() {
    let timeouts = Timeouts { udp: secs(60), udp_unanswered: secs(60), ..Timeouts::default() };
    for inbound_refresh in [false, true] {
        let mut nat = nat(Config { timeouts, inbound_refresh, ..Config::full_cone() });
        let host = inside(10, 5000);
        let first = out(&mut nat, secs(0), host, remote(1, 9));
        for now in [40, 80] {
            assert_eq!(out(&mut nat, secs(now), host, remote(1, 9)), first, "outbound refresh");
        }
        assert_eq!(back(&mut nat, secs(139), remote(1, 9), first), Some(host));
        assert_eq!(back(&mut nat, secs(141), remote(1, 9), first).is_some(), inbound_refresh);
        if inbound_refresh {
            for now in [150, 180, 200] {
                assert!(back(&mut nat, secs(now), remote(2, 9), first).is_some(), "the cone is open");
            }
            assert_eq!(back(&mut nat, secs(201), remote(3, 9), first), None, "but strangers prolong nothing");
        }
    }
}

/// REQ-9: hosts inside meet by their outside addresses, as which they see each other.
#[test]
fn req_9_hairpinning() {
    let (a, b) = (inside(10, 5000), inside(11, 6000));
    for filtering in FILTERINGS {
        let mut nat = nat(Config { filtering, hairpin: true, ..Config::full_cone() });
        let (of_a, of_b) = (out(&mut nat, secs(0), a, remote(1, 9)), out(&mut nat, secs(0), b, remote(1, 9)));
        let to_b = nat.handle(secs(1), Way::Out, &Header::udp(a, of_b));
        if filtering == Filtering::EndpointIndependent {
            assert_eq!(to_b, Verdict::Turn { from: of_a, to: b });
        } else {
            assert_eq!(to_b, Verdict::Drop(Reason::Filtered), "the filter applies");
        }
        let to_a = nat.handle(secs(1), Way::Out, &Header::udp(b, of_a));
        assert_eq!(to_a, Verdict::Turn { from: of_b, to: a }, "a has sent there");
    }
    let mut nat = nat(Config::full_cone());
    let of_b = out(&mut nat, secs(0), b, remote(1, 9));
    let turned = nat.handle(secs(0), Way::Out, &Header::udp(a, of_b));
    assert_eq!(turned, Verdict::Drop(Reason::NoHairpin));
    assert_eq!(nat.mappings(secs(0)).count(), 1, "and nothing is mapped for it");
}

/// REQ-11: what a box does does not depend on load or luck: a conflict of ports changes the port and nothing else.
#[test]
fn req_11_determinism() {
    let mut nat = nat(Config::port_restricted_cone());
    let first = out(&mut nat, secs(0), inside(10, 5000), remote(1, 9));
    let second = out(&mut nat, secs(0), inside(11, 5000), remote(1, 9));
    assert_ne!(first.port(), second.port());
    for to in 1..100 {
        assert_eq!(out(&mut nat, secs(0), inside(11, 5000), remote(to, 9)), second);
        assert_eq!(back(&mut nat, secs(0), remote(to, 10), second), None);
    }
}

/// REQ-12: ICMP errors are translated by what they quote, whoever sends them, and end nothing.
#[test]
fn req_12_icmp() {
    let host = inside(10, 5000);
    let mut nat = nat(Config { hairpin: true, ..Config::port_restricted_cone() });
    let outside = out(&mut nat, secs(0), host, remote(1, 9));
    for _ in 0..3 {
        let quoted = nat.handle_error(secs(1), Way::In, &Header::udp(outside, remote(1, 9)));
        assert_eq!(quoted, Some(Header::udp(host, remote(1, 9))));
    }
    assert_eq!(nat.handle_error(secs(1), Way::In, &Header::udp(outside, remote(2, 9))), None);
    assert_eq!(nat.handle_error(secs(1), Way::In, &Header::udp(addr("203.0.113.1:9"), remote(1, 9))), None);
    assert_eq!(back(&mut nat, secs(1), remote(1, 9), outside), Some(host), "it lives");
    // From inside, about a packet that came in.
    let quoted = nat.handle_error(secs(2), Way::Out, &Header::udp(remote(1, 9), host));
    assert_eq!(quoted, Some(Header::udp(remote(1, 9), outside)));
    // About a packet that never came in.
    assert_eq!(nat.handle_error(secs(2), Way::Out, &Header::udp(remote(2, 9), host)), None);
}

#[test]
fn errors_about_hairpins_come_home() {
    let (a, b) = (inside(10, 5000), inside(11, 6000));
    let mut nat = nat(Config { hairpin: true, ..Config::full_cone() });
    let (of_a, of_b) = (out(&mut nat, secs(0), a, remote(1, 9)), out(&mut nat, secs(0), b, remote(1, 9)));
    assert_eq!(nat.handle(secs(0), Way::Out, &Header::udp(a, of_b)), Verdict::Turn { from: of_a, to: b });
    let quoted = nat.handle_error(secs(0), Way::Out, &Header::udp(of_a, b));
    assert_eq!(quoted, Some(Header::udp(a, of_b)));
}

#[test]
fn a_lack_of_ports_is_named() {
    let few = |exhausted| Config {
        ports: 2000..=2003,
        exhausted,
        allocation: Allocation::Random,
        ..Config::port_restricted_cone()
    };
    for exhausted in [Exhausted::Drop, Exhausted::Reject, Exhausted::Evict] {
        let mut nat = nat(few(exhausted));
        let ends: BTreeSet<_> = (10..14u8)
            .map(|host| out(&mut nat, secs(u64::from(host)), inside(host, 5000), remote(1, 9)))
            .collect();
        assert_eq!(ends.len(), 4);
        let fifth = nat.handle(secs(14), Way::Out, &Header::udp(inside(14, 5000), remote(1, 9)));
        match exhausted {
            Exhausted::Drop => assert_eq!(fifth, Verdict::Drop(Reason::NoPort)),
            Exhausted::Reject => assert_eq!(fifth, Verdict::Reject(Reason::NoPort, Reply::Unreachable)),
            Exhausted::Evict => {
                let Verdict::Forward { from, .. } = fifth else { panic!("{fifth:?}") };
                assert_eq!(back(&mut nat, secs(14), remote(1, 9), from), Some(inside(14, 5000)));
                let left: Vec<_> = nat.mappings(secs(14)).map(|mapped| mapped.inside).collect();
                assert!(!left.contains(&inside(10, 5000)), "the oldest made room: {left:?}");
                assert_eq!(left.len(), 4);
            }
        }
        // When the ports are free again they are given out again.
        assert_eq!(nat.mappings(secs(200)).count(), 0);
        out(&mut nat, secs(200), inside(20, 5000), remote(1, 9));
        // UDP and TCP have ports of their own.
        tcp_open(&mut nat, secs(200), inside(21, 5000), remote(1, 9));
    }
}

/// RFC 6888 REQ-4: a limit per host; REQ-8: ports rest.
#[test]
fn a_carrier_shares_its_ports_out() {
    let mut nat = nat(Config {
        limits: Limits { mappings_per_host: 3, ..Limits::default() },
        ..Config::carrier_grade()
    });
    for port in 0..3 {
        out(&mut nat, secs(0), inside(10, 5000 + port), remote(1, 9));
    }
    let more = nat.handle(secs(0), Way::Out, &Header::udp(inside(10, 6000), remote(1, 9)));
    assert_eq!(more, Verdict::Reject(Reason::HostQuota, Reply::Unreachable));
    out(&mut nat, secs(0), inside(11, 5000), remote(1, 9));
    // Another inside may have as many, and the first again when its own have expired.
    out(&mut nat, secs(301), inside(10, 6000), remote(1, 9));

    let config = Config { ports: 2000..=2000, ..Config::carrier_grade() };
    let mut nat = Nat::new(config, &[ip("203.0.113.1")], [7; 32]);
    out(&mut nat, secs(0), inside(10, 5000), remote(1, 9));
    let early = nat.handle(secs(310), Way::Out, &Header::udp(inside(11, 5000), remote(1, 9)));
    assert_eq!(early, Verdict::Reject(Reason::NoPort, Reply::Unreachable), "the port rests");
    let freed = secs(310 + 120);
    out(&mut nat, freed + secs(1), inside(11, 5000), remote(1, 9));
}

#[test]
fn sessions_of_a_mapping_are_bounded() {
    let limits = Limits { sessions_per_mapping: 4, sessions: 6, ..Limits::default() };
    let mut nat = nat(Config { limits, ..Config::port_restricted_cone() });
    let host = inside(10, 5000);
    let outside = out(&mut nat, secs(0), host, remote(0, 9));
    for to in 1..=4u8 {
        out(&mut nat, secs(u64::from(to)), host, remote(to, 9));
    }
    let passes: Vec<_> =
        (0..=4).map(|from| back(&mut nat, secs(5), remote(from, 9), outside).is_some()).collect();
    assert_eq!(passes, [false, true, true, true, true], "the one that expires first made room");
    for to in 1..=2 {
        out(&mut nat, secs(6), inside(11, 5000), remote(to, 9));
    }
    let full = nat.handle(secs(6), Way::Out, &Header::udp(inside(12, 5000), remote(1, 9)));
    assert_eq!(full, Verdict::Drop(Reason::TableFull));
    assert_eq!(nat.mappings(secs(6)).count(), 2, "nothing is mapped for it");
    // Strangers that a full cone lets in take no room from others.
    let limits = Limits { sessions_per_mapping: 4, ..Limits::default() };
    let mut nat = common::nat(Config { limits, ..Config::full_cone() });
    let outside = out(&mut nat, secs(0), host, remote(0, 9));
    for from in 1..100 {
        assert_eq!(back(&mut nat, secs(0), remote(from, 9), outside), Some(host));
    }
    assert_eq!(back(&mut nat, secs(0), remote(0, 9), outside), Some(host));
}

#[test]
fn what_goes_on_in_the_tables_is_told() {
    let mut nat = nat(Config::port_restricted_cone());
    let outside = out(&mut nat, secs(0), inside(10, 5000), remote(1, 9));
    let Some(Event::Opened(opened)) = nat.poll_event() else { panic!("a mapping was made") };
    assert_eq!(
        (opened.transport, opened.inside, opened.outside),
        (Transport::Udp, inside(10, 5000), outside)
    );
    assert_eq!(nat.poll_event(), None);
    nat.forget(secs(1));
    assert!(matches!(nat.poll_event(), Some(Event::Closed(mapped, _)) if mapped == opened));
    assert_eq!(back(&mut nat, secs(1), remote(1, 9), outside), None);
}

#[test]
fn a_new_address_outside_ends_what_had_the_old_one() {
    let mut nat = Nat::new(Config::full_cone(), &[ip("203.0.113.1"), ip("2001:db8::1")], [7; 32]);
    assert_eq!(nat.outside(), [ip("203.0.113.1")]);
    let host = inside(10, 5000);
    let old = out(&mut nat, secs(0), host, remote(1, 9));
    nat.set_outside(secs(1), &[ip("203.0.113.2")]);
    assert_eq!(back(&mut nat, secs(1), remote(1, 9), old), None);
    let new = out(&mut nat, secs(1), host, remote(1, 9));
    assert_eq!(new, addr("203.0.113.2:5000"));
    nat.set_outside(secs(2), &[]);
    let nowhere = nat.handle(secs(2), Way::Out, &Header::udp(host, remote(1, 9)));
    assert_eq!(nowhere, Verdict::Drop(Reason::NoAddress));
    let six = Header::udp(addr("[2001:db8:1::2]:5"), addr("[2001:db8:2::2]:6"));
    assert_eq!(nat.handle(secs(2), Way::In, &six), Verdict::Forward { from: six.from, to: six.to });
}
