//! `towline lab matrix`, the whole of it, against what Towline promises: who reaches whom, how often, and how soon.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::env;

use common::command;
use serde_json::Value;

/// Dials of each cell, half of them in each direction. The table of the README has fifty, as the whole check plays them.
const SEEDS: u64 = 4;

/// Without a direct path: a relay carries these.
const RELAYED: [[&str; 2]; 6] = [
    // Nobody guesses a random port from behind another one that moves.
    ["symmetric", "symmetric"],
    ["symmetric", "sequential-symmetric"],
    // Nor one over TCP, that takes a connection for each guess.
    ["symmetric", "udp-blocked"],
    // Only port 443 is let out, where both listen, and this NAT gives another port outside.
    ["symmetric", "web-only"],
    ["sequential-symmetric", "web-only"],
    ["double-nat", "web-only"],
];

/// One side takes random ports: the other finds them by their birthday.
const BY_BIRTHDAY: [[&str; 2]; 2] = [["port-restricted", "symmetric"], ["symmetric", "double-nat"]];

fn count(of: &Value) -> u64 {
    of["count"].as_u64().unwrap_or_default()
}

fn p95(of: &Value) -> f64 {
    of["p95_ms"].as_f64().unwrap() / 1e3
}

#[test]
fn everybody_reaches_whom_they_can_and_the_others_by_a_relay() {
    let seeds = env::var("TOWLINE_MATRIX_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    // It takes minutes: the runner of the tests says how many.
    let played = command().args(["lab", "matrix", "--json", "--seeds", &seeds.to_string()]).output().unwrap();
    assert!(played.status.success(), "{played:?}");
    let events = String::from_utf8(played.stdout).unwrap();
    let matrix: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    let cells = matrix["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 36);
    let mut relayed = BTreeSet::new();
    for cell in cells {
        let places = [0, 1].map(|end| cell["places"][end].as_str().unwrap());
        assert_eq!(count(&cell["connected"]), seeds, "{cell}");
        assert!(p95(&cell["connected"]) < 3.0, "{cell}");
        if !cell["barrier"].is_null() {
            assert_eq!(cell["relayed"].as_u64(), Some(seeds), "{cell}");
            relayed.insert(places);
            continue;
        }
        // Within 10 s: what takes longer does not count as direct.
        let percent = if BY_BIRTHDAY.contains(&places) { 95 } else { 98 };
        assert!(count(&cell["direct"]) * 100 >= seeds * percent, "{cell}");
    }
    assert_eq!(relayed, BTreeSet::from(RELAYED));
    let random = cells.iter().find(|cell| cell["places"] == serde_json::json!(["symmetric", "symmetric"]));
    assert!(p95(&random.unwrap()["connected"]) < 2.0, "{random:?}");
}
