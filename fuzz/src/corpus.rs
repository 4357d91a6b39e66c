//! Inputs that are kept: `corpus/NAME/*`, one input a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Reads the inputs of one target, in the order of their file names.
///
/// # Errors
/// When the folder or one of its files cannot be read.
pub fn load(home: &Path, target: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let dir = home.join("corpus").join(target);
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    files.into_iter().map(|path| fs::read(&path).map(|bytes| (path, bytes))).collect()
}

/// Writes an input that broke its target to `failures/NAME/HASH` and returns the place.
///
/// # Errors
/// When the folder cannot be made or the file cannot be written.
pub fn keep_failure(home: &Path, target: &str, input: &[u8]) -> io::Result<PathBuf> {
    let dir = home.join("failures").join(target);
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{:016x}", fingerprint(input)));
    fs::write(&path, input)?;
    Ok(path)
}

/// FNV-1a, 64 bits: a name for the input, and a seed for the generator of a target.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
