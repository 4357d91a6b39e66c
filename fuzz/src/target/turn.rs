//! What a relay server, and a client of one, can be sent.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use towline_turn::{
    Client, Config, Credentials, PeerPolicy, Server, ServerAction, ServerConfig, ServerTransport, Users,
};

use super::{datagrams, epoch};

/// Headers of attributes and messages of TURN.
pub(super) const ATTRIBUTES: &[&[u8]] = &[
    &[0x21, 0x12, 0xa4, 0x42],
    &[0x00, 0x03],
    &[0x01, 0x03],
    &[0x01, 0x13],
    &[0x00, 0x04],
    &[0x01, 0x14],
    &[0x00, 0x16],
    &[0x00, 0x17],
    &[0x00, 0x1c],
    &[0x40, 0x00, 0x00, 0x04],
    &[0x00, 0x0c, 0x00, 0x04, 0x40, 0x00],
    &[0x00, 0x0d, 0x00, 0x04],
    &[0x00, 0x12, 0x00, 0x08, 0x00, 0x01],
    &[0x00, 0x13, 0x00, 0x04],
    &[0x00, 0x14, 0x00, 0x04],
    &[0x00, 0x15, 0x00, 0x0d, b'o', b'b', b'M', b'a', b't', b'J', b'o', b's', b'2'],
    &[0x00, 0x16, 0x00, 0x08, 0x00, 0x01],
    &[0x00, 0x19, 0x00, 0x04, 0x11],
    &[0x80, 0x02, 0x00, 0x04, 0x00, 0x02],
    &[0x80, 0x23, 0x00, 0x08, 0x00, 0x01],
    &[0x00, 0x09, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00],
    &[0x00, 0x09, 0x00, 0x04, 0x00, 0x00, 0x04, 0x26],
];

/// The longest chain of actions that one input may cause.
const MAX_ACTIONS: usize = 64;

/// A client, over datagrams or over a stream, as the first byte of each piece says: nothing may pile up, and nobody who
/// does not know the password makes it believe in an allocation.
pub(super) fn client(input: &[u8]) {
    let mut now = epoch();
    let server = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 3478));
    let make = |transport| {
        let mut config = Config::new(server, transport);
        config.credentials = Some(Credentials::new("ann", "a password that nobody guesses"));
        Client::new(config, now, [7; 32]).expect("a good configuration")
    };
    let mut clients = [make(ServerTransport::Udp), make(ServerTransport::Tcp)];
    let peer = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 7));
    for piece in datagrams(input) {
        let Some((way, payload)) = piece.split_first() else { continue };
        let client = &mut clients[usize::from(way % 2)];
        // An answer to the request that is under way, now and then.
        let mut payload = payload.to_vec();
        let mut sent = 0;
        while let Some(transmit) = client.poll_transmit() {
            sent += 1;
            assert!(sent <= MAX_ACTIONS, "one packet made {sent} more");
            if way & 2 != 0 && payload.len() >= 20 && transmit.bytes.len() >= 20 {
                payload[8..20].copy_from_slice(&transmit.bytes[8..20]);
            }
        }
        if way % 2 == 0 {
            let _ = client.handle_datagram(now, client.server(), &payload);
        } else {
            let mut rest = &payload[..];
            while client.handle_stream(now, &mut rest).is_some() {}
            client.handle_connected(now);
        }
        let _ = client.permit(now, peer.ip());
        let _ = client.bind(now, peer);
        let mut events = 0;
        while client.poll_event().is_some() {
            events += 1;
            assert!(events <= MAX_ACTIONS, "one packet made {events} events");
        }
        assert!(client.allocation().is_none(), "it believes whoever comes along");
        now += Duration::from_millis(u64::from(*way));
        if client.poll_timeout().is_some_and(|timeout| timeout <= now) {
            client.handle_timeout(now);
        }
    }
}

/// A server, with one user who is no fuzzer: strangers get answers, but no allocation and nothing relayed.
pub(super) fn server(input: &[u8]) {
    let mut now = epoch();
    let users = Users {
        fixed: BTreeMap::from([("ann".to_owned(), "a password that nobody guesses".to_owned())]),
        secret: Some(b"a secret that nobody guesses".to_vec()),
    };
    let config =
        ServerConfig { users, peers: PeerPolicy::DangerouslyAll, streams: 4, ..ServerConfig::default() };
    let mut server = Server::new(config, now, 1_800_000_000, [7; 32]);
    let from = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 9), 4000));
    let mut stream = None;
    for piece in datagrams(input) {
        let Some((way, payload)) = piece.split_first() else { continue };
        match (way % 3, stream) {
            (0, _) => {
                assert!(server.handle_datagram(now, 0, from, payload).is_none(), "relayed for a stranger");
            }
            (1, Some(id)) => {
                let mut rest = payload;
                while !rest.is_empty() {
                    assert!(server.handle_stream(now, id, &mut rest).is_none(), "relayed for a stranger");
                }
            }
            _ => stream = server.handle_accepted(now, from).or(stream),
        }
        let mut actions = 0;
        while let Some(action) = server.poll_action() {
            actions += 1;
            // A stream may hold as many requests as fit into a piece.
            assert!(actions <= payload.len() / 20 + MAX_ACTIONS, "one packet made {actions} actions");
            match action {
                ServerAction::CloseStream(id) => {
                    server.handle_stream_end(id);
                    stream = stream.filter(|open| *open != id);
                }
                ServerAction::Send { bytes, .. } => {
                    assert!(bytes.len() <= 512, "an answer longer than any question");
                }
                ServerAction::Bind { .. } | ServerAction::Unbind(_) => panic!("a stranger has an allocation"),
            }
        }
        assert_eq!(server.allocations(), 0);
        now += Duration::from_millis(u64::from(*way));
        server.handle_timeout(now);
    }
}
