//! Two endpoints and what lies between them, in virtual time.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use towline_channeler::v0::{
    Config, Cookie, DEFAULT_CHANNEL, Endpoint, Event, HalfOrder, Handle, Message, Messages, OpenError,
    OpenOptions, PROTOCOL, Packet, ReadError, WriteError,
};

use crate::support::{A, B, address_of, as_recorded, events, seed_of, sent};

const DELAY: Duration = Duration::from_millis(20);

/// Two endpoints, a delay, and losses.
struct Pair {
    now: Instant,
    ends: [Endpoint; 2],
    /// By arrival, sending order and receiver.
    on_the_way: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    chance: StdRng,
    /// Of 256.
    loss: u8,
    sent: u64,
    events: [Vec<Event>; 2],
}

const ADDRESSES: [SocketAddr; 2] = [address_of(A), address_of(B)];

impl Pair {
    fn new(seed: u64, loss: u8, configs: [Config; 2]) -> Self {
        let now = Instant::now();
        let [a, b] = configs;
        let ends = [
            Endpoint::new(a, A, B, now, seed_of(seed)),
            Endpoint::new(b, B, A, now, seed_of(seed + 1_000_000)),
        ];
        let chance = StdRng::from_seed(seed_of(seed));
        Self {
            now,
            ends,
            on_the_way: BTreeMap::new(),
            chance,
            loss,
            sent: 0,
            events: [Vec::new(), Vec::new()],
        }
    }

    fn open(&mut self, end: usize, options: OpenOptions) -> Handle {
        self.ends[end].open(self.now, ADDRESSES[1 - end], options).expect("below the limit")
    }

    /// Runs for this long.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            for side in 0..2 {
                self.events[side].extend(events(&mut self.ends[side]));
                for (to, datagram) in sent(&mut self.ends[side], self.now) {
                    assert_eq!(to, ADDRESSES[1 - side]);
                    if self.chance.next_u32() as u8 >= self.loss {
                        self.sent += 1;
                        self.on_the_way.insert((self.now + DELAY, self.sent), (1 - side, datagram));
                    }
                }
            }
            let arrival = self.on_the_way.keys().next().map(|key| key.0);
            let timeout = self.ends.iter().filter_map(Endpoint::poll_timeout).min();
            let Some(next) = arrival.into_iter().chain(timeout).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            for endpoint in &mut self.ends {
                endpoint.handle_timeout(self.now);
            }
            while let Some(entry) = self.on_the_way.first_entry()
                && entry.key().0 <= self.now
            {
                let (to, datagram) = entry.remove();
                self.ends[to].handle(self.now, ADDRESSES[1 - to], &datagram);
            }
        }
    }

    fn opened(&self, end: usize) -> Vec<(Handle, u16)> {
        let of = |event: &Event| match event {
            Event::Opened { channel, capabilities } => Some((*channel, *capabilities)),
            _ => None,
        };
        self.events[end].iter().filter_map(of).collect()
    }

    fn read_all(&mut self, end: usize, channel: Handle) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 70_000];
        while let Ok(len) = self.ends[end].read(channel, &mut buffer) {
            all.push(buffer[..len].to_vec());
        }
        all
    }
}

fn small() -> Config {
    Config { packet_size: 120, ..Config::default() }
}

#[test]
fn both_orders_of_halves_understand_each_other() {
    for orders in HalfOrder::both().into_iter().flat_map(|a| HalfOrder::both().map(|b| [a, b])) {
        let mut pair = Pair::new(7, 0, orders.map(|half_order| Config { half_order, ..small() }));
        let ours = pair.open(0, OpenOptions { capabilities: 5, early_data: false });
        let theirs = pair.open(1, OpenOptions { capabilities: 2, early_data: true });
        pair.ends[0].write(pair.now, ours, b"from a").unwrap();
        pair.ends[1].write(pair.now, theirs, b"from b").unwrap();
        pair.run(Duration::from_secs(1));
        assert!(pair.events[0].contains(&Event::Established(ours)), "{orders:?}");
        assert!(pair.events[1].contains(&Event::Established(theirs)), "{orders:?}");
        let [(at_b, 5)] = pair.opened(1)[..] else { panic!("{:?}", pair.events[1]) };
        let [(at_a, 2)] = pair.opened(0)[..] else { panic!("{:?}", pair.events[0]) };
        assert_eq!(pair.read_all(1, at_b), [b"from a"]);
        assert_eq!(pair.read_all(0, at_a), [b"from b"]);
        // And in the other direction of each.
        pair.ends[1].write(pair.now, at_b, b"back").unwrap();
        pair.run(Duration::from_millis(100));
        assert_eq!(pair.read_all(0, ours), [b"back"]);
        for end in &pair.ends {
            let counters = end.counters();
            assert_eq!((counters.unknown_channel, counters.bad_cookie, counters.malformed), (0, 0, 0));
        }
    }
}

#[test]
fn openings_survive_a_third_of_all_packets_lost() {
    let (mut established, mut opened) = (0, 0);
    for seed in 0..40 {
        let mut pair = Pair::new(seed, 85, [small(), small()]);
        let channels: Vec<Handle> = (0..20).map(|i| pair.open(i % 2, OpenOptions::default())).collect();
        pair.run(Duration::from_secs(12));
        for (index, channel) in channels.iter().enumerate() {
            let success = pair.events[index % 2].contains(&Event::Established(*channel));
            let failure = pair.events[index % 2].contains(&Event::Unanswered(*channel));
            assert_ne!(success, failure, "seed {seed}: {channel:?} ends one way");
            established += usize::from(success);
        }
        opened += pair.opened(0).len() + pair.opened(1).len();
    }
    assert!(established >= 796, "{established} of 800");
    // Nobody answers FINALIZE: four of them are lost together once in eighty.
    assert!(opened >= 780, "{opened} of {established}");
}

#[test]
fn a_run_is_the_same_every_time() {
    let run = || {
        let mut pair = Pair::new(3, 85, [small(), small()]);
        for index in 0..10 {
            let channel = pair.open(index % 2, OpenOptions::default());
            pair.ends[index % 2].write(pair.now, channel, &[1; 60]).unwrap();
        }
        pair.run(Duration::from_secs(10));
        (pair.sent, pair.events)
    };
    assert_eq!(run(), run());
}

#[test]
fn an_opening_that_nobody_answers_fails_in_time() {
    let mut pair = Pair::new(1, 255, [small(), small()]);
    let channel = pair.open(0, OpenOptions::default());
    let mut said = 0;
    let end = pair.now + Duration::from_secs(10);
    while let Some(next) = pair.ends[0].poll_timeout() {
        said += sent(&mut pair.ends[0], pair.now).len();
        pair.now = next;
        pair.ends[0].handle_timeout(next);
    }
    assert_eq!(events(&mut pair.ends[0]), [Event::Unanswered(channel)]);
    assert_eq!(pair.now, end);
    assert!((5..=40).contains(&said), "said {said} times");
    assert_eq!(pair.ends[0].write(pair.now, channel, b""), Err(WriteError::Unknown));
    assert_eq!(pair.ends[0].read(channel, &mut []), Err(ReadError::Unknown));
}

#[test]
fn silence_ends_a_channel_and_talk_keeps_it() {
    let mut pair = Pair::new(1, 0, [small(), small()]);
    let (quiet, busy) = (pair.open(0, OpenOptions::default()), pair.open(0, OpenOptions::default()));
    for _ in 0..9 {
        pair.ends[0].write(pair.now, busy, b"tick").unwrap();
        pair.run(Duration::from_secs(10));
    }
    assert!(pair.events[0].contains(&Event::Idle(quiet)));
    assert!(!pair.events[0].contains(&Event::Idle(busy)));
    let at_b = pair.opened(1);
    assert_eq!(pair.events[1].iter().filter(|event| matches!(event, Event::Idle(_))).count(), 1);
    pair.ends[0].close(busy);
    assert_eq!(pair.ends[0].write(pair.now, busy, b""), Err(WriteError::Unknown));
    assert_eq!(pair.ends[0].poll_timeout(), None, "nothing is left");
    assert_eq!(at_b.len(), 2);
}

#[test]
fn messages_keep_their_bounds() {
    let mut pair = Pair::new(1, 0, [small(), small()]);
    let channel = pair.open(0, OpenOptions::default());
    let longest = pair.ends[0].max_message();
    assert_eq!(longest, 120 - 52 - 2);
    let lengths = [0, 1, longest, 3, 0, longest - 1, 20, 20, 20];
    let messages: Vec<Vec<u8>> = lengths.iter().map(|len| vec![*len as u8; *len]).collect();
    for message in &messages {
        pair.ends[0].write(pair.now, channel, message).unwrap();
    }
    let too_long = vec![0; longest + 1];
    assert_eq!(pair.ends[0].write(pair.now, channel, &too_long), Err(WriteError::TooLong(longest)));
    pair.run(Duration::from_secs(1));
    let [(at_b, 0)] = pair.opened(1)[..] else { panic!("{:?}", pair.events[1]) };
    assert_eq!(pair.ends[1].read(at_b, &mut []), Ok(0));
    assert_eq!(pair.ends[1].read(at_b, &mut []), Err(ReadError::TooShort(1)));
    assert_eq!(pair.read_all(1, at_b), messages[1..]);
    assert_eq!(pair.ends[1].read(at_b, &mut []), Err(ReadError::Blocked));
}

#[test]
fn the_longest_message_fits_whatever_the_size_of_packets() {
    for packet_size in (0..400).chain([16_500, 16_560, 16_570, 65_000, 65_535]) {
        let configs = [Config { packet_size, ..small() }, Config { packet_size, ..small() }];
        let mut pair = Pair::new(1, 0, configs);
        let channel = pair.open(0, OpenOptions::default());
        let message = vec![1; pair.ends[0].max_message()];
        pair.ends[0].write(pair.now, channel, &message).unwrap();
        pair.run(Duration::from_millis(200));
        let [(at_b, 0)] = pair.opened(1)[..] else { panic!("{:?}", pair.events[1]) };
        assert_eq!(pair.read_all(1, at_b), [message], "packets of {packet_size}");
    }
}

#[test]
fn queues_have_ends() {
    let limits = Config { send_buffer: 1000, receive_buffer: 1000, ..small() };
    let mut pair = Pair::new(1, 0, [limits.clone(), limits]);
    let channel = pair.open(0, OpenOptions::default());
    let mut taken = 0;
    while pair.ends[0].write(pair.now, channel, &[1; 18]).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 20);
    pair.run(Duration::from_secs(1));
    assert!(pair.events[0].contains(&Event::Writable(channel)));
    for _ in 0..20 {
        pair.ends[0].write(pair.now, channel, &[2; 18]).unwrap();
    }
    pair.run(Duration::from_secs(1));
    let [(at_b, 0)] = pair.opened(1)[..] else { panic!("{:?}", pair.events[1]) };
    assert_eq!(pair.ends[1].counters().overflow, 20, "what does not fit is dropped");
    assert_eq!(pair.read_all(1, at_b).len(), 20);
}

#[test]
fn channels_have_an_end() {
    let limits = Config { max_channels: 3, ..small() };
    let mut pair = Pair::new(1, 0, [small(), limits]);
    for _ in 0..5 {
        pair.open(0, OpenOptions::default());
    }
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.opened(1).len(), 3, "granted was more, for that costs nothing");
    assert!(pair.ends[1].counters().refused >= 2);
    let sixth = pair.open(0, OpenOptions::default());
    pair.run(Duration::from_secs(11));
    assert!(pair.events[0].contains(&Event::Unanswered(sixth)), "nor are there grants any more");
    assert_eq!(pair.ends[1].open(pair.now, ADDRESSES[0], OpenOptions::default()), Err(OpenError::TooMany));
}

#[test]
fn early_data_shares_a_packet_with_the_proof() {
    let mut pair = Pair::new(1, 0, [small(), small()]);
    let channel = pair.open(0, OpenOptions { capabilities: 7, early_data: true });
    pair.ends[0].write(pair.now, channel, b"early").unwrap();
    pair.run(3 * DELAY);
    assert_eq!(pair.sent, 3, "NEW, ACKNOWLEDGE, COOKIE with DATA");
    let [(at_b, 7)] = pair.opened(1)[..] else { panic!("{:?}", pair.events[1]) };
    assert_eq!(pair.read_all(1, at_b), [b"early"]);
}

/// A packet of B for A.
fn from_b(channel: u32, messages: &[Message<'_>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for message in messages {
        message.put(&mut payload);
    }
    let packet = Packet { sender: B, recipient: A, channel, flags: 0, sequence: 0, payload: &payload };
    let mut out = Vec::new();
    assert!(packet.put(PROTOCOL, 120, &mut out));
    out
}

fn opening(a: &mut Endpoint, now: Instant) -> (Handle, u16, Cookie) {
    let channel = a.open(now, address_of(B), OpenOptions::default()).expect("below the limit");
    let (_, new) = sent(a, now).pop().expect("asks at once");
    let packet = Packet::parse(PROTOCOL, &new).expect("well formed");
    let Some(Ok(Message::New { half, cookie })) = Messages::new(packet.payload).next() else {
        panic!("{packet:?}")
    };
    (channel, half, cookie)
}

#[test]
fn a_responder_with_early_data_needs_no_proof() {
    let now = Instant::now();
    for order in HalfOrder::both() {
        let mut a = Endpoint::new(small(), A, B, now, seed_of(5));
        let (channel, half, cookie) = opening(&mut a, now);
        let id = match order {
            HalfOrder::ResponderFirst => 0x1234_0000 | u32::from(half),
            HalfOrder::InitiatorFirst => u32::from(half) << 16 | 0x1234,
        };
        let early = [Message::Cookie { cookie, capabilities: 0 }, Message::Data(b"welcome")];
        a.handle(now, address_of(B), &from_b(id, &early));
        assert_eq!(events(&mut a), [Event::Established(channel), Event::Readable(channel)]);
        assert!(sent(&mut a, now).is_empty(), "no proof");
        a.write(now, channel, b"thanks").unwrap();
        let (_, data) = sent(&mut a, now).pop().unwrap();
        assert_eq!(Packet::parse(PROTOCOL, &data).unwrap().channel, id);
    }
}

#[test]
fn a_wrong_grant_does_no_harm() {
    let now = Instant::now();
    let mut a = Endpoint::new(small(), A, B, now, seed_of(5));
    let (channel, half, cookie1) = opening(&mut a, now);
    let id = 0x1234_0000 | u32::from(half);
    let cookie2 = Cookie(1);
    let wrong = Cookie(cookie1.0 ^ 1);
    let good = from_b(DEFAULT_CHANNEL, &[Message::Acknowledge { id, cookie1, cookie2 }]);
    a.handle(
        now,
        address_of(B),
        &from_b(DEFAULT_CHANNEL, &[Message::Acknowledge { id, cookie1: wrong, cookie2 }]),
    );
    // Right, but not from where the question went, or too late: cookies know address and time.
    a.handle(now, address_of(A), &good);
    a.handle(now + Duration::from_secs(61), address_of(B), &good);
    assert_eq!((events(&mut a), a.counters().bad_cookie), (vec![], 3));
    // A grant for something that was never asked for, and the peer's own opening with the same half.
    a.handle(
        now,
        address_of(B),
        &from_b(DEFAULT_CHANNEL, &[Message::Acknowledge { id: 0x0001_0002, cookie1, cookie2 }]),
    );
    a.handle(now, address_of(B), &from_b(DEFAULT_CHANNEL, &[Message::New { half, cookie: wrong }]));
    assert_eq!(sent(&mut a, now).len(), 1, "is granted: halves belong to their opener");
    a.handle(now, address_of(B), &good);
    a.handle(now, address_of(B), &good);
    assert_eq!(events(&mut a), [Event::Established(channel)]);
}

#[test]
fn a_known_opening_is_granted_again_with_the_same_id() {
    let now = Instant::now();
    let mut pair = Pair::new(4, 0, [as_recorded("s3kr1t"), as_recorded("t1rk3s")]);
    let (_, half, cookie) = opening(&mut pair.ends[0], now);
    let packet = |message: Message<'_>| {
        let mut payload = Vec::new();
        message.put(&mut payload);
        let channel = DEFAULT_CHANNEL;
        let packet = Packet { sender: A, recipient: B, channel, flags: 0, sequence: 0, payload: &payload };
        let mut out = Vec::new();
        assert!(packet.put(PROTOCOL, 120, &mut out));
        out
    };
    let b = &mut pair.ends[1];
    let ask = |b: &mut Endpoint| {
        b.handle(now, address_of(A), &packet(Message::New { half, cookie }));
        let (_, answer) = sent(b, now).pop().unwrap();
        let answer = Packet::parse(PROTOCOL, &answer).unwrap();
        let Some(Ok(Message::Acknowledge { id, cookie2, .. })) = Messages::new(answer.payload).next() else {
            panic!("{answer:?}")
        };
        (id, cookie2)
    };
    assert_ne!(ask(b), ask(b), "nothing is stored for an opening");
    let (id, cookie2) = ask(b);
    b.handle(now, address_of(A), &packet(Message::Finalize { id, cookie2, capabilities: 0 }));
    assert_eq!(ask(b), (id, cookie2));
    assert_eq!(ask(b), (id, cookie2));
}
