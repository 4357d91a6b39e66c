//! Gets and queries: the program's end of a lookup.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;
use towline_dht::Value;
use towline_dht::message::FieldRows;

use super::error::GetError;
use super::request::Taker;
use super::secure::{Opener, SecureValue};
use super::subscription::{Batch, Outbox, Refused, Subscription};

/// How a lookup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupReport {
    /// Nodes that answered.
    pub nodes: usize,
}

type End = Result<LookupReport, GetError>;

/// What lookups find.
pub(super) trait Found: fmt::Debug + Send + Sized + 'static {
    /// Memory it takes in bytes, near enough.
    fn footprint(&self) -> usize;
    fn taker(into: oneshot::Sender<LookupBatch<Self>>) -> Taker;
}

impl Found for Arc<Value> {
    fn footprint(&self) -> usize {
        const RECORD: usize = 256;
        RECORD + self.size() + self.owner().map_or(0, |key| key.spki_der().len())
    }

    fn taker(into: oneshot::Sender<LookupBatch<Self>>) -> Taker {
        Taker::Get(into)
    }
}

impl Found for FieldRows {
    fn footprint(&self) -> usize {
        // The largest field is an owner's key.
        const FIELD: usize = 1024;
        self.rows.iter().map(|row| row.len() * FIELD).sum()
    }

    fn taker(into: oneshot::Sender<LookupBatch<Self>>) -> Taker {
        Taker::Query(into)
    }
}

/// News of a lookup.
#[derive(Debug)]
pub(super) struct LookupBatch<T> {
    found: Vec<T>,
    end: Option<End>,
}

impl<T> Default for LookupBatch<T> {
    fn default() -> Self {
        Self { found: Vec::new(), end: None }
    }
}

impl<T: Found> Batch for LookupBatch<T> {
    fn is_empty(&self) -> bool {
        self.found.is_empty() && self.end.is_none()
    }

    fn taker(into: oneshot::Sender<Self>) -> Taker {
        T::taker(into)
    }
}

/// What the driver keeps of a lookup.
#[derive(Debug)]
pub(super) struct LookupOutbox<T> {
    outbox: Outbox<LookupBatch<T>>,
    held: usize,
    limit: usize,
}

impl<T: Found> LookupOutbox<T> {
    /// `limit` is in bytes.
    pub(super) fn new(first: oneshot::Sender<LookupBatch<T>>, limit: usize) -> Self {
        Self { outbox: Outbox::new(first), held: 0, limit }
    }

    pub(super) fn asked(&mut self, taker: oneshot::Sender<LookupBatch<T>>) {
        self.outbox.awaited_by(taker);
        self.outbox.hand_out();
        self.recount();
    }

    /// Takes in what was found. False if the program has left too much lying: that is the end of the lookup.
    pub(super) fn found(&mut self, found: impl IntoIterator<Item = T>) -> bool {
        for item in found {
            self.held += item.footprint();
            self.outbox.ready.found.push(item);
        }
        self.outbox.hand_out();
        self.recount();
        self.held <= self.limit
    }

    pub(super) fn end(&mut self, end: End) {
        self.outbox.ready.end = Some(end);
        self.outbox.hand_out();
    }

    /// Whether the program has all there is.
    pub(super) fn is_drained(&self) -> bool {
        self.outbox.ready.is_empty()
    }

    fn recount(&mut self) {
        if self.outbox.ready.is_empty() {
            self.held = 0;
        }
    }
}

/// The program's end of a lookup.
#[derive(Debug)]
struct Lookup<T: Found> {
    progress: Progress<T>,
    arrived: VecDeque<T>,
}

#[derive(Debug)]
enum Progress<T: Found> {
    Running(Subscription<LookupBatch<T>>),
    Ended(End),
}

impl<T: Found> Lookup<T> {
    fn new(started: Result<Subscription<LookupBatch<T>>, Refused>) -> Self {
        let progress = match started {
            Ok(subscription) => Progress::Running(subscription),
            Err(Refused::Busy) => Progress::Ended(Err(GetError::Busy)),
            Err(Refused::Closed) => Progress::Ended(Err(GetError::Closed)),
        };
        Self { progress, arrived: VecDeque::new() }
    }

    /// Waits until something has arrived; false at the end.
    async fn fill(&mut self) -> Result<bool, GetError> {
        while self.arrived.is_empty() {
            match &mut self.progress {
                Progress::Ended(end) => return end.map(|_| false),
                Progress::Running(subscription) => {
                    let batch = subscription.take().await;
                    let batch =
                        batch.unwrap_or(LookupBatch { found: Vec::new(), end: Some(Err(GetError::Closed)) });
                    self.arrived.extend(batch.found);
                    if let Some(end) = batch.end {
                        self.progress = Progress::Ended(end);
                    }
                }
            }
        }
        Ok(true)
    }

    async fn next(&mut self) -> Result<Option<T>, GetError> {
        self.fill().await?;
        Ok(self.arrived.pop_front())
    }

    fn end(&self) -> Option<End> {
        match self.progress {
            Progress::Running(_) => None,
            Progress::Ended(end) => Some(end),
        }
    }
}

/// A get under way that shows values as they are stored: nothing decrypted, nothing hidden.
///
/// Values with an owner carry a signature that holds; others were checked by nobody. For tools; programs want
/// [`Get`]. Dropping it ends the get.
#[derive(Debug)]
pub struct RawGet(Lookup<Arc<Value>>);

impl RawGet {
    pub(super) fn new(started: Result<Subscription<LookupBatch<Arc<Value>>>, Refused>) -> Self {
        Self(Lookup::new(started))
    }

    /// The next value, each once; `None` when the nodes nearest to the key have all been asked. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Arc<Value>>, GetError> {
        self.0.next().await
    }

    /// All values, when the get is complete. An error discards what had come before it.
    pub async fn collect(mut self) -> Result<Vec<Arc<Value>>, GetError> {
        let mut values = Vec::new();
        while self.0.fill().await? {
            values.extend(self.0.arrived.drain(..));
        }
        Ok(values)
    }

    /// How it ended; `None` while it has not.
    pub fn end(&self) -> Option<Result<LookupReport, GetError>> {
        self.0.end()
    }
}

/// A get under way. Values encrypted to this device come decrypted; values encrypted to others, and those whose
/// signature is false, do not come at all (`dht.md` 3.7).
///
/// Dropping it ends the get.
#[derive(Debug)]
pub struct Get {
    raw: RawGet,
    opener: Opener,
    opened: VecDeque<SecureValue>,
}

impl Get {
    pub(super) fn new(raw: RawGet, opener: Opener) -> Self {
        Self { raw, opener, opened: VecDeque::new() }
    }

    /// The next value, each once and in the order in which they came; `None` when the nodes nearest to the key
    /// have all been asked. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<SecureValue>, GetError> {
        loop {
            if let Some(value) = self.opened.pop_front() {
                return Ok(Some(value));
            }
            self.opened.extend(self.opener.opened().await);
            if self.opened.is_empty() {
                if !self.raw.0.fill().await? {
                    return Ok(None);
                }
                self.opener.push(self.raw.0.arrived.drain(..));
            }
        }
    }

    /// All values, when the get is complete. An error discards what had come before it.
    pub async fn collect(mut self) -> Result<Vec<SecureValue>, GetError> {
        let mut values = Vec::new();
        while let Some(value) = self.next().await? {
            values.push(value);
        }
        Ok(values)
    }

    /// How it ended; `None` while it has not.
    pub fn end(&self) -> Option<Result<LookupReport, GetError>> {
        self.raw.end()
    }
}

/// A query for fields under way. Dropping it ends the query.
#[derive(Debug)]
pub struct FieldQuery(Lookup<FieldRows>);

impl FieldQuery {
    pub(super) fn new(started: Result<Subscription<LookupBatch<FieldRows>>, Refused>) -> Self {
        Self(Lookup::new(started))
    }

    /// The rows of the next node; several nodes name the same value. `None` when the nodes nearest to the key have
    /// all been asked. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<FieldRows>, GetError> {
        self.0.next().await
    }

    /// How it ended; `None` while it has not.
    pub fn end(&self) -> Option<Result<LookupReport, GetError>> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_nothing_ends_its_get() {
        let value = |id| Arc::new(Value::new(id, 0, vec![0; 1000]));
        let limit = 3 * value(1).footprint();
        let (into, mut first) = oneshot::channel();
        let mut outbox = LookupOutbox::new(into, limit);
        assert!(outbox.found((0..10).map(value)), "what is taken at once is not counted");
        assert_eq!(first.try_recv().unwrap().found.len(), 10);
        assert!(outbox.found((0..3).map(value)));
        assert!(!outbox.found([value(3)]));
        outbox.end(Err(GetError::Backlog));
        assert!(!outbox.is_drained());

        let (into, mut last) = oneshot::channel();
        outbox.asked(into);
        let batch = last.try_recv().unwrap();
        assert_eq!((batch.found.len(), batch.end), (4, Some(Err(GetError::Backlog))));
        assert!(outbox.is_drained());
    }
}
