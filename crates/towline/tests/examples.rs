//! The examples run, and say what they are there to say.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::process::Command;

/// Runs an example that the test build has made, and returns what it prints.
fn run(name: &str) -> String {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let output = Command::new(path.join("examples").join(name)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn two_devices() {
    let printed = run("two_devices");
    assert!(printed.contains("Hello, Alice!"), "{printed}");
    assert!(printed.contains("refused, as it should be"), "{printed}");
}

#[test]
fn two_accounts() {
    let printed = run("two_accounts");
    let lines = [
        "Alice asks",
        "are contacts",
        "1 device",
        "Bob reads: hello, Bob",
        "Alice reads: hello, Alice",
        "after a ban: ",
    ];
    for line in lines {
        assert!(printed.contains(line), "{line}: {printed}");
    }
}

#[test]
fn in_the_lab() {
    assert!(run("in_the_lab").starts_with("2000000 bytes in "));
}
