//! The monotonic clock, which is tokio's so that the lab can replace it.

use std::time::Instant;

/// The monotonic clock that every state machine is driven by.
///
/// Inside a paused runtime (the lab) this is virtual time.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until [`now`] has reached `at`. Cancel safe.
pub async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(at.into()).await;
}
