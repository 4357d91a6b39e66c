//! The requirements of RFC 5382, by number.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Duration;

use common::*;
use towline_nat::{
    Config, Filtering, Flags, Header, Mapping, Midstream, Nat, Reason, Refusal, Reply, Transport, Verdict,
    Way,
};

const DATA: Flags = Flags::ACK;

/// A connection from inside, opened as usual; its outside end.
fn connect(nat: &mut Nat, now: Duration) -> std::net::SocketAddr {
    let outside = tcp_open(nat, now, inside(10, 5000), remote(1, 80));
    assert!(passes(tcp(nat, now, Way::In, remote(1, 80), outside, Flags::SYN_ACK)));
    assert!(passes(tcp(nat, now, Way::Out, inside(10, 5000), remote(1, 80), DATA)));
    outside
}

fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Forward { .. })
}

/// REQ-1, REQ-3, REQ-7: mapping and filtering as of UDP, each by itself, and no port twice.
#[test]
fn req_1_and_3_mapping_and_filtering() {
    for (mapping, filtering, allocation) in kinds() {
        let mut nat = nat(Config::of_kind(mapping, filtering, allocation));
        let host = inside(10, 5000);
        let first = tcp_open(&mut nat, secs(0), host, remote(1, 80));
        let same = [remote(1, 80), remote(1, 81), remote(2, 80)]
            .map(|to| tcp_open(&mut nat, secs(0), host, to) == first);
        let wanted = match mapping {
            Mapping::EndpointIndependent => [true, true, true],
            Mapping::AddressDependent => [true, true, false],
            Mapping::AddressAndPortDependent => [true, false, false],
        };
        assert_eq!(same, wanted, "{mapping:?} {filtering:?} {allocation:?}");
        let other = inside(10, 6000);
        let end = tcp_open(&mut nat, secs(0), other, remote(1, 80));
        let knock = [remote(1, 81), remote(2, 80)]
            .map(|from| passes(tcp(&mut nat, secs(0), Way::In, from, end, Flags::SYN)));
        let wanted = match filtering {
            Filtering::EndpointIndependent => [true, true],
            Filtering::AddressDependent => [true, false],
            Filtering::AddressAndPortDependent => [false, false],
        };
        assert_eq!(knock, wanted, "{mapping:?} {filtering:?} {allocation:?}");
        // Who was let in is answered from where it knocked, whatever the mapping.
        if knock[0] {
            let answer = tcp(&mut nat, secs(0), Way::Out, other, remote(1, 81), Flags::SYN_ACK);
            assert_eq!(answer, Verdict::Forward { from: end, to: remote(1, 81) });
        }
    }
}

/// REQ-2: connections open from inside, and from both sides at once.
#[test]
fn req_2_valid_sequences() {
    let mut nat = nat(Config::default());
    connect(&mut nat, secs(0));
    // Both ask; then each answers (RFC 9293 figure 8).
    let host = inside(11, 5001);
    let outside = tcp_open(&mut nat, secs(0), host, remote(2, 7000));
    assert!(passes(tcp(&mut nat, secs(0), Way::In, remote(2, 7000), outside, Flags::SYN)));
    assert!(passes(tcp(&mut nat, secs(0), Way::Out, host, remote(2, 7000), Flags::SYN_ACK)));
    assert!(passes(tcp(&mut nat, secs(0), Way::In, remote(2, 7000), outside, Flags::SYN_ACK)));
    // It counts as open: four minutes of silence are no end.
    assert!(passes(tcp(&mut nat, secs(600), Way::In, remote(2, 7000), outside, DATA)));
}

/// REQ-4: who knocks uninvited hears nothing for six seconds; if the host inside asks for the same connection meanwhile, never.
#[test]
fn req_4_unsolicited_connections() {
    let mut nat = nat(Config { filtering: Filtering::AddressAndPortDependent, ..Config::default() });
    let host = inside(10, 5000);
    let outside = tcp_open(&mut nat, secs(0), host, remote(1, 80));
    let knock = Header::tcp(remote(2, 80), outside, Flags::SYN);
    for now in [1, 2] {
        assert_eq!(nat.handle(secs(now), Way::In, &knock), Verdict::Drop(Reason::Filtered));
    }
    assert_eq!(nat.poll_timeout(), Some(secs(7)), "a repeated one does not count");
    assert_eq!(nat.poll_refused(secs(6)), None);
    assert_eq!(nat.poll_refused(secs(7)), Some(knock));
    assert_eq!((nat.poll_refused(secs(7)), nat.poll_timeout()), (None, None));

    assert_eq!(nat.handle(secs(10), Way::In, &knock), Verdict::Drop(Reason::Filtered));
    assert_eq!(tcp_open(&mut nat, secs(12), host, remote(2, 80)), outside);
    assert_eq!(nat.poll_timeout(), None, "they meet: nobody is told");
    assert!(passes(nat.handle(secs(13), Way::In, &knock)));

    let nobody = Header::tcp(remote(2, 80), addr("203.0.113.1:9"), Flags::SYN);
    let refused = [
        (Refusal::Silent, Verdict::Drop(Reason::NoMapping)),
        (Refusal::Reset, Verdict::Reject(Reason::NoMapping, Reply::Reset)),
        (Refusal::Unreachable, Verdict::Reject(Reason::NoMapping, Reply::Unreachable)),
    ];
    for (unsolicited, verdict) in refused {
        let mut nat = common::nat(Config { unsolicited, ..Config::default() });
        assert_eq!(nat.handle(secs(0), Way::In, &nobody), verdict);
        assert_eq!(nat.poll_timeout(), None);
        // Only who asks is answered.
        for flags in [Flags::ACK, Flags::RST, Flags::SYN_ACK] {
            let stray = Header { flags, ..nobody };
            assert_eq!(nat.handle(secs(0), Way::In, &stray), Verdict::Drop(Reason::NoMapping));
        }
    }
}

/// REQ-5: an open connection may rest for two hours and four minutes, one that opens or closes for four minutes.
#[test]
fn req_5_timeouts() {
    let (open, transitory) = (124 * 60, 240);
    let back = |nat: &mut Nat, now, outside| passes(tcp(nat, now, Way::In, remote(1, 80), outside, DATA));
    for late in [false, true] {
        // The last second of it, or the first after it.
        let by = |limit: u64| secs(limit - u64::from(!late));
        let mut opens = nat(Config::default());
        let outside = tcp_open(&mut opens, secs(0), inside(10, 5000), remote(1, 80));
        assert_eq!(back(&mut opens, by(transitory), outside), !late);

        let mut rests = nat(Config::default());
        let outside = connect(&mut rests, secs(0));
        assert_eq!(back(&mut rests, by(open), outside), !late);

        let mut closes = nat(Config::default());
        let outside = connect(&mut closes, secs(0));
        tcp(&mut closes, secs(1), Way::Out, inside(10, 5000), remote(1, 80), Flags::FIN);
        assert!(back(&mut closes, secs(1), outside), "half-closed is not closed");
        tcp(&mut closes, secs(2), Way::In, remote(1, 80), outside, Flags::FIN);
        assert_eq!(back(&mut closes, by(2 + transitory), outside), !late);
    }
    let mut linux = nat(Config::port_restricted_cone());
    let outside = connect(&mut linux, secs(0));
    tcp(&mut linux, secs(1), Way::In, remote(1, 80), outside, Flags::RST);
    assert!(!back(&mut linux, secs(11), outside), "what was reset is forgotten after 10 s");
    assert_eq!(count(&linux, secs(11), Transport::Tcp), 0);
    // The same ends again.
    let again = connect(&mut linux, secs(12));
    tcp(&mut linux, secs(13), Way::In, remote(1, 80), again, Flags::RST);
    connect(&mut linux, secs(14));
    assert!(back(&mut linux, secs(3600), again), "a new connection, and not the rest of the old one");
}

/// REQ-8: as of UDP.
#[test]
fn req_8_hairpinning() {
    let (a, b) = (inside(10, 5000), inside(11, 6000));
    let mut nat = nat(Config { hairpin: true, ..Config::full_cone() });
    let of_b = tcp_open(&mut nat, secs(0), b, remote(1, 80));
    let Verdict::Turn { from: of_a, to } = tcp(&mut nat, secs(0), Way::Out, a, of_b, Flags::SYN) else {
        panic!("it turns")
    };
    assert_eq!((to, of_a), (b, addr("203.0.113.1:5000")));
    let answer = tcp(&mut nat, secs(0), Way::Out, b, of_a, Flags::SYN_ACK);
    assert_eq!(answer, Verdict::Turn { from: of_b, to: a });
}

/// REQ-9 and REQ-10: ICMP about TCP is translated, and ends no connection.
#[test]
fn req_9_and_10_icmp() {
    let mut nat = nat(Config::default());
    let outside = connect(&mut nat, secs(0));
    let about = Header::tcp(outside, remote(1, 80), Flags::default());
    let quoted = nat.handle_error(secs(1), Way::In, &about);
    assert_eq!(quoted, Some(Header { from: inside(10, 5000), ..about }));
    assert!(passes(tcp(&mut nat, secs(7000), Way::In, remote(1, 80), outside, DATA)));
}

#[test]
fn a_restart_in_the_middle_of_a_connection() {
    let outcomes = [
        (Midstream::Drop, None, Some(Verdict::Drop(Reason::NoConnection))),
        (Midstream::Reset, None, Some(Verdict::Reject(Reason::NoConnection, Reply::Reset))),
        (Midstream::Adopt, Some(()), None),
    ];
    for (midstream, adopted, refused) in outcomes {
        let mut nat = nat(Config { midstream, ..Config::default() });
        let outside = connect(&mut nat, secs(0));
        nat.forget(secs(1));
        let inbound = tcp(&mut nat, secs(1), Way::In, remote(1, 80), outside, DATA);
        assert_eq!(inbound, Verdict::Drop(Reason::NoMapping));
        let reset = tcp(&mut nat, secs(1), Way::Out, inside(10, 5000), remote(1, 80), Flags::RST);
        assert_eq!(reset, Verdict::Drop(Reason::NoConnection), "no reset is answered, or adopted");
        let outbound = tcp(&mut nat, secs(1), Way::Out, inside(10, 5000), remote(1, 80), DATA);
        match (adopted, refused) {
            (Some(()), _) => assert!(passes(outbound)),
            (None, refused) => assert_eq!(Some(outbound), refused),
        }
    }
}
