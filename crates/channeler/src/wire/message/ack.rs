//! ACK: which packets of a link arrived.

use std::ops::RangeInclusive;

use super::{
    encode::{Body, put_head, size},
    kind,
};
use crate::{LinkId, varint};

/// Marks that were counted on the packets of a link, since its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct EcnCounts {
    /// With "congestion experienced".
    pub ce: u64,
    /// With ECT(0).
    pub ect0: u64,
}

/// What arrived. All numbers are packet numbers of `link`; the ranges were checked when it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack<'a> {
    /// The link of the packets.
    pub link: LinkId,
    /// The largest number.
    pub largest: u64,
    /// How long its acknowledgement was held back, in microseconds.
    pub delay_us: u64,
    /// Marks, if the receiver sees them.
    pub ecn: Option<EcnCounts>,
    /// The first range is `largest - first_run ..= largest`.
    first_run: u64,
    rest: &'a [u8],
}

impl<'a> Ack<'a> {
    pub(super) fn parse(with_ecn: bool, mut body: &'a [u8]) -> Option<Self> {
        let input = &mut body;
        let link = LinkId(u32::try_from(varint::get(input)?).ok()?);
        let largest = varint::get(input)?;
        let delay_us = varint::get(input)?;
        let ecn = if with_ecn {
            Some(EcnCounts { ce: varint::get(input)?, ect0: varint::get(input)? })
        } else {
            None
        };
        let first_run = varint::get(input)?;
        largest.checked_sub(first_run)?;
        let ack = Self { link, largest, delay_us, ecn, first_run, rest: body };
        let mut ranges = ack.ranges();
        ranges.by_ref().for_each(drop);
        // A range that does not parse or goes below zero ends the iteration before the bytes do.
        ranges.rest.is_empty().then_some(ack)
    }

    /// The ranges that arrived, newest first. They neither overlap nor touch.
    #[inline]
    pub(crate) fn ranges(&self) -> AckRanges<'a> {
        AckRanges { next: Some((self.largest, self.first_run)), rest: self.rest }
    }
}

/// Ranges of an [`Ack`], newest first.
#[derive(Clone, Debug)]
pub(crate) struct AckRanges<'a> {
    /// Largest number and length less one of the next range.
    next: Option<(u64, u64)>,
    rest: &'a [u8],
}

impl Iterator for AckRanges<'_> {
    type Item = RangeInclusive<u64>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (largest, run) = self.next.take()?;
        let smallest = largest.checked_sub(run)?;
        let mut input = self.rest;
        if let (Some(gap), Some(run)) = (varint::get(&mut input), varint::get(&mut input))
            && let Some(next) = smallest.checked_sub(gap + 2)
            && run <= next
        {
            self.next = Some((next, run));
            self.rest = input;
        }
        Some(smallest..=largest)
    }
}

/// Appends an ACK with as many of the `ranges`, newest first, neither overlapping nor touching, as fit into `room`.
///
/// Gives how many they were. With 0 nothing is written.
pub(crate) fn put_ack(
    out: &mut Vec<u8>,
    link: LinkId,
    ranges: impl Iterator<Item = RangeInclusive<u64>>,
    delay_us: u64,
    ecn: Option<EcnCounts>,
    room: usize,
) -> usize {
    let mut ranges = ranges.peekable();
    let Some((smallest, largest)) = ranges.next().map(RangeInclusive::into_inner) else {
        return 0;
    };
    let mut first = Body::new().int(u64::from(link.0)).int(largest).int(delay_us.min(varint::MAX));
    let mut kind = kind::ACK;
    if let Some(EcnCounts { ce, ect0 }) = ecn {
        kind = kind::ACK_ECN;
        first = first.int(ce).int(ect0);
    }
    let first = first.int(largest - smallest);
    let mut body = first.bytes().len();
    if size(body) > room {
        return 0;
    }
    let start = out.len();
    // One byte for a length that is not yet known: with few ranges it is enough.
    put_head(out, kind, 0);
    out.extend_from_slice(first.bytes());
    let mut written = 1;
    let mut below = smallest;
    for range in ranges {
        let (smallest, largest) = range.into_inner();
        debug_assert!(
            smallest <= largest && largest + 1 < below,
            "{smallest}..={largest} is not below {below}"
        );
        let (gap, run) = (below - largest - 2, largest - smallest);
        let longer = body + varint::len(gap) + varint::len(run);
        if size(longer) > room {
            break;
        }
        body = longer;
        varint::put(out, gap);
        varint::put(out, run);
        written += 1;
        below = smallest;
    }
    let mut buffer = [0; varint::MAX_LEN];
    out.splice(start + 1..start + 2, varint::encode(body as u64, &mut buffer).iter().copied());
    written
}
