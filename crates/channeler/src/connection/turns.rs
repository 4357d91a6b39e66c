//! Writing, and whose turn it is to write.

use std::time::Instant;

use bytes::Bytes;

use super::{
    Connection,
    shares::{Key, LEAST},
    slots::mark,
};
use crate::{
    ChannelId, Reason, WriteError,
    channel::{Context, Effects, Load},
};

/// What is written in a turn, at most: a batch of packets.
pub(super) const LONGEST: u32 = 62_000;

/// A turn of which less is left is over.
const REST: u32 = 2048;

impl Connection {
    /// Writes to a channel: as many bytes of a stream as there is room for, or one whole message. Returns how many bytes were taken.
    pub fn write(&mut self, now: Instant, channel: ChannelId, bytes: &[u8]) -> Result<usize, WriteError> {
        let (slot, share, most) = self.may_write(now, channel)?;
        let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
        let taken = self.slots.at(slot).channel.write(&mut cx, share, most, bytes);
        self.use_turn(slot, taken.as_ref().map_or(0, |taken| *taken), bytes.len());
        self.settle(slot, now, &Effects::default());
        taken
    }

    /// Writes all of `bytes` to a channel if there is room for any of them, so that they should be few; or one whole message. From
    /// 4 KiB on a stream keeps the buffer until the peer has acknowledged all of it, instead of copying it.
    pub fn write_all<B: AsRef<[u8]> + Into<Bytes>>(
        &mut self,
        now: Instant,
        channel: ChannelId,
        bytes: B,
    ) -> Result<(), (WriteError, B)> {
        let (slot, share, _) = match self.may_write(now, channel) {
            Ok(allowed) => allowed,
            Err(error) => return Err((error, bytes)),
        };
        let len = bytes.as_ref().len();
        let mut cx = Context { now, rtt: self.rtt, config: &self.config, pool: &mut self.pool };
        let written = self.slots.at(slot).channel.write_all(&mut cx, share, bytes);
        self.use_turn(slot, if written.is_ok() { len } else { 0 }, len);
        self.settle(slot, now, &Effects::default());
        written
    }

    /// Whether it is a channel's turn to write: its slot, how much it may hold, and how much it may write.
    fn may_write(&mut self, now: Instant, channel: ChannelId) -> Result<(u32, u64, usize), WriteError> {
        let Some(slot) = self.slots.find(channel) else { return Err(WriteError::Unknown) };
        if self.error.is_some() {
            return Err(WriteError::Ended(Reason::Connection));
        }
        let all = self.config.send_buffer;
        let channel = self.slots.at(slot);
        let key = channel.key();
        if channel.is(mark::WAITS) {
            return Err(WriteError::Blocked);
        }
        let stream = channel.channel.capabilities().is_stream();
        let (share, most) = if !stream || !self.shares.is_crowded(key) {
            (self.shares.of(key, channel.load, all), usize::MAX)
        } else {
            if channel.grant == 0 && self.shares.take_turn(now, key, self.turn) {
                channel.grant = self.turn;
            }
            if channel.grant > 0 {
                (self.shares.most(key, self.turn, all), channel.grant as usize)
            } else if channel.load.held == 0 || !channel.channel.is_writable() {
                (LEAST.min(all), usize::MAX)
            } else {
                channel.set(mark::WAITS);
                self.shares.wait(key, slot);
                return Err(WriteError::Blocked);
            }
        };
        Ok((slot, share, most))
    }

    /// So much was written of what was to be. Who was not allowed all of it has had its turn.
    fn use_turn(&mut self, slot: u32, taken: usize, wanted: usize) {
        let channel = self.slots.at(slot);
        if channel.grant == 0 {
            return;
        }
        let rest = channel.grant.saturating_sub(taken as u32);
        let over = rest < REST || taken < wanted;
        let used = channel.grant - if over { 0 } else { rest };
        channel.grant -= used;
        let key = channel.key();
        self.shares.spend(key, used);
    }

    /// It writes no more: whether it waited for its turn.
    pub(super) fn end_turn_to_write(&mut self, slot: u32) -> bool {
        let channel = self.slots.at(slot);
        let key = channel.key();
        let grant = std::mem::take(&mut channel.grant);
        let waited = channel.clear(mark::WAITS);
        if grant > 0 {
            self.shares.spend(key, grant);
        }
        if waited {
            self.shares.leave(key, slot);
        }
        waited
    }

    /// Moves a channel to those of another priority or placement. If it waited there it is asked to write here.
    pub(super) fn set_class(&mut self, slot: u32, key: Key) {
        let waited = self.end_turn_to_write(slot);
        let channel = self.slots.at(slot);
        self.shares.update(channel.key(), channel.load, Load::default());
        (channel.priority, channel.placement) = key;
        self.shares.update(key, Load::default(), channel.load);
        if waited {
            self.note_event(slot, mark::WRITABLE_EVENT);
        }
    }

    /// Little is left to send: those whose turn it is hear that they may write.
    #[inline]
    pub(super) fn let_write(&mut self, now: Instant) {
        while let Some(slot) = self.shares.next(now, self.turn) {
            let channel = self.slots.at(slot);
            channel.clear(mark::WAITS);
            channel.grant = self.turn;
            self.note_event(slot, mark::WRITABLE_EVENT);
        }
    }
}
