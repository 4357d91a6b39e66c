//! Integers of 1 to 9 bytes, the most significant group of seven bits first (`spec/channeler.md` section 2.3).
//!
//! The high bit says that more follows. Each further byte adds an offset, so that every value has one encoding.

/// Largest value on the wire.
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// Longest encoding, in bytes.
pub(crate) const MAX_LEN: usize = 9;

/// How many bytes `value`, at most [`MAX`], takes.
#[inline]
pub(crate) const fn len(value: u64) -> usize {
    if value < 0x80 {
        1
    } else if value < 0x4080 {
        2
    } else if value < 0x20_4080 {
        3
    } else if value < 0x1020_4080 {
        4
    } else {
        len_of_large(value)
    }
}

const fn len_of_large(value: u64) -> usize {
    let mut rest = value >> 7;
    let mut len = 1;
    while rest != 0 {
        rest = (rest - 1) >> 7;
        len += 1;
    }
    len
}

/// Encodes `value`, at most [`MAX`], into `buffer`; gives the bytes that it took, which are the last ones.
#[inline]
pub(crate) fn encode(value: u64, buffer: &mut [u8; MAX_LEN]) -> &[u8] {
    debug_assert!(value <= MAX, "{value} is beyond 62 bits");
    let mut start = MAX_LEN - 1;
    let mut rest = value >> 7;
    buffer[start] = value as u8 & 0x7F;
    while rest != 0 && start > 0 {
        rest -= 1;
        start -= 1;
        buffer[start] = rest as u8 | 0x80;
        rest >>= 7;
    }
    &buffer[start..]
}

/// Appends `value`, at most [`MAX`].
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else {
        out.extend_from_slice(encode(value, &mut [0; MAX_LEN]));
    }
}

/// Takes a value off the front of `input`. `None`, and nothing taken, if it is cut off or above [`MAX`].
#[inline]
pub(crate) fn get(input: &mut &[u8]) -> Option<u64> {
    match **input {
        [first, ref rest @ ..] if first < 0x80 => {
            *input = rest;
            Some(u64::from(first))
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *input = rest;
            Some((u64::from(first & 0x7F) + 1) << 7 | u64::from(second))
        }
        _ => get_long(input),
    }
}

fn get_long(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    // Nine groups and their offsets stay below 2^64.
    for (index, &byte) in input.iter().take(MAX_LEN).enumerate() {
        value = value << 7 | u64::from(byte & 0x7F);
        if byte < 0x80 {
            *input = input.get(index + 1..)?;
            return (value <= MAX).then_some(value);
        }
        value += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MAX, MAX_LEN, encode, get, len, put};

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, value);
        out
    }

    #[test]
    fn vectors() {
        let file = include_str!("../tests/vectors/primitives.json");
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        for case in file["varint"].as_array().unwrap() {
            let value = case["value"].as_u64().unwrap();
            let bytes = hex::decode(case["hex"].as_str().unwrap()).unwrap();
            assert_eq!(encoded(value), bytes);
            assert_eq!(get(&mut &bytes[..]), Some(value));
        }
        for case in file["varint_invalid"].as_array().unwrap() {
            let bytes = hex::decode(case["hex"].as_str().unwrap()).unwrap();
            let mut input = &bytes[..];
            assert_eq!(get(&mut input), None, "{case}");
            assert_eq!(input, bytes, "nothing is taken");
        }
    }

    #[test]
    fn every_length_begins_and_ends_where_the_offsets_say() {
        let mut first = 0;
        for bytes in 1..=MAX_LEN {
            let last = (first + (1_u64 << (7 * bytes)) - 1).min(MAX);
            for value in [first, first + 1, last - 1, last] {
                assert_eq!(len(value), bytes, "{value}");
                assert_eq!(encoded(value).len(), bytes, "{value}");
                assert_eq!(get(&mut &encoded(value)[..]), Some(value));
            }
            first = last + 1;
        }
        let mut beyond = encoded(MAX);
        *beyond.last_mut().unwrap() += 1;
        assert_eq!(get(&mut &beyond[..]), None, "2^62");
    }

    proptest! {
        #[test]
        fn what_is_put_is_got(value in (0..=MAX, 0_u32..62).prop_map(|(v, s)| v >> s), tail: Vec<u8>) {
            let mut bytes = encoded(value);
            prop_assert_eq!(bytes.len(), len(value));
            let mut buffer = [0; MAX_LEN];
            prop_assert_eq!(encode(value, &mut buffer), &bytes[..]);
            for cut in 0..bytes.len() {
                prop_assert_eq!(get(&mut &bytes[..cut]), None);
            }
            bytes.extend_from_slice(&tail);
            let mut input = &bytes[..];
            prop_assert_eq!(get(&mut input), Some(value));
            prop_assert_eq!(input, &tail[..]);
        }

        #[test]
        fn each_value_has_one_encoding(bytes: Vec<u8>) {
            let mut input = &bytes[..];
            if let Some(value) = get(&mut input) {
                prop_assert_eq!(encoded(value), &bytes[..bytes.len() - input.len()]);
            }
        }
    }
}
