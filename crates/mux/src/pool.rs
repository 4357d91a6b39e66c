//! Buffers that are used again.
//!
//! Bulk data crosses threads in buffers of one size: written in one, freed in another. General allocators pay for that
//! with pages given back to the system and faulted in again (a fifth of the cost of a transfer with glibc's). A
//! stock that both sides draw from and give to costs a few atomic operations. Last in, first out: what was used last is
//! still in the cache.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

/// Size of a pooled buffer: one full TLS record of plaintext.
pub(crate) const BUFFER: usize = 16_384;

/// Contents below this size get memory of their own size: a buffer from the stock would waste more than half.
pub(crate) const WORTHWHILE: usize = BUFFER / 2;

/// The longest content of a large buffer.
pub(crate) const LARGE: usize = 65_536;
/// Size of a large buffer: with room for a header.
const LARGE_BUFFER: usize = LARGE + crate::chunk::HEAD_ROOM;
/// Contents of at least this size get a large buffer.
const WORTH_LARGE: usize = LARGE / 2;

/// A bounded stock of buffers of 16 and of 64 KiB, shared by any number of connections and threads. Cheap to clone.
///
/// Buffers that find the stock full are freed; an empty stock allocates, and so does one that another thread is at:
/// no operation waits.
#[derive(Clone)]
pub struct Pool(Arc<Stock>);

struct Stock {
    buffers: Mutex<Vec<Vec<u8>>>,
    most: usize,
    /// Four times as large, and a quarter as many.
    large: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// A stock that keeps at most `buffers` (at least one) of 16 KiB each, and as many bytes in large ones.
    pub fn new(buffers: usize) -> Self {
        Self(Arc::new(Stock { buffers: Mutex::default(), most: buffers.max(1), large: Mutex::default() }))
    }

    /// Bytes in a buffer of at most `len`, from the stock if that is worthwhile and up to 16 KiB, which `fill` writes; it
    /// returns how many they are.
    pub fn filled(&self, len: usize, fill: impl FnOnce(&mut [u8]) -> usize) -> Bytes {
        let len = len.min(BUFFER);
        let mut pooled = if len >= WORTHWHILE { self.stocked() } else { Pooled::own(len) };
        // What it held before is overwritten, or cut off: no need to clear 16 KiB each time.
        pooled.buffer.resize(len, 0);
        let filled = fill(&mut pooled.buffer);
        pooled.buffer.truncate(filled);
        Bytes::from_owner(pooled)
    }

    /// An empty buffer with room for [`BUFFER`] bytes.
    pub(crate) fn take(&self) -> Pooled {
        let mut pooled = self.stocked();
        pooled.buffer.clear();
        pooled
    }

    /// A buffer with room for [`BUFFER`] bytes, which may hold something.
    fn stocked(&self) -> Pooled {
        let stocked = self.0.buffers.try_lock().ok().and_then(|mut buffers| buffers.pop());
        let buffer = stocked.unwrap_or_else(|| Vec::with_capacity(BUFFER));
        Pooled { buffer, home: Some(self.clone()) }
    }

    /// An empty buffer with room for `len` bytes, at most those of a large one: from the stock if that is worthwhile.
    pub(crate) fn fitting(&self, len: usize) -> Pooled {
        match len {
            WORTH_LARGE.. => {
                let stocked = self.0.large.try_lock().ok().and_then(|mut buffers| buffers.pop());
                let mut buffer = stocked.unwrap_or_else(|| Vec::with_capacity(LARGE_BUFFER));
                buffer.clear();
                Pooled { buffer, home: Some(self.clone()) }
            }
            WORTHWHILE..=BUFFER => self.take(),
            _ => Pooled::own(len),
        }
    }
}

impl Default for Pool {
    /// 64 buffers, 1 MiB.
    fn default() -> Self {
        Self::new(64)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("most", &self.0.most).finish_non_exhaustive()
    }
}

/// A buffer that goes back to its stock, if it has one.
pub(crate) struct Pooled {
    pub(crate) buffer: Vec<u8>,
    home: Option<Pool>,
}

impl Pooled {
    /// A buffer of its own memory.
    pub(crate) fn own(len: usize) -> Self {
        Self { buffer: Vec::with_capacity(len), home: None }
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let buffer = std::mem::take(&mut self.buffer);
            let (stock, most) = if buffer.capacity() >= LARGE_BUFFER {
                (&home.0.large, home.0.most.div_ceil(4))
            } else {
                (&home.0.buffers, home.0.most)
            };
            if let Ok(mut buffers) = stock.try_lock()
                && buffers.len() < most
            {
                buffers.push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_the_stock_is_bounded() {
        let pool = Pool::new(2);
        let held: Vec<Pooled> = (0..5).map(|_| pool.take()).collect();
        let second = held[1].buffer.as_ptr();
        drop(held);
        let stocked = || pool.0.buffers.lock().unwrap().len();
        assert_eq!(stocked(), 2);
        let last = pool.take();
        assert_eq!(last.buffer.as_ptr(), second, "the same memory again, the latest first");
        drop(last);
        assert_eq!(pool.fitting(100).buffer.capacity(), 100);
        assert_eq!(stocked(), 2, "small contents leave the stock alone");
        let fill = |byte, len| {
            pool.filled(BUFFER, |buf| {
                buf[..len].fill(byte);
                len
            })
        };
        drop(fill(1, BUFFER));
        assert_eq!(fill(2, 3), [2; 3][..], "nothing of what was there before");
        assert!(pool.take().buffer.is_empty());
    }

    #[test]
    fn large_buffers_have_a_stock_of_their_own() {
        let pool = Pool::new(8);
        let held: Vec<Pooled> = (0..5).map(|_| pool.fitting(LARGE_BUFFER)).collect();
        let second = held[1].buffer.as_ptr();
        drop(held);
        assert_eq!((pool.0.large.lock().unwrap().len(), pool.0.buffers.lock().unwrap().len()), (2, 0));
        let last = pool.fitting(WORTH_LARGE);
        assert_eq!((last.buffer.as_ptr(), last.buffer.len()), (second, 0));
        assert_eq!(pool.fitting(20_000).buffer.capacity(), 20_000, "neither of them");
    }
}
