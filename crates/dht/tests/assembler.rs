//! Fragmented messages under reordering, loss, lies and floods.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use towline_dht::fragment::{Assembler, AssemblerLimits, FragmentError, datagrams};
use towline_dht::{Body, InfoHash, Message, Part, Reply, Value, ValueItem};

const T: u32 = 7;

fn source() -> SocketAddr {
    ([192, 0, 2, 1], 4222).into()
}

fn message(values: Vec<ValueItem>) -> Message {
    let reply = Reply { values, ..Reply::default() };
    Message {
        transaction: T,
        network: 0,
        client: false,
        body: Body::Reply { sender: InfoHash([1; 20]), reply },
    }
}

fn announced(sizes: &[usize]) -> Message {
    message(sizes.iter().map(|size| ValueItem::Announced(*size)).collect())
}

fn part(index: usize, offset: usize, data: impl Into<Vec<u8>>) -> Vec<Part> {
    vec![Part { index, offset, data: data.into() }]
}

fn packed(len: usize) -> Vec<u8> {
    Value::new(5, 0, vec![7; len]).pack()
}

struct Fixture {
    assembler: Assembler,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self::with(AssemblerLimits::default())
    }

    fn with(limits: AssemblerLimits) -> Self {
        Self { assembler: Assembler::new(limits), now: Instant::now() }
    }

    fn header(&mut self, message: Message) -> Result<Option<Message>, FragmentError> {
        self.assembler.handle_message(self.now, source(), message)
    }

    fn parts(&mut self, parts: Vec<Part>) -> Result<Option<Message>, FragmentError> {
        self.assembler.handle_parts(self.now, source(), T, parts)
    }
}

#[test]
fn plain_messages_pass() {
    let mut it = Fixture::new();
    let inline = message(vec![ValueItem::Inline(Arc::new(Value::new(1, 0, [])))]);
    assert_eq!(it.header(inline.clone()), Ok(Some(inline)));
    assert_eq!(it.assembler.poll_timeout(), None);
}

#[test]
fn header_last_and_mixed_items() {
    let mut it = Fixture::new();
    let packed = packed(2000);
    let here = ValueItem::Inline(Arc::new(Value::new(9, 0, *b"here")));
    let header = message(vec![here.clone(), ValueItem::Malformed, ValueItem::Announced(packed.len())]);
    assert_eq!(it.parts(part(2, 1500, &packed[1500..])), Ok(None));
    assert_eq!(it.parts(part(2, 0, &packed[..1500])), Ok(None));
    let whole = it.header(header).unwrap().unwrap();
    assert_eq!(whole.values(), [here, ValueItem::Inline(Arc::new(Value::unpack(&packed).unwrap()))]);
    assert_eq!(it.assembler.poll_timeout(), None);
}

#[test]
fn values_that_do_not_unpack_are_left_out() {
    let mut it = Fixture::new();
    it.header(announced(&[4, 0])).unwrap();
    let whole = it.parts(part(0, 0, [0xc1; 4])).unwrap().unwrap();
    assert!(whole.values().is_empty());
}

#[test]
fn lies_about_parts() {
    let mut it = Fixture::new();
    it.header(announced(&[100])).unwrap();
    assert_eq!(it.parts(part(1, 0, [0; 10])), Err(FragmentError::UnknownValue));
    assert_eq!(it.parts(part(0, 91, [0; 10])), Err(FragmentError::OutOfRange));
    assert_eq!(it.parts(part(0, usize::MAX, [0; 10])), Err(FragmentError::OutOfRange));
    assert_eq!(it.parts(part(0, 20, [0; 10])), Ok(None));
    assert_eq!(it.parts(part(0, 20, [0; 10])), Ok(None), "the same again is a retry");
    assert_eq!(it.parts(part(0, 20, [1; 10])), Err(FragmentError::Overlap));
    assert_eq!(it.parts(part(0, 15, [0; 6])), Err(FragmentError::Overlap));
    assert_eq!(it.parts(part(0, 29, [0; 6])), Err(FragmentError::Overlap));
    assert_eq!(it.parts(part(0, 0, [0; 100])), Err(FragmentError::Overlap));
    assert_eq!(it.header(announced(&[101])), Err(FragmentError::SecondHeader));
    assert_eq!(it.header(announced(&[100])), Ok(None), "a retry");
    // None of it spoilt the session.
    assert_eq!(it.parts(part(0, 0, [0; 20])), Ok(None));
    assert!(it.parts(part(0, 30, [0; 70])).unwrap().is_some());
}

#[test]
fn sources_do_not_mix() {
    let mut it = Fixture::new();
    it.header(announced(&[4])).unwrap();
    let other = ([192, 0, 2, 1], 4223).into();
    assert_eq!(it.assembler.handle_parts(it.now, other, T, part(0, 0, [0xc1; 4])), Ok(None));
    assert_eq!(it.assembler.handle_parts(it.now, source(), T + 1, part(0, 0, [0xc1; 4])), Ok(None));
    assert!(it.parts(part(0, 0, [0xc1; 4])).unwrap().is_some());
}

#[test]
fn gap_and_overall_time() {
    let mut it = Fixture::new();
    let start = it.now;
    it.header(announced(&[100])).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(it.assembler.poll_timeout(), Some(start + seconds(3)));
    for second in [2, 4, 6, 8] {
        it.now = start + seconds(second);
        it.parts(part(0, second as usize, [0])).unwrap();
    }
    assert_eq!(it.assembler.poll_timeout(), Some(start + seconds(10)), "overall");
    // A part that is refused does not keep the session alive.
    it.now = start + seconds(9);
    assert!(it.parts(part(9, 0, [0])).is_err());
    it.assembler.handle_timeout(start + seconds(10));
    assert_eq!(it.assembler.poll_timeout(), None);
    it.now = start + seconds(10);
    it.header(announced(&[4])).unwrap();
    it.now = start + seconds(13);
    assert_eq!(it.parts(part(0, 0, [0xc1; 4])), Ok(None), "over: this part is an early one");
}

#[test]
fn early_parts_are_bounded() {
    let mut it = Fixture::new();
    for i in 0..98 {
        assert_eq!(it.parts(part(0, i, [0])), Ok(None));
    }
    assert_eq!(it.parts(part(0, 98, [0])), Err(FragmentError::TooManyEarlyParts));
    let mut it = Fixture::new();
    assert_eq!(it.parts(part(0, 0, vec![0; 122_912])), Ok(None));
    assert_eq!(it.parts(part(0, 122_912, [0])), Err(FragmentError::TooManyBytes));
}

#[test]
fn floods_take_only_their_share() {
    let limits = AssemblerLimits {
        sessions: 6,
        sessions_per_source: 4,
        bytes: 300_000,
        bytes_per_source: 200_000,
        ..AssemblerLimits::default()
    };
    let now = Instant::now();
    let flood = |assembler: &mut Assembler, ip: [u8; 4], size: usize| {
        let open =
            |port: u16| assembler.handle_message(now, SocketAddr::from((ip, port)), announced(&[size])).err();
        (1..=9).map(open).collect::<Vec<_>>()
    };
    let many = Some(FragmentError::TooManySessions);
    let mut assembler = Assembler::new(limits);
    assert_eq!(flood(&mut assembler, [192, 0, 2, 1], 10)[3..5], [None, many]);
    assert_eq!(flood(&mut assembler, [192, 0, 2, 2], 10)[1..3], [None, many]);
    assembler.handle_timeout(now + Duration::from_secs(3));
    assert_eq!(flood(&mut assembler, [192, 0, 2, 3], 10)[3..5], [None, many], "all was given back");

    let large = Some(FragmentError::TooManyBytes);
    let mut assembler = Assembler::new(limits);
    assert_eq!(flood(&mut assembler, [192, 0, 2, 1], 65_000)[2..4], [None, large]);
    assert_eq!(flood(&mut assembler, [192, 0, 2, 2], 65_000)[..2], [None, large]);
    assembler.handle_timeout(now + Duration::from_secs(3));
    assert_eq!(flood(&mut assembler, [192, 0, 2, 2], 65_000)[2..4], [None, large]);
    assert!(format!("{assembler:?}").len() < 10_000);
}

/// Parts from made-up sources push each other out, not those who sent a header.
#[test]
fn strangers_parts_make_room() {
    let limits = AssemblerLimits { sessions: 2, ..AssemblerLimits::default() };
    let mut it = Fixture::with(limits);
    it.header(announced(&[4])).unwrap();
    for host in 0..100 {
        let stranger = SocketAddr::from(([203, 0, 113, host], 1));
        assert_eq!(it.assembler.handle_parts(it.now, stranger, T, part(0, 0, [0])), Ok(None));
    }
    let other = SocketAddr::from(([198, 51, 100, 1], 1));
    assert_eq!(it.assembler.handle_message(it.now, other, announced(&[4])), Ok(None));
    let third = it.assembler.handle_parts(it.now, ([203, 0, 113, 1], 1).into(), T, part(0, 0, [0]));
    assert_eq!(third, Err(FragmentError::TooManySessions));
    assert!(it.parts(part(0, 0, [0xc1; 4])).unwrap().is_some());
}

/// A header that grows when it is read is charged for it.
#[test]
fn headers_are_charged() {
    let limits = AssemblerLimits { bytes_per_source: 100_000, ..AssemblerLimits::default() };
    let mut it = Fixture::with(limits);
    let mut items = vec![ValueItem::Malformed; 60_000];
    items.push(ValueItem::Announced(1));
    assert_eq!(it.header(message(items)), Err(FragmentError::TooManyBytes));
    assert_eq!(it.assembler.poll_timeout(), None);
}

/// Many tiny parts cost more than their bytes, and are charged for it.
#[test]
fn crumbs_are_charged() {
    let limits = AssemblerLimits { bytes_per_source: 100_000, ..AssemblerLimits::default() };
    let mut it = Fixture::with(limits);
    it.header(announced(&[65_000])).unwrap();
    let refused = (0..65_000).find_map(|offset| it.parts(part(0, offset, [0])).err());
    assert_eq!(refused, Some(FragmentError::TooManyBytes));
    assert_eq!(it.assembler.poll_timeout(), None, "the session that went too far is over");
}

#[test]
fn the_largest_value_travels() {
    let value = Value::new(1, 0, vec![1; Value::MAX_SIZE]);
    assert_eq!(value.packed_size(), Value::MAX_PACKED_SIZE);
    let sent = datagrams(&message(vec![ValueItem::Inline(Arc::new(value.clone()))]));
    let mut it = Fixture::new();
    let mut whole = None;
    for datagram in sent {
        let decoded = Message::decode(&datagram).unwrap();
        whole = match decoded.body {
            Body::Parts(parts) => it.parts(parts),
            _ => it.header(decoded),
        }
        .unwrap();
    }
    assert_eq!(**whole.unwrap().values()[0].inline().unwrap(), value);
    let larger = Message::decode(&announced(&[Value::MAX_PACKED_SIZE + 1, 5]).encode()).unwrap();
    assert_eq!(larger.values(), [ValueItem::Malformed, ValueItem::Announced(5)]);
}
