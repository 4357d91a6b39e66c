//! Somebody between the two, without keys.

use towline_tls::TlsError;

use super::hear;
use super::peer::{ROLES, Role};
use super::raw::Raw;

/// Header, five bytes, type, tag.
const RECORD_LEN: usize = 5 + 5 + 1 + 16;

#[test]
fn every_bit_is_protected() {
    for index in 0..RECORD_LEN {
        for bit in 0..8 {
            let (mut session, mut raw) = Raw::pair(ROLES[bit % 2]);
            let mut wire = raw.data(b"1 EUR");
            assert_eq!(wire.len(), RECORD_LEN);
            wire[index] ^= 1 << bit;
            let (heard, result) = hear(&mut session, &wire);
            assert_eq!(heard, b"", "bit {bit} of byte {index}");
            match index {
                // The length: the record is not all here, or ends early, or is too long.
                3 | 4 => match result {
                    Ok(used) => {
                        assert_eq!(used, 0);
                        assert_eq!(session.receive_eof(), Err(TlsError::Truncated));
                    }
                    Err(error) => assert!(matches!(
                        error,
                        TlsError::Tampered | TlsError::Misbehaved | TlsError::Garbage
                    )),
                },
                0 => assert!(matches!(result, Err(TlsError::Misbehaved | TlsError::Garbage))),
                1 => assert_eq!(result, Err(TlsError::Garbage)),
                _ => assert_eq!(result, Err(TlsError::Tampered), "bit {bit} of byte {index}"),
            }
        }
    }
}

#[test]
fn order_is_protected() {
    for role in ROLES {
        for (order, heard) in [
            (&[1][..], &b""[..]), // the first is missing
            (&[0, 0], b"0"),      // the same again
            (&[0, 2], b"0"),      // one is missing
            (&[0, 1, 0], b"01"),  // an old one
            (&[1, 0], b""),       // swapped
            (&[0, 1, 2, 2], b"012"),
        ] {
            let (mut session, mut raw) = Raw::pair(role);
            let records: Vec<_> = [b"0", b"1", b"2"].iter().map(|data| raw.data(*data)).collect();
            let wire: Vec<u8> = order.iter().flat_map(|index| records[*index].clone()).collect();
            assert_eq!(hear(&mut session, &wire), (heard.to_vec(), Err(TlsError::Tampered)), "{order:?}");
            assert_eq!(raw.said_by(&mut session), [(21, vec![2, 20])]);
        }
    }
}

#[test]
fn records_of_another_direction_or_session() {
    let (mut session, mut raw) = Raw::pair(Role::Server);
    let mut own = Vec::new();
    session.send(b"reflected", &mut own).unwrap();
    assert_eq!(raw.read(&own).len(), 1);
    raw.refused(&mut session, &own, &TlsError::Tampered, 20);
    let (mut session, mut raw) = Raw::pair(Role::Server);
    let (_, mut other) = Raw::pair(Role::Server);
    raw.refused(&mut session, &other.data(b"elsewhere"), &TlsError::Tampered, 20);
}

#[test]
fn an_end_inside_or_between_records_is_noticed() {
    let (mut session, mut raw) = Raw::pair(Role::Client);
    let whole = raw.data(b"whole");
    let cut = raw.data(b"cut");
    for len in 0..cut.len() {
        let wire = [if len == 0 { &whole[..] } else { &[] }, &cut[..len]].concat();
        let (heard, result) = hear(&mut session, &wire);
        assert_eq!(heard, if len == 0 { &b"whole"[..] } else { b"" });
        assert_eq!(result, Ok(wire.len() - len), "the piece stays with the caller");
    }
    assert_eq!(session.receive_eof(), Err(TlsError::Truncated));
}
