//! Two endpoints in virtual time: each feature of a connection as a short story.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]
#![allow(clippy::unchecked_time_subtraction, reason = "time runs forward in a world")]
#![allow(dead_code, reason = "what is shared with other tests is not all used here")]

#[path = "../support/mod.rs"]
mod support;

mod channels;
mod stories;
