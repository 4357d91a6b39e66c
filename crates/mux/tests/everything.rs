//! Everything that can happen to a pair, in any order, with any split, in virtual time.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use towline_mux::{
    ChannelId, Chunk, Class, Code, Config, Dialect, Event, MAX_BODY, Mux, OpenError, OpenOptions, Priority,
    Side, WriteError,
};

#[derive(Clone, Debug)]
enum Op {
    Open { early: bool, class: usize, weight: u8 },
    Accept(usize),
    Refuse(usize),
    Write { at: usize, len: usize },
    Finish(usize),
    Reset(usize),
    Stop(usize),
    Read { at: usize, pieces: usize },
    Consume { at: usize, bytes: u64 },
    Ping,
    GoAway,
    Transmit(usize),
    Deliver(usize),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..12_usize;
    let len = prop_oneof![3 => 1..200_usize, 2 => 1000..4000_usize, 3 => Just(MAX_BODY)];
    prop_oneof![
        3 => (any::<bool>(), 0..3_usize, 0..40_u8).prop_map(|(early, class, weight)| Op::Open { early, class, weight }),
        4 => at.clone().prop_map(Op::Accept),
        1 => at.clone().prop_map(Op::Refuse),
        14 => (at.clone(), len).prop_map(|(at, len)| Op::Write { at, len }),
        2 => at.clone().prop_map(Op::Finish),
        1 => at.clone().prop_map(Op::Reset),
        1 => at.clone().prop_map(Op::Stop),
        8 => (at.clone(), 1..6_usize).prop_map(|(at, pieces)| Op::Read { at, pieces }),
        8 => (at, prop_oneof![1..3000_u64, Just(u64::MAX)]).prop_map(|(at, bytes)| Op::Consume { at, bytes }),
        1 => Just(Op::Ping),
        1 => Just(Op::GoAway).prop_filter("rarely", |_| true),
        14 => (1..6_usize).prop_map(Op::Transmit),
        14 => prop_oneof![1..8_usize, 8..2000_usize, Just(100_000)].prop_map(Op::Deliver),
        3 => (1..50_u64).prop_map(Op::Pass),
    ]
}

/// One end's view of a channel.
#[derive(Debug)]
struct View {
    id: ChannelId,
    /// Which channel, for both ends.
    key: usize,
    ours: bool,
    accepted: bool,
    /// Reset or refused by whomever: nothing is promised any more.
    void: bool,
    finished: bool,
    stopped: bool,
    peer_finished: bool,
    written: u64,
    read: u64,
}

struct End {
    mux: Mux,
    views: Vec<View>,
    inbound: VecDeque<u8>,
    scratch: Vec<u8>,
    pings: usize,
}

impl End {
    /// The newest channel but `at`, going round.
    fn view(&mut self, at: usize) -> Option<(&mut Mux, &mut View)> {
        let count = self.views.len();
        let index = count.checked_sub(1)? - at.checked_rem(count)?;
        Some((&mut self.mux, &mut self.views[index]))
    }

    fn by_id(&mut self, id: ChannelId) -> &mut View {
        self.views.iter_mut().find(|view| view.id == id).unwrap()
    }
}

struct World {
    dialect: Dialect,
    now: Instant,
    ends: [End; 2],
    keys: usize,
    budget: u64,
}

/// The byte at `offset` of the direction of channel `key` away from its opener, or towards it.
fn byte(key: usize, from_opener: bool, offset: u64) -> u8 {
    (offset.wrapping_mul(31) ^ offset >> 8 ^ (key as u64) << 2 ^ u64::from(from_opener)) as u8
}

impl World {
    fn new(dialect: Dialect) -> Self {
        let config = Config {
            receive_budget: 64 << 10,
            initial_window: 8 << 10,
            min_window: 512,
            max_window: 40 << 10,
            send_buffer: 40_000,
            send_budget: 100_000,
            ..Config::default()
        };
        let now = Instant::now();
        let end = |side| End {
            mux: Mux::new(dialect, side, config.clone(), now),
            views: Vec::new(),
            inbound: VecDeque::new(),
            scratch: Vec::new(),
            pings: 0,
        };
        let ends = [end(Side::TlsClient), end(Side::TlsServer)];
        Self { dialect, now, ends, keys: 0, budget: config.receive_budget }
    }

    fn apply(&mut self, side: usize, op: &Op) {
        let now = self.now;
        let end = &mut self.ends[side];
        match op {
            Op::Open { early, class, weight } => {
                let priority = Priority { class: Class::ALL[*class], weight: *weight };
                match end.mux.open(now, &self.keys.to_string(), OpenOptions { priority, early: *early }) {
                    Ok(id) => {
                        end.views.push(View::new(id, self.keys, true));
                        self.keys += 1;
                    }
                    Err(error) => assert_eq!(error, OpenError::GoingAway),
                }
            }
            Op::Accept(at) => {
                if let Some((mux, view)) = end.view(*at) {
                    view.accepted |= mux.accept(now, view.id).is_ok();
                }
            }
            Op::Refuse(at) => {
                if let Some((mux, view)) = end.view(*at) {
                    view.void |= mux.refuse(view.id, Code::Declined.into()).is_ok();
                }
            }
            Op::Write { at, len } => {
                let Some((mux, view)) = end.view(*at) else { return };
                let bytes: Vec<u8> =
                    (0..*len as u64).map(|at| byte(view.key, view.ours, view.written + at)).collect();
                let room = mux.writable(view.id);
                match mux.write(view.id, Chunk::copy_from(&bytes)) {
                    Ok(()) => {
                        assert!(room >= *len);
                        view.written += *len as u64;
                    }
                    Err(WriteError::Full(chunk)) => assert!(room < *len && chunk.body() == bytes),
                    Err(WriteError::NotAccepted) => assert!(!view.ours && !view.accepted),
                    Err(_) => assert_eq!(room, 0),
                }
            }
            Op::Finish(at) => {
                if let Some((mux, view)) = end.view(*at) {
                    view.finished |= mux.finish(view.id).is_ok();
                }
            }
            Op::Reset(at) => {
                if let Some((mux, view)) = end.view(*at) {
                    view.void |= mux.reset(view.id, Code::Cancelled.into()).is_ok();
                }
            }
            Op::Stop(at) => {
                if let Some((mux, view)) = end.view(*at) {
                    view.stopped |= mux.stop(view.id, Code::Cancelled.into()).is_ok();
                }
            }
            Op::Read { at, pieces } => {
                if let Some((mux, view)) = end.view(*at) {
                    view.check(mux, *pieces);
                }
            }
            Op::Consume { at, bytes } => {
                if let Some((mux, view)) = end.view(*at) {
                    mux.consumed(now, view.id, *bytes);
                }
            }
            Op::Ping => end.pings += usize::from(end.mux.ping(now).is_ok()),
            Op::GoAway => {
                // Once in a while, or no channels would be left to look at.
                if end.views.len() > 10 {
                    end.mux.go_away(Code::GoingAway.into());
                }
            }
            Op::Transmit(count) => {
                (0..*count).all(|_| self.transmit(side));
            }
            Op::Deliver(bytes) => {
                self.deliver(side, *bytes);
            }
            Op::Pass(millis) => {
                self.now += Duration::from_millis(*millis);
                self.ends.iter_mut().for_each(|end| end.mux.handle_timeout(self.now));
            }
        }
        self.look();
    }

    fn transmit(&mut self, side: usize) -> bool {
        let end = &mut self.ends[side];
        let Some(transmit) = end.mux.poll_transmit(self.now, &mut end.scratch) else { return false };
        let bytes = transmit.to_vec();
        assert!((1..=16_384).contains(&bytes.len()));
        self.ends[1 - side].inbound.extend(bytes);
        true
    }

    fn deliver(&mut self, side: usize, most: usize) -> bool {
        let end = &mut self.ends[side];
        let count = most.min(16_384).min(end.inbound.len());
        if count == 0 || !end.mux.wants_data() {
            return false;
        }
        let bytes: Vec<u8> = end.inbound.drain(..count).collect();
        end.mux.handle_data(self.now, &bytes).unwrap();
        true
    }

    /// Takes events in and checks what must hold at any time.
    fn look(&mut self) {
        for end in &mut self.ends {
            while let Some(event) = end.mux.poll_event() {
                match event {
                    Event::Requested { id, name, .. } => {
                        end.views.push(View::new(id, name.parse().unwrap(), false));
                    }
                    Event::Accepted { id } => end.by_id(id).accepted = true,
                    Event::Refused { id, .. } | Event::Reset { id, .. } => end.by_id(id).void = true,
                    Event::Finished { id } => end.by_id(id).peer_finished = true,
                    Event::Pong { .. } => end.pings -= 1,
                    Event::Readable { id } => assert!(!end.by_id(id).stopped),
                    _ => {}
                }
            }
            assert!(end.mux.held() <= self.budget + 16_384, "{}", end.mux.held());
            let channels = end.mux.channels().count();
            assert!(end.mux.queued() <= 100_000 + channels * MAX_BODY);
            let held: u64 = end.mux.channels().map(|channel| channel.unconsumed).sum();
            let queued: usize = end.mux.channels().map(|channel| channel.queued).sum();
            assert_eq!((held, queued), (end.mux.held(), end.mux.queued()), "the sums are right");
            let mut numbers = BTreeMap::new();
            for channel in end.mux.channels() {
                if channel.state != towline_mux::ChannelState::Closing {
                    assert_eq!(numbers.insert(channel.number, channel.id), None, "numbers are unique");
                }
            }
        }
    }

    /// The applications do their duty: everything that is under way has to arrive.
    fn drain(&mut self) {
        for round in 0.. {
            assert!(round < 5000, "stuck");
            let mut moved = false;
            for side in 0..2 {
                let end = &mut self.ends[side];
                for view in &mut end.views {
                    if end.mux.accept(self.now, view.id).is_ok() {
                        view.accepted = true;
                        moved = true;
                    }
                    moved |= view.check(&mut end.mux, usize::MAX) > 0;
                    end.mux.consumed(self.now, view.id, u64::MAX);
                }
                while self.transmit(side) {
                    moved = true;
                }
                moved |= self.deliver(side, usize::MAX);
                self.look();
            }
            self.now += Duration::from_millis(1);
            if !moved {
                return;
            }
        }
    }

    fn finish(mut self) {
        self.drain();
        let [client, server] = &self.ends;
        for (from, to) in [(client, server), (server, client)] {
            assert!(from.inbound.is_empty());
            assert_eq!(from.pings, 0, "every ping was answered");
            for view in &from.views {
                let other = to.views.iter().find(|other| other.key == view.key);
                let Some(other) = other.filter(|other| !other.void && !view.void) else { continue };
                assert!(view.accepted && other.accepted);
                let cut = other.stopped || (self.dialect == Dialect::Jami && other.finished);
                if !cut {
                    assert_eq!(other.read, view.written, "channel {}: nothing is lost", view.key);
                    assert_eq!(other.peer_finished, view.finished);
                } else {
                    assert!(other.read <= view.written);
                }
            }
        }
        for end in &mut self.ends {
            for view in &mut end.views {
                let _ = end.mux.reset(view.id, Code::Cancelled.into());
                view.void = true;
            }
        }
        self.drain();
        for end in &self.ends {
            assert_eq!(end.mux.channels().count(), 0);
            assert_eq!((end.mux.held(), end.mux.queued()), (0, 0));
        }
    }
}

impl View {
    fn new(id: ChannelId, key: usize, ours: bool) -> Self {
        Self {
            id,
            key,
            ours,
            accepted: false,
            void: false,
            finished: false,
            stopped: false,
            peer_finished: false,
            written: 0,
            read: 0,
        }
    }

    /// Reads pieces and compares each byte with the one that was written there.
    fn check(&mut self, mux: &mut Mux, pieces: usize) -> usize {
        let mut count = 0;
        while count < pieces
            && let Some(bytes) = mux.read(self.id)
        {
            assert!(!self.void && !self.stopped && !bytes.is_empty());
            for got in bytes {
                assert_eq!(got, byte(self.key, !self.ours, self.read), "at {} of {}", self.read, self.key);
                self.read += 1;
            }
            count += 1;
        }
        count
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_is_lost_reordered_doubled_or_stuck(
        native in any::<bool>(),
        ops in prop::collection::vec((0..2_usize, op()), 1..300),
    ) {
        let mut world = World::new(if native { Dialect::Native } else { Dialect::Jami });
        for (side, op) in &ops {
            world.apply(*side, op);
        }
        world.finish();
    }

    #[test]
    fn garbage_never_panics_and_is_bounded(
        native in any::<bool>(),
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
    ) {
        let dialect = if native { Dialect::Native } else { Dialect::Jami };
        towline_mux::fuzz(dialect, Instant::now(), &parts.concat());
    }

    /// Frames that parse, with any numbers in them: deeper than garbage gets.
    #[test]
    fn frames_of_a_liar_never_panic(
        frames in prop::collection::vec((0..4_u16, 0..13_u8, 0..4_u8, any::<u8>(), 0..70_000_u64), 0..60),
    ) {
        let mut stream = hex::decode("000600009200 81a17601".replace(' ', "")).unwrap();
        for (number, kind, channel, byte, value) in frames {
            let mut body = vec![];
            if number == 0 {
                body = match kind {
                    1 => vec![0x97, 1, channel, 0xa1, byte & 0x7f, 0x10, 1, 16, 0xc3 - (byte & 1)],
                    3 | 5 | 6 => vec![0x94, kind, channel, byte & 0x7f, 0xa0],
                    9 | 10 => vec![0x92, kind, byte & 0x7f],
                    11 => vec![0x93, 11, byte & 0x7f, 0xa0],
                    _ => [&[0x93, kind, channel, 0xce][..], &(value as u32).to_be_bytes()].concat(),
                };
            } else {
                body.resize(value as usize % 3000, byte);
            }
            stream.extend((body.len() as u16).to_be_bytes());
            stream.extend(number.to_be_bytes());
            stream.extend(body);
        }
        towline_mux::fuzz(Dialect::Native, Instant::now(), &stream);
    }
}
