//! `towline why`, and what other commands say when they do not connect.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Ended, World};

fn why(world: &World, from: &str, to: &str, args: &[&str]) -> Ended {
    common::Running::spawn({
        let mut command = world.device(from).online_command(&["why"]);
        command.args([to, "--timeout", "5"]).args(args);
        command
    })
    .ended()
}

#[test]
fn a_device_that_is_there() {
    let world = World::new();
    let ben = world.device("ben");
    let _receiving = ben.receive(&world.path("in"), &["--accept-anyone"]);
    let report = why(&world, "anna", &ben.id, &[]).success().event("report");
    assert_eq!((&report["connected"], &report["error"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!(report["causes"], serde_json::json!([]));
    let count = |field: &str| report[field].as_array().unwrap().len();
    assert!(count("here") > 0 && count("there") > 0 && count("pairs") > 0 && count("links") > 0, "{report}");
    assert_eq!(count("steps"), 4);
    let purposes = report["links"].as_array().unwrap().iter().map(|link| link["purpose"].as_str().unwrap());
    assert!(purposes.into_iter().any(|purpose| purpose.starts_with("carries data")), "{report}");
}

#[test]
fn a_device_to_which_data_shall_go_by_datagrams() {
    let world = World::new();
    let ben = world.device("ben");
    let _receiving = ben.receive(&world.path("in"), &["--accept-anyone"]);
    let report = why(&world, "anna", &ben.id, &["--udp-first"]).success().event("report");
    let links = report["links"].as_array().unwrap();
    let carries = |link: &&serde_json::Value| link["purpose"].as_str().unwrap().starts_with("carries data");
    let paths: Vec<_> = links.iter().filter(carries).map(|link| link["path"].as_str().unwrap()).collect();
    assert!(matches!(paths[..], [path] if path.starts_with("UDP ")), "{report}");
}

#[test]
fn a_device_that_never_was() {
    let world = World::new();
    let nobody = "5c".repeat(32);
    let ended = why(&world, "anna", &nobody, &[]).fails_with(3);
    let report = ended.event("report");
    let cause = &report["causes"][0];
    assert_eq!((cause["cause"].as_str(), cause["side"].as_str()), (Some("not_found_there"), Some("there")));
    assert_eq!(report["connected"], false);
    assert_eq!(ended.event("error")["step"], "certificate");
    // The other commands say so, too.
    let file = world.file("small", b"small");
    let failed = world.device("ben").send(&nobody, &[&file]).ended().fails_with(3);
    let message = failed.event("error")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Cause (there): nodes of the DHT answer, but none has"), "{message}");
}
