//! What each kind of channel does, told one by one.

use std::time::Duration;

use super::{A, B, Pair, capabilities, code, pattern};
use crate::{Capabilities, Config, ReadError, Reason, Resend, WriteError};

const TRIES: Resend = Resend::Tries(2);
const UNTIL: Resend = Resend::Until(Duration::from_millis(200));

fn pair(ordered: bool, resend: Resend, close_on_loss: bool) -> Pair {
    Pair::new(capabilities(ordered, resend, close_on_loss), Config::default())
}

/// Writes messages and sends each in a packet of its own.
fn packets(pair: &mut Pair, messages: &[&[u8]]) -> Vec<u64> {
    messages
        .iter()
        .map(|message| {
            pair.write(A, message).unwrap();
            pair.send(A).unwrap()
        })
        .collect()
}

fn read(pair: &mut Pair) -> Vec<String> {
    pair.read_all(B).into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

fn lost(pair: &Pair) -> (u64, u64) {
    (pair.heard[A].lost_sent, pair.heard[B].lost_received)
}

fn assert_closed_by_loss(pair: &mut Pair) {
    pair.settle();
    for end in [A, B] {
        assert_eq!(pair.heard[end].ended, [Reason::Loss]);
        assert_eq!(pair.write(end, b"more"), Err(WriteError::Ended(Reason::Loss)));
        assert_eq!(pair.read(end), Err(Some(ReadError::Ended(Reason::Loss))));
        assert!(pair.ends[end].is_gone());
    }
}

#[test]
fn datagrams_arrive_as_they_come_and_a_loss_is_only_told() {
    let mut pair = pair(false, Resend::No, false);
    let sent = packets(&mut pair, &[b"one", b"two", b"three", b"four"]);
    for packet in [sent[2], sent[0], sent[3]] {
        pair.deliver(packet);
    }
    assert_eq!(read(&mut pair), ["three", "one", "four"]);
    pair.drop(sent[1]);
    assert_eq!(lost(&pair), (1, 0));
    pair.settle();
    assert_eq!(lost(&pair), (1, 1));
    assert_eq!(pair.heard[B].consumed, pair.heard[A].sent, "the hole does not hold the window back");
    assert!(pair.heard[A].ended.is_empty());
}

#[test]
fn datagrams_that_close_on_loss_close_on_the_first() {
    let mut pair = pair(false, Resend::No, true);
    let sent = packets(&mut pair, &[b"one", b"two"]);
    pair.deliver(sent[1]);
    assert_eq!(read(&mut pair), ["two"]);
    pair.drop(sent[0]);
    assert_eq!(pair.heard[A].ended, [Reason::Loss]);
    assert_closed_by_loss(&mut pair);
}

#[test]
fn without_repair_order_waits_a_while_and_then_skips() {
    let mut pair = pair(true, Resend::No, false);
    let sent = packets(&mut pair, &[b"one", b"two", b"three", b"four"]);
    pair.deliver(sent[1]);
    assert_eq!(read(&mut pair), [""; 0], "it may only have overtaken");
    pair.deliver(sent[0]);
    assert_eq!(read(&mut pair), ["one", "two"]);
    pair.deliver(sent[3]);
    pair.wait(Duration::from_millis(9));
    assert_eq!(read(&mut pair), [""; 0]);
    pair.wait(Duration::from_millis(1));
    assert_eq!(read(&mut pair), ["four"], "half a round trip is enough");
    assert_eq!(lost(&pair), (0, 1));
    pair.deliver(sent[2]);
    assert_eq!(read(&mut pair), [""; 0], "behind its time");
    assert_eq!(pair.heard[B].consumed, pair.heard[B].received);
}

#[test]
fn without_repair_an_abandoned_message_is_not_waited_for() {
    let mut pair = pair(true, Resend::No, false);
    let sent = packets(&mut pair, &[b"one", b"two"]);
    pair.deliver(sent[1]);
    pair.drop(sent[0]);
    pair.settle();
    assert_eq!(read(&mut pair), ["two"]);
    assert_eq!(lost(&pair), (1, 1));
}

#[test]
fn without_repair_order_that_closes_on_loss_closes_when_the_wait_ends() {
    let mut pair = pair(true, Resend::No, true);
    let sent = packets(&mut pair, &[b"one", b"two", b"three"]);
    pair.deliver(sent[0]);
    pair.deliver(sent[2]);
    assert_eq!(read(&mut pair), ["one"]);
    pair.wait(Duration::from_millis(10));
    assert_eq!(pair.heard[B].ended, [Reason::Loss]);
    assert_closed_by_loss(&mut pair);
}

#[test]
fn a_lost_last_message_is_missed_when_the_end_is_known() {
    let mut pair = pair(true, Resend::No, false);
    packets(&mut pair, &[b"one"]);
    pair.finish(A);
    let end = pair.send(A).unwrap();
    pair.deliver(end);
    assert_eq!(pair.heard[B].finished, 0);
    pair.wait(Duration::from_millis(10));
    assert_eq!(pair.heard[B].finished, 1);
    assert_eq!(lost(&pair), (0, 1));
}

#[test]
fn tries_are_counted_and_then_the_message_is_forgotten() {
    let mut pair = pair(false, TRIES, false);
    let sent = packets(&mut pair, &[b"one", b"two"]);
    pair.deliver(sent[1]);
    assert_eq!(read(&mut pair), ["two"], "nobody waits");
    pair.drop(sent[0]);
    for _ in 0..2 {
        let again = pair.send(A).expect("a repair");
        assert_eq!(lost(&pair), (0, 0));
        pair.drop(again);
    }
    assert_eq!(lost(&pair), (1, 0));
    pair.settle();
    assert_eq!(lost(&pair), (1, 1));
    let sent = packets(&mut pair, &[b"three"]);
    pair.drop(sent[0]);
    pair.settle();
    assert_eq!(read(&mut pair), ["three"]);
}

#[test]
fn tries_that_fail_close_where_loss_closes() {
    for ordered in [false, true] {
        let mut pair = pair(ordered, Resend::Tries(1), true);
        let sent = packets(&mut pair, &[b"one", b"two"]);
        pair.deliver(sent[1]);
        pair.drop(sent[0]);
        assert!(pair.heard[A].ended.is_empty());
        let again = pair.send(A).unwrap();
        pair.drop(again);
        assert_eq!(pair.heard[A].ended, [Reason::Loss]);
        assert_closed_by_loss(&mut pair);
    }
}

#[test]
fn with_repair_order_waits_until_the_message_is_given_up() {
    let mut pair = pair(true, TRIES, false);
    let sent = packets(&mut pair, &[b"one", b"two"]);
    pair.deliver(sent[1]);
    pair.drop(sent[0]);
    pair.wait(Duration::from_secs(10));
    assert_eq!(read(&mut pair), [""; 0]);
    for _ in 0..2 {
        let again = pair.send(A).unwrap();
        pair.drop(again);
    }
    pair.settle();
    assert_eq!(read(&mut pair), ["two"]);
    assert_eq!(lost(&pair), (1, 1));
}

#[test]
fn a_deadline_ends_repair() {
    for ordered in [false, true] {
        let mut pair = pair(ordered, UNTIL, false);
        let sent = packets(&mut pair, &[b"one", b"two"]);
        pair.deliver(sent[1]);
        pair.drop(sent[0]);
        pair.wait(Duration::from_millis(199));
        assert_eq!(lost(&pair), (0, 0));
        pair.wait(Duration::from_millis(1));
        assert_eq!(lost(&pair), (1, 0), "though nothing could be sent");
        pair.settle();
        assert_eq!(lost(&pair), (1, 1));
        assert_eq!(read(&mut pair), ["two"]);
    }
}

#[test]
fn a_message_whose_time_passed_before_it_was_sent_is_not_sent() {
    let mut pair = pair(true, UNTIL, false);
    for message in [&b"old"[..], b"older"] {
        pair.write(A, message).unwrap();
    }
    pair.wait(Duration::from_millis(150));
    pair.write(A, b"new").unwrap();
    pair.wait(Duration::from_millis(60));
    pair.settle();
    assert_eq!(read(&mut pair), ["new"]);
    assert_eq!(lost(&pair), (2, 2));
    assert_eq!(pair.heard[A].sent, 3 + 5 + 3, "what was given up uses offsets, too");
}

#[test]
fn a_deadline_that_passes_closes_where_loss_closes() {
    let mut pair = pair(true, UNTIL, true);
    let sent = packets(&mut pair, &[b"one"]);
    pair.drop(sent[0]);
    pair.wait(Duration::from_millis(200));
    assert_eq!(pair.heard[A].ended, [Reason::Loss]);
    assert_closed_by_loss(&mut pair);
}

#[test]
fn messages_forever_arrive_all_and_wait_for_none() {
    for (ordered, first) in [(false, vec!["two"]), (true, vec![])] {
        // An ordered channel that repairs for ever is a stream, so the ordered one here has a long deadline.
        let resend = if ordered { Resend::Until(Duration::from_hours(1)) } else { Resend::Forever };
        let mut pair = pair(ordered, resend, true);
        let sent = packets(&mut pair, &[b"one", b"two"]);
        pair.deliver(sent[1]);
        assert_eq!(read(&mut pair), first);
        pair.drop(sent[0]);
        for _ in 0..20 {
            let again = pair.send(A).unwrap();
            pair.drop(again);
        }
        pair.settle();
        let rest: &[&str] = if ordered { &["one", "two"] } else { &["one"] };
        assert_eq!(read(&mut pair), rest);
        assert_eq!(lost(&pair), (0, 0));
    }
}

#[test]
fn a_stream_is_one_row_of_bytes_whatever_happens() {
    let mut pair = Pair::new(Capabilities::stream(), Config::default());
    let data = pattern(1, 50_000);
    assert_eq!(pair.write(A, &data), Ok(50_000));
    pair.finish(A);
    let mut sent = pair.send_all(A);
    assert!(sent.len() > 40);
    sent.reverse();
    for (at, &packet) in sent.iter().enumerate() {
        match at % 4 {
            0 => pair.drop(packet),
            1 => pair.arrive(packet),
            2 => {
                pair.lose(packet);
                pair.arrive(packet);
                pair.ack(packet);
            }
            _ => pair.deliver(packet),
        }
    }
    pair.settle();
    assert_eq!(pair.read_all(B).concat(), data);
    assert_eq!(pair.read(B), Err(None));
    assert_eq!((pair.heard[B].finished, pair.heard[B].ended.len()), (1, 0), "half closed");
    assert_eq!(pair.write(A, b"more"), Err(WriteError::Finished));
    assert_eq!(pair.write(B, b"answer"), Ok(6));
    pair.finish(B);
    pair.settle();
    assert!(pair.heard[A].ended.is_empty(), "the answer was not read");
    assert_eq!(pair.read_all(A), [b"answer"]);
    for end in [A, B] {
        assert_eq!(pair.heard[end].ended, [Reason::Finished]);
        assert!(pair.ends[end].is_gone());
        assert_eq!(pair.read(end), Err(None), "it stays finished");
    }
}

#[test]
fn messages_of_any_length_share_packets_and_are_cut_where_they_must_be() {
    for ordered in [false, true] {
        let mut pair = pair(ordered, TRIES, false);
        let lengths = [0, 1, 30_000, 0, 0, 700, 700, 300, 2];
        let messages: Vec<_> = lengths.iter().enumerate().map(|(at, &len)| pattern(at as u64, len)).collect();
        for message in &messages {
            assert_eq!(pair.write(A, message), Ok(message.len()));
        }
        let sent = pair.send_all(A);
        assert!(sent.len() < 29, "{} packets of {} bytes", sent.len(), pair.room);
        sent.into_iter().rev().for_each(|packet| pair.deliver(packet));
        let mut read = pair.read_all(B);
        if !ordered {
            assert_eq!(read.last(), Some(&messages[2]), "completed by the first packets");
            read.sort();
        }
        let mut expected = messages;
        if !ordered {
            expected.sort();
        }
        assert_eq!(read, expected);
    }
}

#[test]
fn a_part_that_is_lost_takes_its_message_with_it() {
    let mut pair = pair(false, Resend::No, false);
    pair.write(A, &pattern(1, 5000)).unwrap();
    pair.write(A, b"small").unwrap();
    let first = pair.send(A).unwrap();
    pair.drop(first);
    assert_eq!(lost(&pair), (1, 0));
    let rest = pair.send_all(A);
    assert!(rest.len() <= 2, "the other parts are not sent: {} packets", rest.len());
    for packet in rest {
        pair.deliver(packet);
    }
    pair.settle();
    assert_eq!(read(&mut pair), ["small"]);
    assert_eq!(lost(&pair), (1, 1));
}

#[test]
fn a_message_that_does_not_fit_the_buffer_stays() {
    let mut pair = pair(true, TRIES, false);
    packets(&mut pair, &[b"hello"]);
    pair.settle();
    let mut short = [0; 4];
    let refused = pair.act(B, |channel, cx, fx| channel.read(cx, &mut short, fx));
    assert_eq!(refused, Err(ReadError::TooShort(5)));
    assert_eq!(pair.ends[B].readable(), Some(5));
    assert_eq!(read(&mut pair), ["hello"]);
    let most = pair.config.max_message;
    assert_eq!(pair.write(A, &vec![0; most + 1]), Err(WriteError::TooLong(most)));
}

#[test]
fn one_of_two_copies_lost_is_no_loss() {
    for resend in [Resend::No, Resend::Tries(1), Resend::Forever] {
        let mut pair = pair(false, resend, true);
        pair.write(A, b"twice").unwrap();
        let twins = pair.send_twice(A).unwrap();
        pair.drop(twins[0]);
        assert_eq!((lost(&pair), pair.send(A)), ((0, 0), None), "the other is on its way");
        pair.drop(twins[1]);
        match resend {
            Resend::No => assert_closed_by_loss(&mut pair),
            _ => assert!(pair.send(A).is_some(), "both are gone"),
        }
    }
}

#[test]
fn what_is_suspected_goes_out_once_more_and_counts_no_try() {
    let mut pair = pair(false, Resend::Tries(1), true);
    let sent = packets(&mut pair, &[b"one"]);
    pair.repeat(sent[0]);
    pair.repeat(sent[0]);
    let again = pair.send(A).expect("on another link");
    assert_eq!(pair.send(A), None, "once");
    pair.deliver(again);
    pair.drop(sent[0]);
    pair.settle();
    assert_eq!(read(&mut pair), ["one"]);
    assert_eq!(lost(&pair), (0, 0));
}

#[test]
fn what_was_given_up_is_not_repeated() {
    let mut pair = pair(false, Resend::Tries(1), false);
    pair.write(A, &pattern(1, 5000)).unwrap();
    let (first, second) = (pair.send(A).unwrap(), pair.send(A).unwrap());
    pair.drop(first);
    let again = pair.send(A).unwrap();
    pair.drop(again);
    assert_eq!(lost(&pair), (1, 0));
    pair.repeat(second);
    pair.settle();
    assert_eq!(lost(&pair), (1, 1));
    pair.write(A, b"next").unwrap();
    pair.settle();
    assert_eq!(read(&mut pair), ["next"]);
}

#[test]
fn stop_ends_one_direction() {
    for kind in [Capabilities::stream(), Capabilities::datagram(), capabilities(true, TRIES, true)] {
        let mut pair = Pair::new(kind, Config::default());
        pair.write(A, &pattern(1, 4000)).unwrap();
        let sent = pair.send(A).unwrap();
        pair.deliver(sent);
        let lost = pair.send(A).unwrap();
        pair.act(B, |channel, cx, fx| channel.stop(cx, code(7), fx));
        assert_eq!(pair.read(B), Err(Some(ReadError::Ended(Reason::Local(code(7))))));
        let stop = pair.send(B).unwrap();
        pair.drop(stop);
        let stop = pair.send(B).expect("it is said again");
        pair.deliver(stop);
        assert_eq!(pair.write(A, b"more"), Err(WriteError::Ended(Reason::Peer(code(7)))));
        pair.drop(lost);
        pair.settle();
        assert!(pair.heard[A].ended.is_empty(), "the other direction goes on");
        assert_eq!(pair.heard[B].consumed, pair.heard[A].sent);
        pair.write(B, b"answer").unwrap();
        pair.finish(B);
        pair.settle();
        assert_eq!(pair.read_all(A), [b"answer"]);
        assert_eq!(pair.heard[A].ended, [Reason::Peer(code(7))]);
        assert_eq!(pair.heard[B].ended, [Reason::Local(code(7))]);
        assert!(pair.ends[A].is_gone() && pair.ends[B].is_gone());
    }
}

#[test]
fn reset_ends_both_directions_at_once() {
    let mut pair = Pair::new(Capabilities::stream(), Config::default());
    pair.write(A, &pattern(1, 4000)).unwrap();
    pair.write(B, &pattern(2, 4000)).unwrap();
    let (first, other) = (pair.send(A).unwrap(), pair.send(B).unwrap());
    pair.act(A, |channel, cx, fx| channel.reset(cx, code(9), fx));
    assert_eq!(pair.heard[A].ended, [Reason::Local(code(9))]);
    assert_eq!(pair.read(A), Err(Some(ReadError::Ended(Reason::Local(code(9))))));
    let reset = pair.send(A).unwrap();
    assert_eq!(pair.send(A), None, "nothing but that");
    pair.drop(reset);
    let reset = pair.send(A).expect("it is said again");
    pair.deliver(reset);
    assert_eq!(pair.heard[B].ended, [Reason::Peer(code(9))]);
    assert!(!pair.ends[A].is_gone(), "where the other direction ends is not known");
    pair.deliver(first);
    pair.deliver(other);
    pair.settle();
    for end in [A, B] {
        assert!(pair.ends[end].is_gone());
        assert_eq!(pair.heard[end].sent, pair.heard[1 - end].consumed, "all credit comes back");
    }
}

#[test]
fn a_window_holds_back_and_its_loss_is_repaired() {
    let config = Config { initial_window: 10_000, max_window: 10_000, ..Config::default() };
    let mut pair = Pair::new(Capabilities::stream(), config);
    pair.write(A, &pattern(1, 30_000)).unwrap();
    pair.settle();
    assert_eq!(pair.heard[B].received, 10_000);
    assert!(pair.ends[A].is_blocked());
    assert_eq!(pair.ends[A].send_window().0, 0);
    assert_eq!(pair.read_all(B).concat().len(), 10_000);
    let window = pair.send(B).expect("a WINDOW");
    pair.drop(window);
    assert_eq!(pair.send(A), None);
    let window = pair.send(B).expect("another");
    pair.deliver(window);
    assert_eq!(pair.ends[A].send_window().0, 10_000);
    pair.settle();
    assert_eq!(pair.heard[B].received, 20_000);
}

#[test]
fn a_window_of_messages_holds_back_too() {
    let config = Config { max_messages: 8, ..Config::default() };
    for ordered in [false, true] {
        let mut pair = Pair::new(capabilities(ordered, TRIES, false), config.clone());
        for _ in 0..20 {
            pair.write(A, b"").unwrap();
        }
        pair.settle();
        assert_eq!(pair.heard[B].received, 8, "an empty message uses one offset");
        assert_eq!(pair.ends[A].send_window().1, 0);
        assert_eq!(pair.read_all(B).len(), 8);
        pair.settle();
        assert_eq!(pair.read_all(B).len(), 8);
    }
}

#[test]
fn a_quick_reader_gets_a_larger_window_and_a_slow_one_does_not() {
    let mut windows = Vec::new();
    for (pause, reads) in [(1, usize::MAX), (60, 1)] {
        let mut pair = Pair::new(Capabilities::stream(), Config::default());
        for _ in 0..100 {
            let _ = pair.write(A, &pattern(1, 256 << 10));
            pair.settle();
            pair.wait(Duration::from_millis(pause));
            (0..reads).map_while(|_| pair.read(B).ok()).for_each(drop);
        }
        pair.settle();
        windows.push(pair.ends[A].send_window().0);
    }
    assert!(windows[0] >= 12 << 20, "{} bytes", windows[0]);
    assert!(windows[1] <= 256 << 10, "{} bytes", windows[1]);
}

#[test]
fn a_writer_is_held_back_and_woken_and_may_hold_more_if_the_network_takes_more() {
    let mut pair = Pair::new(Capabilities::stream(), Config::default());
    let data = pattern(1, 1 << 20);
    assert_eq!(pair.write(A, &data), Ok(64 << 10));
    assert_eq!(pair.write(A, &data), Err(WriteError::Blocked));
    assert_eq!(pair.heard[A].writable, 0);
    let first = pair.send(A).unwrap();
    assert_eq!(pair.heard[A].writable, 0);
    pair.deliver(first);
    assert_eq!(pair.heard[A].writable, 0, "not for a packet's worth");
    pair.send_all(A);
    assert_eq!(pair.heard[A].writable, 1, "all is on its way");
    assert!(pair.write(A, &data).unwrap() > 64 << 10);
    assert_eq!(pair.act(A, |channel, cx, _| channel.room(cx)), 0);
}

#[test]
fn readable_is_told_once_until_all_is_read() {
    let mut pair = Pair::new(Capabilities::stream(), Config::default());
    for _ in 0..2 {
        pair.write(A, b"some").unwrap();
        pair.settle();
    }
    assert_eq!(pair.heard[B].readable, 1);
    pair.read_all(B);
    pair.write(A, b"more").unwrap();
    pair.settle();
    assert_eq!(pair.heard[B].readable, 2);
}

#[test]
fn accepting_is_said_until_it_is_known() {
    let mut pair = Pair::new(Capabilities::stream(), Config::default());
    pair.ends[B].accept();
    let accept = pair.send(B).unwrap();
    pair.ends[B].accept();
    pair.drop(accept);
    let accept = pair.send(B).unwrap();
    pair.deliver(accept);
    pair.ends[B].accept();
    assert_eq!(pair.send(B), None);
}
