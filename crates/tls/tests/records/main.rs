//! The records of established sessions: with the TLS library at the other end, and with one that breaks every rule.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod anything;
mod attacks;
mod handover;
mod peer;
mod raw;
mod rules;

use towline_tls::{Session, TlsError};

/// What an established session made of its input: the plaintext, and how it ended.
fn hear(session: &mut Session, wire: &[u8]) -> (Vec<u8>, Result<usize, TlsError>) {
    let mut heard = Vec::new();
    let result = session.receive(&mut wire.to_vec(), &mut |data| heard.extend_from_slice(data));
    (heard, result)
}

/// The session takes all of this in, and goes on. Gives the plaintext.
fn accepted(session: &mut Session, wire: &[u8]) -> Vec<u8> {
    let (heard, result) = hear(session, wire);
    assert_eq!(result, Ok(wire.len()));
    heard
}

/// Takes all of `wire` in, in pieces of `step` bytes; what is left over comes again.
fn hear_in_steps(
    session: &mut Session,
    wire: &[u8],
    step: usize,
    heard: &mut Vec<u8>,
) -> Result<(), TlsError> {
    let mut waiting = Vec::new();
    for piece in wire.chunks(step) {
        waiting.extend_from_slice(piece);
        let used = session.receive(&mut waiting, &mut |data| heard.extend_from_slice(data))?;
        waiting.drain(..used);
    }
    Ok(())
}
