//! Changes to an input, drawn from a seeded generator.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Values at which lengths and counters tend to break.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    3,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3fff,
    0x4000,
    0x4001,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    u64::MAX / 2,
    u64::MAX,
];

/// First bytes of msgpack and DER elements whose lengths follow; a claim costs the attacker nothing.
const CLAIMS: &[&[u8]] = &[
    &[0xc4],
    &[0xc5],
    &[0xc6],
    &[0xd9],
    &[0xda],
    &[0xdb],
    &[0xdc],
    &[0xdd],
    &[0xde],
    &[0xdf],
    &[0x30, 0x82],
    &[0x30, 0x84],
    &[0x04, 0x82],
];

/// Elements that nest: a decoder that recurses meets its stack's end.
const NESTS: &[&[u8]] =
    &[&[0x91], &[0x81, 0xa1, b'a'], &[0xdc, 0, 1], &[0xde, 0, 1, 0xc0], &[0x30, 0x80], &[0xa0, 0x80]];

/// Makes new inputs out of old ones.
#[derive(Debug)]
pub struct Mutator {
    rng: StdRng,
    limit: usize,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// `limit` bounds the length of an input in bytes; `words` are byte strings the format knows.
    #[must_use]
    pub fn new(seed: u64, limit: usize, words: &[&[u8]]) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            limit,
            words: words.iter().map(|word| word.to_vec()).collect(),
        }
    }

    /// Picks one of the inputs and changes it one to eight times.
    pub fn make(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.pick(inputs).cloned().unwrap_or_default();
        let changes = 1_u32 << self.rng.random_range(0..4_u32);
        for _ in 0..changes {
            self.change(&mut input, inputs);
        }
        input.truncate(self.limit);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        match self.rng.random_range(0..14_u32) {
            0 | 1 => self.flip_bit(input),
            2 => self.set_byte(input),
            3 => self.cut(input),
            4 => self.truncate(input),
            5 => self.repeat(input),
            6 => self.insert_noise(input),
            7 | 8 => self.set_number(input),
            9 => self.claim_length(input),
            10 => self.splice(input, inputs),
            11 | 12 => self.insert_word(input),
            _ => self.nest(input),
        }
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        (!from.is_empty()).then(|| &from[self.rng.random_range(0..from.len())])
    }

    fn position(&mut self, input: &[u8]) -> usize {
        self.rng.random_range(0..=input.len())
    }

    /// A range inside the input, most often a short one.
    fn range(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.position(input);
        let most =
            (input.len() - start).min(if self.rng.random_range(0..4_u32) == 0 { usize::MAX } else { 16 });
        start..start + self.rng.random_range(0..=most)
    }

    fn insert(&mut self, input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
        let room = self.limit.saturating_sub(input.len());
        input.splice(at..at, bytes.iter().copied().take(room));
    }

    fn flip_bit(&mut self, input: &mut [u8]) {
        if !input.is_empty() {
            let at = self.rng.random_range(0..input.len());
            input[at] ^= 1 << self.rng.random_range(0..8_u32);
        }
    }

    fn set_byte(&mut self, input: &mut [u8]) {
        if !input.is_empty() {
            let at = self.rng.random_range(0..input.len());
            input[at] = self.rng.random();
        }
    }

    fn cut(&mut self, input: &mut Vec<u8>) {
        let range = self.range(input);
        input.drain(range);
    }

    fn truncate(&mut self, input: &mut Vec<u8>) {
        let at = self.position(input);
        input.truncate(at);
    }

    fn repeat(&mut self, input: &mut Vec<u8>) {
        let range = self.range(input);
        let times = if self.rng.random_range(0..8_u32) == 0 { 64 } else { 1 };
        let part = input[range].repeat(times);
        let at = self.position(input);
        self.insert(input, at, &part);
    }

    fn insert_noise(&mut self, input: &mut Vec<u8>) {
        let mut noise = vec![0; self.rng.random_range(1..=16)];
        self.rng.fill(&mut noise[..]);
        let at = self.position(input);
        self.insert(input, at, &noise);
    }

    /// Overwrites one, two, four or eight bytes by a number from the edges, in either byte order.
    fn set_number(&mut self, input: &mut [u8]) {
        let width = 1_usize << self.rng.random_range(0..4_u32);
        if input.len() < width {
            return;
        }
        let at = self.rng.random_range(0..=input.len() - width);
        let value = self.pick(EDGES).copied().unwrap_or_default();
        let mut bytes = value.to_be_bytes()[8 - width..].to_vec();
        if self.rng.random() {
            bytes.reverse();
        }
        input[at..at + width].copy_from_slice(&bytes);
    }

    /// Claims more elements or bytes than follow.
    fn claim_length(&mut self, input: &mut Vec<u8>) {
        let mut claim = self.pick(CLAIMS).map(|claim| claim.to_vec()).unwrap_or_default();
        let value = self.pick(EDGES).copied().unwrap_or_default();
        let width = [1, 2, 4][self.rng.random_range(0..3_usize)];
        claim.extend(&value.to_be_bytes()[8 - width..]);
        let at = self.position(input);
        if self.rng.random() {
            let end = (at + claim.len()).min(input.len());
            input.drain(at..end);
        }
        self.insert(input, at, &claim);
    }

    fn splice(&mut self, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let Some(other) = self.pick(inputs) else { return };
        let range = self.range(other);
        let part = other[range].to_vec();
        let at = self.position(input);
        self.insert(input, at, &part);
    }

    fn insert_word(&mut self, input: &mut Vec<u8>) {
        let words = std::mem::take(&mut self.words);
        if let Some(word) = self.pick(&words) {
            let at = self.position(input);
            if self.rng.random() {
                let end = (at + word.len()).min(input.len());
                input.drain(at..end);
            }
            self.insert(input, at, word);
        }
        self.words = words;
    }

    fn nest(&mut self, input: &mut Vec<u8>) {
        let nest = self.pick(NESTS).copied().unwrap_or_default();
        let times = self.rng.random_range(1..=self.limit / nest.len().max(1) + 1);
        let at = self.position(input);
        self.insert(input, at, &nest.repeat(times));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let inputs = [b"abcdef".to_vec(), vec![0x92, 0x01, 0xc4]];
        let make = |seed| {
            let mut mutator = Mutator::new(seed, 64, &[b"word"]);
            (0..500).map(|_| mutator.make(&inputs)).collect::<Vec<_>>()
        };
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn inputs_stay_below_the_limit_and_differ() {
        let inputs = [vec![1; 100]];
        let mut mutator = Mutator::new(1, 100, &[b"word"]);
        let made: std::collections::BTreeSet<Vec<u8>> = (0..1000).map(|_| mutator.make(&inputs)).collect();
        assert!(made.iter().all(|input| input.len() <= 100));
        assert!(made.len() > 800, "{} different inputs", made.len());
        assert!(made.iter().any(|input| input.windows(4).any(|part| part == b"word")));
    }

    #[test]
    fn an_empty_corpus_still_gives_inputs() {
        let mut mutator = Mutator::new(1, 100, &[]);
        assert!((0..100).map(|_| mutator.make(&[])).any(|input| !input.is_empty()));
    }
}
