//! The sending side: inline or in parts, and how an update is cut into messages.

use std::sync::Arc;

use crate::{Body, Message, Part, Request, Value, ValueItem};

/// Fewer values than this may go inline.
pub const INLINE_MAX_VALUES: usize = 50;
/// Values go inline while their packed sizes sum up to less than this many bytes.
pub const INLINE_MAX_BYTES: usize = 600;
/// Bytes of packed value in one part. The datagram is at most 40 bytes longer, and fits with the headers of IPv6 and UDP
/// into a packet of 1280 bytes, which every network carries; the reference's parts of 1280 bytes do not. It reads parts of
/// any size (`dht.md` 1.10).
pub const PART_BYTES: usize = 1180;
/// An update gets no more values once those it has reach this many bytes.
pub const UPDATE_BYTES: usize = 56 * 1024;

/// The datagrams that carry `message`: one if its values fit inline, else a header and the parts after it.
///
/// They must be sent in this order, because 2.4.12 knows no other, and all of them again when a request is repeated.
pub fn datagrams(message: &Message) -> Vec<Vec<u8>> {
    let values: Vec<_> = message.values().iter().filter_map(ValueItem::inline).cloned().collect();
    let sizes: Vec<_> = values.iter().map(|value| value.packed_size()).collect();
    if values.len() < INLINE_MAX_VALUES && sizes.iter().sum::<usize>() < INLINE_MAX_BYTES {
        return vec![message.encode()];
    }
    let mut header = message.clone();
    if let Some(items) = header.values_mut() {
        *items = sizes.into_iter().map(ValueItem::Announced).collect();
    }
    let mut datagrams = vec![header.encode()];
    for (index, value) in values.iter().enumerate() {
        for (number, data) in value.pack().chunks(PART_BYTES).enumerate() {
            let part = Part { index, offset: number * PART_BYTES, data: data.to_vec() };
            let Message { transaction, network, client, .. } = *message;
            datagrams.push(Message { transaction, network, client, body: Body::Parts(vec![part]) }.encode());
        }
    }
    datagrams
}

/// Groups `values` into the updates that carry them: each is closed once it holds [`UPDATE_BYTES`].
pub fn batches(values: impl IntoIterator<Item = Arc<Value>>) -> Vec<Vec<Arc<Value>>> {
    let mut batches = Vec::<Vec<_>>::new();
    let mut room = 0_usize;
    for value in values {
        let size = value.packed_size();
        match batches.last_mut() {
            Some(batch) if room > 0 => batch.push(value),
            _ => {
                batches.push(vec![value]);
                room = UPDATE_BYTES;
            }
        }
        room = room.saturating_sub(size);
    }
    batches
}

impl ValueItem {
    /// The value, if it is here.
    pub const fn inline(&self) -> Option<&Arc<Value>> {
        match self {
            Self::Inline(value) => Some(value),
            Self::Announced(_) | Self::Malformed => None,
        }
    }
}

impl Message {
    /// The values the message carries; empty for kinds that carry none.
    pub fn values(&self) -> &[ValueItem] {
        match &self.body {
            Body::Request {
                request: Request::Put { values, .. } | Request::Update { values, .. }, ..
            } => values,
            Body::Reply { reply, .. } => &reply.values,
            _ => &[],
        }
    }

    pub(super) const fn values_mut(&mut self) -> Option<&mut Vec<ValueItem>> {
        match &mut self.body {
            Body::Request {
                request: Request::Put { values, .. } | Request::Update { values, .. }, ..
            } => Some(values),
            Body::Reply { reply, .. } => Some(&mut reply.values),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InfoHash, Reply};

    fn message(values: impl IntoIterator<Item = Value>) -> Message {
        let values = values.into_iter().map(|value| ValueItem::Inline(Arc::new(value))).collect();
        let reply = Reply { values, ..Reply::default() };
        let body = Body::Reply { sender: InfoHash([1; 20]), reply };
        Message { transaction: 5, network: 0, client: false, body }
    }

    fn of_packed_size(size: usize) -> Value {
        let value = (0..=size).map(|len| Value::new(1, 0, vec![0; len])).find(|it| it.packed_size() == size);
        value.expect("there is a payload for this size")
    }

    #[test]
    fn inline_below_600_bytes_and_50_values() {
        assert_eq!(datagrams(&message([of_packed_size(599)])).len(), 1);
        assert_eq!(datagrams(&message([of_packed_size(600)])).len(), 2);
        let tiny = |count| datagrams(&message((1..=count).map(|id| Value::new(id, 0, []))));
        assert_eq!(tiny(20).len(), 1);
        assert_eq!(tiny(60).len(), 61);
    }

    #[test]
    fn parts_follow_in_order() {
        let value = of_packed_size(3000);
        let packed = value.pack();
        let sent = datagrams(&message([value]));
        assert_eq!(sent.len(), 4);
        assert_eq!(Message::decode(&sent[0]).unwrap().values(), [ValueItem::Announced(3000)]);
        let mut joined = Vec::<u8>::new();
        for datagram in &sent[1..] {
            let Body::Parts(parts) = Message::decode(datagram).unwrap().body else { panic!("parts") };
            assert_eq!((parts.len(), parts[0].index, parts[0].offset), (1, 0, joined.len()));
            joined.extend(&parts[0].data);
        }
        assert_eq!(joined, packed);
        assert!(sent.iter().all(|datagram| datagram.len() <= 1280 - 40 - 8), "every network carries it");
    }

    #[test]
    fn updates_close_at_56_kib() {
        let sizes = |sizes: &[usize]| {
            let values = sizes.iter().map(|size| Arc::new(Value::new(1, 0, vec![0; *size])));
            batches(values).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[65_000; 8]), [1; 8]);
        assert_eq!(sizes(&[40_000; 4]), [2, 2]);
        assert_eq!(sizes(&[10; 1000]), [1000]);
        assert_eq!(sizes(&[]), Vec::<usize>::new());
    }
}
