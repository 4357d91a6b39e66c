//! `towline demo`: what a newcomer sees.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::process::Command;

use common::{DEADLINE, Ended, Running, World, command, names};

/// Runs the demonstration with a directory for temporary files of its own, and sees that nothing stays there.
fn demo(args: &[&str]) -> Ended {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = command();
    command.arg("demo").args(args).env("TMPDIR", temporary.path());
    let ended = Running::spawn(command).ended();
    assert_eq!(names(temporary.path()), [""; 0]);
    ended
}

const STEPS: [&str; 11] = [
    "DHT node",
    "identity",
    "published",
    "found on DHT",
    "answer",
    "path chosen",
    "secured",
    "first channel",
    "second channel",
    "throughput",
    "checked",
];

#[test]
fn with_its_own_files() {
    let ended = demo(&["--json"]).success();
    let steps: Vec<_> =
        ended.events().iter().map(|event| event["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!(steps, STEPS);
    assert!(ended.events().iter().all(|event| event["event"] == "demo" && event["at"].is_number()));
    let text = |step: usize| ended.events()[step]["text"].as_str().unwrap().to_owned();
    assert!(text(6).contains("channeler 1, X25519 + ML-KEM-768"), "{}", text(6));
    assert!(text(9).starts_with("64."), "{}", text(9));
}

#[test]
fn with_files_of_the_user_and_for_people() {
    let world = World::new();
    // Two of one name: both must arrive.
    let (one, two) =
        (world.file("one/same name.txt", &vec![7; 100_000]), world.file("two/same name.txt", b"x"));
    let ended = demo(&[one.to_str().unwrap(), two.to_str().unwrap()]).success();
    for step in STEPS {
        assert!(ended.out.contains(step), "{step} is not in {ended:#?}");
    }
    assert!(ended.out.contains("same name.txt"));
    assert_eq!(ended.err, "");
}

#[test]
fn a_missing_file_is_named() {
    let ended = demo(&["/nowhere", "/dev/null"]).fails_with(6);
    assert!(ended.err.contains("/nowhere"), "{ended:?}");
}

#[cfg(unix)]
#[test]
fn interrupted_it_leaves_nothing_behind() {
    let world = World::new();
    let (one, two) = (world.endless("one"), world.endless("two"));
    let temporary = world.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = command();
    command.args(["demo", "--json"]).args([&one, &two]).env("TMPDIR", &temporary);
    let mut running = Running::spawn(command);
    while running.until("demo")["what"] != "second channel" {}
    running.signal("INT");
    running.ended().fails_with(130);
    assert_eq!(names(&temporary), [""; 0]);
    assert_eq!(processes_that_name(&temporary), "");
}

#[cfg(unix)]
#[test]
fn interrupted_while_it_prepares_it_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        let mut command = command();
        command.args(["demo", "--json"]).env("TMPDIR", temporary.path());
        let mut running = Running::spawn(command);
        // Keys and files are being made.
        assert_eq!(running.until("demo")["what"], "DHT node");
        running.signal(signal);
        running.ended().fails_with(130);
        assert_eq!(names(temporary.path()), [""; 0]);
    }
}

#[cfg(unix)]
#[test]
fn killed_it_takes_its_processes_with_it() {
    let world = World::new();
    let (one, two) = (world.endless("one"), world.endless("two"));
    let temporary = world.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = command();
    command.args(["demo", "--json"]).args([&one, &two]).env("TMPDIR", &temporary);
    let mut running = Running::spawn(command);
    while running.until("demo")["what"] != "second channel" {}
    assert_ne!(processes_that_name(&temporary), "");
    running.kill();
    let killed = std::time::Instant::now();
    while !processes_that_name(&temporary).is_empty() {
        assert!(killed.elapsed() < DEADLINE, "processes are left");
    }
}

/// Numbers of the processes with this directory in their arguments.
#[cfg(unix)]
fn processes_that_name(directory: &std::path::Path) -> String {
    let found = Command::new("pgrep").args(["-f", directory.to_str().unwrap()]).output();
    String::from_utf8(found.expect("pgrep, of the package procps").stdout).unwrap()
}
