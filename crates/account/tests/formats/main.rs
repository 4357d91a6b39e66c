//! The formats of Jami: bytes of a daemon both ways, and what hostile bytes do.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]

mod announcement;
mod archive;
mod receipt;
mod revocation;
mod vcard;

use std::sync::LazyLock;

use towline_identity::{GenerateOptions, Hierarchy, KeySize};

const NOW: i64 = 1_800_000_000;

/// Making keys is slow: all tests share these.
static ALICE: LazyLock<Hierarchy> = LazyLock::new(make);
static BOB: LazyLock<Hierarchy> = LazyLock::new(make);

fn make() -> Hierarchy {
    Hierarchy::generate(&GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(NOW) }).unwrap()
}

/// A deterministic stream of numbers (SplitMix64), for damage.
fn numbers(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// `count` copies of `bytes`, each damaged in its own way.
fn damaged(bytes: &[u8], count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut next = numbers(7);
    (0..count).map(move |_| {
        let mut copy = bytes.to_vec();
        for _ in 0..=next() % 3 {
            let at = next() as usize % copy.len();
            match next() % 3 {
                0 => copy[at] ^= 1 << (next() % 8),
                1 => copy[at] = next() as u8,
                _ => drop(copy.drain(at..(at + next() as usize % 16).min(copy.len() - 1).max(at))),
            }
        }
        copy
    })
}
