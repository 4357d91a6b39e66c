//! What the program writes and reads.

use bytes::Bytes;

use super::{
    Channel, Life,
    effects::{Context, Effects},
};
use crate::{Read, ReadError, Reason, WriteError};

impl Channel {
    /// Writes: as many bytes of a stream as there is room for, or one message. `share`: how much of what was written may be held;
    /// `turn`: how many bytes of a stream may be written now.
    pub(crate) fn write(
        &mut self,
        cx: &mut Context<'_>,
        share: u64,
        turn: usize,
        bytes: &[u8],
    ) -> Result<usize, WriteError> {
        if let Some(reason) = self.ended() {
            return Err(WriteError::Ended(reason));
        }
        self.touch(cx);
        self.sender.write(cx, self.capabilities.resend, share, turn, bytes)
    }

    /// Writes all of `bytes` to a stream if there is room for any, or one message. A buffer that is worth it is kept, not copied.
    pub(crate) fn write_all<B: AsRef<[u8]> + Into<Bytes>>(
        &mut self,
        cx: &mut Context<'_>,
        share: u64,
        bytes: B,
    ) -> Result<(), (WriteError, B)> {
        if let Some(reason) = self.ended() {
            return Err((WriteError::Ended(reason), bytes));
        }
        self.touch(cx);
        self.sender.write_all(cx, self.capabilities.resend, share, bytes)
    }

    /// What received buffers take that were kept.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.receiver.rope.kept()
    }

    /// How much a write would take now, in bytes.
    #[cfg(test)]
    pub(crate) fn room(&self, cx: &mut Context<'_>) -> u64 {
        self.sender.room(cx, self.capabilities.resend)
    }

    /// No more will be written.
    pub(crate) fn finish(&mut self) {
        self.sender.finish();
    }

    /// Reads: bytes of a stream, or one whole message.
    pub(crate) fn read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut [u8],
        fx: &mut Effects,
    ) -> Result<Read, ReadError> {
        if let Some(reason) = self.ended() {
            let read_all = matches!(self.life, Life::Finished(_)) && !self.receiver.discarding;
            return if read_all { Ok(Read::Finished) } else { Err(ReadError::Ended(reason)) };
        }
        if self.receiver.discarding {
            return Err(ReadError::Ended(Reason::Local(self.stop_code)));
        }
        self.used = true;
        let read = self.receiver.read(cx, self.capabilities, out, fx);
        self.check_end(cx, fx);
        read
    }

    /// Takes up to `most` bytes of a stream off the front without a copy. `None` if they do not lie in a buffer of their own: then
    /// they are to be [read](Self::read).
    pub(crate) fn read_whole(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        fx: &mut Effects,
    ) -> Option<Bytes> {
        if self.ended().is_some() || self.receiver.discarding {
            return None;
        }
        self.used = true;
        let read = self.receiver.read_whole(cx, self.capabilities, most, fx);
        self.check_end(cx, fx);
        read
    }

    /// What a read would give: bytes of a stream, or the length of the next message. `None` if there is nothing.
    pub(crate) fn readable(&self) -> Option<usize> {
        self.receiver.readable(self.capabilities)
    }
}
