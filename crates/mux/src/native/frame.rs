//! Frames: length, channel number, body.

use super::MAX_FRAME_BODY;
use crate::PeerFault;

/// Bytes of a frame header.
pub(crate) const FRAME_HEADER: usize = 4;

/// The header of a frame.
pub(crate) fn header(number: u16, body: u16) -> [u8; FRAME_HEADER] {
    let ([a, b], [c, d]) = (body.to_be_bytes(), number.to_be_bytes());
    [a, b, c, d]
}

/// Splits the received stream into pieces. Keeps at most a header or one control frame.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// A control frame of which only a part has arrived.
    partial: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; FRAME_HEADER], have: usize },
    Body { number: u16, left: usize },
    Control { left: usize },
}

/// A part of the stream that can be acted upon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A frame of `len > 0` body bytes for a data channel begins.
    Start { number: u16, len: u16 },
    /// Bytes of the body of the frame that began last.
    Data { number: u16, bytes: &'a [u8] },
    /// The end of the peer's direction of a channel.
    End { number: u16 },
    /// A whole control frame.
    Control(&'a [u8]),
}

const AT_HEADER: State = State::Header { bytes: [0; FRAME_HEADER], have: 0 };

impl Default for Decoder {
    fn default() -> Self {
        Self { state: AT_HEADER, partial: Vec::new() }
    }
}

impl Decoder {
    /// The next piece at the front of `data`, which is moved on; `None` when all of it is taken.
    pub(crate) fn next<'a, 'd: 'a>(
        &'a mut self,
        data: &mut &'d [u8],
    ) -> Result<Option<Piece<'a>>, PeerFault> {
        loop {
            match &mut self.state {
                State::Header { bytes, have } => {
                    let taken = data.len().min(FRAME_HEADER - *have);
                    bytes[*have..*have + taken].copy_from_slice(&data[..taken]);
                    *have += taken;
                    *data = &data[taken..];
                    if *have < FRAME_HEADER {
                        return Ok(None);
                    }
                    let len = u16::from_be_bytes([bytes[0], bytes[1]]);
                    let number = u16::from_be_bytes([bytes[2], bytes[3]]);
                    if len > MAX_FRAME_BODY {
                        return Err(PeerFault::FrameTooLong(len));
                    }
                    if number == 0 {
                        self.partial.clear();
                        self.state = State::Control { left: len.into() };
                    } else if len == 0 {
                        self.state = AT_HEADER;
                        return Ok(Some(Piece::End { number }));
                    } else {
                        self.state = State::Body { number, left: len.into() };
                        return Ok(Some(Piece::Start { number, len }));
                    }
                }
                State::Body { number, left } => {
                    if data.is_empty() {
                        return Ok(None);
                    }
                    let (bytes, rest) = data.split_at(data.len().min(*left));
                    let number = *number;
                    *data = rest;
                    *left -= bytes.len();
                    if *left == 0 {
                        self.state = AT_HEADER;
                    }
                    return Ok(Some(Piece::Data { number, bytes }));
                }
                State::Control { left } => {
                    let (bytes, rest) = data.split_at(data.len().min(*left));
                    *data = rest;
                    *left -= bytes.len();
                    let complete = *left == 0;
                    if complete && self.partial.is_empty() {
                        self.state = AT_HEADER;
                        return Ok(Some(Piece::Control(bytes)));
                    }
                    self.partial.extend_from_slice(bytes);
                    if !complete {
                        return Ok(None);
                    }
                    self.state = AT_HEADER;
                    return Ok(Some(Piece::Control(&self.partial)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_gives_the_same_stream() {
        let stream = hex::decode("0003000109abcd00020001ffee0000800100000000").unwrap();
        // control 3 bytes? no: channel 1, 3 bytes; channel 1, 2 bytes; end of 0x8001; an empty control frame.
        for step in 1..=stream.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for mut part in stream.chunks(step) {
                while let Some(piece) = decoder.next(&mut part).unwrap() {
                    match piece {
                        Piece::Start { number, len } => seen.extend([u32::from(number), len.into()]),
                        Piece::Data { bytes, .. } => seen.extend(bytes.iter().map(|byte| u32::from(*byte))),
                        Piece::End { number } => seen.push(number.into()),
                        Piece::Control(bytes) => seen.push(1000 + bytes.len() as u32),
                    }
                }
            }
            assert_eq!(seen, [1, 3, 9, 0xab, 0xcd, 1, 2, 0xff, 0xee, 0x8001, 1000], "step {step}");
        }
    }

    #[test]
    fn a_long_frame_is_refused_at_its_header() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.next(&mut &[0x3f, 0xfd, 0, 1][..]), Err(PeerFault::FrameTooLong(16_381)));
        let mut decoder = Decoder::default();
        assert_eq!(
            decoder.next(&mut &[0x3f, 0xfc, 0, 1][..]),
            Ok(Some(Piece::Start { number: 1, len: 16_380 }))
        );
    }
}
