//! The signals of a bus, kept in order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value as Json;
use tokio::sync::watch;

/// A signal of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// When it was received.
    pub at: Instant,
    /// Its name.
    pub name: String,
    /// Its arguments; bytes are hexadecimal.
    pub args: Vec<Json>,
}

impl Signal {
    /// An argument that is a text; empty if it is not.
    #[must_use]
    pub fn text(&self, index: usize) -> &str {
        self.args.get(index).and_then(Json::as_str).unwrap_or_default()
    }

    /// An argument that is a number; 0 if it is not.
    #[must_use]
    pub fn number(&self, index: usize) -> i64 {
        self.args.get(index).and_then(Json::as_i64).unwrap_or_default()
    }

    /// An argument that is a truth.
    #[must_use]
    pub fn truth(&self, index: usize) -> bool {
        self.args.get(index).and_then(Json::as_bool).unwrap_or_default()
    }

    /// A member of an argument that is a map of texts; empty if there is none.
    #[must_use]
    pub fn member(&self, index: usize, name: &str) -> &str {
        self.args.get(index).and_then(|map| map.get(name)).and_then(Json::as_str).unwrap_or_default()
    }
}

/// A place among the signals: those before it are not looked at. `Default` is before all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// All signals since the bus was joined.
#[derive(Debug, Clone)]
pub struct Signals {
    list: Arc<Mutex<Vec<Signal>>>,
    length: watch::Sender<usize>,
}

impl Signals {
    pub(super) fn new() -> Self {
        Self { list: Arc::default(), length: watch::Sender::new(0) }
    }

    pub(super) fn push(&self, signal: Signal) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(signal);
        self.length.send_replace(list.len());
    }

    /// The place of the next signal.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(*self.length.borrow())
    }

    /// What came since.
    #[must_use]
    pub fn since(&self, mark: Mark) -> Vec<Signal> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.get(mark.0..).unwrap_or_default().to_vec()
    }

    /// The first signal called `name` since `mark` for which `wanted` holds.
    ///
    /// # Errors
    /// When there is none within `limit`: with the signals there were.
    pub async fn wait(
        &self,
        mark: Mark,
        name: &str,
        limit: Duration,
        wanted: impl Fn(&Signal) -> bool,
    ) -> Result<Signal> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut length = self.length.subscribe();
        let mut seen = mark;
        loop {
            let fresh = self.since(seen);
            seen = Mark(seen.0 + fresh.len());
            if let Some(signal) = fresh.into_iter().find(|signal| signal.name == name && wanted(signal)) {
                return Ok(signal);
            }
            if tokio::time::timeout_at(deadline, length.changed()).await.is_err() {
                bail!("no {name} within {limit:?}; there were {}", self.story(mark));
            }
        }
    }

    fn story(&self, mark: Mark) -> String {
        let signals = self.since(mark);
        let lines = signals.iter().map(|signal| {
            let arguments = Json::from(signal.args.clone()).to_string();
            format!("\n  {} {}", signal.name, arguments.chars().take(300).collect::<String>())
        });
        lines.collect()
    }
}
