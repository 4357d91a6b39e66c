use super::message::{MAX_MESSAGE, MAX_RANGES};
use crate::ranges::Ranges;

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
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let mut have = self.have.clone();
        if start < end {
            have.insert(start as u64, end as u64);
        }
        if have.len() > MAX_RANGES {
            return None;
        }
        self.have = have;
        self.bytes[start..end].copy_from_slice(bytes);
        self.have.contains(0, total.into()).then_some(&self.bytes[..])
    }

    pub(super) fn have(&self) -> &Ranges {
        &self.have
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
