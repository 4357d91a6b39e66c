//! Firewalls.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use common::*;
use towline_nat::{
    Filtering, Firewall, Flags, Header, Reason, Refused, Reply, Rules, Transport, Verdict, Way,
};

fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Forward { .. })
}

fn six(host: u16, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, host].into(), port)
}

#[test]
fn answers_come_in_and_strangers_do_not() {
    for (filtering, wanted) in [
        (Filtering::EndpointIndependent, [true, true, true]),
        (Filtering::AddressDependent, [true, true, false]),
        (Filtering::AddressAndPortDependent, [true, false, false]),
    ] {
        let mut wall = Firewall::new(Rules { inbound: Some(filtering), ..Rules::stateful() });
        let host = six(1, 5000);
        let before = wall.handle(secs(0), Way::In, &Header::udp(six(9, 9), host));
        assert_eq!(before, Verdict::Drop(Reason::Filtered));
        assert!(passes(wall.handle(secs(0), Way::Out, &Header::udp(host, six(9, 9)))));
        let who = [six(9, 9), six(9, 10), six(8, 9)]
            .map(|from| passes(wall.handle(secs(1), Way::In, &Header::udp(from, host))));
        assert_eq!(who, wanted, "{filtering:?}");
        let other = wall.handle(secs(1), Way::In, &Header::udp(six(9, 9), six(2, 5000)));
        assert_eq!(other, Verdict::Drop(Reason::Filtered), "that is another host");
        assert!(!passes(wall.handle(secs(300), Way::In, &Header::udp(six(9, 9), host))), "expired");
    }
}

#[test]
fn connections_are_followed() {
    let mut wall = Firewall::new(Rules { refused_in: Refused::Reject, ..Rules::stateful() });
    let (host, peer) = (inside(10, 5000), remote(1, 80));
    let knock = wall.handle(secs(0), Way::In, &Header::tcp(peer, host, Flags::SYN));
    assert_eq!(knock, Verdict::Reject(Reason::Filtered, Reply::Reset));
    let reset = wall.handle(secs(0), Way::In, &Header::tcp(peer, host, Flags::RST));
    assert_eq!(reset, Verdict::Drop(Reason::Filtered), "no reset answers a reset");
    let datagram = wall.handle(secs(0), Way::In, &Header::udp(peer, host));
    assert_eq!(datagram, Verdict::Reject(Reason::Filtered, Reply::Unreachable));
    for (way, flags) in [(Way::Out, Flags::SYN), (Way::In, Flags::SYN_ACK), (Way::Out, Flags::ACK)] {
        let (from, to) = if way == Way::Out { (host, peer) } else { (peer, host) };
        assert!(passes(wall.handle(secs(1), way, &Header::tcp(from, to, flags))));
    }
    assert!(passes(wall.handle(secs(86_400), Way::In, &Header::tcp(peer, host, Flags::ACK))));
    let news = Header::tcp(host, peer, Flags::default());
    assert!(wall.handle_error(secs(86_400), Way::In, &news), "about what was sent");
    assert!(!wall.handle_error(secs(86_400), Way::In, &Header { to: remote(2, 80), ..news }));
    assert!(wall.handle_error(secs(86_400), Way::Out, &Header { to: host, from: remote(2, 80), ..news }));
    wall.forget();
    assert!(!passes(wall.handle(secs(86_401), Way::In, &Header::tcp(peer, host, Flags::ACK))));
}

/// Preset; then whether UDP, TCP to 80 and TCP to 443 pass from inside, and TCP from a stranger: in IPv4, then in IPv6.
#[test]
fn presets_do_what_their_names_say() {
    let table = [
        (Rules::open(), [true, true, true, true], [true, true, true, true]),
        (Rules::stateful(), [true, true, true, false], [true, true, true, false]),
        (Rules::stateful_ipv6(), [true, true, true, true], [true, true, true, false]),
        (Rules::no_udp(), [false, true, true, false], [false, true, true, false]),
        (Rules::web_only(), [false, false, true, false], [false, false, true, false]),
        (Rules::broken_ipv6(), [true, true, true, true], [false, false, false, false]),
    ];
    for (rules, four, v6) in table {
        for (wanted, host, peer) in [
            (four, inside(10, 5000), remote as fn(u8, u16) -> _),
            (v6, six(10, 5000), |host, port| six(u16::from(host), port)),
        ] {
            let mut wall = Firewall::new(rules.clone());
            let mut out = |transport, port| {
                let header = Header { transport, from: host, to: peer(1, port), flags: Flags::default() };
                let flags = if transport == Transport::Tcp { Flags::SYN } else { Flags::default() };
                passes(wall.handle(secs(0), Way::Out, &Header { flags, ..header }))
            };
            let mut found = vec![out(Transport::Udp, 9), out(Transport::Tcp, 80), out(Transport::Tcp, 443)];
            found.push(passes(wall.handle(secs(0), Way::In, &Header::tcp(peer(7, 443), host, Flags::SYN))));
            assert_eq!(found, wanted, "{rules:?} {host}");
        }
    }
}

#[test]
fn rules_change_and_tables_are_bounded() {
    let mut wall = Firewall::new(Rules { sessions: 2, ..Rules::stateful() });
    let (host, peer) = (inside(10, 5000), remote(1, 9));
    assert!(passes(wall.handle(secs(0), Way::Out, &Header::udp(host, peer))));
    assert!(passes(wall.handle(secs(0), Way::Out, &Header::udp(host, remote(2, 9)))));
    let third = wall.handle(secs(0), Way::Out, &Header::udp(host, remote(3, 9)));
    assert_eq!(third, Verdict::Drop(Reason::TableFull));
    assert!(passes(wall.handle(secs(31), Way::Out, &Header::udp(host, remote(3, 9)))), "others expired");
    // In the middle of a transfer all UDP is forbidden.
    wall.set_rules(Rules { refused_out: Refused::Reject, ..Rules::no_udp() });
    let now = wall.handle(secs(32), Way::Out, &Header::udp(host, remote(3, 9)));
    assert_eq!(now, Verdict::Reject(Reason::Forbidden, Reply::Unreachable));
    assert_eq!(
        wall.handle(secs(32), Way::In, &Header::udp(remote(3, 9), host)),
        Verdict::Drop(Reason::Forbidden)
    );
}
