//! RFC 4571 framing over arbitrary splits.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

use proptest::prelude::*;
use towline_ice::framing::{self, Decoder, FrameTooLong, PayloadKind, classify, classify_datagram};

fn read_all(decoder: &mut Decoder, mut input: &[u8]) -> Result<Vec<Vec<u8>>, FrameTooLong> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(&mut input)? {
        frames.push(frame.to_vec());
    }
    assert!(input.is_empty(), "a decoder that waits has taken everything");
    Ok(frames)
}

#[test]
fn a_whole_frame_is_lent_from_the_buffer_it_lies_in() {
    let bytes = [framing::frame(b"one").unwrap(), framing::frame(b"two").unwrap()].concat();
    let range = bytes.as_ptr_range();
    let mut decoder = Decoder::new();
    let mut input = &bytes[..];
    for _ in 0..2 {
        let frame = decoder.decode(&mut input).unwrap().unwrap();
        assert!(range.contains(&frame.as_ptr()));
    }
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn empty_frames_are_ignored_however_they_are_split() {
    let mut decoder = Decoder::new();
    assert_eq!(read_all(&mut decoder, &[0, 0, 0]).unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(read_all(&mut decoder, &[0, 0, 1]).unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(read_all(&mut decoder, &[7, 0, 0]).unwrap(), [[7]]);
}

#[test]
fn the_limit_holds_before_any_payload_is_kept() {
    let mut decoder = Decoder::with_limit(100);
    let error = FrameTooLong { len: 101, limit: 100 };
    assert_eq!(read_all(&mut decoder.clone(), &[0, 101, 1, 2, 3]), Err(error));
    assert_eq!(read_all(&mut decoder, &[0]), Ok(vec![]));
    assert_eq!(read_all(&mut decoder, &[101]), Err(error));
    decoder = Decoder::with_limit(1);
    decoder.set_limit(framing::MAX_PAYLOAD);
    assert_eq!(read_all(&mut decoder, &framing::frame(&vec![5; 65535]).unwrap()).unwrap()[0].len(), 65535);
    assert_eq!(framing::frame(&vec![0; 65536]), Err(FrameTooLong { len: 65536, limit: 65535 }));
}

#[test]
fn stun_is_told_from_data_by_shape() {
    let mut stun = vec![0u8; 28];
    stun[3] = 8;
    assert_eq!(classify(&stun), PayloadKind::Stun, "the cookie does not decide in a frame");
    assert_eq!(classify_datagram(&stun), PayloadKind::Data, "in a datagram it does");
    stun[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    assert_eq!(classify_datagram(&stun), PayloadKind::Stun);
    stun[0] = 1;
    assert_eq!(classify(&stun), PayloadKind::Stun);
    for (at, value) in [(0, 2), (0, 0x16), (3, 4), (3, 9)] {
        let mut data = stun.clone();
        data[at] = value;
        assert_eq!(classify(&data), PayloadKind::Data, "byte {at} = {value}");
    }
    assert_eq!(classify(&stun[..19]), PayloadKind::Data);
    assert_eq!(classify(&[]), PayloadKind::Data);
    assert_eq!(classify(&[0x16, 3, 3, 0, 5]), PayloadKind::Data, "a TLS record");
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        cuts in prop::collection::vec(1usize..40, 1..50),
    ) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|p| framing::frame(p).unwrap()).collect();
        let mut decoder = Decoder::new();
        let mut seen = Vec::new();
        let (mut rest, mut n) = (&bytes[..], 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts[n % cuts.len()].min(rest.len()));
            seen.extend(read_all(&mut decoder, now).unwrap());
            (rest, n) = (later, n + 1);
        }
        let expected: Vec<_> = payloads.into_iter().filter(|p| !p.is_empty()).collect();
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn any_bytes_are_cut_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000), limit in 0usize..70000) {
        let mut decoder = Decoder::with_limit(limit);
        drop(read_all(&mut decoder, &bytes));
        prop_assert!(decoder.buffered() <= limit + 2);
    }
}
