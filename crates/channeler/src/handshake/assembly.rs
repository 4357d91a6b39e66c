use std::ops::Range;

use super::{
    message::{MAX_MESSAGE, MAX_RANGES},
    ranges::Ranges,
};

/// A handshake message of which fragments arrive, in any order.
///
/// Nothing of it is authentic before all of it is there. So the newest word counts: a forged fragment does harm only until the true one is repeated.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    have: Ranges,
}

impl Assembly {
    /// Takes a fragment; `offset` and length are within `total`. Gives the message when it is whole.
    pub(super) fn insert(&mut self, total: u32, offset: u32, bytes: &[u8]) -> Option<&[u8]> {
        if total == 0 || total > MAX_MESSAGE {
            return None;
        }
        if self.bytes.len() != total as usize {
            *self = Self { bytes: vec![0; total as usize], have: Ranges::default() };
        }
        let range = offset..offset + bytes.len() as u32;
        let mut have = self.have.clone();
        have.insert(range.clone());
        if have.len() > MAX_RANGES {
            return None;
        }
        self.have = have;
        self.bytes[range.start as usize..range.end as usize].copy_from_slice(bytes);
        self.have.contains(&self.all()).then_some(&self.bytes[..])
    }

    fn all(&self) -> Range<u32> {
        0..self.bytes.len() as u32
    }

    pub(super) fn have(&self) -> &Ranges {
        &self.have
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
