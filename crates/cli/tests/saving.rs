//! What is known of others survives whatever happens while it is saved: several processes, violent ends, full disks.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Running, World, names, towline};

fn account(number: usize) -> String {
    format!("{number:040x}")
}

fn home(directory: &Path) -> String {
    let home = directory.join("home").to_str().unwrap().to_owned();
    towline(["init", "--key-size", "2048", "--home", &home]).success();
    home
}

/// `contact add` of one that is not asked.
fn add(home: &str, id: &str) -> Command {
    let mut command = common::command();
    command.args(["contact", "add", id, "--no-request", "--json", "--home", home]);
    command
}

fn contacts(home: &str) -> BTreeSet<String> {
    let listed = towline(["contact", "list", "--json", "--home", home]).success();
    listed.events().iter().map(|event| event["account"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn many_processes_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let wanted: BTreeSet<_> = (1..=24).map(account).collect();
    let running: Vec<_> = wanted.iter().map(|id| Running::spawn(add(&home, id))).collect();
    for running in running {
        running.ended().success();
    }
    assert_eq!(contacts(&home), wanted);
    let left = names(home.as_ref());
    assert!(left.iter().all(|name| !name.starts_with('.') && !name.contains("new")), "{left:?}");
}

#[test]
fn a_process_that_is_online_and_another() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let mut at_anna = anna.online(&[]);
    for number in 1..=8 {
        anna.offline(&["contact", "add", &account(number), "--no-request"]).success();
    }
    anna.offline(&["contact", "ban", &account(9)]).success();
    at_anna.until_such("contact", |contact| contact["state"] == "banned");
    // The one that is online saves too, and undoes nothing.
    ben.run(&["contact", "add", &anna.account]).success();
    at_anna.until("contact_request");
    anna.offline(&["contact", "refuse", &ben.account]).success();
    anna.offline(&["contact", "remove", &account(1)]).success();
    at_anna.until_such("contact", |contact| contact["account"] == account(1) && contact["state"] == "none");
    at_anna.end_input();
    at_anna.ended().fails_with(130);
    let expected: BTreeSet<_> = (2..=9).map(account).collect();
    assert_eq!(contacts(anna.home.to_str().unwrap()), expected);
    assert!(anna.offline(&["contact", "requests", "--offline"]).success().out.is_empty());
}

/// Kills a child after some time, if it has not ended.
fn kill_after(mut child: Child, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    // It may have ended.
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn killed_in_the_middle_of_saving() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let began = Instant::now();
    add(&home, &account(1)).stdout(Stdio::null()).status().unwrap();
    let whole = began.elapsed();
    let mut known = contacts(&home);
    assert_eq!(known.len(), 1);
    // At every point of its life, one after the other.
    let attempts = 60;
    for attempt in 1..=attempts {
        let child =
            add(&home, &account(1 + attempt)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kill_after(child, whole * u32::try_from(attempt).unwrap() / u32::try_from(attempts).unwrap());
        let text = std::fs::read_to_string(Path::new(&home).join("contacts.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&text).expect("the file is whole");
        let kept: BTreeSet<_> = kept["contacts"].as_object().unwrap().keys().cloned().collect();
        assert!(kept.is_superset(&known) && kept.len() <= known.len() + 1, "{known:?} became {kept:?}");
        known = kept;
    }
    let left = names(home.as_ref());
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
    // Nobody holds the lock any more.
    Running::spawn(add(&home, &account(1000))).ended().success();
    known.insert(account(1000));
    assert_eq!(contacts(&home), known);
}

/// A small file system, gone with this.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// `None` where this user may not mount.
    fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: a process that was killed may not be gone yet.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(directory.path()) else {
        common::skip::skipped("saving::a_full_disk", "this user may not mount a file system");
        return;
    };
    let home = home(directory.path());
    Running::spawn(add(&home, &account(1))).ended().success();
    let file = Path::new(&home).join("contacts.json");
    let before = std::fs::read(&file).unwrap();
    let filler = directory.path().join("filler");
    // To the last page.
    for chunk in [16_384, 4096, 1] {
        use std::io::Write as _;
        let mut to = std::fs::File::options().create(true).append(true).open(&filler).unwrap();
        while to.write_all(&vec![0; chunk]).is_ok() {}
    }
    let full = Running::spawn(add(&home, &account(2))).ended().fails_with(6);
    let error = full.event("error");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("contacts.json") && message.contains("No space left"), "{message}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(contacts(&home), [account(1)].into());
    let export = ["account", "export", "--no-password", "--json", "--home", &home];
    let archive = directory.path().join("archive.gz");
    towline(export.iter().map(AsRef::as_ref).chain([archive.as_os_str()])).fails_with(6);
    assert!(!archive.exists());
    std::fs::remove_file(filler).unwrap();
    Running::spawn(add(&home, &account(2))).ended().success();
    assert_eq!(contacts(&home), [account(1), account(2)].into());
}

#[test]
fn a_damaged_file_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let file = Path::new(&home).join("contacts.json");
    for damage in [&b""[..], b"{", b"[]", b"{\"contacts\": {\"x\": {}}}", &[0xff; 50]] {
        std::fs::write(&file, damage).unwrap();
        let refused = Running::spawn(add(&home, &account(1))).ended().fails_with(6);
        assert!(refused.event("error")["message"].as_str().unwrap().contains("contacts.json"), "{refused:?}");
        assert_eq!(std::fs::read(&file).unwrap(), damage);
    }
}
