//! Bytes of which a receiver knows which ones must come where.

use std::sync::OnceLock;

use rand::{Rng, SeedableRng, rngs::StdRng};

/// A prime, so that no size of packet or buffer divides it.
const PERIOD: usize = 65_521;

/// The longest slice.
pub const LONGEST: usize = 32_768;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = vec![0; PERIOD + LONGEST];
        StdRng::seed_from_u64(0).fill_bytes(&mut table[..PERIOD]);
        table.copy_within(..LONGEST, PERIOD);
        table
    })
}

/// `len` bytes of the pattern from `offset` on.
pub fn slice(offset: u64, len: usize) -> &'static [u8] {
    let from = (offset % PERIOD as u64) as usize;
    &table()[from..from + len]
}
