//! Bytes on their way out, with room in front for a frame header.

use std::fmt;

use bytes::Bytes;

use crate::pool::{LARGE, Pool, Pooled};

/// Longest body of a data frame this side produces, in bytes.
///
/// With the eight bytes kept free for the header it makes 16 384 bytes: exactly the plaintext of one full TLS record
/// (RFC 8446 section 5.1), in either dialect.
pub const MAX_BODY: usize = 16_384 - HEAD_ROOM;

/// Bytes kept free in front of the body. The longest header is Jami's: `92 cd xx xx c5 yy yy`, seven.
pub(crate) const HEAD_ROOM: usize = 8;

/// A buffer of at most [`MAX_BODY`] bytes to send on one channel.
///
/// The frame header is later written directly in front of the body, so header and body are encrypted as one
/// contiguous slice without a copy.
pub struct Chunk {
    /// `HEAD_ROOM` bytes, then the body.
    buffer: Pooled,
    /// Where the part that is still to be sent begins; never below `HEAD_ROOM`.
    start: usize,
}

impl Chunk {
    /// An empty chunk that can take `body` bytes (at most [`MAX_BODY`]) without growing.
    pub fn with_capacity(body: usize) -> Self {
        Self::within(Pooled::own(HEAD_ROOM + body.min(MAX_BODY)))
    }

    fn within(mut buffer: Pooled) -> Self {
        buffer.buffer.resize(HEAD_ROOM, 0);
        Self { buffer, start: HEAD_ROOM }
    }

    /// As [`copy_from`](Self::copy_from), in a buffer from `pool` if there is enough to fill it.
    pub fn pooled(pool: &Pool, bytes: &[u8]) -> Self {
        let mut chunk = Self::within(pool.fitting(HEAD_ROOM + bytes.len().min(MAX_BODY)));
        chunk.extend_from_slice(bytes);
        chunk
    }

    /// As [`pooled`](Self::pooled), but of up to 64 KiB: for what has no frames to fit into.
    pub fn pooled_large(pool: &Pool, bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(LARGE)];
        let mut chunk = Self::within(pool.fitting(HEAD_ROOM + bytes.len()));
        chunk.buffer.buffer.extend_from_slice(bytes);
        chunk
    }

    /// A chunk holding a copy of the first [`MAX_BODY`] bytes of `bytes` (all, if there are fewer).
    pub fn copy_from(bytes: &[u8]) -> Self {
        let mut chunk = Self::with_capacity(bytes.len());
        chunk.extend_from_slice(bytes);
        chunk
    }

    /// Appends as much of `bytes` as fits below [`MAX_BODY`] and says how much that was.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.buffer.buffer.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Number of body bytes.
    pub fn len(&self) -> usize {
        self.buffer.buffer.len() - self.start
    }

    /// Whether there is no body.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more bytes fit.
    pub fn room(&self) -> usize {
        (HEAD_ROOM + MAX_BODY).saturating_sub(self.buffer.buffer.len())
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.buffer.buffer[self.start..]
    }

    /// Writes `header` in front of the first `body` bytes, takes both off and returns them.
    ///
    /// The bytes of an earlier frame of the same chunk may be overwritten: they have left.
    pub(crate) fn take_frame(&mut self, header: &[u8], body: usize) -> &[u8] {
        let from = self.start - header.len();
        self.buffer.buffer[from..self.start].copy_from_slice(header);
        self.start += body;
        &self.buffer.buffer[from..self.start]
    }

    /// Takes the first `body` bytes off.
    pub(crate) fn take_body(&mut self, body: usize) -> &[u8] {
        let from = self.start;
        self.start += body;
        &self.buffer.buffer[from..self.start]
    }
}

impl AsRef<[u8]> for Chunk {
    /// The body.
    fn as_ref(&self) -> &[u8] {
        self.body()
    }
}

impl From<Chunk> for Bytes {
    /// The body, without a copy.
    fn from(chunk: Chunk) -> Self {
        Self::from_owner(chunk)
    }
}

impl From<&[u8]> for Chunk {
    /// See [`Chunk::copy_from`]: what exceeds [`MAX_BODY`] is left out.
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from(bytes)
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_chunk_takes_what_is_left_of_64_kib() {
        let pool = Pool::default();
        let bytes: Vec<u8> = (0..70_000_u32).map(|at| at as u8).collect();
        for len in [0, 1, MAX_BODY, 20_000, 40_000, 65_536, 70_000] {
            let chunk = Chunk::pooled_large(&pool, &bytes[..len]);
            assert_eq!(chunk.body(), &bytes[..len.min(LARGE)]);
            assert_eq!(chunk.room(), MAX_BODY.saturating_sub(len));
            assert_eq!(Bytes::from(chunk), bytes[..len.min(LARGE)]);
        }
    }

    #[test]
    fn a_full_chunk_and_its_header_are_one_tls_record() {
        let mut chunk = Chunk::with_capacity(1 << 20);
        assert_eq!(chunk.extend_from_slice(&vec![7; 20_000]), MAX_BODY);
        assert_eq!(chunk.room(), 0);
        assert_eq!(chunk.take_frame(&[1; HEAD_ROOM], MAX_BODY).len(), 16_384);
        assert!(chunk.is_empty());
    }

    #[test]
    fn a_split_chunk_needs_no_copy() {
        let mut chunk = Chunk::copy_from(b"abcdefghij");
        assert_eq!(chunk.take_frame(b"1234", 6), b"1234abcdef");
        assert_eq!(chunk.body(), b"ghij");
        assert_eq!(chunk.take_frame(b"5678", 4), b"5678ghij");
    }
}
