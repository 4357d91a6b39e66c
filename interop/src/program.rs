//! Our own program.

use std::fs::{metadata, read_to_string};
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

/// Whether the program is there, and newer than every source that cargo lists beside it.
fn is_fresh(program: &Path) -> bool {
    let modified = |path: &Path| metadata(path).and_then(|found| found.modified());
    let (Ok(made), Ok(list)) = (modified(program), read_to_string(program.with_extension("d"))) else {
        return false;
    };
    sources(&list).all(|source| modified(&source).unwrap_or(SystemTime::UNIX_EPOCH) <= made)
}

/// The files after the colon of a rule of `make`, in which a space of a name is behind a backslash.
fn sources(rule: &str) -> impl Iterator<Item = PathBuf> {
    let files = rule.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, files)| files);
    let files = files.replace("\\ ", "\0");
    let files: Vec<PathBuf> = files.split(' ').map(|file| file.replace('\0', " ").into()).collect();
    files.into_iter()
}
