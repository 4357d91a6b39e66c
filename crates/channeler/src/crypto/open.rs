use std::{fmt, time::Instant};

use thiserror::Error;

use super::{HEADER_LEN, KEEP_OLD, OPEN_LIMIT, TAG_LEN, key::PacketKey, secrets::Direction};
use crate::{ChannelId, LinkId, wire::header::Header};

/// Why a packet did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Undecryptable {
    /// It is not from the peer, or not for this channel, or older than the keys that are kept. To be dropped silently.
    #[error("packet does not authenticate")]
    Forged,
    /// So many failed that the connection must end (RFC 9001 section 6.6).
    #[error("2^36 packets did not authenticate")]
    TooMany,
}

/// Opens the packets that the peer sends.
pub(crate) struct Opener {
    direction: Direction,
    failed: u64,
}

impl Opener {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction, failed: 0 }
    }

    /// Unmasks the header and reads it. `None` if this is no data packet. Nothing is authenticated yet.
    #[inline]
    pub(crate) fn unprotect(&self, packet: &mut [u8]) -> Option<Header> {
        if packet.len() < HEADER_LEN + TAG_LEN {
            return None;
        }
        self.direction.header.apply(packet);
        Header::parse(packet.first_chunk()?)
    }

    /// Opens a packet whose header was unmasked, in place, or to the beginning of `apart`. Gives the length of the
    /// plaintext, which begins at byte 16 if it is in place.
    ///
    /// `pn` is the whole packet number, expanded from the header; `phase` is the header's. `channel` must be that of the header's channel id.
    #[expect(clippy::too_many_arguments, reason = "what a nonce and a key are made of, and where it goes")]
    #[inline]
    pub(crate) fn open(
        &mut self,
        now: Instant,
        channel: &mut ChannelOpen,
        link: LinkId,
        pn: u64,
        phase: bool,
        packet: &mut [u8],
        apart: Option<&mut [u8]>,
    ) -> Result<usize, Undecryptable> {
        let opened = if packet.len() < HEADER_LEN + TAG_LEN {
            None
        } else if phase == channel.phase() {
            channel.current(&self.direction).open(link, pn, packet, apart)
        } else {
            self.open_other(now, channel, link, pn, packet, apart)
        };
        opened.ok_or_else(|| {
            self.failed += 1;
            if self.failed < OPEN_LIMIT { Undecryptable::Forged } else { Undecryptable::TooMany }
        })
    }

    /// A packet of the generation before or after the current one.
    #[cold]
    fn open_other(
        &self,
        now: Instant,
        channel: &mut ChannelOpen,
        link: LinkId,
        pn: u64,
        packet: &mut [u8],
        apart: Option<&mut [u8]>,
    ) -> Option<usize> {
        if let Some(Other::Old { key, since }) = channel.other.as_deref()
            && now.saturating_duration_since(*since) < KEEP_OLD
        {
            return key.open(link, pn, packet, apart);
        }
        let next = channel.generation.checked_add(1)?;
        if !matches!(channel.other.as_deref(), Some(Other::Next(_))) {
            let key = PacketKey::new(&self.direction, channel.id, next);
            channel.other = Some(Box::new(Other::Next(key)));
        }
        let Some(Other::Next(key)) = channel.other.as_deref() else { return None };
        let opened = key.open(link, pn, packet, apart)?;
        // Authentic: the peer went on.
        if let Some(Other::Next(key)) = channel.other.take().map(|other| *other) {
            let old = channel.key.replace(key);
            let old = old.unwrap_or_else(|| PacketKey::new(&self.direction, channel.id, channel.generation));
            channel.other = Some(Box::new(Other::Old { key: old, since: now }));
            channel.generation = next;
        }
        Some(opened)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("suite", &self.direction.suite)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// What opening needs to know about one channel. Lies in the slot of the channel.
pub(crate) struct ChannelOpen {
    key: Option<PacketKey>,
    other: Option<Box<Other>>,
    id: ChannelId,
    generation: u32,
}

/// The key of the other phase.
enum Other {
    /// The one before, for packets that were overtaken by the update.
    Old { key: PacketKey, since: Instant },
    /// The one that comes next, derived when a packet claimed to be of it.
    Next(PacketKey),
}

impl ChannelOpen {
    /// Of a channel that nothing was received on.
    pub(crate) fn new(id: ChannelId) -> Self {
        Self { key: None, other: None, id, generation: 0 }
    }

    /// Of a channel that is forgotten, but for how often its keys were changed.
    pub(crate) fn again(id: ChannelId, generation: u32) -> Self {
        Self { generation, ..Self::new(id) }
    }

    /// How often the peer changed its keys.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    #[inline]
    fn phase(&self) -> bool {
        self.generation & 1 == 1
    }

    #[inline]
    fn current(&mut self, direction: &Direction) -> &PacketKey {
        let (id, generation) = (self.id, self.generation);
        self.key.get_or_insert_with(|| PacketKey::new(direction, id, generation))
    }

    /// Drops the keys; they are derived again when they are needed.
    pub(crate) fn idle(&mut self, now: Instant) {
        self.key = None;
        let keep = matches!(self.other.as_deref(), Some(Other::Old { since, .. }) if now.saturating_duration_since(*since) < KEEP_OLD);
        if !keep {
            self.other = None;
        }
    }
}

impl fmt::Debug for ChannelOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelOpen")
            .field("id", &self.id)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
