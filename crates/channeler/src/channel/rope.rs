//! Bytes of one direction, found by their offsets: copied into the chunks of a ring, or in buffers of their own that were handed over
//! whole, and are handed on whole, so that much is moved without a copy.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;

use super::ring::{Pool, Ring};

/// From this length on it is worth while to keep a buffer instead of copying it.
pub(super) const WHOLE: usize = 4096;
/// What a packet takes of such a buffer at most.
pub(crate) const PIECE: usize = 16 << 10;

/// A buffer in its place.
#[derive(Debug)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What it has of `span`, which begins within it.
    fn part(&self, span: &Range<u64>) -> Range<usize> {
        (span.start - self.start) as usize..(span.end.min(self.end()) - self.start) as usize
    }
}

/// See the module. Like a [`Ring`], it does not know which of its bytes mean something.
#[derive(Debug, Default)]
pub(super) struct Rope {
    ring: Ring,
    /// Ascending, and beside what is in the ring. Few channels have any.
    #[expect(clippy::box_collection, reason = "eight bytes in each of many channels that have none")]
    pieces: Option<Box<VecDeque<Piece>>>,
}

impl Rope {
    /// Puts a copy of bytes, not empty, which lie within `span` as everything does that was put before and matters still. None of
    /// them lies in a buffer that was put.
    #[inline]
    pub(super) fn write(&mut self, pool: &mut Pool, span: Range<u64>, offset: u64, data: &[u8]) {
        self.ring.write(pool, span, offset, data);
    }

    /// Puts a buffer, not empty, behind everything that was put before.
    #[inline]
    pub(super) fn adopt(&mut self, offset: u64, bytes: Bytes) {
        let pieces = self.pieces.get_or_insert_default();
        debug_assert!(pieces.back().is_none_or(|last| last.end() <= offset), "pieces ascend");
        pieces.push_back(Piece { start: offset, bytes });
    }

    /// The first buffer that ends behind an offset.
    #[inline]
    fn next(&self, offset: u64) -> Option<&Piece> {
        let pieces = self.pieces.as_deref()?;
        match pieces.front() {
            Some(first) if first.end() <= offset => {
                pieces.get(pieces.partition_point(|piece| piece.end() <= offset))
            }
            first => first,
        }
    }

    /// Hands on the bytes of `span`, which were put, in slices.
    #[inline]
    fn slices(&self, mut span: Range<u64>, mut take: impl FnMut(&[u8])) {
        while !span.is_empty() {
            let copied = match self.next(span.start) {
                Some(piece) if piece.start <= span.start => {
                    let part = piece.part(&span);
                    span.start += part.len() as u64;
                    take(&piece.bytes[part]);
                    continue;
                }
                Some(piece) => piece.start.min(span.end),
                None => span.end,
            };
            self.ring.pieces(span.start..copied, &mut take);
            span.start = copied;
        }
    }

    /// Appends the bytes of `span`, which were put.
    #[inline]
    pub(super) fn append(&self, span: Range<u64>, out: &mut Vec<u8>) {
        self.slices(span, |slice| out.extend_from_slice(slice));
    }

    /// Copies bytes out, which were put.
    #[inline]
    pub(super) fn read(&self, offset: u64, mut out: &mut [u8]) {
        self.slices(offset..offset + out.len() as u64, |slice| {
            let (first, rest) = std::mem::take(&mut out).split_at_mut(slice.len());
            first.copy_from_slice(slice);
            out = rest;
        });
    }

    /// The beginning of `span`, which was put, if it lies in a buffer of its own: that, and where in it.
    #[inline]
    pub(super) fn whole(&self, span: &Range<u64>) -> Option<(&Bytes, Range<usize>)> {
        let piece = self.next(span.start).filter(|piece| piece.start <= span.start)?;
        Some((&piece.bytes, piece.part(span)))
    }

    /// Of what was put from `from` on, nothing below `live.start` and nothing from `live.end` on matters any more.
    #[inline]
    pub(super) fn release(&mut self, pool: &mut Pool, from: u64, live: Range<u64>) {
        if let Some(pieces) = &mut self.pieces {
            while pieces.front().is_some_and(|first| first.end() <= live.start || live.is_empty()) {
                pieces.pop_front();
            }
        }
        self.ring.release(pool, from, live);
    }

    /// Gives everything back.
    pub(super) fn free(&mut self, pool: &mut Pool) {
        self.pieces = None;
        self.ring.free(pool);
    }

    /// Whether [`Rope::free`] would give something back.
    pub(super) fn holds_memory(&self) -> bool {
        self.pieces.is_some() || self.ring.holds_memory()
    }

    /// Bytes in buffers of their own, and what it takes to find them.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let Some(pieces) = self.pieces.as_deref() else { return 0 };
        let buffers: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        buffers + size_of::<VecDeque<Piece>>() + pieces.capacity() * size_of::<Piece>()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.ring.memory() + self.kept()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(from: u64, to: u64) -> Bytes {
        (from..to).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn copies_and_buffers_lie_side_by_side() {
        let (mut pool, mut rope) = (Pool::default(), Rope::default());
        let start = (1 << 33) + 77;
        let mut at = start;
        // Of all lengths, so that copies and buffers share the chunks of the ring.
        for (number, len) in [3, 5000, 4096, 1, 9000, 12, 8192, 20].into_iter().enumerate() {
            let put = bytes(at, at + len);
            if number % 2 == 0 {
                rope.write(&mut pool, start..at + len, at, &put);
            } else {
                rope.adopt(at, put);
            }
            at += len;
        }
        for (from, to) in [(0, at - start), (2, 4), (3, 5003), (5002, 9200), (100, 101)] {
            let (from, to) = (start + from, start + to);
            let mut out = Vec::new();
            rope.append(from..to, &mut out);
            assert_eq!(out, bytes(from, to));
            let mut out = vec![0; (to - from) as usize];
            rope.read(from, &mut out);
            assert_eq!(out, bytes(from, to));
        }
        assert!(rope.whole(&(start..at)).is_none(), "it begins with a copy");
        let (piece, part) = rope.whole(&(start + 10..at)).unwrap();
        assert_eq!(piece.slice(part), bytes(start + 10, start + 5003));
        let held = rope.memory();
        rope.release(&mut pool, start, start + 5002..at);
        assert_eq!(rope.whole(&(start + 5002..at)).unwrap().1, 4999..5000, "its last byte is needed");
        rope.release(&mut pool, start + 5002, start + 5003..at);
        assert!(rope.memory() < held - 5000);
        let mut out = Vec::new();
        rope.append(start + 5003..at, &mut out);
        assert_eq!(out, bytes(start + 5003, at));
        rope.release(&mut pool, start + 5003, at..at);
        assert!(rope.pieces.as_ref().unwrap().is_empty());
        rope.free(&mut pool);
        assert!(!rope.holds_memory());
        assert_eq!((pool.used(), rope.memory()), (0, 0));
    }
}
