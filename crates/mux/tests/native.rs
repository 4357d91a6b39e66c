//! Stories of the native dialect.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

mod support;

use std::time::Duration;

use support::Pair;
use towline_mux::{
    ChannelError, ChannelState, Chunk, Class, Code, Config, Dialect, Event, KeepAlive, MAX_BODY, OpenError,
    OpenOptions, PeerFault, Priority, Reason, WriteError,
};

fn reason(text: &str) -> Reason {
    Reason::new(Code::Application(1000), text)
}

#[test]
fn a_channel_lives() {
    let mut pair = Pair::new(Dialect::Native);
    let ours = pair.client.mux.open(pair.now, "file://a", OpenOptions::default()).unwrap();
    pair.client.write(ours, b"hello");
    pair.settle();
    let Some(Event::Requested { id: theirs, name, priority }) = pair.server.event() else { panic!() };
    assert_eq!((&*name, priority, theirs.number()), ("file://a", Priority::default(), 1));
    assert_eq!(pair.server.event(), None, "without `early` nothing leaves before the answer");
    assert_eq!(pair.server.mux.info(theirs).unwrap().state, ChannelState::Pending);
    pair.server.mux.accept(pair.now, theirs).unwrap();
    pair.server.write(theirs, b"welcome");
    pair.settle();
    assert_eq!(pair.client.event(), Some(Event::Accepted { id: ours }));
    assert_eq!(pair.client.event(), Some(Event::Readable { id: ours }));
    assert_eq!(pair.client.read(pair.now, ours), b"welcome");
    assert_eq!(pair.server.event(), Some(Event::Readable { id: theirs }));
    assert_eq!(pair.server.read(pair.now, theirs), b"hello");

    pair.client.write(ours, b"last words");
    pair.client.mux.finish(ours).unwrap();
    assert!(matches!(pair.client.mux.write(ours, Chunk::copy_from(b"x")), Err(WriteError::Ended)));
    pair.settle();
    assert_eq!(pair.server.event(), Some(Event::Readable { id: theirs }));
    assert_eq!(pair.server.event(), Some(Event::Finished { id: theirs }));
    assert_eq!(pair.server.read(pair.now, theirs), b"last words");
    assert_eq!(pair.server.mux.info(theirs).unwrap().state, ChannelState::HalfClosedRemote);

    pair.server.write(theirs, b"still here");
    pair.server.mux.finish(theirs).unwrap();
    pair.settle();
    assert_eq!(pair.server.event(), Some(Event::Closed { id: theirs }));
    assert_eq!(pair.client.event(), Some(Event::Readable { id: ours }));
    assert_eq!(pair.client.event(), Some(Event::Finished { id: ours }));
    assert_eq!(pair.client.event(), Some(Event::Closed { id: ours }));
    assert_eq!(pair.client.read(pair.now, ours), b"still here", "data outlives the channel");
    assert_eq!(pair.client.mux.channels().count() + pair.server.mux.channels().count(), 0);
    assert_eq!(pair.client.mux.finish(ours), Err(ChannelError::Unknown));
}

#[test]
fn large_data_is_split_into_records_and_arrives_whole() {
    let mut pair = Pair::new(Dialect::Native);
    let (ours, theirs) = pair.channel("bulk");
    let data: Vec<u8> = (0..1_000_000_u32).map(|at| (at.wrapping_mul(7919) >> 8) as u8).collect();
    let mut rest = &data[..];
    let mut got = Vec::new();
    while got.len() < data.len() {
        while pair.client.mux.writable(ours) >= MAX_BODY && !rest.is_empty() {
            let chunk = Chunk::copy_from(rest);
            rest = &rest[chunk.len()..];
            pair.client.mux.write(ours, chunk).unwrap();
        }
        pair.settle();
        got.extend(pair.server.read(pair.now, theirs));
    }
    assert!(got == data);
    assert_eq!(pair.server.mux.held(), 0);
}

#[test]
fn early_data_comes_with_the_request() {
    let mut pair = Pair::new(Dialect::Native);
    let ours = pair
        .client
        .mux
        .open(pair.now, "quick", OpenOptions { early: true, ..OpenOptions::default() })
        .unwrap();
    for _ in 0..3 {
        pair.client.write(ours, &[1; 10_000]);
    }
    pair.client.mux.finish(ours).unwrap();
    pair.send();
    pair.now += pair.delay;
    pair.deliver();
    let theirs = pair.server.requested();
    assert_eq!(pair.server.event(), Some(Event::Readable { id: theirs }));
    assert_eq!(pair.server.mux.held(), 16 << 10, "no more than the early window");
    pair.server.mux.accept(pair.now, theirs).unwrap();
    pair.settle();
    assert_eq!(pair.server.read(pair.now, theirs).len(), 30_000);
}

#[test]
fn refused_early_data_is_dropped_and_the_number_comes_free() {
    let mut pair = Pair::new(Dialect::Native);
    let ours = pair
        .client
        .mux
        .open(pair.now, "quick", OpenOptions { early: true, ..OpenOptions::default() })
        .unwrap();
    pair.client.write(ours, &[1; 10_000]);
    pair.settle();
    let theirs = pair.server.requested();
    pair.server.mux.refuse(theirs, reason("not today")).unwrap();
    assert_eq!(pair.server.mux.held(), 0);
    pair.client.write(ours, b"in flight while the refusal is");
    pair.settle();
    assert_eq!(pair.client.event(), Some(Event::Refused { id: ours, reason: reason("not today") }));
    assert_eq!(pair.client.event(), None);
    assert_eq!(pair.client.mux.channels().count() + pair.server.mux.channels().count(), 0);
    assert!(matches!(pair.client.mux.write(ours, Chunk::copy_from(b"x")), Err(WriteError::UnknownChannel)));
}

#[test]
fn half_close_reset_and_stop_each_end_what_they_say() {
    let mut pair = Pair::new(Dialect::Native);
    let (ours, theirs) = pair.channel("a");
    // Reset: both directions at once, unread data is dropped.
    pair.client.write(ours, b"never read");
    pair.server.write(theirs, &[0; 9_000]);
    pair.settle();
    pair.client.mux.reset(ours, reason("gone")).unwrap();
    assert_eq!(pair.client.mux.held(), 0);
    assert_eq!(pair.client.mux.read(ours), None);
    pair.settle();
    assert_eq!(pair.server.event(), Some(Event::Readable { id: theirs }));
    assert_eq!(pair.server.event(), Some(Event::Reset { id: theirs, reason: reason("gone") }));
    assert_eq!(pair.server.event(), Some(Event::Closed { id: theirs }));
    assert_eq!(pair.server.mux.held(), 0);
    assert_eq!(pair.client.mux.reset(ours, reason("again")), Err(ChannelError::Unknown));

    // Stop: only the direction towards us.
    pair.client.events.clear();
    let (ours, theirs) = pair.channel("b");
    pair.server.write(theirs, &[0; 9_000]);
    pair.settle();
    for _ in 0..20 {
        pair.server.write(theirs, &[0; 10_000]);
    }
    pair.client.mux.stop(ours, reason("enough")).unwrap();
    pair.settle();
    assert_eq!(pair.server.event(), Some(Event::Stopped { id: theirs, reason: reason("enough") }));
    assert!(matches!(pair.server.mux.write(theirs, Chunk::copy_from(b"x")), Err(WriteError::Ended)));
    assert_eq!((pair.server.mux.queued(), pair.client.mux.held()), (0, 0));
    pair.client.write(ours, b"but hear this");
    pair.client.mux.finish(ours).unwrap();
    pair.settle();
    assert_eq!(pair.server.read(pair.now, theirs), b"but hear this");
    assert_eq!(pair.client.mux.channels().count() + pair.server.mux.channels().count(), 0);

    pair.client.events.clear();
    pair.server.events.clear();
    // A reset after our own end asks the peer to stop.
    let (ours, theirs) = pair.channel("c");
    pair.client.mux.finish(ours).unwrap();
    pair.settle();
    pair.client.mux.reset(ours, reason("no")).unwrap();
    pair.settle();
    pair.server.collect();
    assert!(pair.server.events.contains(&Event::Stopped { id: theirs, reason: reason("no") }));
    assert!(pair.server.events.contains(&Event::Closed { id: theirs }));
}

#[test]
fn resets_that_cross_leave_nothing() {
    let mut pair = Pair::new(Dialect::Native);
    let (ours, theirs) = pair.channel("a");
    pair.client.mux.reset(ours, reason("x")).unwrap();
    pair.server.mux.reset(theirs, reason("y")).unwrap();
    pair.settle();
    assert_eq!((pair.client.event(), pair.server.event()), (None, None));
    // A withdrawal crosses an acceptance, a refusal, and a request that has not left.
    for decision in 0..3 {
        let ours = pair.client.mux.open(pair.now, "b", OpenOptions::default()).unwrap();
        if decision < 2 {
            pair.settle();
            let theirs = pair.server.requested();
            if decision == 0 {
                pair.server.mux.accept(pair.now, theirs).unwrap();
            } else {
                pair.server.mux.refuse(theirs, reason("z")).unwrap();
            }
        }
        pair.client.mux.reset(ours, reason("never mind")).unwrap();
        pair.settle();
        assert_eq!(pair.client.event(), None);
        pair.server.events.clear();
    }
    // And reaches a request that is not decided.
    let ours = pair.client.mux.open(pair.now, "c", OpenOptions::default()).unwrap();
    pair.settle();
    let theirs = pair.server.requested();
    pair.client.mux.reset(ours, reason("never mind")).unwrap();
    pair.settle();
    assert_eq!(pair.server.event(), Some(Event::Reset { id: theirs, reason: reason("never mind") }));
    assert_eq!(pair.server.mux.accept(pair.now, theirs), Err(ChannelError::Unknown));
    assert_eq!(pair.client.mux.channels().count() + pair.server.mux.channels().count(), 0);
}

#[test]
fn a_slow_reader_slows_nobody_else_and_memory_is_bounded() {
    let mut pair = Pair::new(Dialect::Native);
    let (slow, _) = pair.channel("slow");
    let (quick, quick_there) = pair.channel("quick");
    let mut queued = 0;
    while let Ok(()) = pair.client.mux.write(slow, Chunk::copy_from(&[0; MAX_BODY])) {
        queued += MAX_BODY;
        pair.settle();
    }
    assert!(queued <= 512 << 10, "one window there and one buffer here: {queued}");
    assert_eq!(pair.server.mux.held(), 256 << 10);
    pair.client.write(quick, b"past it");
    pair.settle();
    assert_eq!(pair.server.read(pair.now, quick_there), b"past it");
}

#[test]
fn a_writer_is_woken_when_there_is_room() {
    let mut pair = Pair::new(Dialect::Native);
    let (ours, theirs) = pair.channel("a");
    while let Ok(()) = pair.client.mux.write(ours, Chunk::copy_from(&[0; MAX_BODY])) {}
    assert_eq!(pair.client.event(), None);
    let chunk = Chunk::copy_from(&[7; MAX_BODY]);
    let Err(WriteError::Full(chunk)) = pair.client.mux.write(ours, chunk) else { panic!() };
    assert_eq!(chunk.body(), [7; MAX_BODY], "it comes back");
    pair.settle();
    pair.server.read(pair.now, theirs);
    pair.settle();
    assert_eq!(pair.client.event(), Some(Event::Writable { id: ours }));
    assert!(pair.client.mux.writable(ours) >= MAX_BODY);
}

#[test]
fn windows_grow_to_the_bandwidth_delay_product_and_stay_inside_the_budget() {
    let config = Config { receive_budget: 2 << 20, ..Config::default() };
    let mut pair = Pair::with(Dialect::Native, Config::default(), config);
    let (ours, theirs) = pair.channel("bulk");
    let start = pair.server.mux.info(theirs).unwrap().receive_window.unwrap();
    assert_eq!(start, 32 << 10, "1/64 of the budget");
    for _ in 0..200 {
        while let Ok(()) = pair.client.mux.write(ours, Chunk::copy_from(&[0; MAX_BODY])) {}
        pair.send();
        pair.now += pair.delay;
        pair.deliver();
        assert!(pair.server.mux.held() <= 2 << 20);
        pair.server.read(pair.now, theirs);
    }
    let grown = pair.server.mux.info(theirs).unwrap().receive_window.unwrap();
    // 256 KiB of send buffer per 10 ms is what this writer makes; twice the round trip is 40 ms.
    assert!((512 << 10..=2 << 20).contains(&grown), "{grown}");
    assert_eq!(pair.server.mux.rtt(), Some(Duration::from_millis(20)));
}

#[test]
fn a_window_asked_back_while_its_channel_wakes_up_is_given_anew() {
    let config = Config { receive_budget: 1 << 20, initial_window: 64 << 10, ..Config::default() };
    let mut pair = Pair::with(Dialect::Native, Config::default(), config);
    let (mine, sleeper) = pair.channel("sleeper");
    let window = pair.server.mux.info(sleeper).unwrap().receive_window.unwrap();
    assert_eq!(window, 16 << 10);
    let (ours, theirs) = pair.channel("busy");
    // Until the busy one has all windows there are, and the sleeper is asked for its own.
    let asked = |pair: &Pair| pair.server.sent.windows(3).any(|bytes| bytes == [0x93, 7, 1]);
    pair.server.sent.clear();
    while !asked(&pair) {
        while let Ok(()) = pair.client.mux.write(ours, Chunk::copy_from(&[0; MAX_BODY])) {}
        pair.send();
        pair.now += pair.delay;
        pair.deliver();
        pair.server.read(pair.now, theirs);
        pair.send();
    }
    // Just then it sends something, too little for new credit, and that is read before the answer comes.
    pair.client.write(mine, &[1; 6000]);
    pair.send();
    let mut read = 0;
    while read < 6000 {
        pair.now += pair.delay / 10;
        pair.deliver();
        read += pair.server.read(pair.now, sleeper).len();
    }
    pair.settle();
    // It gave back all that it had left; what it says next needs another window.
    pair.client.write(mine, &[2; 6000]);
    let mut got = 0;
    for _ in 0..10 {
        pair.settle();
        got += pair.server.read(pair.now, sleeper).len();
    }
    assert_eq!(got, 6000);
}

#[test]
fn idle_windows_are_asked_back_for_a_busy_channel() {
    let config = Config { receive_budget: 1 << 20, initial_window: 64 << 10, ..Config::default() };
    let mut pair = Pair::with(Dialect::Native, Config::default(), config);
    let idle: Vec<_> = (0..200).map(|_| pair.channel("idle").1).collect();
    let (ours, theirs) = pair.channel("busy");
    assert_eq!(pair.server.mux.info(theirs).unwrap().receive_window, Some(4 << 10));
    for _ in 0..500 {
        while let Ok(()) = pair.client.mux.write(ours, Chunk::copy_from(&[0; MAX_BODY])) {}
        pair.send();
        pair.now += pair.delay;
        pair.deliver();
        pair.server.read(pair.now, theirs);
    }
    assert!(pair.server.mux.info(theirs).unwrap().receive_window.unwrap() >= 128 << 10);
    assert!(idle.iter().all(|id| pair.server.mux.info(*id).unwrap().receive_window == Some(4 << 10)));
}

#[test]
fn urgent_bytes_pass_bulk() {
    let mut pair = Pair::new(Dialect::Native);
    let (bulk, _) =
        pair.channel_with("bulk", OpenOptions { priority: Class::Background.into(), early: false });
    let (call, call_there) =
        pair.channel_with("call", OpenOptions { priority: Class::Urgent.into(), early: false });
    assert_eq!(pair.server.mux.info(call_there).unwrap().priority, Class::Urgent.into());
    for _ in 0..10 {
        pair.client.write(bulk, &[0; MAX_BODY]);
    }
    pair.client.transmit(pair.now).unwrap();
    pair.client.write(call, b"now");
    let next = pair.client.transmit(pair.now).unwrap();
    assert_eq!(next[4..7], *b"now");
}

#[test]
fn small_writes_share_frames_and_small_frames_share_records() {
    let mut pair = Pair::new(Dialect::Native);
    let channels: Vec<_> = (0..10).map(|_| pair.channel("a").0).collect();
    for _ in 0..10 {
        for id in &channels {
            pair.client.write(*id, b"0123456789");
        }
    }
    assert_eq!(pair.client.transmit(pair.now).unwrap().len(), 10 * (4 + 100));
    assert_eq!(pair.client.transmit(pair.now), None);
}

#[test]
fn limits_refuse_by_name() {
    let config = Config { max_channels: 64, max_pending: 64, max_pending_names: 1000, ..Config::default() };
    let mut pair = Pair::with(Dialect::Native, Config::default(), config);
    let first: Vec<_> =
        (0..70).map(|_| pair.client.mux.open(pair.now, "x", OpenOptions::default()).unwrap()).collect();
    pair.settle();
    let pending: Vec<_> = (0..64).map(|_| pair.server.requested()).collect();
    assert_eq!(pair.server.event(), None, "no more requests than the peer keeps are on their way");
    for id in &pending {
        pair.server.mux.accept(pair.now, *id).unwrap();
    }
    pair.settle();
    pair.client.collect();
    for id in &first[64..] {
        assert!(
            pair.client.events.contains(&Event::Refused { id: *id, reason: Code::TooManyChannels.into() })
        );
    }

    let mut pair = Pair::with(
        Dialect::Native,
        Config::default(),
        Config { max_pending_names: 1000, ..Config::default() },
    );
    let first = pair.client.mux.open(pair.now, &"x".repeat(900), OpenOptions::default()).unwrap();
    let second = pair.client.mux.open(pair.now, &"x".repeat(900), OpenOptions::default()).unwrap();
    pair.settle();
    assert_eq!(pair.client.event(), Some(Event::Refused { id: second, reason: Code::TooManyPending.into() }));
    let theirs = pair.server.requested();
    pair.server.mux.accept(pair.now, theirs).unwrap();
    pair.settle();
    assert_eq!(pair.client.event(), Some(Event::Accepted { id: first }));
    assert_eq!(pair.client.mux.open(pair.now, "", OpenOptions::default()), Err(OpenError::EmptyName));
    let long = "x".repeat(1025);
    assert_eq!(
        pair.client.mux.open(pair.now, &long, OpenOptions::default()),
        Err(OpenError::NameTooLong(1025))
    );
}

#[test]
fn go_away_lets_channels_finish_and_takes_no_new_ones() {
    let mut pair = Pair::new(Dialect::Native);
    let (ours, theirs) = pair.channel("a");
    pair.server.mux.go_away(reason("restart"));
    assert_eq!(pair.server.mux.open(pair.now, "b", OpenOptions::default()), Err(OpenError::GoingAway));
    let crossing = pair.client.mux.open(pair.now, "b", OpenOptions::default()).unwrap();
    pair.settle();
    assert_eq!(pair.client.event(), Some(Event::GoAway { reason: reason("restart") }));
    assert_eq!(pair.client.event(), Some(Event::Refused { id: crossing, reason: Code::GoingAway.into() }));
    assert_eq!(pair.client.mux.open(pair.now, "c", OpenOptions::default()), Err(OpenError::GoingAway));
    pair.client.write(ours, b"still open");
    pair.settle();
    assert_eq!(pair.server.read(pair.now, theirs), b"still open");
    pair.server.mux.close(reason("bye"));
    assert!(pair.server.mux.is_closed());
    pair.settle();
    assert_eq!(pair.client.event(), Some(Event::GoAway { reason: reason("bye") }));
    assert_eq!(pair.server.mux.open(pair.now, "d", OpenOptions::default()), Err(OpenError::Closed));
}

#[test]
fn silence_is_noticed_only_where_it_means_something() {
    let keep_alive = Some(KeepAlive { interval: Duration::from_secs(15), timeout: Duration::from_secs(5) });
    let mut pair = Pair::with(Dialect::Native, Config { keep_alive, ..Config::default() }, Config::default());
    pair.settle();
    let id = pair.client.mux.ping(pair.now).unwrap();
    pair.settle();
    assert_eq!(pair.client.event(), Some(Event::Pong { id, rtt: Duration::from_millis(20) }));
    for _ in 0..10 {
        pair.now = pair.client.mux.poll_timeout().unwrap();
        pair.client.mux.handle_timeout(pair.now);
        pair.settle();
    }
    assert_eq!(pair.client.event(), None, "a peer that answers lives");
    pair.client.mux.set_blocked(true);
    for _ in 0..10 {
        pair.now = pair.client.mux.poll_timeout().unwrap();
        pair.client.mux.handle_timeout(pair.now);
    }
    assert_eq!(pair.client.event(), None, "a peer that takes nothing may live");
    pair.client.mux.set_blocked(false);
    pair.now = pair.client.mux.poll_timeout().unwrap();
    pair.client.mux.handle_timeout(pair.now);
    let asked = pair.now;
    pair.now = pair.client.mux.poll_timeout().unwrap();
    assert_eq!(pair.now, asked + Duration::from_secs(5));
    pair.client.mux.handle_timeout(pair.now);
    assert_eq!(pair.client.event(), Some(Event::Dead));
    assert_eq!(pair.client.mux.poll_timeout(), None);
}

/// Feeds `frames` to a fresh client that has an open channel 1 and a request 2.
fn fault(frames: &str) -> Result<(), PeerFault> {
    let mut pair = Pair::new(Dialect::Native);
    pair.channel("a");
    pair.client.mux.open(pair.now, "b", OpenOptions::default()).unwrap();
    pair.send();
    let outcome = pair.client.mux.handle_data(pair.now, &hex::decode(frames.replace(' ', "")).unwrap());
    assert_eq!(outcome.is_err(), pair.client.mux.is_closed());
    if let Err(fault) = &outcome {
        assert_eq!(pair.client.mux.handle_data(pair.now, b"more"), Err(*fault));
        let last = pair.client.transmit(pair.now).unwrap();
        assert!(String::from_utf8_lossy(&last).contains(&fault.to_string()), "the peer is told");
        assert_eq!(pair.client.transmit(pair.now), None);
    }
    outcome
}

#[test]
fn every_broken_rule_has_a_name() {
    use PeerFault::*;
    for (frames, expected) in [
        ("3ffd 0001", FrameTooLong(16_381)),
        ("0001 0003 00", UnknownChannel(3)),
        ("0001 ffff 00", UnknownChannel(0xffff)),
        ("0000 0003", UnknownChannel(3)),
        ("0000 0001 0001 0001 00", UsedAfterEnd(1)),
        ("0000 0001 0000 0001", UsedAfterEnd(1)),
        ("0000 0001 0005 0000 94 05 01 00 a0", UsedAfterEnd(1)),
        ("0001 0002 00", UnexpectedAnswer(2)),
        ("0000 0002", UnexpectedAnswer(2)),
        ("0004 0000 93 02 01 00", UnexpectedAnswer(1)),
        ("0004 0000 93 02 04 00", UnexpectedAnswer(4)),
        ("0005 0000 94 03 04 00 a0", UnexpectedAnswer(4)),
        ("0009 0000 97 01 03 a1 78 00 01 10 c2", BadNumber(3)),
        ("000b 0000 97 01 cd ffff a1 78 00 01 10 c2", BadNumber(0xffff)),
        ("0008 0000 93 04 01 ce 40000000", BadCredit(1)),
        ("000c 0000 93 04 01 cf ffffffffffffffff", BadCredit(1)),
        ("0008 0000 93 02 02 ce 40000001", BadCredit(2)),
        ("0004 0000 93 08 01 01", BadCredit(1)),
        ("0001 0000 c1", MalformedControl),
        ("0001 0000 90", MalformedControl),
        ("0002 0000 91 04", MalformedControl),
        ("0005 0000 93 04 01 a1 78", MalformedControl),
        ("0003 0000 92 00 80", Settings),
    ] {
        assert_eq!(fault(frames), Err(expected), "{frames}");
    }
    for harmless in [
        "0000 0000",
        "0005 0000 94 05 02 00 a0",
        "0002 0000 91 7f",
        "0007 0000 93 cc ff 92 c0 c0 a0",
        "0005 0000 94 04 01 01 c0",
        "0004 0000 93 04 05 01",
        "0004 0000 93 04 02 01",
        "0004 0000 93 07 05 01",
        "0005 0000 94 06 05 00 a0",
        "0003 0000 92 0a 7f",
    ] {
        assert_eq!(fault(harmless), Ok(()), "{harmless}");
    }
    let frames = "3000 0001".to_owned() + &"00".repeat(0x3000);
    assert_eq!(fault(&frames.repeat(22)), Err(WindowExceeded { channel: 1, by: 22 * 0x3000 - (256 << 10) }));
    let mut pair = Pair::new(Dialect::Native);
    assert_eq!(pair.client.mux.handle_data(pair.now, &[0, 3, 0, 0, 0x92, 9, 1]), Err(Settings), "not first");
    let mut pair = Pair::new(Dialect::Native);
    let version = hex::decode("0006 0000 92 00 81 a1 76 02".replace(' ', "")).unwrap();
    assert_eq!(pair.client.mux.handle_data(pair.now, &version), Err(Version(2)));
}

#[test]
fn a_peer_that_floods_us_with_questions_is_not_read() {
    let mut pair = Pair::new(Dialect::Native);
    pair.settle();
    let ping = [0, 3, 0, 0, 0x92, 9, 1].repeat(1000);
    let mut fed = 0;
    while pair.client.mux.wants_data() {
        pair.client.mux.handle_data(pair.now, &ping).unwrap();
        fed += 1000;
    }
    assert!(fed <= 18_000, "{fed}");
    while pair.client.transmit(pair.now).is_some() {}
    assert!(pair.client.mux.wants_data());
}

#[test]
fn all_numbers_of_both_halves_can_be_open_at_once() {
    let config = Config { max_channels: 65_534, max_pending: 65_534, ..Config::default() };
    let mut pair = Pair::with(Dialect::Native, config.clone(), config);
    let open = OpenOptions::default();
    for _ in 0..0x7fff {
        pair.client.mux.open(pair.now, "a", open).unwrap();
        pair.server.mux.open(pair.now, "b", open).unwrap();
    }
    assert_eq!(pair.client.mux.open(pair.now, "a", open), Err(OpenError::NoFreeNumber));
    pair.settle();
    let mut counts = [0; 2];
    for (end, count) in [&mut pair.client, &mut pair.server].into_iter().zip(&mut counts) {
        while let Some(event) = end.event() {
            if let Event::Requested { id, .. } = event {
                end.mux.accept(pair.now, id).unwrap();
                end.write(id, &id.number().to_be_bytes());
                end.mux.finish(id).unwrap();
                *count += 1;
            }
        }
    }
    assert_eq!(counts, [0x7fff, 0x7fff]);
    pair.settle();
    let mut echoed = 0;
    while let Some(event) = pair.client.event() {
        if let Event::Readable { id } = event {
            assert_eq!(pair.client.read(pair.now, id), id.number().to_be_bytes());
            pair.client.mux.finish(id).unwrap();
            echoed += 1;
        }
    }
    pair.settle();
    assert_eq!(echoed, 0x7fff);
    assert_eq!(pair.server.mux.channels().count(), 0x7fff, "the client's are over");
    assert!(pair.client.mux.held() + pair.server.mux.held() <= 2 * 0x7fff);
}
