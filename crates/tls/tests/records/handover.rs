//! The moment when the library has done the handshake and we take the records over.

use towline_tls::{Suite, TlsError, Version};

use super::peer::{self, ROLES, Role, Speaks, said, tell, write};
use super::{hear, hear_in_steps};

/// The end of a client's handshake, key updates, data, the farewell: in one piece, and in pieces of any size.
#[test]
fn all_at_once_behind_the_handshake() {
    for step in [1, 2, 7, 100, 1000, usize::MAX] {
        let mut session = peer::session(Role::Server);
        let mut client = peer::peer(Role::Server, Speaks::Aes256, false);
        assert_eq!(hear(&mut session, &said(&mut client)).0, b"");
        let mut wire = Vec::new();
        session.poll_transmit(&mut wire);
        tell(&mut client, &wire).unwrap();
        client.refresh_traffic_keys().unwrap();
        write(&mut client, b"one, ");
        client.refresh_traffic_keys().unwrap();
        client.refresh_traffic_keys().unwrap();
        write(&mut client, b"two");
        client.send_close_notify();
        let mut heard = Vec::new();
        hear_in_steps(&mut session, &said(&mut client), step, &mut heard).unwrap();
        assert_eq!(heard, b"one, two");
        assert!(session.is_established() && session.peer_closed());
        // One answer to three requests, in front of the data.
        let mut wire = Vec::new();
        session.send(b"three", &mut wire).unwrap();
        assert_eq!(wire.len(), 27 + 22 + 5);
        assert_eq!(tell(&mut client, &wire).unwrap(), b"three");
    }
}

/// The same from a server, with its tickets in front, in records so small that each comes in many pieces.
#[test]
fn a_server_that_speaks_at_once() {
    for (step, small) in [(1, false), (1000, true), (usize::MAX, false), (usize::MAX, true)] {
        let mut session = peer::session(Role::Client);
        let mut server = peer::peer(Role::Client, Speaks::Aes256, small);
        let mut wire = Vec::new();
        session.poll_transmit(&mut wire);
        tell(&mut server, &wire).unwrap();
        hear_in_steps(&mut session, &said(&mut server), step, &mut Vec::new()).unwrap();
        assert!(session.is_established());
        wire.clear();
        // Data right behind the end of the handshake, as the client's own.
        session.send(b"early bird", &mut wire).unwrap();
        assert_eq!(tell(&mut server, &wire).unwrap(), b"early bird");
        server.refresh_traffic_keys().unwrap();
        write(&mut server, b"welcome");
        let mut heard = Vec::new();
        hear_in_steps(&mut session, &said(&mut server), step, &mut heard).unwrap();
        assert_eq!(heard, b"welcome");
        wire.clear();
        assert!(session.poll_transmit(&mut wire));
        assert_eq!((wire.len(), tell(&mut server, &wire)), (27, Ok(Vec::new())));
        assert!(!session.poll_transmit(&mut wire), "a request is answered once");
    }
}

#[test]
fn what_was_agreed_upon_survives() {
    for role in ROLES {
        for (speaks, version, suite) in [
            (Speaks::Aes256, Version::Tls13, Suite::Aes256Gcm),
            (Speaks::ChaCha20, Version::Tls13, Suite::ChaCha20Poly1305),
            (Speaks::Tls12, Version::Tls12, Suite::Aes256Gcm),
        ] {
            let (session, _) = peer::pair(role, speaks);
            let summary = *session.summary().unwrap();
            assert_eq!((summary.version, summary.suite), (version, suite));
            assert!(summary.peer_handshake_len > 1000);
            assert_eq!(session.dialect(), Some(summary.dialect));
            assert!(session.peer_chain().is_some());
        }
    }
}

#[test]
fn key_updates_without_data_are_bounded() {
    for role in ROLES {
        let (mut session, mut peer) = peer::pair(role, Speaks::Aes256);
        // The tickets of a server counted already.
        write(&mut peer, b"x");
        assert_eq!(hear(&mut session, &said(&mut peer)).0, b"x");
        for _ in 0..3 {
            for _ in 0..32 {
                peer.refresh_traffic_keys().unwrap();
            }
            write(&mut peer, b"patience is restored");
            assert_eq!(hear(&mut session, &said(&mut peer)).0, b"patience is restored");
        }
        let mut wire = Vec::new();
        assert!(session.poll_transmit(&mut wire));
        assert_eq!(wire.len(), 27, "96 requests, one answer");
        tell(&mut peer, &wire).unwrap();
        for _ in 0..33 {
            peer.refresh_traffic_keys().unwrap();
        }
        assert_eq!(hear(&mut session, &said(&mut peer)).1, Err(TlsError::Misbehaved));
        wire.clear();
        session.poll_transmit(&mut wire);
        let refused = rustls::Error::AlertReceived(rustls::AlertDescription::UnexpectedMessage);
        assert_eq!(tell(&mut peer, &wire), Err(refused));
    }
}

/// In a buffer that is exactly as long as documented.
#[test]
fn sealing_into_a_slice() {
    for speaks in [Speaks::Aes256, Speaks::ChaCha20, Speaks::Tls12] {
        let (mut session, mut peer) = peer::pair(Role::Client, speaks);
        for len in [0, 1, 16_383, 16_384, 16_385, 100_000] {
            if speaks != Speaks::Tls12 {
                peer.refresh_traffic_keys().unwrap();
                hear(&mut session, &said(&mut peer)).1.unwrap();
            }
            let data: Vec<u8> = (0..len).map(|index| index as u8).collect();
            let mut wire = vec![0; session.sealed_len(len)];
            let written = session.seal(&data, &mut wire).unwrap();
            assert_eq!(tell(&mut peer, &wire[..written]).unwrap(), data);
            if speaks != Speaks::Tls12 {
                assert_eq!(written, 27 + len + 22 * len.div_ceil(16_384));
            }
        }
    }
}
