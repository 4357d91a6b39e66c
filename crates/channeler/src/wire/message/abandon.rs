//! ABANDON: what will not come.

use super::{
    channel,
    encode::{Body, put_head, size},
    kind,
};
use crate::{ChannelId, varint};

/// Whole messages that were given up, as a range of the offsets of their direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbandonedRange {
    /// Where the first begins.
    pub start: u64,
    /// How much offset space they have. `start + length` is at most 2^62 - 1.
    pub length: u64,
    /// How many messages the direction has up to the end of the range: the number of the first one behind it. Twice the
    /// same range does no harm, then.
    pub messages: u64,
}

impl AbandonedRange {
    fn get(input: &mut &[u8]) -> Option<Self> {
        let start = varint::get(input)?;
        let length = varint::get(input)?;
        let messages = varint::get(input)?;
        (start + length <= varint::MAX).then_some(Self { start, length, messages })
    }

    fn len(self) -> usize {
        varint::len(self.start) + varint::len(self.length) + varint::len(self.messages)
    }
}

/// Ranges of a channel that will never come, or never again. They were checked when it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abandon<'a> {
    /// The channel.
    pub channel: ChannelId,
    ranges: &'a [u8],
}

impl<'a> Abandon<'a> {
    pub(super) fn parse(mut body: &'a [u8]) -> Option<Self> {
        let channel = channel(&mut body)?;
        let count = varint::get(&mut body)?;
        let abandon = Self { channel, ranges: body };
        for _ in 0..count {
            AbandonedRange::get(&mut body)?;
        }
        body.is_empty().then_some(abandon)
    }

    /// The ranges, in the sender's order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = AbandonedRange> + use<'a> {
        let mut rest = self.ranges;
        std::iter::from_fn(move || AbandonedRange::get(&mut rest))
    }
}

/// Appends an ABANDON with as many of the `ranges` as fit into `room`. Gives how many they were; with 0 nothing is written.
pub(crate) fn put_abandon(
    out: &mut Vec<u8>,
    channel: ChannelId,
    ranges: impl Iterator<Item = AbandonedRange> + Clone,
    room: usize,
) -> usize {
    let head = varint::len(u64::from(channel.0));
    let (mut count, mut bytes) = (0, 0);
    for range in ranges.clone() {
        let longer = bytes + range.len();
        if size(head + varint::len(count + 1) + longer) > room {
            break;
        }
        bytes = longer;
        count += 1;
    }
    if count > 0 {
        let head = Body::new().int(u64::from(channel.0)).int(count);
        put_head(out, kind::ABANDON, head.bytes().len() + bytes);
        out.extend_from_slice(head.bytes());
        for range in ranges.take(count as usize) {
            varint::put(out, range.start);
            varint::put(out, range.length);
            varint::put(out, range.messages);
        }
    }
    count as usize
}
