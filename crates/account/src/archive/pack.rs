//! Packing and unpacking, within bounds.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::bufread::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use zeroize::Zeroizing;

use super::{ArchiveError, MAX_ARCHIVE_JSON_LEN};

/// What begins a gzip stream.
const GZIP: &[u8] = &[0x1f, 0x8b];

pub(super) fn is_gzip(file: &[u8]) -> bool {
    file.starts_with(GZIP)
}

/// Unpacks one stream, of gzip or of zlib, that is all of `packed`.
pub(super) fn unpack(mut packed: &[u8]) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
    let plain = if is_gzip(packed) {
        read_all(GzDecoder::new(&mut packed))
    } else {
        read_all(ZlibDecoder::new(&mut packed))
    }
    .map_err(|_| ArchiveError::Packed)?;
    if plain.len() > MAX_ARCHIVE_JSON_LEN {
        return Err(ArchiveError::TooMuch);
    }
    if packed.is_empty() { Ok(plain) } else { Err(ArchiveError::Packed) }
}

fn read_all(decoder: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut plain = Zeroizing::new(Vec::new());
    decoder.take(MAX_ARCHIVE_JSON_LEN as u64 + 1).read_to_end(&mut plain)?;
    Ok(plain)
}

/// Packs as gzip, without name and time, so that equal contents are equal files.
pub(super) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).expect("writing to memory succeeds");
    encoder.finish().expect("writing to memory succeeds")
}

/// Packs as zlib.
pub(super) fn zlib(plain: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).expect("writing to memory succeeds");
    Zeroizing::new(encoder.finish().expect("writing to memory succeeds"))
}
