//! Packing and unpacking, within bounds.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use zeroize::Zeroizing;

use super::{ArchiveError, MAX_ARCHIVE_JSON_LEN};

/// Unpacks one gzip member that is all of `packed`.
pub(super) fn unpack(mut packed: &[u8]) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
    let mut out = Zeroizing::new(Vec::new());
    let limit = MAX_ARCHIVE_JSON_LEN as u64 + 1;
    let mut decoder = GzDecoder::new(&mut packed).take(limit);
    decoder.read_to_end(&mut out).map_err(|_| ArchiveError::Gzip)?;
    if out.len() > MAX_ARCHIVE_JSON_LEN {
        return Err(ArchiveError::TooMuch);
    }
    if packed.is_empty() { Ok(out) } else { Err(ArchiveError::Gzip) }
}

/// Packs without name and time, so that equal contents are equal files.
pub(super) fn pack(plain: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).expect("writing to memory succeeds");
    Zeroizing::new(encoder.finish().expect("writing to memory succeeds"))
}
