//! What is asked on a terminal, which `script` of util-linux plays here.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use common::{DEADLINE, Running, World, names, skip};

/// `script`, which runs a command on a terminal.
fn script(command: &Command) -> Command {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--flush", "--command", &words.join(" "), "/dev/null"]);
    terminal.env_remove("TOWLINE_PASSWORD").env_remove("TOWLINE_ARCHIVE_PASSWORD");
    terminal
}

/// A command on a terminal, whose questions end in no line.
struct Conversation {
    child: Child,
    shown: Receiver<Vec<u8>>,
    heard: String,
}

impl Conversation {
    fn start(command: &Command) -> Self {
        let mut command = script(command);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let (show, shown) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut piece = [0; 1024];
            while let Ok(length @ 1..) = out.read(&mut piece) {
                if show.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, shown, heard: String::new() }
    }

    /// Waits for a question, and answers it.
    #[track_caller]
    fn answer(&mut self, question: &str, answer: &str) {
        while !self.heard.contains(question) {
            let piece = self.shown.recv_timeout(DEADLINE).expect("it asks in time");
            self.heard += &String::from_utf8_lossy(&piece);
        }
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(answer.as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
        input.flush().unwrap();
    }

    /// Waits for the end: the exit code, and all that was shown.
    #[track_caller]
    fn ended(mut self) -> (i32, String) {
        while let Ok(piece) = self.shown.recv_timeout(DEADLINE) {
            self.heard += &String::from_utf8_lossy(&piece);
        }
        (self.child.wait().unwrap().code().unwrap(), self.heard)
    }
}

#[test]
fn passwords_are_asked_for_and_do_not_show() {
    if Command::new("script").arg("--version").output().is_err() {
        skip::missing("passwords_are_asked_for_and_do_not_show", "script");
        return;
    }
    let world = World::new();
    world.device("anna");
    let archive = world.path("archive.gz");
    let command = |words: &[&str], home: &str| {
        let mut command = common::command();
        command.args(["account", "--json"]).args(words).arg(&archive).arg("--home").arg(world.path(home));
        command
    };
    let mut export = Conversation::start(&command(&["export"], "anna"));
    export.answer("New password of the archive", "pass word");
    export.answer("Once more", "pass wort");
    let (code, shown) = export.ended();
    assert!(code == 2 && shown.contains("the two passwords differ"), "{shown}");
    assert!(!shown.contains("pass wor"), "{shown}");

    let mut export = Conversation::start(&command(&["export"], "anna"));
    export.answer("New password of the archive", "pass word");
    export.answer("Once more", "pass word");
    let (code, shown) = export.ended();
    assert!(code == 0 && shown.contains(r#""encrypted":true"#), "{shown}");
    let import = ["import", "--key-size", "2048"];
    for (password, code, event) in [("password", 6, "wrong password"), ("pass word", 0, "imported")] {
        let mut conversation = Conversation::start(&command(&import, "b"));
        conversation.answer("Password of the archive", password);
        let (ended, shown) = conversation.ended();
        assert!(ended == code && shown.contains(event), "{shown}");
    }
}

#[test]
fn each_file_is_asked_for() {
    if Command::new("script").arg("--version").output().is_err() {
        skip::missing("each_file_is_asked_for", "script");
        return;
    }
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let (wanted, unwanted) = (world.file("wanted", b"yes"), world.file("unwanted", b"no"));
    let into = world.path("in");
    std::fs::create_dir(&into).unwrap();
    let mut receive = ben.command("receive");
    receive.arg("--once").arg("--into").arg(&into).arg("--quiet");
    let mut receiving = Running::spawn(script(&receive));
    receiving.until_line(|line| line.contains(r#""event":"registered""#));

    // Anybody may ask, and nothing but yes is yes.
    for answer in ["n\n", "\n", "perhaps\n"] {
        let sending = anna.send(&ben.id, &[&unwanted]);
        receiving.until_line(|line| line.contains(&*anna.id) && line.starts_with("Device"));
        receiving.write(answer.as_bytes());
        let declined = sending.ended().fails_with(4);
        assert!(declined.event("error")["message"].as_str().unwrap().contains("does not want it"));
    }
    let sending = anna.send(&ben.id, &[&wanted]);
    receiving.until_line(|line| line.contains(&*anna.id) && line.starts_with("Device"));
    receiving.write(b"y\n");
    sending.ended().success();
    receiving.ended().success();
    assert_eq!(names(&into), ["wanted"]);
}
