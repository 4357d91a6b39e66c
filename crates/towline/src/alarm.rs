//! Waiting for a moment that changes, in a task that is polled for other reasons as well.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

use tokio::time::Sleep;

/// Has the task woken at `at`, and at no moment that was asked for before. True if it is past.
pub(crate) fn is_past(mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>, at: Instant) -> bool {
    if timer.deadline().into_std() != at {
        timer.as_mut().reset(at.into());
    }
    timer.poll(cx).is_ready()
}
