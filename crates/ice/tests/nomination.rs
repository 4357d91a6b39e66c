//! What the controlled side makes of nominations, and of data that comes before it has made up its mind.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use common::ms;
use common::script::Script;
use towline_ice::{Candidate, CloseReason, Config, Disposition, DropReason, Event, Role, TcpType, Transport};

const DATA: &[u8] = &[0x16, 3, 1, 0, 5];

fn controlled() -> Script {
    let mut script = Script::new(Role::Controlled, Config::default());
    script.set_remote(vec![Candidate::host(
        Transport::Tcp(TcpType::Active),
        "10.0.0.2:9".parse().unwrap(),
        0,
    )]);
    script
}

fn selections(script: &Script) -> usize {
    script.events.iter().filter(|e| matches!(e, Event::Selected { .. })).count()
}

#[test]
fn data_between_nomination_and_our_own_proof_is_early_not_lost() {
    let mut script = controlled();
    let stream = script.accept("10.0.0.2:40000");
    let (plain, nominating) = (script.check(false), script.check(true));
    assert_eq!(script.frame(stream, &plain), Disposition::Consumed);
    assert_eq!(
        script.frame(stream, DATA),
        Disposition::Dropped(DropReason::NotSelected),
        "not nominated yet"
    );
    assert_eq!(script.frame(stream, &nominating), Disposition::Consumed);
    assert_eq!(script.selected_stream(), None, "our own check has not been answered");
    assert_eq!(script.frame(stream, DATA), Disposition::Early);
    let success = script.success(stream);
    assert_eq!(script.frame(stream, &success), Disposition::Consumed);
    assert_eq!(script.selected_stream(), Some(stream));
    assert_eq!(script.frame(stream, DATA), Disposition::Data);
}

#[test]
fn early_data_is_bounded() {
    let mut script = controlled();
    let stream = script.accept("10.0.0.2:40000");
    let check = script.check(true);
    script.frame(stream, &check);
    let chunk = vec![0x17; 32 * 1024];
    for _ in 0..4 {
        assert_eq!(script.frame(stream, &chunk), Disposition::Early);
    }
    assert_eq!(script.frame(stream, &chunk), Disposition::Dropped(DropReason::TooMuchEarlyData));
    assert_eq!(script.closed, [(stream, CloseReason::TooMuchEarlyData)]);
    assert_eq!(script.frame(stream, &chunk), Disposition::Dropped(DropReason::UnknownStream));
}

/// Two connections, both nominated with their first check; the second has the higher priority.
fn aggressive(script: &mut Script) -> [towline_ice::StreamId; 2] {
    let streams = [script.accept("10.0.0.2:40000"), script.accept("10.0.0.2:40001")];
    for (n, stream) in streams.into_iter().enumerate() {
        let mut request = script.good();
        request.use_candidate = true;
        request.priority = Some(1_862_270_000 + u32::try_from(n).unwrap());
        let check = script.encode(&request);
        script.frame(stream, &check);
    }
    streams
}

#[test]
fn an_aggressive_peer_may_still_do_better() {
    let mut script = controlled();
    let [worse, better] = aggressive(&mut script);
    let success = script.success(worse);
    script.frame(worse, &success);
    assert_eq!(script.selected_stream(), None, "a better one is nominated and still open");
    script.pass(ms(60));
    let success = script.success(better);
    script.frame(better, &success);
    assert_eq!(script.selected_stream(), Some(better));
    assert_eq!(selections(&script), 1);
    assert_eq!(script.closed, [(worse, CloseReason::NotSelected)]);
}

#[test]
fn an_aggressive_peer_is_taken_at_its_word_after_a_while() {
    let mut script = controlled();
    let [worse, _] = aggressive(&mut script);
    let success = script.success(worse);
    script.frame(worse, &success);
    script.pass(ms(99));
    assert_eq!(script.selected_stream(), None);
    script.pass(ms(1));
    assert_eq!(script.selected_stream(), Some(worse));
}

#[test]
fn an_aggressive_peer_shows_its_choice_by_using_it() {
    let mut script = controlled();
    let [worse, _] = aggressive(&mut script);
    let success = script.success(worse);
    script.frame(worse, &success);
    assert_eq!(script.frame(worse, DATA), Disposition::Data);
    assert_eq!(script.selected_stream(), Some(worse));
}

#[test]
fn the_choice_stands_whatever_is_nominated_later() {
    let mut script = controlled();
    let stream = script.accept("10.0.0.2:40000");
    for nominate in [false, true] {
        let check = script.check(nominate);
        script.frame(stream, &check);
    }
    let success = script.success(stream);
    script.frame(stream, &success);
    assert_eq!(script.selected_stream(), Some(stream));
    // Over UDP, which no limit on connections keeps out: answered, and that is all.
    let late = script.check(true);
    let before = script.datagrams.len();
    assert_eq!(script.udp("10.0.0.2:7000", &late), Disposition::Consumed);
    assert_eq!(script.datagrams.len(), before + 1, "an answer and no check of ours");
    assert_eq!(script.udp("10.0.0.2:7000", b"data"), Disposition::Dropped(DropReason::NotSelected));
    assert_eq!((script.selected_stream(), selections(&script)), (Some(stream), 1));
}

#[test]
fn every_request_is_answered_the_repeated_ones_too() {
    let mut script = controlled();
    let stream = script.accept("10.0.0.2:40000");
    let check = script.check(false);
    for _ in 0..5 {
        assert_eq!(script.frame(stream, &check), Disposition::Consumed);
    }
    assert_eq!(script.answers(stream).len(), 5);
    assert_eq!(script.frames.len(), 6, "and one check of ours goes back");
}

#[test]
fn a_nomination_may_precede_the_description() {
    let mut script = Script::new(Role::Controlled, Config::default());
    let stream = script.accept("10.0.0.2:40000");
    for nominate in [false, true] {
        let check = script.check(nominate);
        script.frame(stream, &check);
    }
    assert_eq!(script.answers(stream).len(), 2);
    script.set_remote(vec![Candidate::host(
        Transport::Tcp(TcpType::Active),
        "10.0.0.2:9".parse().unwrap(),
        0,
    )]);
    let success = script.success(stream);
    script.frame(stream, &success);
    assert_eq!(script.selected_stream(), Some(stream));
}
