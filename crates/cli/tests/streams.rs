//! `pipe` and `listen`.

mod common;

use common::{Device, Running, World};

/// `pipe` or `listen` of a device, with the events on the error output.
fn stream(device: &Device, command: &str, args: &[&str]) -> Running {
    let mut command = device.command(command);
    command.args(args);
    Running::spawn(command)
}

/// Waits until the device can be dialled; its output carries data, so that the DHT is asked.
fn findable(device: &Device) {
    while Running::spawn(device.command("status")).ended().event("status")["published"] != true {}
}

#[test]
fn both_directions_end_by_themselves() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let mut listening = stream(&ben, "listen", &["talk", "--accept-from", &anna.id]);
    findable(&ben);
    let mut piping = stream(&anna, "pipe", &[&ben.id, "talk"]);
    piping.write(b"ping\n");
    assert_eq!(listening.line(), "ping");
    listening.write(b"pong\n");
    assert_eq!(piping.line(), "pong");
    // One direction ends, the other goes on.
    piping.end_input();
    listening.write(b"still here\n");
    assert_eq!(piping.line(), "still here");
    listening.end_input();
    let (piped, listened) = (piping.ended().success(), listening.ended().success());
    assert_eq!((&*piped.out, &*listened.out), ("", ""));
    let closed = |err: &str| err.lines().any(|line| line.contains(r#""event":"channel_closed""#));
    assert!(closed(&piped.err) && closed(&listened.err), "{piped:?} {listened:?}");
}

#[test]
fn what_is_piped_arrives_whole() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let mut listening = stream(&ben, "listen", &["data", "--accept-from", &anna.account]);
    listening.end_input();
    findable(&ben);
    let lines = (0..500_000).fold(String::new(), |lines, number: u32| lines + &number.to_string() + "\n");
    let mut piping = stream(&anna, "pipe", &[&ben.id, "data", "--quiet"]);
    let written = lines.clone();
    let writer = std::thread::spawn(move || {
        piping.write(written.as_bytes());
        piping.end_input();
        piping.ended().success()
    });
    assert!(listening.ended().success().out == lines);
    assert_eq!(writer.join().unwrap().out, "");
}

#[test]
fn the_next_channel_with_keep() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let mut listening = stream(&ben, "listen", &["log", "--keep", "--accept-anyone"]);
    listening.end_input();
    findable(&ben);
    for word in ["one", "two", "three"] {
        let mut piping = stream(&anna, "pipe", &[&ben.id, "log"]);
        piping.write(format!("{word}\n").as_bytes());
        piping.end_input();
        piping.ended().success();
        assert_eq!(listening.line(), word);
    }
}

#[test]
fn other_names_and_unknown_devices_are_refused() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let listening = stream(&ben, "listen", &["right", "--accept-from", &anna.id]);
    findable(&ben);
    let refused = stream(&anna, "pipe", &[&ben.id, "wrong"]).ended().fails_with(4);
    assert!(refused.err.contains("nobody waits"), "{refused:?}");
    drop(listening);

    let _known_only = stream(&ben, "listen", &["right"]);
    findable(&ben);
    let refused = stream(&anna, "pipe", &[&ben.id, "right"]).ended().fails_with(4);
    assert!(refused.err.contains("refused"), "{refused:?}");
}

#[test]
fn a_listener_that_dies_ends_the_pipe() {
    let world = World::new();
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let mut listening = stream(&ben, "listen", &["talk", "--accept-from", &anna.id]);
    findable(&ben);
    let mut piping = stream(&anna, "pipe", &[&ben.id, "talk"]);
    piping.write(b"ping\n");
    assert_eq!(listening.line(), "ping");
    listening.kill();
    let ended = piping.ended().fails_with(5);
    assert!(ended.err.contains("broke off"), "{ended:?}");
}
