//! The kept inputs stay harmless, and the program that CI runs finds them.

use std::collections::BTreeSet;
use std::process::Command;

use towline_fuzz::{Budget, TARGETS, corpus, home, run};

fn only_the_corpus() -> Budget {
    Budget { executions: 0, ..Budget::default() }
}

#[test]
fn every_kept_input_is_harmless() {
    for target in TARGETS {
        let files = corpus::load(&home(), target.name).expect("every target has a corpus");
        assert!(!files.is_empty(), "{} has no kept input", target.name);
        let (paths, inputs): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        let report = run(target, &inputs, 1, only_the_corpus());
        let place = report.executions.checked_sub(1).and_then(|index| paths.get(index as usize));
        assert_eq!(report.failure, None, "{}: {place:?}", target.name);
        assert_eq!(report.executions, inputs.len() as u64);
    }
}

#[test]
fn every_folder_of_the_corpus_has_a_target() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "names are unique");
    let folders = std::fs::read_dir(home().join("corpus")).expect("the corpus lies in the package");
    let folders = folders.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
    assert_eq!(folders.collect::<BTreeSet<String>>(), names);
}

#[test]
fn every_target_has_a_libfuzzer_wrapper() {
    let manifest = std::fs::read_to_string(home().join("libfuzzer/Cargo.toml")).expect("it is checked in");
    let wrapped: BTreeSet<&str> =
        manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    let missing: Vec<&str> =
        TARGETS.iter().map(|target| target.name).filter(|name| !wrapped.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_runner_names_its_targets_and_refuses_what_it_does_not_know() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_fuzz-run")).args(arguments).output();
        output.expect("the runner was built beside this test")
    };
    let list = run(&["--list"]);
    assert!(list.status.success());
    assert_eq!(String::from_utf8_lossy(&list.stdout).lines().count(), TARGETS.len());
    for wrong in [&["--target", "nothing"][..], &["--seconds", "many"], &["--speed"]] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
