//! `towline lab`: scenes in virtual time, and the figures they end with.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Ended, Running, command};
use serde_json::Value;

fn lab(args: &[&str]) -> Ended {
    let mut command = command();
    command.arg("lab").args(args);
    Running::spawn(command).ended()
}

/// The events of a scene that was played to its end.
fn played(name: &str, seed: &str) -> Vec<Value> {
    lab(&[name, "--json", "--seed", seed]).success().events()
}

fn end(events: &[Value]) -> &Value {
    let end = events.last().unwrap();
    assert_eq!(end["event"], "lab_end");
    end
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn all_scenes_are_listed_and_played() {
    let listed = lab(&["--json"]).success().events();
    let scenes = listed.iter().filter(|event| event["event"] == "lab_scenario");
    let names: Vec<_> = scenes.map(|event| event["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["loss", "burst", "reorder", "duplicate", "mtu-hole", "rebinding", "link-death", "two-links", "move"]
    );
    for name in names {
        let events = played(name, "2");
        assert_eq!((&events[0]["event"], &events[0]["scenario"]), (&"lab_scene".into(), &name.into()));
        let end = end(&events);
        let samples: Vec<_> = events.iter().filter(|event| event["event"] == "lab_sample").collect();
        // What the samples show adds up to what was read, but for the last, unfinished step.
        let read: f64 = samples.iter().map(|sample| number(&sample["program_mbits"]) * 0.2e6 / 8.0).sum();
        let total = number(&end["bytes"]);
        assert!(read <= total && read > total * 0.8, "{name}: {read} of {total}");
        assert!(number(&end["messages_received"]) > 100.0, "{name}: {end}");
        assert!(number(&end["stall_ms"]) < 1000.0, "{name}: {end}");
    }
}

#[test]
fn a_seed_repeats_a_scene() {
    let (one, again, other) = (played("loss", "7"), played("loss", "7"), played("loss", "8"));
    let without_time = |events: &[Value]| {
        let mut events = events.to_vec();
        for event in &mut events {
            event.as_object_mut().unwrap().remove("time");
        }
        events
    };
    assert_eq!(without_time(&one), without_time(&again));
    assert_ne!(end(&one)["trace"], end(&other)["trace"]);
}

#[test]
fn a_dead_link_is_told_and_replaced() {
    let events = played("link-death", "1");
    let notes: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "lab_note")
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    for note in ["wifi falls silent", "wifi is dead: probes only", "wifi works again", "wifi is in use"] {
        assert!(notes.contains(&note), "{note} is not in {notes:?}");
    }
    assert!(number(&end(&events)["stall_ms"]) <= 250.0, "{}", end(&events));
}

#[test]
fn a_scene_is_drawn_for_people() {
    let ended = lab(&["two-links"]).success();
    for part in ["alice ┬── wifi", "└── mobile", "│ program, Mbit/s", "█", "every byte once and in order"]
    {
        assert!(ended.out.contains(part), "{part} is not in\n{}", ended.out);
    }
    assert_eq!(ended.err, "");
}

#[test]
fn a_hole_punch_is_drawn_and_explained() {
    let through = lab(&["nat", "full-cone", "symmetric", "--seed", "3"]).success();
    for part in [
        "full-cone and symmetric, seed 3",
        "└─ alice's router 45.0.3.1: one mapping for all",
        "╞═ internet, with the rendezvous at 45.0.1.1",
        "┌─ bob's router 45.0.4.1: a mapping per destination",
        "+ bob's router maps 192.168.1.11:49152 to 45.0.4.1:",
        "They reach each other",
    ] {
        assert!(through.out.contains(part), "{part} is not in\n{}", through.out);
    }
    let again = lab(&["nat", "full-cone", "symmetric", "--seed", "3"]).success();
    assert_eq!(through.out, again.out, "the same seed tells the same story");

    let not = lab(&["nat", "symmetric", "--json"]).success().events();
    let punch = not.last().unwrap();
    assert_eq!((&punch["event"], &punch["through"]), (&"lab_punch".into(), &false.into()));
    let why = punch["why_not"].to_string();
    assert!(why.contains("NAT of alice uses") && why.contains("NAT of bob uses"), "{why}");
    assert!(not.iter().any(|event| event["text"].as_str().is_some_and(|text| text.contains("drops"))));
}

#[test]
fn a_dial_is_drawn_and_repeated_by_its_seed() {
    let args = ["reach", "port-restricted", "full-cone", "--seed", "3"];
    let told = lab(&args).success();
    for part in [
        "port-restricted and full-cone, seed 3: alice dials bob by its key",
        "└─ alice's router 45.0.6.1: one mapping for all",
        "station-1 45.0.4.1",
        "+ alice's router maps Udp 192.168.1.11:",
        "bob knows where the other may be, and tries",
        "alice: tcp from 192.168.1.11:",
        "alice as servers see it: ",
        "carries data: no better kind of path works",
        "Direct after ",
    ] {
        assert!(told.out.contains(part), "{part} is not in\n{}", told.out);
    }
    assert_eq!(told.out, lab(&args).success().out, "the same seed tells the same story");
    let other = lab(&["reach", "port-restricted", "full-cone", "--seed", "4", "--json"]).success().events();
    let end = other.last().unwrap();
    assert_eq!(end["event"], "lab_reach");
    assert!(!told.out.contains(end["trace"].as_str().unwrap()), "another seed, another story");
}

/// Two dials between each two of these places and those: one in each direction.
fn dials(some: &[&str], others: &[&str]) -> Vec<Value> {
    let cells = some.iter().flat_map(|a| others.iter().map(move |b| format!("--cell={a},{b}")));
    let cells: Vec<String> = cells.collect();
    let args: Vec<&str> =
        ["matrix", "--seeds", "2", "--json"].into_iter().chain(cells.iter().map(String::as_str)).collect();
    let mut events = lab(&args).success().events();
    let matrix = events.pop().unwrap();
    let told: Vec<Value> = events.iter().map(|cell| cell["places"].clone()).collect();
    let cells = matrix["cells"].as_array().unwrap().clone();
    assert_eq!(told, cells.iter().map(|cell| cell["places"].clone()).collect::<Vec<_>>());
    assert_eq!(cells.len(), some.len() * others.len());
    for cell in &cells {
        assert_eq!(count(cell, "connected"), 2, "{cell}");
        assert!(cell["connected"]["p99_ms"].as_f64().unwrap() < 4000.0, "{cell}");
        let by_relay = if cell["barrier"].is_null() { 0 } else { 2 };
        assert_eq!((count(cell, "direct"), &cell["relayed"]), (2 - by_relay, &by_relay.into()), "{cell}");
    }
    cells
}

fn count(cell: &Value, what: &str) -> u64 {
    cell[what]["count"].as_u64().unwrap_or_default()
}

/// Every dial found a direct path within so many seconds.
fn all_direct(cells: &[Value], seconds: f64) {
    for cell in cells {
        assert_eq!(count(cell, "direct"), 2, "{cell}");
        assert!(cell["direct"]["p99_ms"].as_f64().unwrap() < seconds * 1e3, "{cell}");
    }
}

#[test]
fn everybody_meets_whose_nat_keeps_to_one_mapping() {
    let some = dials(&["open", "full-cone"], &["open", "full-cone", "port-restricted", "double-nat"]);
    all_direct(&some, 2.0);
    all_direct(&dials(&["port-restricted", "double-nat"], &["port-restricted", "double-nat"]), 2.0);
}

#[test]
fn a_symmetric_nat_meets_whoever_lets_everybody_in() {
    all_direct(&dials(&["symmetric", "sequential-symmetric"], &["open", "full-cone"]), 2.0);
}

#[test]
fn ports_in_sequence_are_foretold_and_random_ones_found() {
    let sequences = ["port-restricted", "double-nat", "sequential-symmetric", "udp-blocked"];
    all_direct(&dials(&["sequential-symmetric"], &sequences), 3.0);
    all_direct(&dials(&["symmetric"], &["port-restricted", "double-nat"]), 4.5);
}

#[test]
fn who_has_tcp_only_meets_others_over_tcp() {
    let others =
        ["open", "full-cone", "port-restricted", "sequential-symmetric", "double-nat", "udp-blocked"];
    let cells = dials(&["udp-blocked"], &others);
    all_direct(&cells, 2.5);
    for cell in &cells {
        assert_eq!(cell["kinds"], serde_json::json!({ "tcp": 2 }), "{cell}");
    }
}

/// Where nothing but the web is reached, others are if they listen on its port, and no NAT gives them another one outside.
#[test]
fn who_reaches_only_the_web_meets_those_who_listen_there() {
    let others = ["open", "full-cone", "port-restricted", "firewalled", "udp-blocked", "web-only"];
    let cells = dials(&["web-only"], &others);
    all_direct(&cells, 4.0);
    for cell in &cells {
        assert_eq!(cell["kinds"], serde_json::json!({ "tcp": 2 }), "{cell}");
    }
}

#[test]
fn a_firewall_and_one_that_lets_only_tcp_through_are_opened_from_both_sides() {
    all_direct(&dials(&["firewalled"], &["udp-blocked", "firewalled", "port-restricted"]), 2.5);
}

#[test]
fn ipv6_alone_is_enough_and_ipv6_that_leads_nowhere_is_no_obstacle() {
    all_direct(&dials(&["ipv6-only"], &["ipv6-only", "dual-stack", "open"]), 2.5);
    all_direct(&dials(&["broken-ipv6"], &["broken-ipv6", "dual-stack", "open"]), 2.5);
}

/// Whom only a relay serves has it within 2 s of the dial, as a rule, and within 3 s of the slowest.
#[test]
fn the_others_meet_by_a_relay() {
    let random = ["symmetric", "sequential-symmetric", "udp-blocked"];
    let other_ports = ["symmetric", "sequential-symmetric", "double-nat"];
    let cells = [dials(&["symmetric"], &random), dials(&["web-only"], &other_ports)].concat();
    let mut soon = 0;
    for cell in &cells {
        assert_eq!(cell["relayed"], 2, "{cell}");
        assert!(cell["connected"]["p99_ms"].as_f64().unwrap() < 3000.0, "{cell}");
        soon += usize::from(cell["connected"]["p50_ms"].as_f64().unwrap() < 2000.0);
    }
    assert!(soon >= cells.len() - 1, "{soon} of {}", cells.len());
}

/// The tables of a text in Markdown: cells as they stand there.
fn tables(text: &str) -> Vec<Vec<Vec<String>>> {
    let mut tables = vec![Vec::new()];
    for line in text.lines() {
        match line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) {
            Some(cells) => {
                let row = cells.split('|').map(|cell| cell.trim().to_owned()).collect();
                tables.last_mut().unwrap().push(row);
            }
            None if !tables.last().unwrap().is_empty() => tables.push(Vec::new()),
            None => {}
        }
    }
    tables.retain(|table| !table.is_empty());
    tables
}

#[test]
fn the_tables_of_the_readmes_are_those_of_the_command() {
    let printed = tables(&lab(&["matrix", "--seeds", "1", "--markdown"]).success().out);
    let kept = |name: &str| {
        let readme = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        tables(&std::fs::read_to_string(readme).unwrap())
    };
    let glance = kept("../../README.md");
    let glance = glance.iter().find(|table| table[0] == printed[0][0]).expect("the table is in the README");
    let full = kept("README.md");
    let full = full.iter().find(|table| table[0] == printed[1][0]).expect("the table is in the README");
    let names = |table: &Vec<Vec<String>>, columns: usize| {
        table.iter().map(|row| row[..columns].to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(names(glance, 1), names(&printed[0], 1));
    assert_eq!(names(full, 2), names(&printed[1], 2));
    for (here, there) in glance.iter().zip(&printed[0]) {
        assert_eq!(here.len(), there.len(), "{here:?}");
        for (here, there) in here.iter().zip(there).skip(1) {
            // Of the same kind: a relay, or a share and a time.
            assert_eq!(here.starts_with("relay"), there.starts_with("relay"), "{here} and {there}");
        }
    }
}

#[test]
fn a_crowd_is_played_twice_alike() {
    let play = |seed: &str| {
        let args = ["crowd", "--nodes", "10", "--dials", "6", "--seed", seed, "--json"];
        lab(&args).success().events().pop().unwrap()
    };
    let (one, mut again) = (play("1"), play("1"));
    again["seconds"] = one["seconds"].clone();
    again["time"] = one["time"].clone();
    assert_eq!(one, again);
    assert_eq!((&one["joined"], &one["dials"]), (&10.into(), &6.into()));
    assert_eq!((&one["connected"]["count"], &one["failures"]), (&6.into(), &serde_json::json!({})), "{one}");
    let steps: u64 = one["steps"].as_array().unwrap().iter().map(|step| step.as_u64().unwrap()).sum();
    assert_eq!(steps, 6);
    assert_ne!(one["trace"], play("2")["trace"]);
}

#[test]
fn a_cell_of_the_matrix_is_played_alone_and_its_misses_are_told() {
    let args = ["matrix", "--cell", "web-only,double-nat", "--seeds", "2"];
    let told = lab(&args).success();
    assert!(told.out.contains("lab reach web-only double-nat --seed 1: no direct path: "), "{}", told.out);
    let table = lab(&[&args[..], &["--markdown"]].concat()).success();
    assert!(table.out.contains("\n| web-only | double-nat | 0 % |"), "{}", table.out);
    let legend = "both devices listen on TCP port 443";
    assert!(told.out.contains(legend) && table.out.contains(legend), "{}", table.out);
    let other = lab(&["matrix", "--cell", "open,open", "--seeds", "1"]).success();
    assert!(!other.out.contains(legend), "{}", other.out);
    lab(&["matrix", "--cell", "symmetric"]).fails_with(2);
    lab(&["matrix", "--cell", "symmetric,moon"]).fails_with(2);
    lab(&["matrix", "--seeds", "0"]).fails_with(2);
}

#[test]
fn places_are_listed() {
    let listed = lab(&["nat", "--json"]).success().events();
    let places = listed[0]["places"].as_array().unwrap();
    assert!(places.iter().any(|place| place["name"] == "double-nat"), "{places:?}");
    let wrong = lab(&["nat", "moon"]).fails_with(2);
    assert!(wrong.err.contains("no place has this name"), "{}", wrong.err);
}

#[test]
fn what_is_no_scene_is_refused() {
    let ended = lab(&["moon"]).fails_with(2);
    assert!(ended.err.contains("two-links"), "{}", ended.err);
    lab(&["loss", "--seed", "x"]).fails_with(2);
}

#[cfg(unix)]
#[test]
fn a_scene_can_be_interrupted() {
    let mut command = command();
    command.args(["lab", "two-links", "--json"]);
    let mut running = Running::spawn(command);
    running.until("lab_sample");
    running.signal("INT");
    running.ended().fails_with(130);
}
