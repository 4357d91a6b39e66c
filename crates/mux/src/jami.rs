//! The Jami dialect on the wire: `spec/connection.md` sections 6.2 to 6.4.

mod decoder;
mod message;

pub(crate) use decoder::{Decoder, Piece};
pub(crate) use message::{Inbound, Message, RequestState};

/// Channel of requests and their answers.
pub(crate) const CONTROL: u16 = 0;

/// Channel of versions and beacons.
pub(crate) const PROTOCOL: u16 = 0xffff;

/// Writes the header of a frame and says how long it is: at most seven bytes.
pub(crate) fn header(number: u16, body: u16, out: &mut [u8; 8]) -> usize {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    let [high, low] = number.to_be_bytes();
    put(&[0x92]);
    match number {
        0..=0x7f => put(&[low]),
        0x80..=0xff => put(&[0xcc, low]),
        0x100.. => put(&[0xcd, high, low]),
    }
    let [high, low] = body.to_be_bytes();
    match body {
        0..=0xff => put(&[0xc4, low]),
        0x100.. => put(&[0xc5, high, low]),
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of connection.md section 6.2.
    #[test]
    fn headers_as_in_the_table() {
        for (number, body, hex) in [
            (1, 2, "9201c402"),
            (200, 2, "92ccc8c402"),
            (300, 2, "92cd012cc402"),
            (0x8000, 2, "92cd8000c402"),
            (1, 0, "9201c400"),
            (0x8000, 0, "92cd8000c400"),
            (1, 255, "9201c4ff"),
            (1, 256, "9201c50100"),
            (1, 65535, "9201c5ffff"),
            (0x8001, 65535, "92cd8001c5ffff"),
            (127, 1, "927fc401"),
            (128, 1, "92cc80c401"),
        ] {
            let mut out = [0; 8];
            let len = header(number, body, &mut out);
            assert_eq!(hex::encode(&out[..len]), hex);
        }
    }
}
