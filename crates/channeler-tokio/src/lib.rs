#![doc = include_str!("../README.md")]

mod channel;
mod connection;
mod endpoint;
mod socket;
mod stream;
mod wakes;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use towline_channeler as proto;

use crate::wakes::Wakes;
pub use crate::{
    channel::{Channel, Receiver, Sender},
    connection::{Connection, Events, Incoming, LinkError, News},
    endpoint::{ConnectError, Endpoint, SocketId},
    stream::ByteStream,
};

/// What a task that panicked left behind is still whole: every change is made by the connection itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
