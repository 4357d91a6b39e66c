//! Transfers that do not come to an end: dead processes and full disks.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{World, names, skip};

/// A dead peer is noticed in less than this; its end of the connection is closed by the system.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_receiver_that_is_killed() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let file = world.endless("huge");
    let into = world.path("in");
    let mut receiving = ben.receive(&into, &["--accept-from", &anna.id]);
    let sending = anna.send(&ben.id, &[&file]);
    receiving.until("file_started");
    receiving.kill();
    let killed = Instant::now();
    let broken = sending.ended().fails_with(5);
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
    assert_eq!(broken.event("file_failed")["name"], "huge");
    assert_eq!(broken.event("error")["kind"], "transfer");
    // What it could not remove does not pass for the file.
    let left = names(&into);
    assert!(left.iter().all(|name| name.starts_with(".towline-")), "{left:?}");
}

#[test]
fn a_sender_that_is_killed() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let (huge, small) = (world.endless("huge"), world.file("small", b"small"));
    let into = world.path("in");
    let mut receiving = ben.receive(&into, &["--count", "2", "--accept-from", &anna.account]);
    let mut sending = anna.send(&ben.id, &[&huge]);
    sending.until("file_started");
    receiving.until("file_started");
    sending.kill();
    let failed = receiving.until("file_failed");
    assert_eq!(failed["name"], "huge");
    assert_eq!(names(&into), [""; 0], "the partial file is removed");
    // The receiver goes on with the next file.
    anna.send(&ben.id, &[&small]).ended().success();
    let received = receiving.ended().fails_with(5);
    assert!(received.event("error")["message"].as_str().unwrap().contains("1 of 2"), "{received:?}");
    assert_eq!(names(&into), ["small"]);
}

#[test]
fn an_interrupted_sender_and_an_interrupted_receiver() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let huge = world.endless("huge");
    let into = world.path("in");
    let mut receiving = ben.receive(&into, &["--accept-from", &anna.id]);
    let mut sending = anna.send(&ben.id, &[&huge]);
    sending.until("file_started");
    receiving.until("file_started");
    sending.signal("INT");
    sending.ended().fails_with(130);
    receiving.until("file_failed");
    assert_eq!(names(&into), [""; 0]);

    let sending = anna.send(&ben.id, &[&huge]);
    receiving.until("file_started");
    receiving.signal("TERM");
    receiving.ended().fails_with(130);
    sending.ended().fails_with(5);
    assert_eq!(names(&into), [""; 0]);
}

#[test]
fn a_file_that_becomes_shorter() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let huge = world.endless("huge");
    let into = world.path("in");
    let mut receiving = ben.receive(&into, &["--once", "--accept-from", &anna.id]);
    let mut sending = anna.send(&ben.id, &[&huge]);
    sending.until("file_started");
    receiving.until("file_started");
    std::fs::File::options().write(true).open(&huge).unwrap().set_len(10).unwrap();
    let failed = sending.ended().fails_with(5).event("file_failed");
    assert!(failed["reason"].as_str().unwrap().contains("shorter"), "{failed}");
    let failed = receiving.ended().fails_with(5).event("file_failed");
    assert!(failed["reason"].as_str().unwrap().contains("shorter"), "{failed}");
    assert_eq!(names(&into), [""; 0]);
}

/// A file system of one megabyte, gone with this.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that was killed may not be gone yet.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk() {
    let world = World::new();
    let into = world.path("small");
    let Some(_disk) = SmallDisk::mount(&into) else {
        skip::skipped("a_full_disk", "it needs the right to mount a file system");
        return;
    };
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let (large, small) = (world.file("large", &vec![1; 8 << 20]), world.file("fits", b"fits"));
    let receiving = ben.receive(&into, &["--count", "2", "--accept-from", &anna.id]);
    let sent = anna.send(&ben.id, &[&large, &small]).ended().fails_with(5);
    let received = receiving.ended().fails_with(5);
    // What happened is known to both, where it happened only to the receiver.
    for (side, ended, what, where_known) in
        [("sender", &sent, "no storage space", false), ("receiver", &received, "No space left", true)]
    {
        let failed = ended.event("file_failed");
        assert_eq!(failed["name"], "large", "{side}");
        let reason = failed["reason"].as_str().unwrap();
        assert!(reason.contains(what), "{side}: {failed}");
        assert_eq!(reason.contains(into.to_str().unwrap()), where_known, "{side}: {failed}");
    }
    assert_eq!(names(&into), ["fits"], "the partial file is removed, the other transfer is not disturbed");
}
