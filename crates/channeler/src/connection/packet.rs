//! One packet, from its header to its tag.

use std::time::Instant;

use super::{Connection, slots::Slot};
use crate::{
    ChannelId, Transmit,
    crypto::{ChannelSeal, Exhausted, Sealer},
    link::{Content, Link},
    wire::header::{HEADER_LEN, Header, TAG_LEN},
};

/// Bytes before a packet on a stream link: its length.
const PREFIX: usize = 2;
/// Bytes of packets that go out together at most: what UDP segmentation takes at once.
const MOST: usize = 65_000;
/// The same on a stream: what a driver writes at once, without another copy, or what leaves in the 64th part of a second, if that is
/// less: nothing overtakes what is in a batch. But a few packets at least.
const MOST_OF_STREAM: u64 = 128 << 10;
const LEAST_OF_STREAM: u64 = 32 << 10;
/// A datagram shorter than the others by no more than this is padded, so that more can follow it in the batch.
const PADDED: usize = 24;

/// Packets that go out together: one route, one length but for the last.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) place: usize,
    stream: bool,
    /// Where it begins in the buffer.
    start: usize,
    /// The length of its packets; 0 before the first.
    segment: usize,
    count: usize,
    most: usize,
    most_bytes: usize,
    full: bool,
}

impl Batch {
    /// Of at most so many packets, for a link that sends so many bytes per second.
    pub(super) fn new(place: usize, stream: bool, most: usize, rate: u64, buf: &[u8]) -> Self {
        let most_bytes =
            if stream { (rate / 64).clamp(LEAST_OF_STREAM, MOST_OF_STREAM) as usize } else { MOST };
        Self { place, stream, start: buf.len(), segment: 0, count: 0, most, most_bytes, full: false }
    }

    /// Whether nothing more fits.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Whether there is no packet in it.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Nothing more is added.
    pub(super) fn close(&mut self) {
        self.full = true;
    }

    /// How long the next packet may be, on a link with this MTU.
    #[inline]
    pub(super) fn limit(&self, mtu: usize) -> usize {
        if self.stream || self.segment == 0 { mtu } else { mtu.min(self.segment) }
    }

    /// A packet that may be this long is complete but for its tag: pads it if that lets others follow.
    #[inline]
    pub(super) fn pad(&self, buf: &mut Vec<u8>, start: usize, limit: usize) {
        let short = (start + limit - TAG_LEN).saturating_sub(buf.len());
        if short > 0 && short <= PADDED && !self.stream && self.most > 1 {
            buf.resize(buf.len() + short, 0);
        }
    }

    /// A packet of this length was added; `mtu`: the longest that it could have been.
    #[inline]
    pub(super) fn on_packet(&mut self, len: usize, mtu: usize, buf: &[u8]) {
        self.count += 1;
        let bytes = buf.len() - self.start;
        if self.stream {
            self.full = bytes + mtu + PREFIX > self.most_bytes;
            return;
        }
        if self.segment == 0 {
            self.segment = len;
        }
        self.full =
            self.count >= self.most || len < self.segment || len < mtu || bytes + len > self.most_bytes;
    }

    /// What the driver needs to know of it.
    pub(super) fn transmit(&self, link: &Link) -> Option<Transmit> {
        (self.count > 0).then(|| Transmit {
            route: link.route(),
            ecn: link.ecn(),
            segment: (self.count > 1 && !self.stream).then_some(self.segment),
        })
    }
}

/// A packet that stands for itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lone {
    /// The length that it is padded to, on datagram links.
    pub(super) pad: usize,
    pub(super) content: Content,
    /// Whether it wants an acknowledgement.
    pub(super) eliciting: bool,
}

impl Lone {
    /// Wants an acknowledgement, and nothing else.
    pub(super) const PROBE: Self = Self { pad: 0, content: Content::EMPTY, eliciting: true };
    /// Wants nothing.
    pub(super) const QUIET: Self = Self { pad: 0, content: Content::EMPTY, eliciting: false };
}

/// Begins a packet at the end of `buf`: gives where it begins, behind its length on a stream.
#[inline]
pub(super) fn begin(buf: &mut Vec<u8>, stream: bool) -> usize {
    if stream {
        buf.extend_from_slice(&[0; PREFIX + HEADER_LEN]);
    } else {
        buf.extend_from_slice(&[0; HEADER_LEN]);
    }
    buf.len() - HEADER_LEN
}

/// Gives up the packet that begins at `start`.
pub(super) fn undo(buf: &mut Vec<u8>, start: usize, stream: bool) {
    buf.truncate(start - if stream { PREFIX } else { 0 });
}

/// Writes the header, encrypts, and behind it `rest`, and writes the length on a stream. Gives the packet's length.
#[expect(clippy::too_many_arguments, reason = "parts of the connection that are borrowed one by one")]
#[inline]
pub(super) fn seal(
    now: Instant,
    sealer: &Sealer,
    keys: &mut ChannelSeal,
    channel: ChannelId,
    link: &Link,
    buf: &mut Vec<u8>,
    start: usize,
    rest: &[u8],
) -> Result<usize, Exhausted> {
    let pn = link.next_pn();
    let header = Header { phase: false, spin: false, pn, channel, cid: link.peer_cid() };
    buf[start..start + HEADER_LEN].copy_from_slice(&header.encode());
    sealer.seal(now, keys, link.id(), pn, buf, start, rest)?;
    let len = buf.len() - start;
    if link.is_stream() {
        buf[start - PREFIX..start].copy_from_slice(&(len as u16).to_be_bytes());
    }
    Ok(len)
}

impl Connection {
    /// Sends one packet of the control channel by one link, of which the channel need not know: `write` appends its messages.
    pub(super) fn control_packet(
        &mut self,
        now: Instant,
        place: usize,
        buf: &mut Vec<u8>,
        lone: Lone,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Transmit> {
        let Lone { pad, content, eliciting } = lone;
        let protection = self.protection.as_mut()?;
        let link = self.links.at(place);
        let stream = link.is_stream();
        let start = begin(buf, stream);
        write(buf);
        if !stream && buf.len() + TAG_LEN < start + pad {
            buf.resize(start + pad - TAG_LEN, 0);
        }
        let sealed =
            seal(now, &protection.sealer, &mut protection.seal, ChannelId::CONTROL, link, buf, start, &[]);
        let Ok(len) = sealed else {
            undo(buf, start, stream);
            return None;
        };
        let transmit = Transmit { route: link.route(), ecn: link.ecn(), segment: None };
        link.on_sent(now, len as u32, eliciting, content);
        self.on_packet_sent(now, len, eliciting);
        Some(transmit)
    }

    /// Counts a packet that left.
    #[inline]
    pub(super) fn on_packet_sent(&mut self, now: Instant, len: usize, eliciting: bool) {
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += len as u64;
        if eliciting {
            self.idle.on_sent(now);
        }
    }
}

/// What a packet of this channel is remembered by.
#[inline]
pub(super) fn content(slot: u32, channel: &Slot) -> Content {
    Content {
        channel: slot,
        generation: channel.generation,
        keys: channel.seal.keys(),
        background: channel.priority == crate::Priority::BACKGROUND,
        ..Content::EMPTY
    }
}
