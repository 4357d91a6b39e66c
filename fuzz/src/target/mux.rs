//! What an authenticated peer sends inside TLS: frames and control messages of both dialects.

use std::time::Duration;

use towline_mux::{Chunk, Code, Config, Dialect, Event, Mux, OpenOptions, Side};

use super::{chunks, epoch};

/// Frame headers and control messages.
pub(super) const WORDS: &[&[u8]] = &[
    &[0x92, 0x00, 0xc4],
    &[0x92, 0x01, 0xc4],
    &[0x92, 0xcd, 0x80, 0x00, 0xc4, 0x00],
    &[0x92, 0xcd, 0xff, 0xff, 0xc4],
    &[0x93, 0xa3, b's', b'i', b'p', 0x01, 0x00],
    &[0x81, 0xa1, b'v', 0x01],
    &[0x81, 0xa1, b'p', 0xc3],
    &[0x81, 0xa1, b'p', 0xc2],
    &[0x00, 0x00, 0x00, 0x01],
    &[0x00, 0x10, 0x00, 0x00],
    &[0x40, 0x00, 0x00, 0x01],
];

/// The native dialect.
pub(super) fn native(input: &[u8]) {
    both_sides(Dialect::Native, input);
}

/// Jami's dialect.
pub(super) fn jami(input: &[u8]) {
    both_sides(Dialect::Jami, input);
}

fn both_sides(dialect: Dialect, input: &[u8]) {
    for side in [Side::TlsClient, Side::TlsServer] {
        converse(dialect, side, input);
    }
}

/// A program that has requests of its own under way, accepts some channels, reads some and ignores others.
fn converse(dialect: Dialect, side: Side, input: &[u8]) {
    let config = Config { receive_budget: 64 << 10, initial_window: 4 << 10, ..Config::default() };
    let mut now = epoch();
    let mut mux = Mux::new(dialect, side, config.clone(), now);
    let mut scratch = Vec::new();
    for name in ["first", "second"] {
        if let Ok(id) = mux.open(now, name, OpenOptions::default()) {
            let _ = mux.write(id, Chunk::copy_from(&[7; 3000]));
        }
    }
    for chunk in chunks(input) {
        while mux.poll_transmit(now, &mut scratch).is_some() {}
        if !mux.wants_data() {
            break;
        }
        if mux.handle_data(now, chunk).is_err() {
            assert!(mux.is_closed(), "a fault is final");
            break;
        }
        while let Some(event) = mux.poll_event() {
            react(&mut mux, now, event);
        }
        assert!(mux.held() <= config.receive_budget + 256, "holds {} bytes", mux.held());
        assert!(
            mux.queued() <= config.send_budget + config.max_replies + (64 << 10),
            "queues {}",
            mux.queued()
        );
        now += Duration::from_millis(1);
        if let Some(timeout) = mux.poll_timeout().filter(|timeout| *timeout <= now) {
            mux.handle_timeout(timeout.max(now));
        }
    }
    while mux.poll_transmit(now, &mut scratch).is_some() {}
}

fn react(mux: &mut Mux, now: std::time::Instant, event: Event) {
    match event {
        Event::Requested { id, name, .. } if name.len() % 3 != 0 => {
            let _ = mux.accept(now, id);
            let _ = mux.write(id, Chunk::copy_from(b"welcome"));
        }
        Event::Requested { id, .. } => {
            let _ = mux.refuse(id, Code::Declined.into());
        }
        Event::Readable { id } if id.number() % 2 == 0 => {
            while let Some(bytes) = mux.read(id) {
                mux.consumed(now, id, bytes.len() as u64);
            }
        }
        Event::Finished { id } => {
            let _ = mux.finish(id);
        }
        _ => {}
    }
}
