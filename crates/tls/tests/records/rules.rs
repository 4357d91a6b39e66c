//! What is in a record, by a peer that holds the keys (RFC 8446 4.6, 5, 6).

use towline_tls::TlsError;

use super::peer::{ROLES, Role};
use super::raw::Raw;
use super::{accepted, hear};

const UNEXPECTED_MESSAGE: u8 = 10;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;

const MAX: usize = 1 << 14;

/// This record, from a fresh peer, is refused with this alert.
#[track_caller]
fn misbehaves(role: Role, alert: u8, record: impl FnOnce(&mut Raw) -> Vec<u8>) {
    let (mut session, mut raw) = Raw::pair(role);
    let wire = record(&mut raw);
    raw.refused(&mut session, &wire, &TlsError::Misbehaved, alert);
}

#[test]
fn padding_is_taken_off() {
    let (mut session, mut raw) = Raw::pair(Role::Server);
    for (content, padding) in [(1, 0), (1, 1), (100, 15), (1, MAX - 1), (MAX, 0), (MAX - 1, 1), (5000, 255)] {
        let content = vec![7; content];
        let wire = raw.inner(&[&content[..], &[23], &vec![0; padding]].concat());
        assert_eq!(accepted(&mut session, &wire), content);
    }
    // Data that ends in zeros keeps them.
    let wire = raw.inner(&[1, 0, 0, 23, 0, 0]);
    assert_eq!(accepted(&mut session, &wire), [1, 0, 0]);
    // Also other types are padded.
    let wire = raw.inner(&[1, 0, 21, 0, 0]);
    accepted(&mut session, &wire);
    assert!(session.peer_closed());
}

#[test]
fn nothing_but_padding() {
    for len in [0, 1, 2, 100, MAX + 1] {
        misbehaves(Role::Client, UNEXPECTED_MESSAGE, |raw| raw.inner(&vec![0; len]));
    }
}

#[test]
fn too_long() {
    for role in ROLES {
        // The most that a header may announce does decrypt, and is too long then.
        for len in [MAX + 2, MAX + 240] {
            misbehaves(role, RECORD_OVERFLOW, |raw| raw.inner(&vec![23; len]));
            misbehaves(role, RECORD_OVERFLOW, |raw| raw.inner(&[&[7, 23][..], &vec![0; len - 2]].concat()));
        }
        // One more is refused by its header.
        misbehaves(role, RECORD_OVERFLOW, |_| [&[23, 3, 3][..], &(MAX as u16 + 257).to_be_bytes()].concat());
    }
}

#[test]
fn too_short_for_a_tag() {
    for len in 0..16_u8 {
        let (mut session, mut raw) = Raw::pair(Role::Server);
        let wire = [&[23, 3, 3, 0, len][..], &vec![9; len.into()]].concat();
        raw.refused(&mut session, &wire, &TlsError::Tampered, 20);
    }
}

#[test]
fn types() {
    for role in ROLES {
        for content_type in (1..=255).filter(|content_type| !(21..=23).contains(content_type)) {
            misbehaves(role, UNEXPECTED_MESSAGE, |raw| raw.record(content_type, &[1]));
        }
        for content_type in [21, 22] {
            misbehaves(role, UNEXPECTED_MESSAGE, |raw| raw.record(content_type, &[]));
        }
        // Without protection: change_cipher_spec, close_notify, a key update.
        for wire in [
            &[20, 3, 3, 0, 1, 1][..],
            &[21, 3, 3, 0, 2, 1, 0],
            &[22, 3, 3, 0, 5, 24, 0, 0, 1, 0],
            &[20, 3, 3, 0, 0],
        ] {
            misbehaves(role, UNEXPECTED_MESSAGE, |_| wire.to_vec());
        }
        let (mut session, mut raw) = Raw::pair(role);
        raw.refused(&mut session, b"HTTP/1.1", &TlsError::Garbage, DECODE_ERROR);
    }
}

#[test]
fn alerts() {
    for role in ROLES {
        // Whatever the level.
        for level in [0, 1, 2, 3] {
            let (mut session, mut raw) = Raw::pair(role);
            let wire = [raw.data(b"bye"), raw.record(21, &[level, 0]), b"not TLS".to_vec()].concat();
            assert_eq!(accepted(&mut session, &wire), b"bye");
            assert!(session.peer_closed());
            assert_eq!(session.receive_eof(), Ok(()));
            let mut out = Vec::new();
            session.send(b"still here", &mut out).unwrap();
            assert_eq!(raw.read(&out), [(23, b"still here".to_vec())]);

            let (mut session, mut raw) = Raw::pair(role);
            let wire = raw.record(21, &[level, 49]);
            assert_eq!(hear(&mut session, &wire).1, Err(TlsError::PeerAlert(49)));
            assert_eq!(raw.said_by(&mut session), [], "a refusal is not answered");
        }
        for content in [&[1][..], &[1, 0, 0], &[1, 0, 1, 0]] {
            misbehaves(role, DECODE_ERROR, |raw| raw.record(21, content));
        }
        let (mut session, mut raw) = Raw::pair(role);
        let wire = [raw.record(21, &[1, 90]), raw.data(b"changed my mind")].concat();
        assert_eq!(accepted(&mut session, &wire), b"changed my mind");
    }
}

#[test]
fn messages_of_the_handshake_are_over() {
    for role in ROLES {
        for kind in (0..=255).filter(|kind| ![4, 24].contains(kind)) {
            misbehaves(role, UNEXPECTED_MESSAGE, |raw| raw.record(22, &[kind, 0, 0, 1, 0]));
        }
        // A CertificateRequest in full, and the announcement of 16 MiB.
        misbehaves(role, UNEXPECTED_MESSAGE, |raw| {
            raw.record(22, &[13, 0, 0, 11, 0, 0, 8, 0, 13, 0, 4, 0, 2, 8, 6])
        });
        misbehaves(role, UNEXPECTED_MESSAGE, |raw| raw.record(22, &[11, 255, 255, 255]));
        misbehaves(role, ILLEGAL_PARAMETER, |raw| raw.record(22, &[24, 0, 0, 1, 2]));
        misbehaves(role, DECODE_ERROR, |raw| raw.record(22, &[24, 0, 0, 2, 0, 0]));
        misbehaves(role, UNEXPECTED_MESSAGE, |raw| raw.record(22, &[24, 0, 0, 1, 0, 24]));
    }
    misbehaves(Role::Server, UNEXPECTED_MESSAGE, |raw| raw.record(22, &ticket(100)));
    misbehaves(Role::Client, DECODE_ERROR, |raw| raw.record(22, &[4, 255, 255, 255]));
}

fn ticket(len: u8) -> Vec<u8> {
    [&[4, 0, 0, len][..], &vec![9; len.into()]].concat()
}

#[test]
fn messages_in_pieces() {
    let tickets = [ticket(200), ticket(30), ticket(90)].concat();
    for size in [2, 3, 4, 5, 50, 199, 1000] {
        let (mut session, mut raw) = Raw::pair(Role::Client);
        let mut wire = raw.data(b"before");
        for piece in tickets.chunks(size) {
            wire.extend(raw.record(22, piece));
        }
        wire.extend(raw.data(b", behind"));
        assert_eq!(accepted(&mut session, &wire), b"before, behind");
        assert_eq!(raw.said_by(&mut session), []);
    }
}

#[test]
fn nothing_comes_between_the_pieces() {
    let update = [24, 0, 0, 1, 0];
    for role in ROLES {
        for cut in 1..update.len() {
            for (content_type, content) in [(23, &[7][..]), (23, &[]), (21, &[1, 0]), (21, &[2, 40])] {
                let (mut session, mut raw) = Raw::pair(role);
                let wire = raw.record(22, &update[..cut]);
                accepted(&mut session, &wire);
                let wire = raw.record(content_type, content);
                raw.refused(&mut session, &wire, &TlsError::Misbehaved, UNEXPECTED_MESSAGE);
            }
        }
    }
}

/// The next key is one that only the library knows, so this update says no more than that it counts.
#[test]
fn a_key_changes_with_the_last_piece() {
    for requested in [0, 1] {
        let (mut session, mut raw) = Raw::pair(Role::Client);
        for byte in [24, 0, 0, 1, requested] {
            assert_eq!(raw.said_by(&mut session), []);
            let wire = raw.record(22, &[byte]);
            accepted(&mut session, &wire);
        }
        let answer = [(22, vec![24, 0, 0, 1, 0])];
        assert_eq!(raw.said_by(&mut session), answer[..usize::from(requested)]);
        let wire = raw.data(b"under the old key");
        assert_eq!(hear(&mut session, &wire).1, Err(TlsError::Tampered));
    }
}

#[test]
fn records_without_data_are_bounded() {
    let floods: [(Role, u8, &[u8]); 4] = [
        (Role::Server, 23, &[]),
        (Role::Client, 23, &[]),
        (Role::Client, 22, &[4, 0, 0, 1, 0]),
        (Role::Server, 21, &[1, 90]),
    ];
    for (role, content_type, content) in floods {
        let (mut session, mut raw) = Raw::pair(role);
        for _ in 0..3 {
            for _ in 0..200 {
                let wire = raw.record(content_type, content);
                assert_eq!(accepted(&mut session, &wire), b"");
            }
            let wire = raw.data(b"patience is restored");
            assert_eq!(accepted(&mut session, &wire), b"patience is restored");
        }
        for _ in 0..256 {
            let wire = raw.record(content_type, content);
            accepted(&mut session, &wire);
        }
        let wire = raw.record(content_type, content);
        raw.refused(&mut session, &wire, &TlsError::Misbehaved, UNEXPECTED_MESSAGE);
    }
}

#[test]
fn nothing_is_said_behind_our_farewell() {
    let (mut session, mut raw) = Raw::pair(Role::Server);
    let wire = raw.record(22, &[24, 0, 0, 1, 1]);
    accepted(&mut session, &wire);
    let mut out = Vec::new();
    session.close(&mut out);
    assert_eq!(raw.read(&out), [(21, vec![1, 0])]);
    assert_eq!(raw.said_by(&mut session), [], "no key update");
    assert_eq!(hear(&mut session, &[23, 3, 3, 0, 0]).1, Err(TlsError::Tampered));
    assert_eq!(raw.said_by(&mut session), [], "no alert");
}
