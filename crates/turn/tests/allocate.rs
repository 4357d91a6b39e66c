//! From the first request to the allocation, and every way in which there is none.

mod common;

use std::time::Duration;

use common::*;
use towline_ice::stun::Seal;
use towline_turn::{
    BadAnswer, ChallengeError, Client, Config, ConfigError, Credentials, DropReason, Event, Failure, Family,
    Input, Refusal, Relay, ServerTransport,
};

fn failure(stage: &mut Stage) -> Failure {
    match stage.event() {
        Event::Failed(reason) => {
            assert_eq!(stage.client.poll_timeout(), None, "nothing is left to do");
            assert!(stage.client.poll_transmit().is_none());
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_challenge_is_answered_and_the_allocation_told() {
    let mut stage = Stage::new(|config| config.software = Some("towline".into()));
    let first = stage.request();
    assert_eq!(first.method, ALLOCATE);
    assert_eq!(first.get(0x19), Some(&[17, 0, 0, 0][..]), "UDP is asked for");
    assert_eq!(first.get(LIFETIME), Some(&600_u32.to_be_bytes()[..]));
    assert_eq!(first.get(0x8022), Some(&b"towline"[..]));
    assert!(first.get(NONCE).is_none());
    stage.challenge(&first, 401, b"n1");
    let second = stage.request();
    assert!(second.proven);
    assert_ne!(second.id, first.id);
    assert_eq!((second.get(6), second.get(NONCE)), (Some(&b"ann"[..]), Some(&b"n1"[..])));
    stage.answer(granted(&second, 600).software("a server"));
    let Event::Allocated(allocation) = stage.event() else { panic!("allocated") };
    assert_eq!(allocation.relayed, [relayed()]);
    assert_eq!(allocation.mapped, addr("203.0.113.9:40000"));
    assert_eq!((allocation.server, allocation.lifetime), (server(), Duration::from_mins(10)));
    assert_eq!(allocation.software.as_deref(), Some("a server"));
    assert_eq!(stage.client.allocation(), Some(&allocation));
}

#[test]
fn both_families_and_the_one_that_is_missing() {
    let mut stage = Stage::new(|config| config.relay = Relay::UdpBoth);
    let first = stage.request();
    assert_eq!(first.get(0x8000), Some(&[2, 0, 0, 0][..]));
    stage.challenge(&first, 401, b"n");
    let second = stage.request();
    stage.answer(granted(&second, 600).xor_address(RELAYED, addr("[2001:db8::1]:50001")));
    let Event::Allocated(both) = stage.event() else { panic!("allocated") };
    assert_eq!(both.relayed, [relayed(), addr("[2001:db8::1]:50001")]);

    let mut stage = Stage::new(|config| config.relay = Relay::UdpBoth);
    let first = stage.request();
    stage.challenge(&first, 401, b"n");
    let second = stage.request();
    // As coturn says it: by an older number, and with an address of zeros.
    stage.answer(
        granted(&second, 600).xor_address(RELAYED, addr("0.0.0.0:0")).attribute(0x8033, &[2, 0, 4, 40]),
    );
    let Event::Allocated(coturn) = stage.event() else { panic!("allocated") };
    let mut stage = Stage::new(|config| config.relay = Relay::UdpBoth);
    let first = stage.request();
    stage.challenge(&first, 401, b"n");
    let second = stage.request();
    stage.answer(granted(&second, 600).attribute(0x8001, &[2, 0, 4, 40]));
    let Event::Allocated(one) = stage.event() else { panic!("allocated") };
    assert_eq!(one, coturn);
    assert_eq!(one.missing, Some((Family::V6, Refusal::AddressFamilyNotSupported)));
    assert_eq!(
        stage.client.permit(stage.now, addr("[2001:db8::2]:1").ip()),
        Err(towline_turn::PeerError::Family)
    );

    let mut stage = Stage::new(|config| config.relay = Relay::Udp(Family::V6));
    assert_eq!(stage.request().get(0x17), Some(&[2, 0, 0, 0][..]));
}

#[test]
fn each_refusal_keeps_its_name() {
    for (code, refusal) in [
        (400, Refusal::BadRequest),
        (403, Refusal::Forbidden),
        (437, Refusal::AllocationMismatch),
        (440, Refusal::AddressFamilyNotSupported),
        (441, Refusal::WrongCredentials),
        (442, Refusal::UnsupportedTransport),
        (486, Refusal::QuotaReached),
        (500, Refusal::ServerError),
        (508, Refusal::InsufficientCapacity),
    ] {
        let mut stage = Stage::new(|_| {});
        let first = stage.request();
        stage.challenge(&first, 401, b"n");
        let second = stage.request();
        stage.answer(second.error(code));
        assert_eq!(failure(&mut stage), Failure::Refused(refusal));
    }
    let mut stage = Stage::new(|_| {});
    let first = stage.request();
    stage.answer_bare(first.error(420).unknown_attributes(&[0x8000, 0x17]));
    assert_eq!(failure(&mut stage), Failure::Refused(Refusal::UnknownAttribute(Some(0x8000))));
}

#[test]
fn credentials_missing_wrong_and_challenges_that_cannot_be_answered() {
    let mut stage = Stage::new(|config| config.credentials = None);
    let first = stage.request();
    stage.challenge(&first, 401, b"n");
    assert_eq!(failure(&mut stage), Failure::CredentialsRequired);

    let mut stage = Stage::new(|_| {});
    let first = stage.request();
    stage.challenge(&first, 401, b"n");
    let second = stage.request();
    stage.challenge(&second, 401, b"n");
    assert_eq!(failure(&mut stage), Failure::WrongCredentials);

    let mut stage = Stage::new(|_| {});
    let first = stage.request();
    stage.answer_bare(first.error(401));
    assert_eq!(failure(&mut stage), Failure::Challenge(ChallengeError::Realm));

    // The nonce says that there is a choice of algorithms, and the choice has been taken out on the way.
    let mut stage = Stage::new(|_| {});
    let first = stage.request();
    stage.challenge(&first, 401, b"obMatJos2AAABrest");
    assert_eq!(failure(&mut stage), Failure::Challenge(ChallengeError::BidDown));
}

#[test]
fn stale_nonces_are_replaced_but_not_for_ever() {
    let mut stage = Stage::new(|_| {});
    let mut request = stage.request();
    stage.challenge(&request, 401, b"n0");
    for nonce in [&b"n1"[..], b"n2", b"n3"] {
        request = stage.request();
        assert!(request.proven);
        stage.challenge(&request, 438, nonce);
    }
    request = stage.request();
    assert_eq!(request.get(NONCE), Some(&b"n3"[..]));
    stage.challenge(&request, 438, b"n4");
    assert_eq!(failure(&mut stage), Failure::StaleNonces);
}

#[test]
fn silence_is_known_after_four_tries() {
    let mut stage = Stage::new(|_| {});
    let start = stage.now;
    let first = stage.request();
    let mut sent = vec![Duration::ZERO];
    while stage.events().is_empty() && sent.len() < 10 {
        stage.wait();
        if let Some(again) = stage.try_request() {
            assert_eq!(again.id, first.id, "a repetition is the same message");
            sent.push(stage.now - start);
        } else {
            break;
        }
    }
    assert_eq!(sent, [0, 500, 1500, 3500].map(Duration::from_millis));
    assert_eq!(stage.now - start, Duration::from_millis(7500));
    assert_eq!(failure(&mut stage), Failure::NoAnswer);
}

#[test]
fn a_server_that_keeps_the_client_busy_is_left_in_time() {
    // Every request is answered at the last moment, with another redirect.
    let mut stage = Stage::new(|config| config.redirects = 250);
    let start = stage.now;
    for step in 2..100_u8 {
        let Some(request) = stage.try_request() else { break };
        assert_eq!(request.to, stage.client.server());
        stage.pass(Duration::from_millis(400));
        if stage.client.poll_timeout().is_none() {
            break;
        }
        let elsewhere = addr(&format!("192.0.2.{step}:3478"));
        stage.answer_bare(request.error(300).address(ALTERNATE, elsewhere));
    }
    assert_eq!(failure(&mut stage), Failure::NoAnswer);
    assert!(stage.now - start <= Duration::from_millis(10_400));
}

#[test]
fn redirects_are_followed_but_not_in_circles() {
    let elsewhere = addr("198.51.100.7:3479");
    let mut stage = Stage::new(|_| {});
    let first = stage.request();
    stage.challenge(&first, 401, b"n");
    let second = stage.request();
    stage.answer(second.error(300).address(ALTERNATE, elsewhere));
    let third = stage.request();
    assert_eq!((third.to, third.get(NONCE)), (elsewhere, None), "another server, another challenge");
    // The old server has nothing to say any more.
    let late = granted(&third, 600).finish(None);
    let from_old = stage.client.handle_datagram(stage.now, server(), &late);
    assert_eq!(from_old, Input::Dropped(DropReason::NotFromServer));
    stage.answer_bare(third.error(300).address(ALTERNATE, server()));
    assert_eq!(failure(&mut stage), Failure::RedirectLoop(server()));

    let mut stage = Stage::new(|_| {});
    for step in 2..=5 {
        let request = stage.request();
        stage.answer_bare(request.error(300).address(ALTERNATE, addr(&format!("192.0.2.{step}:3478"))));
    }
    assert_eq!(failure(&mut stage), Failure::TooManyRedirects(addr("192.0.2.5:3478")));

    for nowhere in ["0.0.0.0:3478", "192.0.2.9:0", "224.0.0.1:3478", "255.255.255.255:1", "[2001:db8::1]:1"] {
        let mut stage = Stage::new(|_| {});
        let request = stage.request();
        stage.answer_bare(request.error(300).address(ALTERNATE, addr(nowhere)));
        assert_eq!(failure(&mut stage), Failure::BadRedirect, "{nowhere}");
    }
}

#[test]
fn a_redirect_on_a_stream_asks_for_another_stream() {
    let mut stage = Stage::new(|config| config.transport = ServerTransport::Tls);
    let first = stage.request();
    let elsewhere = addr("198.51.100.7:5349");
    let answer =
        first.error(300).address(ALTERNATE, elsewhere).attribute(0x8003, b"relay.example.org").finish(None);
    assert_eq!(stage.client.handle_stream(stage.now, &mut &*answer), Some(Input::Taken));
    let Event::Reconnect { server, domain } = stage.event() else { panic!("reconnect") };
    assert_eq!((server, domain.as_deref()), (elsewhere, Some("relay.example.org")));
    assert!(stage.try_request().is_none());
    // What the old stream still brings does not matter.
    assert_eq!(stage.client.handle_stream(stage.now, &mut &*answer), None);
    stage.client.handle_connected(stage.now);
    assert_eq!(stage.request().method, ALLOCATE);
    stage.client.handle_stream_end();
    assert_eq!(failure(&mut stage), Failure::StreamEnded);
}

#[test]
fn forged_answers_change_nothing() {
    let mut stage = Stage::new(|_| {});
    let first = stage.request();
    stage.challenge(&first, 401, b"n");
    let second = stage.request();
    let dropped = |stage: &mut Stage, packet: &[u8]| match stage.give(packet) {
        Input::Dropped(reason) => reason,
        other => panic!("{other:?}"),
    };
    // A wrong code, none at all, an error that anybody can send, another transaction, another method.
    let wrong = granted(&second, 600).finish_with(Seal::Sha1(b"other"));
    assert_eq!(dropped(&mut stage, &wrong), DropReason::Unproven);
    let bare = granted(&second, 600).finish(None);
    assert_eq!(dropped(&mut stage, &bare), DropReason::Unproven);
    let sha256 = granted(&second, 600).finish_with(Seal::Sha256(&KEY));
    assert_eq!(dropped(&mut stage, &sha256), DropReason::Unproven);
    assert_eq!(dropped(&mut stage, &second.error(508).finish(None)), DropReason::Unproven);
    assert_eq!(dropped(&mut stage, &granted(&first, 600).finish(Some(&KEY))), DropReason::UnknownTransaction);
    let mut other = second.clone();
    other.method = REFRESH;
    assert_eq!(dropped(&mut stage, &granted(&other, 600).finish(Some(&KEY))), DropReason::UnknownTransaction);
    // The right one from elsewhere, and a request.
    let right = granted(&second, 600).finish(Some(&KEY));
    let elsewhere = stage.client.handle_datagram(stage.now, addr("192.0.2.1:3479"), &right);
    assert_eq!(elsewhere, Input::Dropped(DropReason::NotFromServer));
    assert_eq!(dropped(&mut stage, &[0x80, 0, 0, 0]), DropReason::NotTurn);
    assert_eq!(dropped(&mut stage, b""), DropReason::NotTurn);
    assert!(matches!(dropped(&mut stage, &right[..30]), DropReason::Malformed(_)));
    assert!(stage.events().is_empty());
    assert_eq!(stage.give(&right), Input::Taken);
    assert!(matches!(stage.event(), Event::Allocated(_)));
    // Replayed, it is no news.
    assert_eq!(dropped(&mut stage, &right), DropReason::UnknownTransaction);
}

#[test]
fn what_did_not_count_explains_silence() {
    for (seal, code, expected) in [
        (Seal::None, 508, Failure::Unproven(Refusal::InsufficientCapacity)),
        (Seal::Sha1(b"other"), 508, Failure::Forged),
    ] {
        let mut stage = Stage::new(|_| {});
        let first = stage.request();
        stage.challenge(&first, 401, b"n");
        let second = stage.request();
        let _ = stage.give(&second.error(code).finish_with(seal));
        stage.pass(Duration::from_secs(10));
        while stage.client.poll_transmit().is_some() {}
        assert_eq!(failure(&mut stage), expected);
    }
}

#[test]
fn answers_that_lie_are_named() {
    type Lie<'a> = &'a dyn Fn(&Request) -> towline_ice::stun::Encoder;
    let cases: [(Lie<'_>, BadAnswer); 8] = [
        (&|r| granted(r, 0), BadAnswer::Lifetime),
        (&|r| r.success().xor_address(RELAYED, relayed()).mapped_address(relayed()), BadAnswer::Lifetime),
        (&|r| r.success().mapped_address(relayed()).attribute(LIFETIME, &[0, 0, 2, 0]), BadAnswer::Relayed),
        (&|r| granted(r, 600).xor_address(RELAYED, addr("192.0.2.3:4")), BadAnswer::Relayed),
        (&|r| r.success().xor_address(RELAYED, addr("0.0.0.0:5")), BadAnswer::Relayed),
        (&|r| r.success().xor_address(RELAYED, addr("[2001:db8::1]:5")), BadAnswer::Relayed),
        (&|r| r.success().xor_address(RELAYED, relayed()), BadAnswer::Mapped),
        (&|r| granted(r, 600).attribute(0x7ff0, b"what"), BadAnswer::UnknownAttribute(0x7ff0)),
    ];
    for (lie, rule) in cases {
        let mut stage = Stage::new(|_| {});
        let first = stage.request();
        stage.challenge(&first, 401, b"n");
        let second = stage.request();
        stage.answer(lie(&second));
        assert_eq!(failure(&mut stage), Failure::BadAnswer(rule));
    }
}

#[test]
fn a_stream_of_garbage_ends_the_client() {
    let mut stage = Stage::new(|config| config.transport = ServerTransport::Tcp);
    let _ = stage.request();
    assert_eq!(stage.client.handle_stream(stage.now, &mut &b"\xff\xfb\x01\xff"[..]), None);
    assert!(matches!(failure(&mut stage), Failure::Stream(_)));

    let mut stage = Stage::new(|config| {
        config.transport = ServerTransport::Tcp;
        config.max_message = 2000;
    });
    let _ = stage.request();
    assert_eq!(stage.client.handle_stream(stage.now, &mut &[0, 1, 0xff, 0xf0][..]), None);
    assert!(matches!(failure(&mut stage), Failure::Stream(_)));
}

#[test]
fn streams_repeat_nothing_and_wait_as_long() {
    let mut stage = Stage::new(|config| config.transport = ServerTransport::Tcp);
    let start = stage.now;
    let _ = stage.request();
    stage.wait();
    assert_eq!(stage.now - start, Duration::from_millis(7500));
    assert_eq!(failure(&mut stage), Failure::NoAnswer);
}

#[test]
fn what_cannot_be_asked_for() {
    let now = std::time::Instant::now();
    let mut config = Config::new(server(), ServerTransport::Udp);
    config.relay = Relay::Tcp(Family::V4);
    let refused = |config: &Config| Client::new(config.clone(), now, [0; 32]).map(|_| ()).unwrap_err();
    assert_eq!(refused(&config), ConfigError::TcpRelayNeedsStream);
    config.transport = ServerTransport::Tls;
    config.credentials = Some(Credentials::new("x".repeat(509), "p"));
    assert_eq!(refused(&config), ConfigError::UsernameTooLong);
}
