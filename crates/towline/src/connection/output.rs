//! Framed bytes on their way to the socket (RFC 4571): whole frames, gathered and written together.

use std::ops::Range;

/// Longest payload of a frame.
const MAX_PAYLOAD: usize = u16::MAX as usize;
/// Length of a frame's header.
const HEADER: usize = 2;

/// A buffer that is filled at one end and written from the other. Its memory stays initialised, so that records are
/// sealed into it without clearing it first.
#[derive(Debug)]
pub(crate) struct Output {
    buffer: Vec<u8>,
    /// What is filled and not written.
    live: Range<usize>,
}

impl Output {
    /// Begins with frames that wait already.
    pub(crate) fn new(frames: Vec<u8>) -> Self {
        let live = 0..frames.len();
        Self { buffer: frames, live }
    }

    /// Bytes to write.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// What is to be written next.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.live.clone()]
    }

    /// That many bytes were written.
    pub(crate) fn written(&mut self, bytes: usize) {
        self.live.start += bytes;
        if self.live.is_empty() {
            self.live = 0..0;
        }
    }

    /// Gives the memory back. Only when empty.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::new(Vec::new());
        }
    }

    /// Appends whole frames.
    pub(crate) fn push_frames(&mut self, frames: &[u8]) {
        self.room(frames.len()).copy_from_slice(frames);
        self.live.end += frames.len();
    }

    /// Appends a payload in as many frames as it takes.
    pub(crate) fn push_payload(&mut self, payload: &[u8]) {
        for piece in payload.chunks(MAX_PAYLOAD) {
            self.push_frames(&(piece.len() as u16).to_be_bytes());
            self.push_frames(piece);
        }
    }

    /// Appends one frame, whose payload of at most `most` bytes `fill` writes; it returns how many it wrote.
    pub(crate) fn push_with<E>(
        &mut self,
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        debug_assert!(most <= MAX_PAYLOAD, "one record is less than a frame");
        let room = self.room(HEADER + most);
        let len = fill(&mut room[HEADER..])?;
        room[..HEADER].copy_from_slice(&(len as u16).to_be_bytes());
        self.live.end += HEADER + len;
        Ok(())
    }

    /// Initialised memory behind what is filled.
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.live.end + bytes;
        if self.buffer.len() < end {
            self.buffer.resize(end.next_power_of_two(), 0);
        }
        &mut self.buffer[self.live.end..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_order_however_they_are_written() {
        let mut output = Output::new(vec![0, 1, 9]);
        output.push_payload(b"abc");
        output
            .push_with::<()>(10, |room| {
                room[..2].copy_from_slice(b"de");
                Ok(2)
            })
            .unwrap();
        assert_eq!(output.push_with(10, |_| Err(7)), Err(7), "nothing is left of a frame that failed");
        let mut seen = Vec::new();
        while !output.is_empty() {
            seen.push(output.bytes()[0]);
            output.written(1);
        }
        assert_eq!(seen, b"\x00\x01\x09\x00\x03abc\x00\x02de");
        output.push_payload(&vec![5; 70_000]);
        assert_eq!(output.len(), 70_000 + 2 * HEADER);
        assert_eq!(output.bytes()[..3], [0xff, 0xff, 5]);
        assert_eq!(output.bytes()[2 + 65_535..][..3], [0x11, 0x71, 5]);
    }
}
