//! An entrance for fuzzers and property tests.

use std::time::{Duration, Instant};

use crate::{Chunk, Config, Dialect, Event, Mux, OpenOptions, Side};

/// Feeds `stream` to a mux of each side that has requests of its own under way, in pieces whose lengths the stream
/// itself gives, while an application that reads half of what comes answers. Time begins at `now`.
///
/// # Panics
///
/// When memory is not bounded as [`Config`] promises; that, and any other panic, is a find.
pub fn fuzz(dialect: Dialect, now: Instant, stream: &[u8]) {
    for side in [Side::TlsClient, Side::TlsServer] {
        feed(dialect, side, now, stream);
    }
}

fn feed(dialect: Dialect, side: Side, mut now: Instant, stream: &[u8]) {
    let config = Config { receive_budget: 64 << 10, initial_window: 4 << 10, ..Config::default() };
    let mut mux = Mux::new(dialect, side, config.clone(), now);
    let mut scratch = Vec::new();
    let mut own = Vec::new();
    for early in [false, true] {
        if let Ok(id) = mux.open(now, "own", OpenOptions { early, ..OpenOptions::default() }) {
            own.push(id);
            drop(mux.write(id, Chunk::copy_from(&[0; 5000])));
        }
    }
    let mut rest = stream;
    while let Some((first, tail)) = rest.split_first() {
        while mux.poll_transmit(now, &mut scratch).is_some() {}
        let (part, tail) =
            rest.split_at(if tail.is_empty() { 1 } else { rest.len().min(1 + usize::from(*first)) });
        rest = tail;
        if mux.handle_data(now, part).is_err() {
            assert!(mux.is_closed(), "a fault is final");
            break;
        }
        now += Duration::from_millis(1);
        while let Some(event) = mux.poll_event() {
            match event {
                Event::Requested { id, name, .. } if name.len() % 3 != 0 => {
                    let _ = mux.accept(now, id);
                    drop(mux.write(id, Chunk::copy_from(b"hello")));
                }
                Event::Requested { id, .. } => {
                    let _ = mux.refuse(id, crate::Code::Declined.into());
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
        if !mux.wants_data() {
            break;
        }
        assert!(mux.held() <= config.receive_budget + 256, "held {}", mux.held());
    }
    for id in own {
        let _ = mux.reset(id, crate::Code::Cancelled.into());
    }
    while mux.poll_transmit(now, &mut scratch).is_some() {}
}
