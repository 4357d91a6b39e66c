//! What is asked on a terminal, which `script` of util-linux plays here.
#![cfg(unix)]

mod common;

use std::process::Command;

use common::{Running, World, names, skip};

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
    let words: Vec<_> = std::iter::once(receive.get_program())
        .chain(receive.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--flush", "--command", &words.join(" "), "/dev/null"]);
    let mut receiving = Running::spawn(terminal);
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
