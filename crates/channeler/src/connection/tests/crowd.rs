//! Many channels that write at once.

use std::collections::BTreeMap;

use super::Pair;
use crate::{
    ChannelId, Code, Config, ConnectionError, Event, OpenOptions, Priority, Read, Reason, Side, Violation,
    WriteError,
    channel::CHUNK,
    wire::message::{put_data, put_open},
};

static DATA: [u8; 1 << 16] = [0x5a; 1 << 16];

/// So many channels of the first, each of which has written for as long as it could.
fn crowd(count: usize) -> (Pair, Vec<ChannelId>) {
    let mut pair = Pair::connected();
    let now = pair.now;
    let first = pair.hosts[0].connection();
    let channels: Vec<_> = (0..count).map(|_| first.open(now, OpenOptions::default()).unwrap()).collect();
    for id in &channels {
        while first.write(now, *id, &DATA).is_ok() {}
    }
    (pair, channels)
}

fn is_waiting(pair: &mut Pair, id: ChannelId) -> bool {
    pair.hosts[0].connection().slots.look(id).unwrap().is(super::super::slots::mark::WAITS)
}

#[test]
fn those_who_write_much_take_turns_and_hold_little() {
    let (mut pair, channels) = crowd(100);
    let mut read: BTreeMap<ChannelId, u64> = channels.iter().map(|id| (*id, 0)).collect();
    let mut most = 0;
    let mut buf = vec![0; 1 << 20];
    let mut rounds = 0;
    while read.values().sum::<u64>() < 60 << 20 {
        rounds += 1;
        assert!(rounds < 20_000, "{} bytes came", read.values().sum::<u64>());
        pair.run(1);
        let now = pair.now;
        for event in std::mem::take(&mut pair.hosts[0].events) {
            if let Event::Writable(id) = event {
                while pair.hosts[0].connection().write(now, id, &DATA).is_ok() {}
            }
        }
        for (id, read) in &mut read {
            while let Ok(Read::Data(len)) = pair.hosts[1].connection().read(now, *id, &mut buf) {
                assert!(buf[..len].iter().all(|byte| *byte == 0x5a));
                *read += len as u64;
            }
        }
        if rounds > 100 {
            let first = pair.hosts[0].connection();
            let in_flight = first.links.at(0).in_flight() as usize;
            most = most.max(first.pool.used().saturating_sub(in_flight));
        }
    }
    let (least, longest) = (*read.values().min().unwrap(), *read.values().max().unwrap());
    assert!(longest - least <= 4 << 16, "one got {least} bytes and another {longest}");
    // What may wait, and of each channel chunks that are not full.
    let limit = (1 << 18) + 100 * 2 * CHUNK;
    assert!(most <= limit, "{most} bytes held beside those on their way");
}

#[test]
fn who_waits_hears_of_an_end_at_once() {
    let (mut pair, channels) = crowd(40);
    let last = channels[39];
    pair.run(3);
    assert!(is_waiting(&mut pair, last));
    let now = pair.now;
    // The reader stops.
    pair.hosts[0].events.clear();
    pair.hosts[1].connection().stop(now, last, Code::DONE).unwrap();
    pair.run(2);
    assert!(pair.hosts[0].events.contains(&Event::Writable(last)));
    let now = pair.now;
    let refused = pair.hosts[0].connection().write(now, last, b"more");
    assert_eq!(refused, Err(WriteError::Ended(Reason::Peer(Code::DONE))));
    // Another is moved up, and a third is finished, and a fourth reset: none of them waits.
    let [.., fourth, third, second, _] = channels[..] else { panic!() };
    for id in [second, third, fourth] {
        assert!(is_waiting(&mut pair, id), "{id:?}");
    }
    pair.hosts[0].events.clear();
    let first = pair.hosts[0].connection();
    first.set_priority(second, Priority::URGENT).unwrap();
    first.finish(now, third).unwrap();
    first.reset(now, fourth, Code::DONE).unwrap();
    for id in [second, third, fourth] {
        assert!(!is_waiting(&mut pair, id), "{id:?}");
    }
    pair.run(1);
    assert!(pair.hosts[0].events.contains(&Event::Writable(second)));
    let now = pair.now;
    assert!(pair.hosts[0].connection().write(now, second, &DATA).is_ok());
    let mut buf = vec![0; 1 << 16];
    for _ in 0..200 {
        pair.run(1);
        let now = pair.now;
        for id in &channels {
            while let Ok(Read::Data(_)) = pair.hosts[1].connection().read(now, *id, &mut buf) {}
        }
    }
    assert!(pair.hosts[0].connection().slots.look(fourth).is_none(), "nothing holds what is over");
}

#[test]
fn who_writes_little_does_not_wait_for_those_who_write_much() {
    let (mut pair, channels) = crowd(40);
    let now = pair.now;
    let first = pair.hosts[0].connection();
    assert_eq!(first.write(now, channels[0], b"more"), Err(WriteError::Blocked));
    let id = first.open(now, OpenOptions::default()).unwrap();
    assert_eq!(first.write(now, id, &[1; 1000]), Ok(1000));
    pair.run(2);
    let now = pair.now;
    let mut buf = [0; 2000];
    assert_eq!(pair.hosts[1].connection().read(now, id, &mut buf), Ok(Read::Data(1000)));
}

/// A peer scatters what it sends over as many chunks as it can.
#[test]
fn what_comes_takes_no_more_memory_than_the_budget() {
    const CHANNELS: u32 = 64;
    let budget = 4 * CHUNK * CHANNELS as usize;
    let config = Config {
        max_channels: CHANNELS,
        receive_budget: budget as u64,
        initial_window: 128 << 10,
        ..Config::default()
    };
    let config = Config { max_message: 1 << 16, ..config };
    let mut pair = Pair::new(&config, |key| crate::Peer::Key(key.public()));
    let ids: Vec<_> = (0..CHANNELS).map(|serial| ChannelId::new(Side::Initiator, serial)).collect();
    let part = [7; CHUNK];
    let mut buf = vec![0; CHUNK];
    let mut most = 0;
    let mut next = CHUNK as u64 + 1;
    for id in &ids {
        let mut plain = Vec::new();
        put_open(&mut plain, *id, crate::Capabilities::stream(), Priority::NORMAL, b"");
        put_data(&mut plain, 0, false, &part[1..]);
        pair.inject(0, *id, &plain);
        let now = pair.now;
        let second = pair.hosts[1].connection();
        assert_eq!(second.read(now, *id, &mut buf), Ok(Read::Data(CHUNK - 1)));
        assert_eq!(second.pool.used() / CHUNK, most / CHUNK);
        // The last byte of a chunk, and the first of another.
        let mut plain = Vec::new();
        put_data(&mut plain, CHUNK as u64 - 1, false, &part[..2]);
        pair.inject(0, *id, &plain);
        most = pair.hosts[1].connection().pool.used();
    }
    assert!(most >= 2 * CHUNK * CHANNELS as usize);
    // And then all that the window allows, as long as that is.
    'all: loop {
        for id in &ids {
            let mut plain = Vec::new();
            put_data(&mut plain, next, false, &part);
            pair.inject(0, *id, &plain);
            let second = pair.hosts[1].connection();
            let _ = second.next_transmit(pair.now, 1, &mut Vec::new());
            if second.closed().is_some() {
                break 'all;
            }
            let kept: usize =
                ids.iter().filter_map(|id| second.slots.look(*id)).map(|slot| slot.channel.kept()).sum();
            most = most.max(second.pool.used() + kept);
        }
        next += CHUNK as u64;
    }
    let end = pair.hosts[1].connection().closed().cloned();
    assert_eq!(end, Some(ConnectionError::Violation(Violation::Window)));
    assert!(most > budget * 3 / 4, "the peer could use {most} of {budget} bytes");
    // Beside the chunks, what it takes to find them.
    assert!(most <= budget + budget / 64, "{most} of {budget} bytes");
}

/// Long packets, whose buffers are kept, and before each a byte, which is copied and takes a chunk.
#[test]
fn kept_buffers_take_no_more_than_a_third_beyond_the_budget() {
    const PIECE: usize = 16 << 10;
    let budget = 2 << 20;
    let config = Config { receive_budget: budget as u64, initial_window: budget as u64, ..Config::default() };
    let config = Config { max_message: 1 << 16, ..config };
    let mut pair = Pair::new(&config, |key| crate::Peer::Key(key.public()));
    let id = ChannelId::new(Side::Initiator, 0);
    let bytes = vec![7; PIECE];
    let mut plain = Vec::new();
    put_open(&mut plain, id, crate::Capabilities::stream(), Priority::NORMAL, b"");
    let (mut next, mut kept, mut most) = (0, 0, 0);
    while pair.hosts[1].connection().closed().is_none() {
        for len in [1, PIECE] {
            put_data(&mut plain, next, false, &bytes[..len]);
            next += len as u64;
            pair.inject(0, id, &plain);
            plain.clear();
        }
        let second = pair.hosts[1].connection();
        if let Some(slot) = second.slots.look(id).filter(|_| second.closed().is_none()) {
            kept = kept.max(slot.channel.kept());
            most = most.max(second.pool.used() + slot.channel.kept());
        }
    }
    let end = pair.hosts[1].connection().closed().cloned();
    assert_eq!(end, Some(ConnectionError::Violation(Violation::Window)));
    assert!(kept > budget * 9 / 10, "{kept} bytes were not copied");
    assert!(most <= budget + budget / 3, "{most} of {budget} bytes");
}
