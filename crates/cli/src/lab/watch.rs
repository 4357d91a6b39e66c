//! What is measured while a scene plays.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Counts what arrives. Shared by the tasks of a scene, which run on one thread.
#[derive(Debug)]
pub(super) struct Watch {
    start: Instant,
    read: AtomicU64,
    pub(super) messages_sent: AtomicU64,
    pub(super) messages_received: AtomicU64,
    moments: Mutex<Moments>,
}

#[derive(Debug)]
struct Moments {
    last_read: Instant,
    stall: Duration,
    /// Longest delay of a message since it was asked for last.
    delay: Option<Duration>,
}

impl Watch {
    /// Starts the clock.
    pub(super) fn start() -> Self {
        let start = Instant::now();
        Self {
            start,
            read: AtomicU64::new(0),
            messages_sent: AtomicU64::new(0),
            messages_received: AtomicU64::new(0),
            moments: Mutex::new(Moments { last_read: start, stall: Duration::ZERO, delay: None }),
        }
    }

    pub(super) fn start_time(&self) -> Instant {
        self.start
    }

    /// Seconds since the start.
    pub(super) fn at(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// The program has read this many bytes more.
    pub(super) fn read(&self, bytes: usize) {
        let total = self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut moments = self.moments();
        let now = Instant::now();
        // What comes before the first byte is the opening of the channel.
        if total > 0 {
            moments.stall = moments.stall.max(now - moments.last_read);
        }
        moments.last_read = now;
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The longest time between two reads.
    pub(super) fn stall(&self) -> Duration {
        self.moments().stall
    }

    /// A message arrived that was sent at this time since the start.
    pub(super) fn message(&self, sent: Duration) {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        let delay = self.start.elapsed().saturating_sub(sent);
        let mut moments = self.moments();
        moments.delay = moments.delay.max(Some(delay));
    }

    /// The longest delay of a message since the last call.
    pub(super) fn take_delay(&self) -> Option<Duration> {
        self.moments().delay.take()
    }

    fn moments(&self) -> std::sync::MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
