//! Everything a stranger, and everything a hostile peer can do (spec 9.1 nos. 19 to 21).
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::time::Duration;

use common::driver::Driver;
use common::pjnath::{Pjnath, Version};
use common::script::{LOCAL, Request, Script, answer};
use common::{Net, Rule, addr, ms};
use towline_ice::stun::{BINDING, Class, Encoder, Message, RoleClaim, TransactionId};
use towline_ice::{
    Candidate, CloseReason, Config, Disposition, DropReason, Event, PairState, Refused, Role, TcpType,
    Transport,
};

const DATA: &[u8] = &[0x16, 3, 1, 0, 5];

fn passive(address: &str) -> Candidate {
    Candidate::host(Transport::Tcp(TcpType::Passive), address.parse().unwrap(), 0)
}

/// Knows the peer, is connected to nobody.
fn script(role: Role) -> Script {
    let mut script = Script::new(role, Config::default());
    script.set_remote(vec![passive("10.0.0.2:6000")]);
    script
}

fn dropped(disposition: Disposition) -> DropReason {
    match disposition {
        Disposition::Dropped(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

#[test]
fn a_thousand_connections_do_not_keep_the_peer_out() {
    for one_address in [true, false] {
        let mut script = script(Role::Controlled);
        let mut open = 0;
        for n in 0..1000u32 {
            let ip = if one_address { 1 } else { n % 250 };
            let from = addr(&format!("192.0.2.{ip}:{}", 10_000 + n));
            match script.agent.handle_tcp_accepted(script.now, addr(LOCAL), from) {
                Ok(_) => open += 1,
                Err(Refused::TooManyFromAddress) => assert!(one_address),
                Err(Refused::TooManyUnauthenticated) => assert!(!one_address),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(open, if one_address { 8 } else { 16 });
        let report = script.agent.report();
        assert_eq!(report.streams, open + 1, "with our own connect");
        assert_eq!(report.refused_connections as usize, 1000 - open);
        // The peer has an announced address.
        let stream = script.accept("10.0.0.2:40000");
        let check = script.check(false);
        assert_eq!(script.frame(stream, &check), Disposition::Consumed);
        // The others are gone when their time is over, this one is not.
        script.pass(Duration::from_secs(7));
        let success = script.success(stream);
        script.frame(stream, &success);
        script.pass(Duration::from_secs(4));
        assert_eq!(script.closed.iter().filter(|(_, r)| *r == CloseReason::Unauthenticated).count(), open);
        assert!(script.closed.iter().all(|(s, _)| *s != stream));
    }
}

#[test]
fn the_whole_negotiation_survives_the_flood() {
    let mut net = Net::new(1);
    let mut ours =
        Driver::with_hosts(&mut net, 0, Role::Controlled, &["10.0.0.1"], Some(5000), None, Config::default());
    let mut theirs = Pjnath::new(true, Version::V2_13, addr("10.0.0.2:6000"));
    // A host that only opens connections, never says a word, and hears nothing.
    let mut flood = Driver::new(&net, Role::Controlled, 9, Config::default());
    net.tcp_rule = Box::new(|_, to| if to.port() == 6000 { Rule::Swallow } else { Rule::Pass });
    for n in 0..1000u16 {
        flood.expect_connect();
        net.connect(2, n.into(), addr(&format!("192.0.2.{}:{}", n % 250, 1024 + n)), addr("10.0.0.1:5000"));
    }
    net.run(&mut [&mut ours, &mut theirs, &mut flood], ms(20), |_| false);
    let (a, b) = (ours.blob(), theirs.blob());
    ours.set_remote(net.now, &b);
    theirs.start(net.now, &a);
    theirs.to_send.push_back(b"record".to_vec());
    net.run(&mut [&mut ours, &mut theirs, &mut flood], Duration::from_secs(2), |_| false);
    assert_eq!(ours.data, b"record");
    assert_eq!(ours.open_streams(), 1);
}

#[test]
fn garbage_on_a_listener_reaches_nobody() {
    let mut script = script(Role::Controlled);
    let stranger = script.accept("192.0.2.1:1");
    assert_eq!(script.agent.frame_limit(stranger), 2048);
    assert_eq!(dropped(script.frame(stranger, DATA)), DropReason::Unauthenticated);
    assert_eq!(dropped(script.frame(stranger, b"GET / HTTP/1.1\r\n")), DropReason::Unauthenticated);
    let mut broken = vec![0; 24];
    broken[3] = 4;
    assert!(matches!(dropped(script.frame(stranger, &broken)), DropReason::Malformed(_)));
    // Up to 2048 bytes with their headers, then the connection is closed.
    assert_eq!(dropped(script.frame(stranger, &[0x17; 1900])), DropReason::Unauthenticated);
    assert!(script.closed.is_empty());
    assert_eq!(dropped(script.frame(stranger, &[0x17; 200])), DropReason::Unauthenticated);
    assert_eq!(script.closed, [(stranger, CloseReason::TooMuchUnauthenticated)]);
    assert_eq!(dropped(script.frame(stranger, DATA)), DropReason::UnknownStream);
    assert!(script.frames.is_empty() && script.datagrams.is_empty(), "a stranger hears nothing");
}

#[test]
fn garbage_after_nomination_reaches_nobody() {
    let mut script = script(Role::Controlled);
    let stranger = script.accept("192.0.2.1:1");
    let stream = script.accept("10.0.0.2:40000");
    for nominate in [false, true] {
        let check = script.check(nominate);
        script.frame(stream, &check);
    }
    let success = script.success(stream);
    script.frame(stream, &success);
    assert_eq!(script.selected_stream(), Some(stream));
    assert!(script.closed.contains(&(stranger, CloseReason::NotSelected)));
    assert_eq!(dropped(script.frame(stranger, DATA)), DropReason::UnknownStream);
    let late = script.agent.handle_tcp_accepted(script.now, addr(LOCAL), addr("192.0.2.1:2"));
    assert_eq!(late, Err(Refused::Over));
    assert_eq!(dropped(script.udp("192.0.2.1:2", DATA)), DropReason::NotSelected);
    assert_eq!(script.frame(stream, DATA), Disposition::Data);
    // STUN on the selected connection that is none is still not data.
    let mut broken = vec![0; 24];
    broken[3] = 4;
    assert!(matches!(dropped(script.frame(stream, &broken)), DropReason::Malformed(_)));
}

#[test]
fn forged_checks_are_not_answered() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut script = script(role);
        let stream = script.accept("192.0.2.1:1");
        let before = (script.agent.report().pairs.len(), script.datagrams.len());
        let good = script.good();
        let forged = [
            Request { password: "guessed".into(), ..good.clone() },
            Request { password: "guessed".into(), use_candidate: true, ..good.clone() },
            Request { username: "0000:peer".into(), ..good.clone() },
            Request { username: String::new(), ..good.clone() },
            Request { priority: None, ..good.clone() },
        ];
        for request in forged {
            let packet = script.encode(&request);
            dropped(script.frame(stream, &packet));
            dropped(script.udp("192.0.2.1:1", &packet));
        }
        // Without any code at all.
        let bare =
            Encoder::new(Class::Request, BINDING, TransactionId([1; 12])).username(good.username.as_bytes());
        let bare = bare.priority(1).finish(None);
        assert!(matches!(dropped(script.frame(stream, &bare)), DropReason::NotAuthentic(_)));
        assert_eq!((script.agent.report().pairs.len(), script.datagrams.len()), before);
        assert!(script.frames.is_empty());
        assert_eq!(script.agent.role(), role);
    }
}

#[test]
fn a_replayed_check_wins_nothing() {
    let mut script = script(Role::Controlled);
    let stream = script.accept("10.0.0.2:40000");
    let (plain, nominating) = (script.check(false), script.check(true));
    script.frame(stream, &plain);
    // Seen on the wire, and sent again by somebody else.
    let thief = script.accept("192.0.2.1:1");
    script.frame(thief, &plain);
    script.frame(thief, &nominating);
    script.udp("192.0.2.1:1", &plain);
    script.udp("192.0.2.1:1", &nominating);
    assert_eq!(script.selected_stream(), None);
    // Our check that came to the thief is answered with what the thief can know.
    let (_, ours) = script
        .frames
        .iter()
        .rfind(|(s, f)| *s == thief && Message::decode(f).unwrap().class == Class::Request)
        .unwrap();
    let fake = answer(ours, "guessed");
    assert!(matches!(dropped(script.frame(thief, &fake)), DropReason::NotAuthentic(_)));
    assert_eq!(script.selected_stream(), None);
    // The peer goes on as if nothing had been.
    script.frame(stream, &nominating);
    let success = script.success(stream);
    assert_eq!(dropped(script.frame(thief, &success)), DropReason::WrongPath, "its answer elsewhere is none");
    script.frame(stream, &success);
    assert_eq!(script.selected_stream(), Some(stream));
    assert_eq!(dropped(script.frame(stream, &success)), DropReason::UnknownTransaction, "answered already");
    assert!(script.closed.contains(&(thief, CloseReason::NotSelected)));
}

#[test]
fn what_an_authentic_peer_may_not_ask_is_answered_with_an_error() {
    let mut script = script(Role::Controlled);
    let stream = script.accept("10.0.0.2:40000");
    let good = script.good();
    for (request, code) in [
        (Request { method: 3, ..good.clone() }, 400),
        (Request { extra: vec![0x7777], ..good.clone() }, 420),
        (Request { extra: vec![0x8777], ..good.clone() }, 0),
        // We hold the role, and a smaller tie-breaker would have to yield.
        (Request { role: RoleClaim::Controlled(u64::MAX), ..good }, 487),
    ] {
        let packet = script.encode(&request);
        assert_eq!(script.frame(stream, &packet), Disposition::Consumed);
        assert_eq!(script.answers(stream).last().unwrap().1.unwrap_or(0), code);
    }
}

#[test]
fn a_peer_that_flips_roles_for_ever_is_not_followed_for_ever() {
    let mut script = script(Role::Controlled);
    let stream = script.accept("10.0.0.2:40000");
    for _ in 0..100 {
        let role = match script.agent.role() {
            Role::Controlled => RoleClaim::Controlled(0),
            Role::Controlling => RoleClaim::Controlling(u64::MAX),
        };
        let packet = script.encode(&Request { role, ..script.good() });
        script.frame(stream, &packet);
    }
    assert_eq!(script.events.iter().filter(|e| matches!(e, Event::RoleSwitched { .. })).count(), 4);
}

#[test]
fn a_list_of_a_thousand_addresses_is_31_at_most_and_none_that_is_nobody() {
    let mut script = Script::new(Role::Controlled, Config::default());
    let mut list: Vec<_> = [
        "0.0.0.0:5000",
        "224.0.0.1:5000",
        "255.255.255.255:5000",
        "10.0.0.9:0",
        "10.0.0.9:9",
        "10.0.0.9:25",
        "127.0.0.1:5000",
        "[ff02::1]:5000",
        "[2001:db8::1]:5000",
    ]
    .map(passive)
    .to_vec();
    list.extend((0..1000).map(|n| passive(&format!("198.51.100.{}:{}", n % 256, 2000 + n))));
    let remote = towline_ice::Description { credentials: Script::credentials(), candidates: list };
    let refused = script.agent.set_remote(script.now, remote);
    script.drain();
    assert!(refused.len() <= 62);
    script.pass(Duration::from_secs(100));
    assert!(script.connects.len() <= 31 && script.connects.len() >= 28, "{}", script.connects.len());
    let mut unique: Vec<_> = script.connects.iter().map(|(_, to)| *to).collect();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), script.connects.len(), "nobody is asked twice");
    assert!(unique.iter().all(|to| to.to_string().starts_with("198.51.100.")));
}

#[test]
fn connects_have_a_limit_of_their_own() {
    let mut config = Config::default();
    config.policy.max_connects = 5;
    let mut script = Script::new(Role::Controlled, config);
    script.set_remote((0..20).map(|n| passive(&format!("198.51.100.1:{}", 2000 + n))).collect());
    script.pass(Duration::from_secs(100));
    assert_eq!(script.connects.len(), 5);
    let Some(Event::Failed(report)) = script.events.last() else { panic!() };
    assert_eq!(report.to_string(), "no candidate pair answered: 5 TCP connect timed out, 15 TCP not tried");
}

#[test]
fn answers_to_nothing_and_indications_change_nothing() {
    let mut script = script(Role::Controlling);
    let stream = script.accept("192.0.2.1:1");
    let stray = Encoder::new(Class::Success, BINDING, TransactionId([5; 12])).finish(Some(b"x"));
    assert_eq!(dropped(script.frame(stream, &stray)), DropReason::UnknownTransaction);
    let indication = Encoder::new(Class::Indication, BINDING, TransactionId([5; 12])).finish(None);
    assert_eq!(script.frame(stream, &indication), Disposition::Consumed);
    assert!(script.frames.is_empty());
    assert!(!script.events.iter().any(|e| matches!(e, Event::PairChanged { state: PairState::Valid, .. })));
}

#[test]
fn an_error_without_proof_fails_no_check() {
    let mut script = script(Role::Controlling);
    let (stream, _) = script.connects[0];
    script.agent.handle_tcp_connected(script.now, stream, addr("10.0.0.1:50000"));
    script.drain();
    let (_, ours) = script.frames[0].clone();
    let transaction = Message::decode(&ours).unwrap().transaction;
    let error = Encoder::new(Class::Error, BINDING, transaction).error(400, "no").finish(None);
    assert!(matches!(dropped(script.frame(stream, &error)), DropReason::NotAuthentic(_)));
    let success = script.success(stream);
    assert_eq!(script.frame(stream, &success), Disposition::Consumed);
}

#[test]
fn data_on_a_proven_connection_that_was_not_chosen_reaches_nobody() {
    let mut script = script(Role::Controlled);
    let (chosen, other) = (script.accept("10.0.0.2:40000"), script.accept("10.0.0.2:40001"));
    for stream in [chosen, other] {
        let check = script.check(false);
        assert_eq!(script.frame(stream, &check), Disposition::Consumed);
        let success = script.success(stream);
        assert_eq!(script.frame(stream, &success), Disposition::Consumed);
        assert_eq!(
            script.frame(stream, DATA),
            Disposition::Early,
            "kept with its connection, and for it only"
        );
    }
    let nominating = script.check(true);
    script.frame(chosen, &nominating);
    assert_eq!(script.selected_stream(), Some(chosen));
    assert_eq!(dropped(script.frame(other, DATA)), DropReason::UnknownStream, "after it");
    assert!(script.closed.contains(&(other, CloseReason::NotSelected)));
    let nominating = script.check(true);
    assert_eq!(dropped(script.frame(other, &nominating)), DropReason::UnknownStream);
    assert_eq!(script.frame(chosen, DATA), Disposition::Data);
    assert_eq!(script.selected_stream(), Some(chosen));
}
