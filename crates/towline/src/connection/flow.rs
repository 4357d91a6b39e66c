//! What the two halves of a channel and the task of its connection share: counters and wakers, no lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use crate::error::ChannelError;

/// The shared state of one channel.
///
/// Bytes travel by message: chunks from the writer to the task, buffers from the task to the reader. This is the
/// accounting beside them.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Bytes the writer handed over that the mux has not taken yet.
    queued: AtomicUsize,
    /// Woken when `queued` sinks, the direction ends or the end has left.
    writer: AtomicWaker,
    /// The task could not hand over received data for lack of room: the reader must report when it has some.
    stalled: AtomicBool,
    /// The reader reports what it took in portions of this many bytes.
    report_at: AtomicUsize,
    /// Our end of the stream has been handed to the transport.
    finish_sent: AtomicBool,
    /// Why writing is over, if it is.
    write_error: OnceLock<ChannelError>,
    /// What the reader finds behind the last byte instead of a clean end.
    read_error: OnceLock<ChannelError>,
    /// What the reader's queue had no room for when the connection ended. Locked only after that.
    rest: Mutex<VecDeque<Bytes>>,
    /// A half was dropped while the command queue was full; see [`Sweep`].
    dropped_writer: AtomicBool,
    dropped_reader: AtomicBool,
}

impl Flow {
    /// Whether the writer may hand over more, with at most `limit` bytes under way.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        self.queued.load(Ordering::Acquire) < limit
    }

    pub(crate) fn add_queued(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::AcqRel);
    }

    /// The mux took `bytes`, or they were dropped.
    pub(crate) fn release_queued(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::AcqRel);
        self.writer.wake();
    }

    pub(crate) fn register_writer(&self, waker: &Waker) {
        self.writer.register(waker);
    }

    pub(crate) fn set_finish_sent(&self) {
        self.finish_sent.store(true, Ordering::Release);
        self.writer.wake();
    }

    pub(crate) fn finish_sent(&self) -> bool {
        self.finish_sent.load(Ordering::Acquire)
    }

    /// Ends writing. The first error stays.
    pub(crate) fn end_writing(&self, error: ChannelError) {
        let _ = self.write_error.set(error);
        self.writer.wake();
    }

    pub(crate) fn write_error(&self) -> Option<&ChannelError> {
        self.write_error.get()
    }

    /// Makes the reader end with `error`. To be called before its queue is closed.
    pub(crate) fn end_reading(&self, error: ChannelError) {
        let _ = self.read_error.set(error);
    }

    pub(crate) fn read_error(&self) -> Option<&ChannelError> {
        self.read_error.get()
    }

    /// The portion follows the receive window, which the mux tunes: reports must come well before it is used up.
    pub(crate) fn set_report_at(&self, bytes: usize) {
        self.report_at.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn report_at(&self) -> usize {
        self.report_at.load(Ordering::Relaxed)
    }

    /// Leaves what was received to the reader for when its queue is empty. To be called before that is closed.
    pub(crate) fn leave_rest(&self, rest: VecDeque<Bytes>) {
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = rest;
    }

    pub(crate) fn take_rest(&self) -> Option<Bytes> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(crate) fn set_stalled(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }

    pub(crate) fn take_stalled(&self) -> bool {
        self.stalled.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn set_dropped(&self, half: Half) {
        match half {
            Half::Reader => self.dropped_reader.store(true, Ordering::Release),
            Half::Writer => self.dropped_writer.store(true, Ordering::Release),
        }
    }

    pub(crate) fn take_dropped(&self, half: Half) -> bool {
        match half {
            Half::Reader => self.dropped_reader.swap(false, Ordering::AcqRel),
            Half::Writer => self.dropped_writer.swap(false, Ordering::AcqRel),
        }
    }
}

/// One direction of a channel, seen from the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Reader,
    Writer,
}

/// How much each writer of a connection may have under way to its task: a share of what all may have together.
#[derive(Debug)]
pub(crate) struct SendShare {
    bytes: AtomicUsize,
    most: usize,
}

impl SendShare {
    /// Bytes on their way to the task over all channels, as long as each gets at least [`Self::LEAST`].
    const TOTAL: usize = 1 << 20;
    /// A channel may always hand over one chunk.
    const LEAST: usize = 1;

    /// At most `most` for a single channel.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(Self::LEAST);
        Self { bytes: AtomicUsize::new(most), most }
    }

    /// To be called when the number of channels changes.
    pub(crate) fn set_channels(&self, channels: usize) {
        let share = (Self::TOTAL / channels.max(1)).clamp(Self::LEAST, self.most);
        self.bytes.store(share, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Tells the task of a connection that a half was dropped when its command queue had no room for saying so, or that a
/// request was given up before its answer.
///
/// `Drop` cannot wait. Both are rare, so the task then looks at every channel once.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    wanted: AtomicBool,
    task: AtomicWaker,
}

impl Sweep {
    pub(crate) fn request(&self) {
        self.wanted.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Registers the task and says whether a sweep is due.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        self.task.register(waker);
        self.wanted.swap(false, Ordering::AcqRel)
    }
}
