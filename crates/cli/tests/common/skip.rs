//! What a test cannot do on this machine is said where the suite lists skipped tests; in CI every program is there.

use std::io::Write as _;

/// A program that a test needs is missing. `what` names the test or the part of it that is left out.
#[track_caller]
pub fn missing(what: &str, program: &str) {
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1");
    assert!(!ci, "{what}: {program} is not installed; run `cargo xtask setup`");
    skipped(what, &format!("{program} is not installed"));
}

/// The machine does not let a test do what it does.
#[allow(clippy::print_stdout, reason = "what a test skips, it says")]
pub fn skipped(what: &str, why: &str) {
    println!("SKIPPED: {what}: {why}");
    let Some(path) = std::env::var_os("TOWLINE_SKIPPED_FILE") else { return };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{what}: {why}").unwrap();
}
