//! Our own program.

use std::ffi::OsStr;
use std::fs::{metadata, read_dir};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};

/// The `towline` program of this workspace. It is built if it was not, or is older than what it was made of.
///
/// # Errors
/// When it cannot be built.
pub fn program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let directory = test.parent().and_then(Path::parent).context("tests lie two directories deep")?;
    let program = directory.join("towline");
    if !is_fresh(&program) {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--offline", "--package", "towline-cli"]);
        if directory.ends_with("release") {
            build.arg("--release");
        }
        ensure!(build.status()?.success(), "the program cannot be built");
    }
    Ok(program)
}

/// Whether the program is there, and newer than all that the crates are made of. Cargo writes no list of that beside a program which it
/// builds for the tests of its package.
fn is_fresh(program: &Path) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    modified(program).is_some_and(|made| {
        let lock = modified(&root.join("Cargo.lock")).is_some_and(|at| at <= made);
        lock && is_older(&root.join("crates"), made)
    })
}

/// Whether all manifests and sources in a directory are older than this. Tests and benches are in no program.
fn is_older(directory: &Path, made: SystemTime) -> bool {
    let Ok(entries) = read_dir(directory) else { return false };
    entries.flatten().all(|entry| {
        let path = entry.path();
        match path.extension().and_then(OsStr::to_str) {
            None if path.is_dir() => {
                ["tests", "benches", "examples"].iter().any(|aside| path.ends_with(aside))
                    || is_older(&path, made)
            }
            Some("rs" | "toml" | "txt") => modified(&path).is_some_and(|at| at <= made),
            _ => true,
        }
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    metadata(path).and_then(|found| found.modified()).ok()
}
