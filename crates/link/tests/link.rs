//! What arrives, and when.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use rand::{SeedableRng as _, rngs::StdRng};
use towline_link::{Burst, Direction, Link, Load, Lost};

const MS: Duration = Duration::from_millis(1);

fn chance() -> StdRng {
    StdRng::from_seed([3; 32])
}

/// What becomes of packets of 1000 bytes, one each millisecond.
fn stream(link: Link, packets: u32) -> Vec<Result<Duration, Lost>> {
    let (mut direction, mut chance) = (Direction::new(link), chance());
    (0..packets).map(|at| direction.send(at * MS, &Load::packet(1000), &mut chance)).collect()
}

fn share_lost(outcomes: &[Result<Duration, Lost>]) -> f64 {
    outcomes.iter().filter(|outcome| **outcome == Err(Lost::Chance)).count() as f64 / outcomes.len() as f64
}

#[test]
fn packets_wait_for_their_turn_and_for_room() {
    // Half of what is offered: every packet waits a millisecond longer than the one before, until the queue is full.
    let link = Link { rate: Some(500_000), queue: 10_000, ..Link::delay(20 * MS) };
    let outcomes = stream(link, 100);
    assert_eq!(outcomes[..3], [22, 24, 26].map(|ms| Ok(ms * MS)));
    let full = outcomes.iter().position(|outcome| *outcome == Err(Lost::Queue)).unwrap();
    assert!((17..22).contains(&full), "{full}");
    let carried = outcomes[50..].iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(carried, 25, "what the rate allows");
}

#[test]
fn jitter_overtakes_only_where_it_may() {
    for reorder in [false, true] {
        let link = Link { jitter: 15 * MS, reorder, ..Link::delay(20 * MS) };
        let arrivals: Vec<_> = stream(link, 200).into_iter().map(Result::unwrap).collect();
        assert_eq!(arrivals.windows(2).any(|pair| pair[1] < pair[0]), reorder);
        for (sent, arrived) in arrivals.iter().enumerate() {
            let sent = sent as u32 * MS;
            assert!((sent + 20 * MS..=sent + 35 * MS).contains(arrived), "{sent:?} {arrived:?}");
        }
    }
}

#[test]
fn loss_is_as_often_as_said_alone_and_in_bursts() {
    let alone = stream(Link { loss: 0.1, ..Link::delay(MS) }, 20_000);
    assert!((0.09..0.11).contains(&share_lost(&alone)));
    let burst = Burst { begins: 0.01, length: 10.0 };
    let bursts = stream(Link { burst: Some(burst), ..Link::delay(MS) }, 20_000);
    // A tenth of the time between two bursts, which are 100 packets apart.
    assert!((0.07..0.11).contains(&share_lost(&bursts)), "{}", share_lost(&bursts));
    let begins = |outcomes: &[Result<Duration, Lost>]| {
        outcomes.windows(2).filter(|pair| pair[0].is_ok() && pair[1].is_err()).count()
    };
    let length = share_lost(&bursts) * 20_000.0 / begins(&bursts) as f64;
    assert!((8.0..12.0).contains(&length), "{length} packets in a burst");
    assert!(begins(&alone) > 5 * begins(&bursts));
}

#[test]
fn some_packets_come_twice() {
    let (direction, mut chance) = (Direction::new(Link { duplicate: 0.25, ..Link::delay(MS) }), chance());
    let twice = (0..4000).filter(|_| direction.repeats(&mut chance)).count();
    assert!((900..1100).contains(&twice), "{twice}");
    assert!(!Direction::new(Link::delay(MS)).repeats(&mut chance));
}

#[test]
fn outages_and_long_packets_take_no_room_and_no_chance() {
    let link = Link { rate: Some(1_000_000), loss: 0.5, mtu: 1200, ..Link::delay(MS) };
    let (mut plain, mut upset) = (Direction::new(link.clone()), Direction::new(link));
    let (mut one, mut other) = (chance(), chance());
    for at in 0..100 {
        upset.set_outage(true);
        assert_eq!(upset.send(at * MS, &Load::packet(1000), &mut other), Err(Lost::Outage));
        upset.set_outage(false);
        assert_eq!(upset.send(at * MS, &Load::packet(1201), &mut other), Err(Lost::TooLong));
        let load = Load { packets: 3, bytes: 2500, longest: 1200 };
        assert_eq!(upset.send(at * MS, &load, &mut other), plain.send(at * MS, &load, &mut one));
    }
}

#[test]
fn another_link_changes_what_comes_and_not_what_is_on_its_way() {
    let (mut direction, mut chance) = (Direction::new(Link::delay(50 * MS)), chance());
    let slow = direction.send(Duration::ZERO, &Load::packet(100), &mut chance).unwrap();
    direction.set_link(Link::delay(MS));
    let next = direction.send(MS, &Load::packet(100), &mut chance).unwrap();
    assert_eq!((slow, next), (50 * MS, 50 * MS), "a link that keeps the order keeps it");
    direction.set_link(Link { reorder: true, ..Link::delay(MS) });
    assert_eq!(direction.send(MS, &Load::packet(100), &mut chance), Ok(2 * MS));
}
