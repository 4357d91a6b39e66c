use std::{fmt, time::Instant};

use thiserror::Error;

use super::{HEADER_LEN, PHASE, SEAL_LIMIT, UPDATE_AT, UPDATE_INTERVAL, key::PacketKey, secrets::Direction};
use crate::{ChannelId, LinkId};

/// A key has sealed all it may, and the peer acknowledged none of it: the channel can send nothing until it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a key sealed 2^23 packets without an acknowledgement")]
pub(crate) struct Exhausted;

/// Protects the packets that this side sends.
pub(crate) struct Sealer {
    direction: Direction,
}

impl Sealer {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction }
    }

    /// Seals the packet that begins at `start` and ends with `buffer`: an encoded header (its phase bit is set here) and the plaintext.
    ///
    /// Encrypts in place, and behind it `rest`, which ends the packet; appends the tag, masks the header. `pn` is the whole packet number, never used before on
    /// this link. Allocates nothing if the buffer has room for that and the channel's key is at hand.
    #[expect(clippy::too_many_arguments, reason = "what a nonce and a key are made of, and where it goes")]
    #[inline]
    pub(crate) fn seal(
        &self,
        now: Instant,
        channel: &mut ChannelSeal,
        link: LinkId,
        pn: u64,
        buffer: &mut Vec<u8>,
        start: usize,
        rest: &[u8],
    ) -> Result<(), Exhausted> {
        debug_assert!(buffer.len() >= start + HEADER_LEN, "a packet begins with its header");
        if channel.sealed >= UPDATE_AT && !channel.update(now) && channel.sealed >= SEAL_LIMIT {
            return Err(Exhausted);
        }
        channel.sealed += 1;
        let (id, generation) = (channel.id, channel.generation);
        let key = channel.key.get_or_insert_with(|| PacketKey::new(&self.direction, id, generation));
        let packet = &mut buffer[start..];
        packet[0] = packet[0] & !PHASE | if generation & 1 == 1 { PHASE } else { 0 };
        if rest.is_empty() {
            key.seal(link, pn, buffer, start);
        } else {
            key.seal_with(link, pn, buffer, start, rest);
        }
        self.direction.header.apply(&mut buffer[start..]);
        Ok(())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("suite", &self.direction.suite).finish_non_exhaustive()
    }
}

/// What sealing needs to know about one channel. Lies in the slot of the channel.
pub(crate) struct ChannelSeal {
    key: Option<PacketKey>,
    id: ChannelId,
    generation: u32,
    /// Packets sealed with this generation.
    sealed: u32,
    confirmed: Confirmed,
}

/// Whether the peer is known to have the current generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirmed {
    /// Generation 0, with nothing before it.
    First,
    No,
    Since(Instant),
}

impl ChannelSeal {
    /// Of a channel that nothing was sent on.
    pub(crate) fn new(id: ChannelId) -> Self {
        Self { key: None, id, generation: 0, sealed: 0, confirmed: Confirmed::First }
    }

    /// Tells the keys of packets sealed now from those of the last and next few minutes. To be remembered with each packet, for
    /// [`Self::on_acked`].
    #[inline]
    pub(crate) fn keys(&self) -> u8 {
        self.generation as u8
    }

    /// A packet of this channel with these keys was acknowledged. It may have been sealed long ago: with the same phase, but two
    /// generations before, it says nothing about the current one.
    #[inline]
    pub(crate) fn on_acked(&mut self, now: Instant, keys: u8) {
        if self.confirmed == Confirmed::No && keys == self.keys() {
            self.confirmed = Confirmed::Since(now);
        }
    }

    /// Goes on to the next generation, from the next packet on. False, and nothing done, if it is too soon.
    pub(crate) fn update(&mut self, now: Instant) -> bool {
        let may = match self.confirmed {
            Confirmed::First => self.sealed > 0,
            Confirmed::No => false,
            Confirmed::Since(at) => now.saturating_duration_since(at) >= UPDATE_INTERVAL,
        };
        if may && self.generation < u32::MAX {
            self.generation += 1;
            self.sealed = 0;
            self.key = None;
            self.confirmed = Confirmed::No;
        }
        may
    }

    /// Drops the key; it is derived again when it is needed.
    pub(crate) fn idle(&mut self) {
        self.key = None;
    }

    #[cfg(test)]
    pub(super) fn set_sealed(&mut self, packets: u32) {
        self.sealed = packets;
    }
}

impl fmt::Debug for ChannelSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSeal")
            .field("id", &self.id)
            .field("generation", &self.generation)
            .field("sealed", &self.sealed)
            .finish_non_exhaustive()
    }
}
