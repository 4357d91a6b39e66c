//! A file that is received: under a temporary name until it is complete and checked.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::TransferError;
use super::name::numbered;

/// Pieces (of at most about 16 KiB) waiting for the disk.
const PIECES_WAITING: usize = 32;
/// Names tried when files of that name exist.
const NUMBERS: u32 = 10_000;

/// The directory that files are received into.
#[derive(Debug, Clone)]
pub(crate) struct Folder(Arc<Path>);

impl Folder {
    /// Checks that files can be made in it.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let folder = Self(path.into());
        folder
            .temporary()
            .map_err(|error| format!("cannot write to the directory {}: {error}", path.display()))?;
        Ok(folder)
    }

    /// Begins a file.
    pub(super) fn begin(&self) -> Result<Target, TransferError> {
        let file = self.temporary().map_err(|error| self.failed(&error))?;
        let (pieces, to_write) = mpsc::channel(PIECES_WAITING);
        let writing = tokio::task::spawn_blocking(move || write(file, to_write));
        Ok(Target { folder: self.clone(), pieces, writing })
    }

    /// A file that is removed unless it is kept. It gets the permissions that any new file gets.
    fn temporary(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".towline-").suffix(".part");
        #[cfg(unix)]
        builder.permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666));
        builder.tempfile_in(&self.0)
    }

    fn failed(&self, error: &io::Error) -> TransferError {
        TransferError::Disk { folder: self.0.to_path_buf(), kind: error.kind(), why: error.to_string() }
    }
}

/// A file being received. Dropping it removes what is there.
#[derive(Debug)]
pub(super) struct Target {
    folder: Folder,
    pieces: mpsc::Sender<Bytes>,
    writing: JoinHandle<io::Result<(NamedTempFile, blake3::Hash)>>,
}

impl Target {
    /// Takes the next bytes. Waits when the disk is slow.
    pub(super) async fn push(&mut self, bytes: Bytes) -> Result<(), TransferError> {
        if self.pieces.send(bytes).await.is_ok() {
            return Ok(());
        }
        // The thread has ended early, for which there is one reason.
        let folder = self.folder.clone();
        match (&mut self.writing).await {
            Ok(Err(error)) => Err(folder.failed(&error)),
            Ok(Ok(_)) | Err(_) => Err(TransferError::Local("writing ended early".to_owned())),
        }
    }

    /// Removes what is there. Ready when it is gone.
    pub(super) async fn discard(self) {
        drop(self.pieces);
        // When the thread has ended, the file goes with its result, which may have been taken already.
        if !self.writing.is_finished() {
            let _ = self.writing.await;
        }
    }

    /// Everything is written; its hash.
    pub(super) async fn written(self) -> Result<Written, TransferError> {
        drop(self.pieces);
        match self.writing.await {
            Ok(Ok((file, hash))) => Ok(Written { folder: self.folder, file, hash }),
            Ok(Err(error)) => Err(self.folder.failed(&error)),
            Err(_) => Err(TransferError::Local("writing ended early".to_owned())),
        }
    }
}

/// A file whose bytes are all there, still under its temporary name.
#[derive(Debug)]
pub(super) struct Written {
    folder: Folder,
    file: NamedTempFile,
    pub(super) hash: blake3::Hash,
}

impl Written {
    /// Brings it to the disk and gives it its name, or, if that is taken, the name with a number.
    pub(super) async fn keep(self, name: String, modified: Option<i64>) -> Result<PathBuf, TransferError> {
        let folder = self.folder.clone();
        let kept = tokio::task::spawn_blocking(move || self.keep_now(&name, modified)).await;
        match kept {
            Ok(result) => result.map_err(|error| folder.failed(&error)),
            Err(_) => Err(TransferError::Local("writing ended early".to_owned())),
        }
    }

    fn keep_now(self, name: &str, modified: Option<i64>) -> io::Result<PathBuf> {
        let Self { folder, mut file, .. } = self;
        let time = modified.and_then(|time| u64::try_from(time).ok());
        let time = time.and_then(|time| UNIX_EPOCH.checked_add(Duration::from_secs(time)));
        if let Some(time) = time {
            // A time that the file system cannot hold is not worth failing for.
            let _ = file.as_file().set_modified(time);
        }
        file.as_file().sync_all()?;
        for number in 0..NUMBERS {
            let path = folder.0.join(if number == 0 { name.to_owned() } else { numbered(name, number) });
            match file.persist_noclobber(&path) {
                Ok(_) => {
                    if cfg!(unix) {
                        File::open(&folder.0)?.sync_all()?;
                    }
                    return Ok(path);
                }
                Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => file = refused.file,
                Err(refused) => return Err(refused.error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many files of this name"))
    }
}

/// Writes what comes, until no more comes.
fn write(
    mut file: NamedTempFile,
    mut pieces: mpsc::Receiver<Bytes>,
) -> io::Result<(NamedTempFile, blake3::Hash)> {
    let mut hasher = blake3::Hasher::new();
    let mut batch = Vec::with_capacity(PIECES_WAITING);
    while pieces.blocking_recv_many(&mut batch, PIECES_WAITING) > 0 {
        for piece in batch.drain(..) {
            hasher.update(&piece);
            file.write_all(&piece)?;
        }
    }
    Ok((file, hasher.finalize()))
}
