//! What a channel costs.

use std::time::Duration;

use super::{A, B, Pair, every_kind, pattern};
use crate::{Capabilities, Config};

#[test]
fn an_idle_channel_is_small_before_and_after_its_use() {
    for kind in every_kind() {
        let mut pair = Pair::new(kind, Config::default());
        let fresh = pair.memory(A);
        assert!(fresh <= 768, "{fresh} bytes for {kind:?}");
        for round in 0..50 {
            pair.write(A, &pattern(round, 60_000)).unwrap();
            pair.settle();
            pair.read_all(B);
        }
        pair.settle();
        assert!(pair.memory(B) > 50_000);
        pair.wait(Duration::from_secs(3));
        for end in [A, B] {
            let idle = pair.memory(end);
            assert!(idle <= 1024, "{idle} bytes for {kind:?}");
            assert_eq!(pair.ends[end].poll_timeout(), None, "nothing to look after");
        }
    }
}

#[test]
fn steady_traffic_asks_for_no_memory() {
    for kind in every_kind() {
        let mut pair = Pair::new(kind, Config::default());
        let round = |pair: &mut Pair, number| {
            for _ in 0..20 {
                pair.write(A, &pattern(number, 1000)).unwrap();
            }
            pair.settle();
            pair.read_all(B);
            pair.settle();
            pair.wait(Duration::from_millis(30));
            [pair.memory(A), pair.memory(B)]
        };
        let first = (0..4).map(|number| round(&mut pair, number)).last().unwrap();
        for number in 4..100 {
            assert_eq!(round(&mut pair, number), first, "{kind:?}, round {number}");
        }
    }
}

#[test]
fn a_channel_without_repair_forgets_what_it_sends() {
    let mut pair = Pair::new(Capabilities::datagram(), Config::default());
    for number in 0..200 {
        pair.write(A, &pattern(number, 1000)).unwrap();
        pair.send(A).unwrap();
    }
    assert!(pair.memory(A) < 20_000, "{} bytes with 200 KB on their way", pair.memory(A));
}
