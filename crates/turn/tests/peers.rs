//! Permissions, channels, data, and an allocation that is kept alive.

mod common;

use std::time::Duration;

use common::*;
use towline_turn::{
    DropReason, Event, Failure, HEADROOM, Input, PeerError, Refusal, Relay, SendError, ServerTransport,
};

fn peer() -> std::net::SocketAddr {
    addr("198.51.100.5:7000")
}

fn encoded(stage: &mut Stage, peer: std::net::SocketAddr, payload: &[u8]) -> Result<Vec<u8>, SendError> {
    let mut packet = vec![0xee; HEADROOM];
    packet.extend_from_slice(payload);
    let start = stage.client.encode(stage.now, peer, &mut packet)?;
    Ok(packet[start..].to_vec())
}

#[test]
fn indications_carry_data_once_the_peer_is_permitted() {
    let (mut stage, _) = Stage::allocated(|_| {});
    assert_eq!(encoded(&mut stage, peer(), b"early"), Err(SendError::NotPermitted));
    assert_eq!(stage.give(&data(peer(), b"early")), Input::Dropped(DropReason::NotPermitted(peer().ip())));
    stage.permitted(peer());
    assert_eq!(stage.client.passes(stage.now, peer()), Ok(false));
    for len in 0..9 {
        let payload = vec![b'x'; len];
        let packet = encoded(&mut stage, peer(), &payload).unwrap();
        let indication = Request::read(&packet, server());
        assert_eq!((indication.method, indication.peer()), (6, Some(peer())));
        assert_eq!(indication.get(PAYLOAD), Some(&*payload));
    }
    assert_eq!(stage.give(&data(peer(), b"hello")), Input::Data { from: peer(), payload: b"hello" });
    // Another port of the same host is permitted, too; another host is not.
    let other_port = addr("198.51.100.5:1");
    assert_eq!(stage.give(&data(other_port, b"x")), Input::Data { from: other_port, payload: b"x" });
    let stranger = addr("198.51.100.6:7000");
    assert_eq!(stage.give(&data(stranger, b"x")), Input::Dropped(DropReason::NotPermitted(stranger.ip())));
}

#[test]
fn indications_to_ipv6() {
    let mut stage = Stage::new(|config| config.relay = Relay::Udp(towline_turn::Family::V6));
    let first = stage.request();
    stage.challenge(&first, 401, b"n");
    let second = stage.request();
    stage.answer(
        second
            .success()
            .xor_address(RELAYED, addr("[2001:db8::1]:5"))
            .mapped_address(server())
            .attribute(LIFETIME, &[0, 0, 2, 0]),
    );
    assert!(matches!(stage.event(), Event::Allocated(_)));
    let far = addr("[2001:db8::77]:7000");
    stage.permitted(far);
    let packet = encoded(&mut stage, far, b"abcde").unwrap();
    let indication = Request::read(&packet, server());
    assert_eq!((indication.peer(), indication.get(PAYLOAD)), (Some(far), Some(&b"abcde"[..])));
    assert_eq!(packet.len(), HEADROOM + 8);
    assert_eq!(stage.client.permit(stage.now, peer().ip()), Err(PeerError::Family));
}

#[test]
fn channels_carry_data_with_four_bytes_more() {
    let (mut stage, _) = Stage::allocated(|_| {});
    stage.permitted(peer());
    let number = stage.bound(peer());
    assert_eq!(number, 0x4000);
    assert_eq!(stage.client.passes(stage.now, peer()), Ok(true));
    assert_eq!(encoded(&mut stage, peer(), b"hello").unwrap(), channel_data(number, b"hello"));
    assert_eq!(stage.give(&channel_data(number, b"hi")), Input::Data { from: peer(), payload: b"hi" });
    assert_eq!(stage.give(&channel_data(0x4001, b"hi")), Input::Dropped(DropReason::UnknownChannel(0x4001)));
    assert_eq!(stage.give(&channel_data(number, b"hi")[..5]), Input::Dropped(DropReason::Truncated));
    assert_eq!(stage.give(&[0x40, 0]), Input::Dropped(DropReason::Truncated));
    // The queue has a bound.
    let long = vec![0; 60_000];
    for _ in 0..4 {
        stage.client.send(stage.now, peer(), &long).unwrap();
    }
    assert_eq!(stage.client.send(stage.now, peer(), &long), Err(SendError::Full));
    assert_eq!(stage.client.poll_transmit().unwrap().bytes, channel_data(number, &long));
    assert_eq!(stage.client.send(stage.now, peer(), &long), Ok(()));
    assert_eq!(encoded(&mut stage, peer(), &vec![0; 65_500]), Err(SendError::TooLong(65_500)));
}

#[test]
fn on_a_stream_channel_data_is_padded() {
    let mut stage = Stage::new(|config| config.transport = ServerTransport::Tcp);
    let give = |stage: &mut Stage, packet: &[u8]| {
        for byte in packet {
            let _ = stage.client.handle_stream(stage.now, &mut &[*byte][..]);
        }
    };
    let first = stage.request();
    give(&mut stage, &challenge(&first, 401, b"n").finish(None));
    let second = stage.request();
    give(&mut stage, &granted(&second, 600).finish(Some(&KEY)));
    assert!(matches!(stage.event(), Event::Allocated(_)));
    stage.client.bind(stage.now, peer()).unwrap();
    let (permission, bind) = (stage.request(), stage.request());
    give(&mut stage, &permission.success().finish(Some(&KEY)));
    give(&mut stage, &bind.success().finish(Some(&KEY)));
    let mut expected = channel_data(0x4000, b"hello");
    expected.extend_from_slice(&[0; 3]);
    assert_eq!(encoded(&mut stage, peer(), b"hello").unwrap(), expected);
    expected.extend_from_slice(&channel_data(0x4000, b"four"));
    let mut input = &*expected;
    let mut seen = Vec::new();
    while let Some(Input::Data { from, payload }) = stage.client.handle_stream(stage.now, &mut input) {
        seen.push((from, payload.to_vec()));
    }
    assert_eq!(seen, [(peer(), b"hello".to_vec()), (peer(), b"four".to_vec())]);
    stage.client.handle_stream_end();
    let events = stage.events();
    assert!(matches!(events[..], [Event::Permitted(_), Event::Lost(Failure::StreamEnded)]), "{events:?}");
}

#[test]
fn everything_is_renewed_in_time() {
    let (mut stage, _) = Stage::allocated(|_| {});
    stage.permitted(peer());
    let number = stage.bound(peer());
    let start = stage.now;
    let mut log = Vec::new();
    while stage.now < start + Duration::from_mins(22) {
        stage.wait();
        while let Some(request) = stage.try_request() {
            log.push((request.method, (stage.now - start).as_secs()));
            match request.method {
                REFRESH => {
                    assert_eq!(request.get(LIFETIME), Some(&600_u32.to_be_bytes()[..]));
                    stage.answer(request.success().attribute(LIFETIME, &300_u32.to_be_bytes()));
                }
                CHANNEL_BIND => {
                    assert_eq!(common::number(&request), number);
                    stage.answer(request.success());
                }
                _ => stage.answer(request.success()),
            }
        }
    }
    let at = |method| log.iter().filter(|(m, _)| *m == method).map(|(_, at)| *at).collect::<Vec<_>>();
    assert_eq!(at(REFRESH), [540, 780, 1020, 1260], "the server gave less the second time");
    assert_eq!(at(PERMISSION), [240, 480, 720, 960, 1200, 1440]);
    assert_eq!(at(CHANNEL_BIND), [540, 1080]);
    assert!(stage.events().is_empty());
    assert_eq!(stage.client.passes(stage.now, peer()), Ok(true));
}

#[test]
fn a_refused_permission_is_told_and_the_rest_goes_on() {
    let (mut stage, _) = Stage::allocated(|_| {});
    let private = addr("10.0.0.1:1").ip();
    stage.client.permit(stage.now, private).unwrap();
    let request = stage.request();
    stage.answer(request.error(403));
    let Event::NotPermitted { ip, reason } = stage.event() else { panic!("not permitted") };
    assert_eq!((ip, reason), (private, Failure::Refused(Refusal::Forbidden)));
    stage.permitted(peer());
    // Not renewed later: told as well.
    stage.pass(Duration::from_mins(4));
    let renewal = stage.request();
    stage.answer(renewal.error(403));
    assert!(matches!(stage.event(), Event::NotPermitted { .. }));
    assert_eq!(encoded(&mut stage, peer(), b"x"), Err(SendError::NotPermitted));
}

#[test]
fn a_refused_channel_leaves_indications() {
    let (mut stage, _) = Stage::allocated(|_| {});
    stage.permitted(peer());
    stage.client.bind(stage.now, peer()).unwrap();
    let request = stage.request();
    stage.answer(request.error(508));
    assert!(stage.events().is_empty());
    assert_eq!(stage.client.passes(stage.now, peer()), Ok(false));
}

#[test]
fn a_forgotten_peer_is_not_heard_and_its_channel_rests() {
    let (mut stage, _) = Stage::allocated(|_| {});
    stage.permitted(peer());
    let number = stage.bound(peer());
    stage.client.forget(stage.now, peer().ip());
    assert_eq!(stage.give(&channel_data(number, b"x")), Input::Dropped(DropReason::UnknownChannel(number)));
    assert_eq!(stage.give(&data(peer(), b"x")), Input::Dropped(DropReason::NotPermitted(peer().ip())));
    // Another peer gets another number, the same one its own again.
    stage.permitted(addr("198.51.100.6:1"));
    assert_eq!(stage.bound(addr("198.51.100.6:1")), 0x4001);
    stage.permitted(peer());
    assert_eq!(stage.bound(peer()), number);
}

#[test]
fn peers_have_a_bound_and_requests_come_a_few_at_a_time() {
    let (mut stage, _) = Stage::allocated(|config| {
        config.permissions = 40;
        config.channels = 2;
        config.requests = 4;
    });
    for host in 1..=40 {
        stage.client.permit(stage.now, addr(&format!("198.51.100.{host}:1")).ip()).unwrap();
    }
    assert_eq!(stage.client.permit(stage.now, addr("198.51.100.41:1").ip()), Err(PeerError::Full));
    assert_eq!(stage.client.permit(stage.now, addr("198.51.100.40:1").ip()), Ok(()), "asked for already");
    let mut answered = 0;
    while answered < 40 {
        let requests: Vec<_> = std::iter::from_fn(|| stage.try_request()).collect();
        assert!((1..=4).contains(&requests.len()), "{}", requests.len());
        for request in requests {
            stage.answer(request.success());
            answered += 1;
        }
    }
    assert_eq!(stage.events().len(), 40);
    stage.client.bind(stage.now, addr("198.51.100.1:1")).unwrap();
    stage.client.bind(stage.now, addr("198.51.100.1:2")).unwrap();
    assert_eq!(stage.client.bind(stage.now, addr("198.51.100.1:3")), Err(PeerError::Full));
}

#[test]
fn a_server_that_was_restarted_is_noticed() {
    let (mut stage, _) = Stage::allocated(|_| {});
    stage.permitted(peer());
    stage.client.check(stage.now);
    stage.client.check(stage.now);
    let request = stage.request();
    assert!(stage.try_request().is_none(), "one check at a time");
    stage.challenge(&request, 438, b"after the restart");
    let again = stage.request();
    assert_eq!((again.method, again.proven), (REFRESH, true));
    stage.answer(again.error(437));
    assert!(matches!(stage.event(), Event::Lost(Failure::Refused(Refusal::AllocationMismatch))));
    assert_eq!(encoded(&mut stage, peer(), b"x"), Err(SendError::NoAllocation));
    assert_eq!(stage.give(&data(peer(), b"x")), Input::Dropped(DropReason::Ended));
    assert_eq!(stage.client.poll_timeout(), None);
}

#[test]
fn a_server_that_died_is_noticed_at_the_next_refresh() {
    let (mut stage, _) = Stage::allocated(|_| {});
    stage.client.check(stage.now);
    stage.pass(Duration::from_secs(8));
    assert!(matches!(stage.event(), Event::Lost(Failure::NoAnswer)));
}

#[test]
fn absurd_lifetimes_neither_hurry_nor_rest_the_client() {
    for (lifetime, refresh) in [(1, 1), (20, 10), (100, 50), (3600, 3540), (u32::MAX, 3540)] {
        let mut stage = Stage::new(|_| {});
        let first = stage.request();
        stage.challenge(&first, 401, b"n");
        let second = stage.request();
        stage.answer(granted(&second, lifetime));
        assert!(matches!(stage.event(), Event::Allocated(_)));
        let before = stage.now;
        stage.wait();
        assert_eq!((stage.now - before, stage.request().method), (Duration::from_secs(refresh), REFRESH));
    }
}

#[test]
fn a_nat_on_the_way_is_kept_awake() {
    let (mut stage, _) = Stage::allocated(|config| config.keep_alive = Duration::from_secs(15));
    let start = stage.now;
    stage.wait();
    let indication = stage.request();
    assert_eq!((stage.now - start, indication.method), (Duration::from_secs(15), 1));
    // Not when there is traffic anyway.
    stage.pass(Duration::from_secs(10));
    stage.permitted(peer());
    stage.wait();
    assert!(stage.try_request().is_none());
    stage.wait();
    assert_eq!((stage.now - start, stage.request().method), (Duration::from_secs(40), 1));
}

#[test]
fn closing_gives_the_allocation_back() {
    let (mut stage, _) = Stage::allocated(|_| {});
    stage.client.close(stage.now);
    let request = stage.request();
    assert_eq!((request.method, request.get(LIFETIME)), (REFRESH, Some(&[0, 0, 0, 0][..])));
    assert_eq!(stage.client.permit(stage.now, peer().ip()), Err(PeerError::Ended));
    stage.challenge(&request, 438, b"n2");
    let again = stage.request();
    assert_eq!(again.get(LIFETIME), Some(&[0, 0, 0, 0][..]));
    stage.answer(again.success().attribute(LIFETIME, &[0; 4]));
    assert!(matches!(stage.event(), Event::Closed));
    stage.client.close(stage.now);
    assert!(stage.events().is_empty());

    // Nobody waits long for a server that does not answer.
    let (mut stage, _) = Stage::allocated(|_| {});
    let start = stage.now;
    stage.client.close(stage.now);
    stage.pass(Duration::from_secs(2));
    assert!(matches!(stage.event(), Event::Closed));
    assert!(stage.now - start <= Duration::from_secs(2));

    let mut stage = Stage::new(|_| {});
    stage.client.close(stage.now);
    assert!(matches!(stage.event(), Event::Closed));
}

#[test]
fn icmp_is_a_hint() {
    let (mut stage, _) = Stage::allocated(|_| {});
    stage.permitted(peer());
    let packet = towline_ice::stun::Encoder::new(
        towline_ice::stun::Class::Indication,
        DATA,
        towline_ice::stun::TransactionId([5; 12]),
    )
    .xor_address(PEER, peer())
    .attribute(0x8004, &[0, 0, 3, 3, 0, 0, 0, 0])
    .finish(None);
    assert_eq!(stage.give(&packet), Input::Taken);
    assert!(matches!(stage.event(), Event::Unreachable { kind: 3, code: 3, .. }));
    assert_eq!(stage.client.passes(stage.now, peer()), Ok(false));
}
