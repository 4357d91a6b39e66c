//! TCP connections of peers (RFC 6062).
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod common;

use std::time::Duration;

use common::*;
use towline_ice::stun::{Class, Encoder, TransactionId};
use towline_turn::{
    DataConnection, DropReason, Event, Failure, Family, Input, PeerError, Progress, Refusal, Relay,
    SendError, ServerTransport,
};

fn peer() -> std::net::SocketAddr {
    addr("198.51.100.5:7000")
}

fn stage() -> Stage {
    let mut stage = Stage::new(|config| {
        config.transport = ServerTransport::Tcp;
        config.relay = Relay::Tcp(Family::V4);
        config.connections = 2;
    });
    let first = stage.request();
    assert_eq!(first.get(0x19), Some(&[6, 0, 0, 0][..]));
    assert_eq!(stage.client.connect(stage.now, peer()), Err(PeerError::NotYet));
    stream(&mut stage, challenge(&first, 401, b"n"), None);
    let second = stage.request();
    stream(&mut stage, granted(&second, 600), Some(&KEY));
    assert!(matches!(stage.event(), Event::Allocated(_)));
    stage
}

fn stream(stage: &mut Stage, message: Encoder, key: Option<&[u8]>) {
    let packet = message.finish(key);
    assert_eq!(stage.client.handle_stream(stage.now, &mut &*packet), Some(Input::Taken));
}

fn dialled(stage: &mut Stage) -> Box<DataConnection> {
    stage.client.connect(stage.now, peer()).unwrap();
    let request = stage.request();
    assert_eq!((request.method, request.peer()), (CONNECT, Some(peer())));
    stream(stage, request.success().attribute(CONNECTION_ID, &77_u32.to_be_bytes()), Some(&KEY));
    match stage.event() {
        Event::PeerConnection { incoming: false, connection } => connection,
        other => panic!("{other:?}"),
    }
}

fn binding(connection: &mut DataConnection) -> Request {
    let request = Request::read(&connection.poll_transmit().expect("a request"), server());
    assert_eq!((request.method, request.get(CONNECTION_ID)), (CONNECTION_BIND, Some(&[0, 0, 0, 77][..])));
    assert!(request.proven);
    request
}

#[test]
fn a_connection_is_made_and_bound_and_then_raw() {
    let mut stage = stage();
    let mut connection = dialled(&mut stage);
    assert_eq!((connection.peer(), connection.server()), (peer(), server()));
    let request = binding(&mut connection);
    // The nonce has become stale meanwhile.
    let stale = challenge(&request, 438, b"n2").finish(None);
    assert_eq!(connection.handle_stream(&stale), Ok(Progress::Pending));
    let again = binding(&mut connection);
    assert_eq!(again.get(NONCE), Some(&b"n2"[..]));
    let mut bytes = again.success().finish(Some(&KEY)).to_vec();
    bytes.extend_from_slice(b"\x40not a frame");
    for byte in &bytes[..bytes.len() - 13] {
        assert_eq!(connection.handle_stream(&[*byte]), Ok(Progress::Pending));
    }
    let rest = &bytes[bytes.len() - 13..];
    assert_eq!(connection.handle_stream(rest), Ok(Progress::Open(&rest[1..])));
    assert_eq!(connection.handle_stream(b"more"), Ok(Progress::Open(b"more")));
    assert_eq!(connection.poll_timeout(), None);
}

#[test]
fn what_can_go_wrong_has_names() {
    let mut stage = stage();
    for (code, refusal) in
        [(447, Refusal::ConnectionFailed), (446, Refusal::ConnectionExists), (403, Refusal::Forbidden)]
    {
        stage.client.connect(stage.now, peer()).unwrap();
        let request = stage.request();
        stream(&mut stage, request.error(code), Some(&KEY));
        let Event::NotConnected { peer: to, reason } = stage.event() else { panic!("not connected") };
        assert_eq!((to, reason), (peer(), Failure::Refused(refusal)));
    }
    // Silence, for as long as connecting may take.
    stage.client.connect(stage.now, peer()).unwrap();
    let _ = stage.request();
    stage.pass(Duration::from_secs(15));
    assert!(matches!(stage.event(), Event::NotConnected { reason: Failure::NoAnswer, .. }));

    let mut connection = dialled(&mut stage);
    let request = binding(&mut connection);
    let bare = request.success().finish(None);
    assert_eq!(connection.handle_stream(&bare), Err(Failure::Forged));
    assert_eq!(connection.handle_stream(b"x"), Err(Failure::Forged), "and stays so");

    let mut connection = dialled(&mut stage);
    let request = binding(&mut connection);
    let refused = request.error(400).finish(Some(&KEY));
    assert_eq!(connection.handle_stream(&refused), Err(Failure::Refused(Refusal::BadRequest)));

    let mut connection = dialled(&mut stage);
    let at = connection.poll_timeout().unwrap();
    assert_eq!(connection.handle_timeout(at), Err(Failure::NoAnswer));

    let mut connection = dialled(&mut stage);
    assert!(matches!(connection.handle_stream(b"\xffgarbage"), Err(Failure::Stream(_))));
}

#[test]
fn peers_connect_if_they_are_permitted_and_not_too_many() {
    let attempt = |peer, id: u32| {
        Encoder::new(Class::Indication, CONNECTION_ATTEMPT, TransactionId([1; 12]))
            .xor_address(PEER, peer)
            .attribute(CONNECTION_ID, &id.to_be_bytes())
            .finish(None)
    };
    let mut stage = stage();
    let give = |stage: &mut Stage, id| {
        let packet = attempt(peer(), id);
        match stage.client.handle_stream(stage.now, &mut &*packet) {
            Some(Input::Dropped(reason)) => Err(reason),
            Some(Input::Taken) => Ok(()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(give(&mut stage, 1), Err(DropReason::NotPermitted(peer().ip())));
    stage.client.permit(stage.now, peer().ip()).unwrap();
    let request = stage.request();
    stream(&mut stage, request.success(), Some(&KEY));
    assert!(matches!(stage.event(), Event::Permitted(_)));
    assert_eq!(give(&mut stage, 1), Ok(()));
    assert!(matches!(stage.event(), Event::PeerConnection { incoming: true, .. }));
    assert_eq!(give(&mut stage, 2), Ok(()));
    assert_eq!(give(&mut stage, 3), Err(DropReason::TooManyConnections));
    stage.pass(Duration::from_secs(30));
    assert_eq!(give(&mut stage, 4), Ok(()));
}

#[test]
fn a_tcp_allocation_relays_no_datagrams_and_the_other_way_round() {
    let mut tcp = stage();
    assert_eq!(tcp.client.bind(tcp.now, peer()), Err(PeerError::Transport));
    assert_eq!(tcp.client.send(tcp.now, peer(), b"x"), Err(SendError::NoAllocation));
    let (mut udp, _) = Stage::allocated(|_| {});
    assert_eq!(udp.client.connect(udp.now, peer()), Err(PeerError::Transport));
}
