//! Bytes of one direction, found by their offsets, in chunks that all channels of a connection share.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

/// Bytes of a chunk: enough for a packet, and little for a channel that holds one byte.
pub(crate) const CHUNK: usize = 4096;
const SHIFT: u32 = CHUNK.trailing_zeros();

type Chunk = Box<[u8; CHUNK]>;

/// How long a chunk may be left unused before it is given back to the system.
const SPARE: Duration = Duration::from_secs(1);

/// Places for chunks that rings of a connection may keep empty, all together. Each takes eight bytes.
const PLACES: usize = 32 << 10;

/// Chunks that are in no ring. What was given back last is taken first, so that who is read as fast as it is written to works in
/// memory that is still in the caches, however many others there are.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Vec<Chunk>,
    /// How many of them have not been needed since the last look.
    spare: usize,
    look_at: Option<Instant>,
    /// Chunks in rings.
    used: usize,
    /// Places in rings.
    places: usize,
    /// Buffers of long packets, the oldest first, to be used again when the program has dropped what it read.
    lent: VecDeque<Bytes>,
    /// Whether one was taken since the last look.
    lending: bool,
}

/// Buffers of long packets that are remembered: more than a program has in hand.
const LENT: usize = 64;

impl Pool {
    #[inline]
    fn take(&mut self) -> Chunk {
        self.used += 1;
        let chunk = self.free.pop();
        self.spare = self.spare.min(self.free.len());
        chunk.unwrap_or_else(|| Box::new([0; CHUNK]))
    }

    #[inline]
    fn give(&mut self, chunk: Chunk) {
        self.used -= 1;
        self.free.push(chunk);
    }

    /// A buffer of this length, which may hold anything.
    pub(crate) fn lend(&mut self, len: usize) -> BytesMut {
        self.lending = true;
        match self.lent.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(buffer)) if buffer.len() == len => return buffer,
            // It is still being read, and so may be those that came after it. Once there are many it is forgotten: it may wait
            // in a channel that nobody reads, and those behind it be free.
            Some(Err(buffer)) if self.lent.len() + 1 < LENT => self.lent.push_front(buffer),
            Some(_) | None => {}
        }
        let mut buffer = BytesMut::zeroed(len + 1);
        // Split, it is one of those that know how often they are shared: then sharing it anew allocates nothing.
        drop(buffer.split_off(len));
        buffer
    }

    /// Remembers a buffer that was lent.
    pub(crate) fn remember(&mut self, buffer: Bytes) {
        if self.lent.len() < LENT {
            self.lent.push_back(buffer);
        }
    }

    /// When [`Pool::handle_timeout`] is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    /// Gives back what was not needed for a while.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.look_at.is_none_or(|at| at > now) {
            return;
        }
        let idle = self.spare == self.free.len();
        // While some are in use, how many are needed goes up and down.
        let kept = if self.used == 0 && idle { 0 } else { self.all() / 4 };
        let surplus = self.spare.saturating_sub(kept);
        // Those at the front have lain there for the longest time.
        self.free.drain(..surplus);
        self.spare = self.free.len();
        if self.all() == 0 {
            self.free = Vec::new();
        }
        self.look_at = None;
        if !std::mem::take(&mut self.lending) {
            self.lent = VecDeque::new();
        }
        // If nothing changed, the next look would find the same: the next use of a channel sees to it.
        if !idle || surplus > 0 || !self.lent.is_empty() {
            self.watch(now);
        }
    }

    fn all(&self) -> usize {
        self.used + self.free.len()
    }

    /// Sees to it that chunks which nobody needs are not kept for ever.
    #[inline]
    pub(crate) fn watch(&mut self, now: Instant) {
        if self.look_at.is_none() && !(self.free.is_empty() && self.lent.is_empty()) {
            self.look_at = now.checked_add(SPARE);
        }
    }

    /// Bytes in chunks of rings, and in rings.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used * CHUNK + self.places * size_of::<Option<Chunk>>()
    }

    /// Bytes that are in no ring.
    #[cfg(test)]
    pub(crate) fn spare(&self) -> usize {
        self.free.len() * CHUNK + self.free.capacity() * size_of::<Chunk>()
    }
}

/// Chunks by their number, which is that of their first offset divided by their length. There are none but where bytes were put,
/// and none when there are no bytes.
///
/// It does not know which of its bytes mean something: its owner keeps the span of those, and says when it moves.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Nothing, or a power of two: chunk `n` has its place at the remainder of `n`.
    places: Box<[Option<Chunk>]>,
}

impl Ring {
    /// Smallest number of places but none.
    const LEAST: usize = 4;

    #[inline]
    fn place(&self, offset: u64) -> usize {
        (offset >> SHIFT) as usize & (self.places.len() - 1)
    }

    /// How many chunks a span touches.
    #[inline]
    fn touched(span: &Range<u64>) -> usize {
        if span.is_empty() { 0 } else { (((span.end - 1) >> SHIFT) - (span.start >> SHIFT) + 1) as usize }
    }

    /// Gives the ring so many places. The chunks of `live`, which must fit, stay.
    #[cold]
    fn resize(&mut self, pool: &mut Pool, live: &Range<u64>, places: usize) {
        let places = if places == 0 { 0 } else { places.max(Self::LEAST).next_power_of_two() };
        let mut other = Self { places: (0..places).map(|_| None).collect() };
        for number in 0..Self::touched(live).min(self.places.len()) as u64 {
            let offset = live.start + (number << SHIFT);
            if let Some(chunk) = self.places[self.place(offset)].take() {
                let place = other.place(offset);
                other.places[place] = Some(chunk);
            }
        }
        pool.places = pool.places + places - self.places.len();
        *self = other;
    }

    /// Puts bytes, not empty, which lie within `span` as everything does that was put before and matters still.
    #[inline]
    pub(super) fn write(&mut self, pool: &mut Pool, span: Range<u64>, mut offset: u64, mut data: &[u8]) {
        let touched = Self::touched(&span);
        if touched > self.places.len() {
            self.resize(pool, &span, touched);
        }
        while !data.is_empty() {
            let at = offset as usize % CHUNK;
            let (first, rest) = data.split_at(data.len().min(CHUNK - at));
            let place = self.place(offset);
            let chunk = self.places[place].get_or_insert_with(|| pool.take());
            chunk[at..at + first.len()].copy_from_slice(first);
            offset += first.len() as u64;
            data = rest;
        }
    }

    /// Hands on the bytes of `span`, which were put, in pieces.
    #[inline]
    pub(super) fn pieces(&self, span: Range<u64>, mut take: impl FnMut(&[u8])) {
        let mut offset = span.start;
        while offset < span.end {
            let at = offset as usize % CHUNK;
            let len = (CHUNK - at).min((span.end - offset) as usize);
            match &self.places[self.place(offset)] {
                Some(chunk) => take(&chunk[at..at + len]),
                None => debug_assert!(false, "nothing was put at {offset}"),
            }
            offset += len as u64;
        }
    }

    /// Of what was put from `from` on, nothing below `live.start` and nothing from `live.end` on matters any more.
    #[inline]
    pub(super) fn release(&mut self, pool: &mut Pool, from: u64, live: Range<u64>) {
        let end = if live.is_empty() { live.end.max(live.start) + CHUNK as u64 - 1 } else { live.start };
        let (first, end) = (from >> SHIFT, end >> SHIFT);
        for number in (first..end).take(self.places.len()) {
            let place = number as usize & (self.places.len() - 1);
            if let Some(chunk) = self.places[place].take() {
                pool.give(chunk);
            }
        }
        if self.places.len() > Self::LEAST && pool.places > PLACES {
            self.narrow(pool, &live);
        }
    }

    /// Rings keep the places of their widest time only as long as there are few such rings.
    #[cold]
    fn narrow(&mut self, pool: &mut Pool, live: &Range<u64>) {
        let touched = Self::touched(live);
        if touched * 8 <= self.places.len() {
            self.resize(pool, live, touched * 2);
        }
    }

    /// Gives everything back.
    pub(super) fn free(&mut self, pool: &mut Pool) {
        pool.places -= self.places.len();
        for chunk in std::mem::take(&mut self.places).into_iter().flatten() {
            pool.give(chunk);
        }
    }

    /// Whether [`Ring::free`] would give something back.
    pub(super) fn holds_memory(&self) -> bool {
        !self.places.is_empty()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.places.len() * size_of::<Option<Chunk>>() + self.places.iter().flatten().count() * CHUNK
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        ops::Range,
        time::{Duration, Instant},
    };

    use super::{CHUNK, Pool, Ring};

    const LEN: u64 = CHUNK as u64;

    fn read(ring: &Ring, span: Range<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        ring.pieces(span, |piece| out.extend_from_slice(piece));
        out
    }

    fn pattern(len: u64) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn bytes_are_found_by_their_offsets_also_after_growth() {
        let (mut pool, mut ring) = (Pool::default(), Ring::default());
        let data = pattern(20 * LEN);
        let start = (1 << 40) + 200;
        ring.write(&mut pool, start..start + 300, start, &data[..300]);
        assert_eq!(pool.used, 1);
        let end = start + data.len() as u64;
        // The end before the middle, which is a hole as yet.
        ring.write(&mut pool, start..end, end - 500, &data[data.len() - 500..]);
        assert_eq!(pool.used, 3, "a hole has no memory");
        ring.write(&mut pool, start..end, start + 300, &data[300..data.len() - 500]);
        assert_eq!(read(&ring, start..end), data);
        assert_eq!(read(&ring, start + 10..end - 10), data[10..data.len() - 10]);
        ring.free(&mut pool);
        assert_eq!((pool.used(), ring.memory()), (0, 0));
    }

    #[test]
    fn what_was_read_is_the_next_to_be_written_to() {
        let (mut pool, mut ring) = (Pool::default(), Ring::default());
        let data = pattern(1000);
        for round in 0..100 {
            let at = round * 1000;
            ring.write(&mut pool, at..at + 1000, at, &data);
            ring.release(&mut pool, at, at + 1000..at + 1000);
            assert_eq!(pool.used, 0);
            assert!(pool.free.len() <= 2, "no more than two are ever needed");
        }
        let end = 100_000 + 5 * LEN;
        ring.write(&mut pool, 100_000..end, 100_000, &pattern(5 * LEN));
        let used = pool.used;
        ring.release(&mut pool, 100_000, 100_000 + 2 * LEN..end);
        assert_eq!(pool.used, used - 2, "from the front");
        ring.release(&mut pool, 100_000 + 2 * LEN, end + 70..end);
        assert_eq!(pool.used, 0, "all, if the front passes the end");
    }

    #[test]
    fn wide_rings_become_narrow_if_there_are_many() {
        let mut pool = Pool::default();
        let mut rings: Vec<Ring> = (0..500).map(|_| Ring::default()).collect();
        let far = 512 * LEN;
        for ring in &mut rings {
            ring.write(&mut pool, 0..1, 0, b"a");
            ring.write(&mut pool, 0..far, far - 1, b"z");
            // The front moves up to the last byte, which stays.
            ring.release(&mut pool, 0, far - 1..far);
            assert_eq!(ring.memory() % CHUNK % 8, 0);
        }
        assert_eq!(pool.used, 500);
        assert!(pool.places <= super::PLACES + 512 + 500 * Ring::LEAST, "{} places", pool.places);
        for mut ring in rings {
            assert_eq!(read(&ring, far - 1..far), b"z");
            ring.free(&mut pool);
        }
        assert_eq!(pool.places, 0);
    }

    #[test]
    fn chunks_that_nobody_needs_for_a_while_are_given_back() {
        let (mut pool, mut ring) = (Pool::default(), Ring::default());
        let mut now = Instant::now();
        ring.write(&mut pool, 0..8 * LEN, 0, &pattern(8 * LEN));
        ring.release(&mut pool, 0, 8 * LEN..8 * LEN);
        pool.watch(now);
        assert_eq!(pool.free.len(), 8);
        let mut looks = 0;
        while let Some(at) = pool.poll_timeout() {
            now = at.max(now + Duration::from_millis(1));
            // Three are in use now and then.
            if looks < 4 {
                ring.write(&mut pool, 8 * LEN..11 * LEN, 8 * LEN, &pattern(3 * LEN));
                ring.release(&mut pool, 8 * LEN, 11 * LEN..11 * LEN);
            }
            pool.handle_timeout(now);
            looks += 1;
            if looks == 4 {
                assert_eq!(pool.free.len(), 4, "and one more");
            }
        }
        assert_eq!((pool.free.capacity(), pool.used), (0, 0), "and then nothing is looked at any more");
    }

    #[test]
    fn buffers_of_packets_are_used_again_when_they_were_read() {
        let mut pool = Pool::default();
        let mut now = Instant::now();
        let mut in_hand = VecDeque::new();
        for round in 0..1000_usize {
            let buffer = pool.lend(20_000).freeze();
            pool.remember(buffer.clone());
            pool.watch(now);
            in_hand.push_back(buffer);
            assert!(pool.lent.len() <= 6, "{} after {round}", pool.lent.len());
            while in_hand.len() > 5 {
                in_hand.pop_front();
            }
        }
        for _ in 0..200 {
            let buffer = pool.lend(20_000).freeze();
            pool.remember(buffer.clone());
            in_hand.push_back(buffer);
        }
        assert_eq!(pool.lent.len(), super::LENT);
        in_hand.clear();
        assert_eq!(pool.lend(300).len(), 300);
        let mut looks = 0;
        while let Some(at) = pool.poll_timeout() {
            now = at;
            pool.handle_timeout(now);
            looks += 1;
        }
        assert_eq!((looks, pool.lent.capacity()), (2, 0), "those that nobody needs are given back");
    }

    #[test]
    fn what_is_kept_is_not_looked_at_for_ever() {
        let (mut pool, mut ring) = (Pool::default(), Ring::default());
        ring.write(&mut pool, 0..8 * LEN, 0, &pattern(8 * LEN));
        ring.release(&mut pool, 0, LEN..8 * LEN);
        pool.watch(Instant::now());
        let mut looks = 0;
        while let Some(at) = pool.poll_timeout().filter(|_| looks < 9) {
            pool.handle_timeout(at);
            looks += 1;
        }
        assert_eq!((looks, pool.free.len()), (2, 1));
    }
}
