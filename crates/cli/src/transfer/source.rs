//! A file that is sent.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::TransferError;
use super::name::sanitised;

/// Bytes read at once.
const PIECE: usize = 256 * 1024;
/// Pieces read ahead.
const PIECES_AHEAD: usize = 4;

/// A file that is open and may be sent.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) size: u64,
    /// In seconds since the Unix epoch.
    pub(crate) modified: Option<i64>,
}

impl Source {
    /// Opens a file. Only regular files have a size that can be promised.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
        // Asked before opening: opening a named pipe would wait for its other end.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            return Err(format!("{} is a directory; pack it into one file first", path.display()));
        }
        if !metadata.is_file() {
            return Err(format!("{} is not a regular file; `towline pipe` sends streams", path.display()));
        }
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self {
            file,
            path: path.to_owned(),
            name: sanitised(&name),
            size: metadata.len(),
            modified: modified.and_then(|since| i64::try_from(since.as_secs()).ok()),
        })
    }

    /// Reads exactly `size` bytes on a thread of its own. The last item is the hash of all of them.
    pub(super) fn read(self) -> mpsc::Receiver<Piece> {
        let (pieces, read) = mpsc::channel(PIECES_AHEAD);
        tokio::task::spawn_blocking(move || {
            // A failure to hand over means that nobody wants the rest.
            let _ = self.read_into(&pieces);
        });
        read
    }

    fn read_into(mut self, pieces: &mpsc::Sender<Piece>) -> Result<(), mpsc::error::SendError<Piece>> {
        let mut hasher = blake3::Hasher::new();
        let mut left = self.size;
        while left > 0 {
            let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
            let result = match self.file.read(&mut piece) {
                Ok(0) => Err("it has become shorter while it was being sent".to_owned()),
                Ok(length) => {
                    piece.truncate(length);
                    left -= length as u64;
                    Ok(piece)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error.to_string()),
            };
            match result {
                Ok(piece) => {
                    hasher.update(&piece);
                    pieces.blocking_send(Piece::Data(piece.into()))?;
                }
                Err(why) => {
                    let why = format!("cannot read {}: {why}", self.path.display());
                    return pieces.blocking_send(Piece::Failed(TransferError::Local(why)));
                }
            }
        }
        pieces.blocking_send(Piece::End(hasher.finalize()))
    }
}

/// What reading a file yields.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes.
    Data(Bytes),
    /// All have been read; their hash.
    End(blake3::Hash),
    /// Reading failed; nothing comes after this.
    Failed(TransferError),
}
