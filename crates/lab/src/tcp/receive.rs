//! The receiving half: order and window.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;

#[derive(Debug)]
pub(super) struct Receiving {
    capacity: usize,
    /// In order, not yet read.
    ready: VecDeque<Bytes>,
    ready_len: usize,
    /// Offset after everything in order.
    next: u64,
    /// Arrived before what precedes it, by offset. The window bounds it.
    early: BTreeMap<u64, (Bytes, bool)>,
    ended: bool,
    /// The limit the other side knows.
    told: u64,
}

impl Receiving {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            ready: VecDeque::new(),
            ready_len: 0,
            next: 0,
            early: BTreeMap::new(),
            ended: false,
            told: 0,
        }
    }

    /// A segment arrived. Returns whether there is more to read than before.
    pub(super) fn insert(&mut self, seq: u64, data: Bytes, fin: bool) -> bool {
        if seq >= self.next && (fin || !data.is_empty()) {
            self.early.insert(seq, (data, fin));
        }
        let before = (self.next, self.ended);
        while let Some((data, fin)) = self.early.remove(&self.next) {
            self.next += data.len() as u64 + u64::from(fin);
            self.ready_len += data.len();
            self.ended |= fin;
            if !data.is_empty() {
                self.ready.push_back(data);
            }
        }
        before != (self.next, self.ended)
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How far the other side may send, which it is about to be told.
    pub(super) fn tell_limit(&mut self) -> u64 {
        self.told = self.told.max(self.limit());
        self.told
    }

    fn limit(&self) -> u64 {
        self.next - self.ready_len as u64 + self.capacity as u64
    }

    /// The window has opened enough to be worth telling.
    pub(super) fn is_news(&self) -> bool {
        !self.ended && self.limit() - self.told >= self.capacity as u64 / 4
    }

    pub(super) fn has_data(&self) -> bool {
        self.ready_len > 0
    }

    /// The other side has ended its direction (and there may still be something to read).
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn read(&mut self, buf: &mut ReadBuf<'_>) {
        while buf.remaining() > 0 {
            let Some(first) = self.ready.front_mut() else { return };
            let len = first.len().min(buf.remaining());
            buf.put_slice(&first[..len]);
            first.advance(len);
            self.ready_len -= len;
            if first.is_empty() {
                self.ready.pop_front();
            }
        }
    }
}
