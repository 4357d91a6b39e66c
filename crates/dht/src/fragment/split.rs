//! The sending side: inline or in parts, and how an update is cut into messages.

use std::sync::Arc;

use crate::{Message, Value};

/// Fewer values than this may go inline.
pub const INLINE_MAX_VALUES: usize = 50;
/// Values go inline while their packed sizes sum up to less than this many bytes.
pub const INLINE_MAX_BYTES: usize = 600;
/// Bytes of packed value in one part.
pub const PART_BYTES: usize = 1280;
/// An update gets no more values once those it has reach this many bytes.
pub const UPDATE_BYTES: usize = 56 * 1024;

/// The datagrams that carry `message`: one if its values fit inline, else a header and the parts after it.
/// All must be sent in this order, and all again when the request is repeated.
pub fn datagrams(_message: &Message) -> Vec<Vec<u8>> {
    todo!()
}

/// Groups `values` into the updates that carry them: each is closed once it holds [`UPDATE_BYTES`].
pub fn batches(_values: Vec<Arc<Value>>) -> Vec<Vec<Arc<Value>>> {
    todo!()
}
