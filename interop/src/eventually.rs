//! Waiting for what a peer does at a time of its own choosing, such as announcing its certificate.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

/// Tries again, every 100 ms for at most 30 s, until it succeeds.
///
/// # Errors
/// That of the last attempt.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match attempt().await {
            Err(error) if Instant::now() > deadline => return Err(error).with_context(|| what.to_owned()),
            Err(_) => sleep(Duration::from_millis(100)).await,
            success => return success,
        }
    }
}
