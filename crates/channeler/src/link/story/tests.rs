use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::Violation;

fn config() -> Config {
    Config::default()
}

/// Seeded losses, delays and duplicates on both ways.
fn noise(seed: u64, loss: f64, late: f64, twice: f64) -> Script {
    let mut rng = StdRng::seed_from_u64(seed);
    Box::new(move |_, _, _| {
        let dice: f64 = rng.random();
        if dice < loss {
            Fate::Lost
        } else if dice < loss + late {
            Fate::Late(Duration::from_micros(rng.random_range(500..8000)))
        } else if dice < loss + late + twice {
            Fate::Twice(Duration::from_micros(rng.random_range(0..8000)))
        } else {
            Fate::Arrives
        }
    })
}

#[test]
fn clean_path() {
    let mut story = Story::new(&config());
    story.write(3000);
    let took = story.finish(5000 * MS);
    let [a, b] = &story.ends;
    assert!(took < 1000 * MS, "{took:?}");
    assert_eq!((a.lost, a.spurious), (0, 0));
    assert_eq!(a.timeouts.iter().filter(|(_, what)| *what == LinkTimeout::Suspect).count(), 0);
    assert_eq!((a.link.mtu(), b.link.mtu()), (1452, 1452));
    assert!(b.acks < 1500, "{}", b.acks);
    assert!(a.link.rtt() >= 30 * MS && a.link.rtt() < 40 * MS, "{:?}", a.link.rtt());
    assert_eq!(a.link.in_flight(), 0);
    assert_eq!(a.link.ecn(), Some(Ecn::Ect0), "the path carries marks");
}

#[test]
fn loss_reordering_and_duplicates() {
    for seed in 0..8 {
        for (loss, late, twice) in [(0.01, 0.0, 0.0), (0.05, 0.02, 0.02), (0.2, 0.05, 0.05), (0.0, 0.0, 0.3)]
        {
            let mut story = Story::new(&config());
            story.script = noise(seed, loss, late, twice);
            story.write(1500);
            story.finish(60_000 * MS);
            story.run(story.at() + 1000 * MS);
            let a = &story.ends[0];
            if loss == 0.0 {
                assert_eq!((a.lost, a.spurious), (0, 0));
            }
            assert!(a.spurious <= a.lost);
            assert_eq!(a.link.in_flight(), 0);
        }
    }
}

#[test]
fn reordering_is_learned() {
    let mut story = Story::new(&config());
    story.ends[0].size = 1200;
    let mut rng = StdRng::seed_from_u64(3);
    story.script = Box::new(move |_, side, _| match side {
        Side::Initiator if rng.random_bool(0.1) => Fate::Late(4 * MS),
        _ => Fate::Arrives,
    });
    let mut spurious = Vec::new();
    for _ in 0..4 {
        let before = story.ends[0].spurious;
        // A steady flow of 5 packets per millisecond: the late ones are overtaken by twenty.
        for _ in 0..500 {
            story.write(5);
            story.run(story.at() + MS);
        }
        spurious.push(story.ends[0].spurious - before);
    }
    story.finish(1000 * MS);
    assert!(spurious[0] > 0 && spurious[0] < 60, "{spurious:?}");
    assert_eq!(spurious[1..], [0, 0, 0]);
}

#[test]
fn tail_loss_is_repaired_by_probes() {
    let mut story = Story::new(&config());
    story.write(50);
    story.finish(1000 * MS);
    let pto = story.ends[0].link.pto();
    assert!(pto < 50 * MS, "{pto:?}");
    story.script = {
        let mut lost = 0;
        Box::new(move |_, side, packet| {
            if side == Side::Initiator && packet.item == Some(54) && lost == 0 {
                lost += 1;
                return Fate::Lost;
            }
            Fate::Arrives
        })
    };
    story.write(5);
    let took = story.finish(1000 * MS);
    assert!(took <= pto + 32 * MS, "{took:?}");
    let probes = story.ends[0].timeouts.iter().filter(|(_, what)| *what == LinkTimeout::Suspect).count();
    assert_eq!(probes, 1);
    assert_eq!(story.ends[0].link.status(), LinkStatus::Active);
}

/// The link dies in the middle of a flow. How long until it is suspect, and dead.
fn death(items_per_ms: u64) -> (Duration, Duration, Story) {
    let mut story = Story::new(&config());
    story.ends[0].size = 1200;
    for _ in 0..500 {
        story.write(items_per_ms);
        story.run(story.at() + MS);
    }
    assert!(story.ends[0].statuses.is_empty(), "{:?}", story.ends[0].statuses);
    let died = story.at();
    story.script = Box::new(|_, _, _| Fate::Lost);
    for _ in 0..400 {
        story.write(items_per_ms);
        story.run(story.at() + MS);
    }
    let times: Vec<_> = story.ends[0].statuses.iter().map(|(at, _)| at.saturating_sub(died)).collect();
    assert_eq!(
        story.ends[0].statuses.iter().map(|(_, status)| *status).collect::<Vec<_>>(),
        [LinkStatus::Suspect, LinkStatus::Dead]
    );
    (times[0], times[1], story)
}

#[test]
fn silent_death_is_noticed_within_two_round_trips_however_the_program_writes() {
    for items_per_ms in [1, 4, 10] {
        let (suspect, dead, mut story) = death(items_per_ms);
        // What was on the way back still comes for 15 ms.
        assert!(suspect <= 62 * MS, "{items_per_ms}: suspect after {suspect:?}");
        assert!(dead <= 170 * MS, "{items_per_ms}: dead after {dead:?}");
        // It comes back: everything arrives.
        story.script = Box::new(|_, _, _| Fate::Arrives);
        let end = &mut story.ends[0];
        assert_eq!(end.link.can_send(story.now, 1200, Class::Normal), Permit::Unusable);
        story.finish(10_000 * MS);
        assert_eq!(story.ends[0].link.status(), LinkStatus::Active);
    }
}

#[test]
fn abandoned_link_gives_everything_back_and_keeps_probing() {
    let (_, _, mut story) = death(4);
    let now = story.now;
    let end = &mut story.ends[0];
    let on_way = end.link.unacked().count();
    assert!(on_way > 0);
    let mut out = Outcome::default();
    end.link.abandon(now, &mut out);
    assert_eq!((out.lost.len(), end.link.in_flight(), end.link.unacked().count()), (on_way, 0, 0));
    assert!(end.link.poll_timeout().is_some(), "probes go on");
    end.queue.clear();
    end.next_item = 0;
    end.acked.clear();
    story.ends[1].arrived.clear();
    story.script = Box::new(|_, _, _| Fate::Arrives);
    story.run(story.at() + 6000 * MS);
    assert_eq!(story.ends[0].link.status(), LinkStatus::Active);
}

#[test]
fn rebinding_in_the_middle_of_a_flow() {
    let mut story = Story::new(&config());
    story.write(4000);
    story.run(120 * MS);
    assert!(!story.ends[0].queue.is_empty());
    let window = story.ends[1].link.report().window;
    let moved = route(1, 1001);
    story.ends[0].address = moved;
    let at = story.at();
    story.run(at + 20 * MS);
    let b = &story.ends[1].link;
    assert_eq!(b.route(), moved);
    assert!(!b.is_validated(), "challenged");
    story.run(at + 50 * MS);
    let b = &story.ends[1].link;
    assert!(b.is_validated() && b.status() == LinkStatus::Active);
    assert!(b.report().window >= window, "it is the same path");
    story.finish(5000 * MS);
    assert_eq!(story.ends[0].lost, 0);
}

#[test]
fn forged_source_gets_little_and_the_link_returns() {
    let mut story = Story::new(&config());
    story.write(20);
    story.finish(500 * MS);
    let honest = story.ends[1].link.route();
    // One packet is forwarded by somebody else, who hopes for an amplified answer and swallows it.
    let mut forwarded = false;
    story.script = Box::new(move |_, side, packet| {
        if side == Side::Initiator && packet.item == Some(20) && !forwarded {
            forwarded = true;
            packet.from = route(9, 9);
        }
        if side == Side::Responder && forwarded && packet.challenge.is_some() {
            return Fate::Lost;
        }
        Fate::Arrives
    });
    story.write(1);
    story.run(story.at() + 16 * MS);
    assert_eq!(story.ends[1].link.route(), route(9, 9));
    let now = story.now;
    assert_eq!(story.ends[1].link.can_send(now, 60_000, Class::Probe), Permit::Amplification);
    // The next packet of the real peer brings it back at once.
    story.write(1);
    story.run(story.at() + 16 * MS);
    assert_eq!(story.ends[1].link.route(), honest);
    assert!(story.ends[1].link.is_validated());
    story.finish(500 * MS);
}

#[test]
fn new_link_is_validated_from_both_ends() {
    let mut story = Story::unvalidated(&config());
    let now = story.now;
    assert_eq!(story.ends[0].link.can_send(now, 1200, Class::Normal), Permit::Unusable);
    assert_eq!(
        story.ends[1].link.can_send(now, 1200, Class::Probe),
        Permit::Amplification,
        "nothing came yet"
    );
    story.run(100 * MS);
    for end in &story.ends {
        assert_eq!(end.link.status(), LinkStatus::Active);
        assert!(end.link.rtt() < 45 * MS, "measured on the way: {:?}", end.link.rtt());
    }
    story.write(100);
    story.finish(500 * MS);
}

#[test]
fn link_to_nowhere_fails() {
    let mut story = Story::unvalidated(&config());
    story.script = Box::new(|_, _, _| Fate::Lost);
    story.run(12_000 * MS);
    let a = &story.ends[0];
    assert_eq!(a.link.status(), LinkStatus::Dead);
    assert_eq!(a.timeouts.last().map(|(_, what)| *what), Some(LinkTimeout::ValidationFailed));
    assert!(a.sent <= 20, "{}", a.sent);
    assert!(a.link.poll_timeout().is_none());
}

#[test]
fn hole_for_large_packets_is_healed() {
    let mut story = Story::new(&config());
    for _ in 0..300 {
        story.write(4);
        story.run(story.at() + MS);
    }
    assert_eq!(story.ends[0].link.mtu(), 1452);
    let pto = story.ends[0].link.pto();
    let at = story.at();
    story.script = Box::new(|_, _, packet| if packet.bytes > 1300 { Fate::Lost } else { Fate::Arrives });
    for _ in 0..1500 {
        story.write(4);
        story.run(story.at() + MS);
    }
    story.finish(1000 * MS);
    let mut arrivals: Vec<_> = story.ends[1].arrived.values().copied().collect();
    arrivals.sort();
    let stall = arrivals.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap();
    assert!(stall <= 3 * pto, "{stall:?} of {pto:?}");
    let healed = story.ends[1].arrived.values().filter(|arrived| **arrived > at + 300 * MS).count();
    assert!(healed > 4000);
    let mtu = story.ends[0].link.mtu();
    assert!((1284..=1300).contains(&mtu), "{mtu}");
    assert!(!story.ends[0].statuses.iter().any(|(_, status)| *status == LinkStatus::Dead));
}

#[test]
fn path_that_clears_marks() {
    let mut story = Story::new(&config());
    story.script = Box::new(|_, _, packet| {
        packet.ecn = None;
        Fate::Arrives
    });
    story.write(100);
    story.finish(1000 * MS);
    assert_eq!(story.ends[0].link.ecn(), None);
}

#[test]
fn path_that_drops_marked_packets() {
    let mut story = Story::new(&config());
    story.script = Box::new(|_, _, packet| if packet.ecn.is_some() { Fate::Lost } else { Fate::Arrives });
    story.write(100);
    let took = story.finish(3000 * MS);
    assert!(took < 600 * MS, "{took:?}");
    assert_eq!(story.ends[0].link.ecn(), None);
}

#[test]
fn marks_of_congestion_are_heard() {
    let config = Config { congestion: crate::Algorithm::Cubic, ..config() };
    let windows = [false, true].map(|congested| {
        let mut story = Story::new(&config);
        story.script = Box::new(move |at, side, packet| {
            if congested && side == Side::Initiator && at > 100 * MS && packet.pn % 200 == 0 {
                packet.ecn = Some(Ecn::Ce);
            }
            Fate::Arrives
        });
        story.write(2000);
        story.finish(5000 * MS);
        assert_eq!(story.ends[0].link.ecn(), Some(Ecn::Ect0));
        assert_eq!(story.ends[0].lost, 0);
        story.ends[0].link.report().window
    });
    assert!(windows[1] < windows[0], "{windows:?}");
}

#[test]
fn stream_repairs_nothing_until_it_is_gone() {
    let mut story = Story::streams(&config());
    story.write(400);
    story.run(1000 * MS);
    let [a, b] = &story.ends;
    assert_eq!((a.link.mtu(), a.acked.len(), a.lost), (16_640, 400, 0));
    assert!(b.acks <= 102, "{}", b.acks);
    assert!(a.timeouts.iter().all(|(_, what)| *what == LinkTimeout::AckDue), "{:?}", a.timeouts);
    // Nothing comes any more, and then the driver sees it close.
    story.script = Box::new(|_, _, _| Fate::Lost);
    story.write(50);
    story.run(story.at() + 100 * MS);
    assert_eq!(story.ends[0].link.status(), LinkStatus::Active);
    story.run(story.at() + 500 * MS);
    assert_eq!(story.ends[0].link.status(), LinkStatus::Suspect);
    let mut out = Outcome::default();
    let now = story.now;
    story.ends[0].link.close(now, &mut out);
    let mut lost: Vec<_> = out.lost.iter().map(|content| content.start).collect();
    lost.dedup();
    assert!(lost.len() >= 50 && out.status_changed);
    assert_eq!(story.ends[0].link.report().loss, 0);
    assert_eq!(story.ends[0].link.can_send(now, 100, Class::Probe), Permit::Unusable);
}

#[test]
fn idle_link_is_kept_alive_by_one_side() {
    let config = Config { idle_timeout: Duration::from_mins(10), ..config() };
    let mut story = Story::new(&config);
    story.write(1);
    story.run(Duration::from_mins(2));
    let pings = |end: &End| end.timeouts.iter().filter(|(_, what)| *what == LinkTimeout::KeepAlive).count();
    let [a, b] = story.ends.each_ref().map(pings);
    assert!((4..=8).contains(&a) && b == 0, "{a} {b}");
}

#[test]
fn quiet_channel_passes_a_full_window() {
    let mut story = Story::new(&config());
    story.script = Box::new(|_, side, _| if side == Side::Initiator { Fate::Lost } else { Fate::Arrives });
    story.write(1000);
    story.run(20 * MS);
    let (now, link) = (story.now, &mut story.ends[0].link);
    assert_eq!(link.can_send(now, 1200, Class::Normal), Permit::Window);
    assert_eq!(link.can_send(now, 1200, Class::Sparse), Permit::Yes);
    for _ in 0..100 {
        if link.can_send(now, 1200, Class::Sparse) == Permit::Yes {
            link.on_sent(now, 1200, true, Content { channel: 2, ..Content::EMPTY });
        }
    }
    assert_eq!(link.can_send(now, 1200, Class::Sparse), Permit::Window, "not without bounds");
}

#[test]
fn lies_about_arrivals_are_found_out() {
    use crate::wire::message::put_ack;

    let now = Instant::now();
    let mut link = Story::new(&config()).ends.map(|end| end.link).into_iter().next().unwrap();
    let mut skipped = None;
    for _ in 0..100 {
        let pn = link.next_pn();
        link.on_sent(now, 100, true, Content::EMPTY);
        if link.next_pn() != pn + 1 && skipped.is_none() {
            skipped = Some(pn + 1);
        }
    }
    let skipped = skipped.expect("among the first 64");
    let mut check = |low, high| {
        let mut out = Vec::new();
        put_ack(&mut out, LinkId(0), [low..=high].into_iter(), 0, None, 100);
        let Some(Ok(Message::Ack(ack))) = Messages(&out).next() else { panic!("an ACK") };
        link.on_ack(now, &ack, true, &mut Outcome::default())
    };
    assert_eq!(check(skipped, skipped), Err(Violation::Acknowledgement));
    assert_eq!(check(99, 200), Err(Violation::Acknowledgement));
    assert_eq!(check(0, skipped - 1), Ok(()));
}

#[test]
fn background_has_a_smaller_window_of_its_own() {
    let mut story = Story::new(&config());
    story.script = noise(1, 0.01, 0.0, 0.0);
    story.ends[0].background = true;
    story.write(2000);
    story.run(MS);
    let (now, end) = (story.now, &mut story.ends[0]);
    assert!(end.sent <= 4, "{}", end.sent);
    assert_eq!(end.link.can_send(now, 1200, Class::Background), Permit::Window);
    assert_eq!(end.link.can_send(now, 1200, Class::Normal), Permit::Yes);
    story.finish(60_000 * MS);
    assert!(story.ends[0].lost > 0);
}

/// The peer acknowledges nothing, and goes on to send.
#[test]
fn acknowledgements_leave_though_nothing_else_may() {
    let now = Instant::now();
    let mut link = Story::new(&config()).ends.map(|end| end.link).into_iter().next().unwrap();
    let fill = |link: &mut Link, eliciting, class| {
        let mut count = 0_u64;
        while link.can_send(now, 40, class) == Permit::Yes && count < 1 << 20 {
            link.on_sent(now, 40, eliciting, Content::EMPTY);
            count += 1;
        }
        count
    };
    // Probes are not held back by the window, so that the memory is what is full.
    while link.next_pn() < crate::link::MAX_SENT {
        link.on_sent(now, 40, true, Content::EMPTY);
    }
    assert_eq!(link.can_send(now, 40, Class::Normal), Permit::Window);
    let acks = fill(&mut link, false, Class::Ack);
    assert!((1 << 15..=crate::link::MAX_SENT_ACKS).contains(&acks), "{acks}");
    assert_eq!(link.can_send(now, 40, Class::Ack), Permit::Window, "not without bounds");
    assert_eq!(link.can_send(now, 40, Class::Probe), Permit::Yes);
}
