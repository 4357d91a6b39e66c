//! `send` and `receive`.

mod common;

use std::path::Path;

use common::{World, names, towline};

#[test]
fn two_files_travel_at_once_on_one_connection() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let large: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let files = [world.file("out/large.bin", &large), world.file("out/notes.txt", b"hello\n")];
    let into = world.path("in");
    let receiving = ben.receive(&into, &["--count", "2", "--accept-from", &anna.id]);
    let sent = anna.send(&ben.id, &[&files[0], &files[1]]).ended().success();
    let received = receiving.ended().success();

    assert_eq!(names(&into), ["large.bin", "notes.txt"]);
    assert!(std::fs::read(into.join("large.bin")).unwrap() == large);
    assert_eq!(std::fs::read(into.join("notes.txt")).unwrap(), b"hello\n");
    let opened: Vec<_> =
        sent.events().into_iter().filter(|event| event["event"] == "channel_opened").collect();
    assert_eq!(opened.len(), 2);
    assert_eq!(opened[0]["connection"], opened[1]["connection"]);
    let connected = sent.event("connected");
    assert_eq!(connected["device"], *ben.id);
    assert_eq!(connected["account"], *ben.account);
    assert_eq!(connected["dialect"], "native");
    for event in received.events().iter().filter(|event| event["event"] == "file_received") {
        assert_eq!(event["device"], *anna.id);
        let content = std::fs::read(event["path"].as_str().unwrap()).unwrap();
        assert_eq!(event["blake3"], blake3::hash(&content).to_string());
    }
    // The time of the last change travels too.
    let time = |path: &Path| {
        let modified = std::fs::metadata(path).unwrap().modified().unwrap();
        modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    assert_eq!(time(&files[1]), time(&into.join("notes.txt")));
}

#[test]
fn nothing_is_overwritten_and_empty_files_are_files() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let one = world.file("a/x.txt", b"one");
    let two = world.file("b/x.txt", b"two");
    let empty = world.file("empty", b"");
    let into = world.path("in");
    world.file("in/x.txt", b"mine");
    // By the id of the account.
    let receiving = ben.receive(&into, &["--count", "4", "--accept-from", &anna.account]);
    anna.send(&ben.id, &[&one, &two, &one, &empty]).ended().success();
    receiving.ended().success();
    assert_eq!(names(&into), ["empty", "x (1).txt", "x (2).txt", "x (3).txt", "x.txt"]);
    assert_eq!(std::fs::read(into.join("x.txt")).unwrap(), b"mine");
    assert_eq!(std::fs::read(into.join("empty")).unwrap(), b"");
    let mut contents: Vec<_> =
        (1..4).map(|number| std::fs::read(into.join(format!("x ({number}).txt"))).unwrap()).collect();
    contents.sort();
    assert_eq!(contents, [b"one", b"one", b"two"]);
}

#[test]
fn more_files_than_travel_at_once() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let files: Vec<_> = (0..100).map(|number| world.file(&format!("out/{number}"), &[number])).collect();
    let into = world.path("in");
    let receiving = ben.receive(&into, &["--count", "100", "--accept-from", &anna.id]);
    let paths: Vec<_> = files.iter().map(|path| &**path).collect();
    anna.send(&ben.id, &paths).ended().success();
    receiving.ended().success();
    for number in 0..100 {
        assert_eq!(std::fs::read(into.join(number.to_string())).unwrap(), [number]);
    }
}

#[test]
fn who_is_not_named_is_refused() {
    let world = World::new();
    let (anna, ben, eve) = (world.device("anna"), world.device("ben"), world.device("eve"));
    let file = world.file("file", b"content");
    let into = world.path("in");
    let mut receiving = ben.receive(&into, &["--once", "--accept-from", &anna.id]);
    let refused = eve.send(&ben.id, &[&file]).ended().fails_with(4);
    assert_eq!(refused.event("error")["kind"], "refused");
    assert_eq!(receiving.until("turned_away")["device"], *eve.id);
    // The receiver goes on.
    anna.send(&ben.id, &[&file]).ended().success();
    receiving.ended().success();
    assert_eq!(names(&into), ["file"]);
}

#[test]
fn whoever_is_banned_is_refused_even_when_anyone_may_come() {
    let world = World::new();
    let (ben, eve) = (world.device("ben"), world.device("eve"));
    std::fs::write(ben.home.join("trust"), format!("banned {}\n", eve.account)).unwrap();
    let file = world.file("file", b"content");
    let receiving = ben.receive(&world.path("in"), &["--accept-anyone", "--end-with-stdin"]);
    eve.send(&ben.id, &[&file]).ended().fails_with(4);
    drop(receiving);
}

#[test]
fn more_files_than_wanted_are_refused_by_name() {
    let world = World::new();
    let (anna, ben, cleo) = (world.device("anna"), world.device("ben"), world.device("cleo"));
    let (one, two) = (world.endless("one"), world.file("two", b"2"));
    let mut receiving = ben.receive(&world.path("in"), &["--once", "--accept-anyone"]);
    let mut first = anna.send(&ben.id, &[&one]);
    first.until("file_started");
    receiving.until("file_started");
    let refused = cleo.send(&ben.id, &[&two]).ended().fails_with(4);
    assert!(refused.event("error")["message"].as_str().unwrap().contains("no more files"), "{refused:?}");
}

#[test]
fn a_device_that_is_not_there_is_reported_soon() {
    let world = World::new();
    let anna = world.device("anna");
    let file = world.file("file", b"content");
    let mut command = anna.command("send");
    command.args(["--timeout", "5", "--to", &"ab".repeat(32)]).arg(&file);
    let lost = common::Running::spawn(command).ended().fails_with(3).event("error");
    assert_eq!(lost["step"], "certificate");
    assert!(lost["message"].as_str().unwrap().contains("the id is right"), "{lost}");

    let own = anna.send(&anna.id, &[&file]).ended().fails_with(2).event("error");
    assert!(own["message"].as_str().unwrap().contains("this device itself"), "{own}");
}

#[test]
fn no_dht_no_device() {
    let world = World::new();
    let anna = world.device("anna");
    let file = world.file("file", b"content");
    let home = anna.home.to_str().unwrap();
    let id = "ab".repeat(32);
    let args = ["--loopback", "--bootstrap", "127.0.0.1:9", "--timeout", "0.5", "--home", home, "--json"];
    let lost = towline(["send", file.to_str().unwrap(), "--to", &id].iter().chain(&args)).fails_with(3);
    assert_eq!(lost.event("error")["step"], "dht");
}

#[test]
fn what_is_no_file_is_not_sent() {
    let world = World::new();
    let anna = world.device("anna");
    let id = "ab".repeat(32);
    for (path, reason) in
        [("/nowhere", "No such file"), ("/", "is a directory"), ("/dev/null", "not a regular file")]
    {
        let wrong = anna.send(&id, &[Path::new(path)]).ended().fails_with(6).event("error");
        assert!(wrong["message"].as_str().unwrap().contains(reason), "{wrong}");
    }
    let mut command = anna.command("receive");
    command.args(["--yes", "--into", "/nowhere"]);
    let wrong = common::Running::spawn(command).ended().fails_with(6).event("error");
    assert!(wrong["message"].as_str().unwrap().contains("/nowhere"), "{wrong}");
}

#[test]
fn an_id_may_be_in_a_file() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let file = world.file("file", b"content");
    let home = ben.home.to_str().unwrap();
    let printed = towline(["id", "--home", home]).success().out;
    let id = world.file("ben.id", printed.as_bytes());
    let receiving = ben.receive(&world.path("in"), &["--once", "--accept-anyone"]);
    anna.send(&format!("@{}", id.display()), &[&file]).ended().success();
    receiving.ended().success();
}
