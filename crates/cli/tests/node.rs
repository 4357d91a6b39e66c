//! `towline node`.
#![cfg(unix)]

mod common;

use common::{Running, towline};

fn start(state: &str) -> Running {
    Running::start([
        "node",
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--json",
        "--end-with-stdin",
        "--state",
        state,
    ])
}

#[test]
fn it_keeps_its_id_and_port_between_runs() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state").to_str().unwrap().to_owned();
    let mut before = None;
    for signal in ["INT", "TERM"] {
        let mut node = start(&state);
        let ready = node.until("dht_node");
        let now = (ready["id"].clone(), ready["addresses"].clone());
        if let Some(before) = before.replace(now.clone()) {
            assert_eq!(before, now);
        }
        node.signal(signal);
        let ended = node.ended().success();
        assert_eq!(ended.event("dht_stats")["last"], true);
    }
    assert_eq!(common::names(directory.path()), ["state", "state_port.txt"]);
}

#[test]
fn it_ends_with_its_input_when_told_so() {
    let mut node =
        Running::start(["node", "--bind", "127.0.0.1", "--port", "0", "--json", "--end-with-stdin"]);
    node.until("dht_node");
    node.end_input();
    node.ended().success();
}

#[test]
fn nodes_meet() {
    let first = common::World::new();
    let mut second = Running::start([
        "node",
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--json",
        "--stats",
        "1",
        "--bootstrap",
        &first.bootstrap,
    ]);
    while second.until("dht_stats")["good"] != 1 {}
}

#[test]
fn what_it_cannot_use_it_does_not_touch() {
    let directory = tempfile::tempdir().unwrap();
    let diary = directory.path().join("diary");
    std::fs::write(&diary, "Dear diary").unwrap();
    let refused = start(diary.to_str().unwrap()).ended().fails_with(6);
    assert!(refused.event("error")["message"].as_str().unwrap().contains("not a state file"));
    assert_eq!(std::fs::read(&diary).unwrap(), b"Dear diary");

    let world = common::World::new();
    let port = world.bootstrap.rsplit(':').next().unwrap();
    let taken = towline(["node", "--bind", "127.0.0.1", "--port", port]).fails_with(6);
    assert!(taken.err.contains("cannot bind"), "{taken:?}");
    towline(["node", "--bind", "127.0.0.1", "--bind", "127.0.0.2"]).fails_with(2);
}
