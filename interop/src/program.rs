//! Our own program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The `towline` program of this workspace, as last built; it is built if it was not.
///
/// # Errors
/// When it cannot be built.
pub fn program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let directory = test.parent().and_then(Path::parent).context("tests lie two directories deep")?;
    let program = directory.join("towline");
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--offline", "--package", "towline-cli"]);
        ensure!(build.status()?.success(), "the program cannot be built");
    }
    Ok(program)
}
