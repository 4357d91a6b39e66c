//! Bytes received on a channel and not yet read.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

use crate::pool::{Pool, WORTHWHILE};

/// Pieces of at least this size are kept as they are; smaller ones are gathered.
const LARGE: usize = 2048;

/// Size of the buffers in which small pieces are gathered while more of them wait.
const GATHER: usize = 4096;

/// A queue of bytes. A copy is made once; many tiny pieces cost about what their bytes cost.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    len: u64,
}

impl Inbox {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn push(&mut self, pool: &Pool, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        if piece.len() >= WORTHWHILE {
            self.flush();
            let mut buffer = pool.take();
            buffer.buffer.extend_from_slice(piece);
            self.queue.push_back(Bytes::from_owner(buffer));
        } else if piece.len() >= LARGE {
            self.flush();
            self.queue.push_back(Bytes::copy_from_slice(piece));
        } else {
            if self.tail.capacity() - self.tail.len() < piece.len() {
                // A lone small message gets a buffer of its size; the next ones behind it share a larger one.
                let capacity = if self.len == 0 { piece.len() } else { GATHER };
                self.flush();
                self.tail = BytesMut::with_capacity(capacity);
            }
            self.tail.extend_from_slice(piece);
        }
        self.len += piece.len() as u64;
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let piece = match self.queue.pop_front() {
            Some(piece) => piece,
            None if self.tail.is_empty() => return None,
            None => mem::take(&mut self.tail).freeze(),
        };
        self.len -= piece.len() as u64;
        Some(piece)
    }

    /// Drops everything and the memory with it.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(mem::take(&mut self.tail).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_small_pieces_are_gathered() {
        let mut inbox = Inbox::default();
        let pool = Pool::new(1);
        let mut expected = Vec::new();
        for size in (0..600).map(|_| 1).chain([5000, 3, 16_000, 9000, 2048, 2047, 2047, 2047]) {
            let piece: Vec<u8> = (0..size).map(|at| (expected.len() + at) as u8).collect();
            inbox.push(&pool, &piece);
            expected.extend(piece);
        }
        assert_eq!(inbox.len(), expected.len() as u64);
        let pieces: Vec<Bytes> = std::iter::from_fn(|| inbox.pop()).collect();
        assert!(pieces.len() < 10, "{}", pieces.len());
        assert_eq!(pieces.concat(), expected);
        assert_eq!(inbox.len(), 0);
    }
}
