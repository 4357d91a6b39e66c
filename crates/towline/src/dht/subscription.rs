//! The handle's end of an operation that brings batches: it takes them one at a time.
//!
//! The driver keeps what has come until the handle asks, so a slow program holds up nobody, and what piles up for
//! it is merged where it is (a value that came and went is neither).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::request::{Place, Request, Start, Taker, Ticket};

/// A batch of news of an operation.
pub(super) trait Batch: Default + fmt::Debug + Send + 'static {
    fn is_empty(&self) -> bool;
    fn taker(into: oneshot::Sender<Self>) -> Taker;
}

/// Where operations are started.
#[derive(Debug, Clone)]
pub(super) struct Counter {
    requests: mpsc::Sender<Request>,
    places: Arc<Semaphore>,
    tickets: Arc<AtomicU64>,
}

impl Counter {
    pub(super) fn new(requests: mpsc::Sender<Request>, operations: usize) -> Self {
        Self { requests, places: Arc::new(Semaphore::new(operations)), tickets: Arc::default() }
    }

    /// Starts an operation, unless too many exist or the driver has ended.
    pub(super) fn start(&self, what: Start) -> Result<Standing, Refused> {
        if self.requests.is_closed() {
            return Err(Refused::Closed);
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refused::Busy)?;
        let place = Arc::new(place);
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let standing = Standing { ticket, place: Arc::clone(&place), requests: self.requests.clone() };
        standing.tell(Request::Start { ticket, place, what });
        Ok(standing)
    }

    /// Starts an operation that brings batches.
    pub(super) fn subscribe<B: Batch>(
        &self,
        start: impl FnOnce(oneshot::Sender<B>) -> Start,
    ) -> Result<Subscription<B>, Refused> {
        let (into, batch) = oneshot::channel();
        Ok(Subscription { standing: self.start(start(into))?, waiting: Some(batch) })
    }
}

/// Why an operation was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Busy,
    Closed,
}

/// An operation under way; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Standing {
    ticket: Ticket,
    place: Place,
    requests: mpsc::Sender<Request>,
}

impl Standing {
    fn tell(&self, request: Request) {
        match self.requests.try_send(request) {
            // A driver that has ended needs to know nothing.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                unreachable!("the queue has room for every message of every place")
            }
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.tell(Request::Cancel { ticket: self.ticket, place: Arc::clone(&self.place) });
    }
}

/// An operation under way that brings batches.
#[derive(Debug)]
pub(super) struct Subscription<B> {
    standing: Standing,
    waiting: Option<oneshot::Receiver<B>>,
}

impl<B: Batch> Subscription<B> {
    /// The next batch; `None` once the driver has ended or the operation has said its last. Cancel safe.
    pub(super) async fn take(&mut self) -> Option<B> {
        let waiting = self.waiting.get_or_insert_with(|| {
            let (into, batch) = oneshot::channel();
            self.standing.tell(Request::Take { ticket: self.standing.ticket, into: B::taker(into) });
            batch
        });
        let batch = waiting.await.ok();
        // What failed once fails again; a new question would only wait for nothing.
        if batch.is_some() {
            self.waiting = None;
        }
        batch
    }
}

/// The driver's end: what has come and was not taken, and who waits for it.
#[derive(Debug)]
pub(super) struct Outbox<B> {
    pub(super) ready: B,
    taker: Option<oneshot::Sender<B>>,
}

impl<B: Batch> Outbox<B> {
    pub(super) fn new(first: oneshot::Sender<B>) -> Self {
        Self { ready: B::default(), taker: Some(first) }
    }

    /// Whether the handle waits for the next batch.
    pub(super) fn is_awaited(&self) -> bool {
        self.taker.is_some()
    }

    pub(super) fn awaited_by(&mut self, taker: oneshot::Sender<B>) {
        self.taker = Some(taker);
    }

    /// Gives what is ready to whoever waits.
    pub(super) fn hand_out(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        if let Some(taker) = self.taker.take() {
            // If the handle is gone, so is the interest.
            let _ = taker.send(std::mem::take(&mut self.ready));
        }
    }
}
