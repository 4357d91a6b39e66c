//! Memory of an established session that waits: bytes resident, of both ends, with keys of 4,096 bits and chains of three.
//!
//! `cargo run --release -p towline-tls --example idle` (Linux)

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(clippy::unwrap_used, reason = "an example")]

use towline_identity::{GenerateOptions, Identity};
use towline_tls::{Config, Options, Session};

const PAIRS: usize = 400;

/// Linux's usual page.
const PAGE: usize = 4096;

fn resident() -> usize {
    let numbers = std::fs::read_to_string("/proc/self/statm").unwrap();
    numbers.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE
}

fn main() {
    let generate = || Identity::generate(&GenerateOptions::new(1_800_000_000)).unwrap();
    let (alice, bob) = (generate(), generate());
    let config = |identity| Config::new(identity, Options::default()).unwrap();
    let (ours, theirs) = (config(&alice), config(&bob));
    let pair = || {
        let mut client = Session::client(&ours, bob.device_id()).unwrap();
        let mut server = Session::server(&theirs, alice.device_id()).unwrap();
        let mut wire = Vec::new();
        for _ in 0..3 {
            client.poll_transmit(&mut wire);
            server.receive(&mut wire, &mut |_| {}).unwrap();
            wire.clear();
            server.poll_transmit(&mut wire);
            client.receive(&mut wire, &mut |_| {}).unwrap();
            wire.clear();
        }
        for _ in 0..2 {
            client.send(&[7; 10_000], &mut wire).unwrap();
            server.receive(&mut wire, &mut |_| {}).unwrap();
            wire.clear();
            server.send(&[7; 10_000], &mut wire).unwrap();
            client.receive(&mut wire, &mut |_| {}).unwrap();
            wire.clear();
        }
        (client, server)
    };
    // What is allocated once shall not count.
    let warm: Vec<_> = (0..20).map(|_| pair()).collect();
    let before = resident();
    let pairs: Vec<_> = (0..PAIRS).map(|_| pair()).collect();
    let each = (resident() - before) / (2 * PAIRS);
    println!("{each} bytes per session, of which {} lie in `Session` itself", size_of::<Session>());
    drop((warm, pairs));
}
