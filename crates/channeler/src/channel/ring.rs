//! Bytes of one direction, found by their offsets.

use std::ops::Range;

/// A ring of bytes: an offset lives at the remainder of its distance from an origin by the capacity, which is nothing or a
/// power of two. Whenever it is empty the origin moves to the next offset, so that who reads as fast as data comes works in the
/// same few cache lines all the time.
///
/// It does not know which of its bytes mean something; its owner keeps the span of those within the capacity.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: Box<[u8]>,
    origin: u64,
}

impl Ring {
    /// Smallest capacity but none.
    const LEAST: u64 = 256;

    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for `span` offsets from `live.start` on. The bytes of `live` stay; it may grow by doubling.
    #[inline]
    pub(super) fn reserve(&mut self, live: Range<u64>, span: u64) {
        if live.is_empty() {
            self.origin = live.start;
        }
        if span > self.bytes.len() as u64 {
            self.grow(live, span);
        }
    }

    #[cold]
    fn grow(&mut self, live: Range<u64>, span: u64) {
        let capacity = span.max(Self::LEAST).next_power_of_two() as usize;
        let mut wider = Self { bytes: vec![0; capacity].into(), origin: live.start };
        let mut at = live.start;
        while at < live.end {
            let piece = self.slice(at, (live.end - at) as usize);
            wider.write(at, piece);
            at += piece.len() as u64;
        }
        *self = wider;
    }

    #[inline]
    fn index(&self, offset: u64) -> usize {
        offset.wrapping_sub(self.origin) as usize & (self.bytes.len() - 1)
    }

    /// Puts bytes, no more than the capacity.
    #[inline]
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let index = self.index(offset);
        let (first, second) = data.split_at(data.len().min(self.bytes.len() - index));
        self.bytes[index..index + first.len()].copy_from_slice(first);
        if !second.is_empty() {
            self.bytes[..second.len()].copy_from_slice(second);
        }
    }

    /// At most `len` bytes from `offset` on: fewer where the ring wraps.
    #[inline]
    pub(super) fn slice(&self, offset: u64, len: usize) -> &[u8] {
        if len == 0 {
            return &[];
        }
        let index = self.index(offset);
        &self.bytes[index..(index + len).min(self.bytes.len())]
    }

    /// Copies bytes out, no more than the capacity.
    #[inline]
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) {
        let first = self.slice(offset, out.len());
        let (head, tail) = out.split_at_mut(first.len());
        head.copy_from_slice(first);
        if !tail.is_empty() {
            tail.copy_from_slice(&self.bytes[..tail.len()]);
        }
    }

    /// Gives the memory back.
    pub(super) fn free(&mut self) {
        self.bytes = Box::default();
    }
}

#[cfg(test)]
mod tests {
    use super::Ring;

    #[test]
    fn bytes_are_found_by_their_offsets_also_after_growth() {
        let mut ring = Ring::default();
        let data: Vec<u8> = (0..=255).collect();
        let start = (1 << 40) + 200;
        ring.reserve(start - 200..start - 200, 256);
        ring.write(start, &data);
        assert_eq!(ring.capacity(), 256);
        assert_eq!(ring.slice(start, 256), &data[..56], "up to the wrap");
        ring.reserve(start + 10..start + 256, 1000);
        assert_eq!(ring.capacity(), 1024);
        let mut out = [0; 246];
        ring.read(start + 10, &mut out);
        assert_eq!(out, data[10..]);
        ring.free();
        assert_eq!(ring.capacity(), 0);
        assert!(ring.slice(7, 0).is_empty());
    }
}
