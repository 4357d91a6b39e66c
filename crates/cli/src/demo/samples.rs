//! Files for the demonstration, and the check of what became of them.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

/// Bytes of the large sample.
const LARGE: usize = 64 << 20;
/// Lines of the small one.
const LINES: u32 = 2000;
/// Bytes written or compared at once.
const PIECE: usize = 1 << 20;

/// Makes two files: one large, of numbers that cannot be compressed and are always the same, and one small, of text.
/// Stops early when it is not wanted any more.
pub(super) fn make(directory: &Path, wanted: impl Fn() -> bool) -> io::Result<Vec<PathBuf>> {
    let (large, small) = (directory.join("sample.bin"), directory.join("notes.txt"));
    let mut numbers = blake3::Hasher::new().update(b"towline demo").finalize_xof();
    let mut piece = vec![0; PIECE];
    let mut file = File::create(&large)?;
    for _ in 0..LARGE / PIECE {
        if !wanted() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        numbers.fill(&mut piece);
        file.write_all(&piece)?;
    }
    let mut file = BufWriter::new(File::create(&small)?);
    for line in 1..=LINES {
        writeln!(
            file,
            "{line:4}  A line is made fast to the other vessel, and then it can be towed anywhere."
        )?;
    }
    file.flush()?;
    Ok(vec![large, small])
}

/// Whether two files are the same, byte for byte; and the BLAKE3 hash of the first.
pub(super) fn same(one: &Path, other: &Path) -> io::Result<(bool, blake3::Hash)> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut hasher = blake3::Hasher::new();
    let mut same = true;
    loop {
        let length = fill(&mut one, &mut left)?;
        hasher.update(&left[..length]);
        same &= fill(&mut other, &mut right)? == length && left[..length] == right[..length];
        if length < PIECE {
            return Ok((same, hasher.finalize()));
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let long = vec![7; PIECE + 5];
        let mut changed = long.clone();
        changed[PIECE + 1] = 8;
        let a = write("a", &long);
        assert_eq!(same(&a, &write("b", &long)).unwrap(), (true, blake3::hash(&long)));
        assert!(!same(&a, &write("c", &changed)).unwrap().0);
        assert!(!same(&a, &write("d", &long[..PIECE])).unwrap().0);
        assert!(!same(&write("e", b""), &a).unwrap().0);
        assert!(same(&write("f", b""), &write("g", b"")).unwrap().0);
    }
}
