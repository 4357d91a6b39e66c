//! Files that are whole or not there, readable by their owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;

/// What the operating system refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Reading failed.
    #[error("cannot read the file: {0}")]
    Read(ErrorKind),
    /// Writing, flushing or renaming failed. What was there before is still there.
    #[error("cannot write the file: {0}")]
    Write(ErrorKind),
    /// A directory cannot be made or listed.
    #[error("cannot use the directory: {0}")]
    Directory(ErrorKind),
    /// The file is larger than such files are.
    #[error("the file is larger than the {limit} bytes allowed")]
    TooLong {
        /// Bytes allowed.
        limit: u64,
    },
    /// It should be text.
    #[error("the file is not UTF-8 text")]
    NotText,
}

/// Makes a directory (and those above it) that only its owner may enter.
pub(crate) fn make_directory(path: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| FileError::Directory(error.kind()))
}

/// Reads a file of at most `limit` bytes. None if there is no such file.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::Read(error.kind())),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| FileError::Read(error.kind()))?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLong { limit });
    }
    Ok(Some(bytes))
}

/// Like [`read`], for text.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<Option<String>, FileError> {
    let bytes = read(path, limit)?;
    bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| FileError::NotText)).transpose()
}

/// Puts `bytes` into a file of mode 0600: through a temporary one that is flushed and renamed, so that
/// after a crash the old or the new content is there, never a part.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report; a leftover temporary file is ignored by all readers.
        let _ = fs::remove_file(&temporary);
        return Err(FileError::Write(error.kind()));
    }
    sync_directory(path).map_err(|error| FileError::Write(error.kind()))
}

/// Suffix of files that are being written.
pub(crate) const TEMPORARY: &str = ".tmp";

fn temporary_beside(path: &Path) -> PathBuf {
    let mut chance = [0; 8];
    rand::fill(&mut chance).expect("the operating system has randomness");
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}{TEMPORARY}", hex::encode(chance)));
    path.with_file_name(name)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a rename last. Elsewhere than on Unix directories cannot be opened, and need not be.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}
