//! A peer that breaks the rules: which one it broke is named, and memory stays bounded.

use std::time::Duration;

use proptest::{prelude::*, test_runner::FileFailurePersistence};

use super::{A, B, Pair, capabilities, code, every_kind, pattern};
use crate::{
    Capabilities, Config, Reason, Resend, Violation,
    channel::Part,
    varint::MAX,
    wire::message::{AbandonedRange, kind},
};

fn config() -> Config {
    Config {
        initial_window: 4096,
        max_window: 8192,
        max_messages: 16,
        max_message: 1000,
        ..Config::default()
    }
}

fn stream() -> Pair {
    Pair::new(Capabilities::stream(), config())
}

fn messages(ordered: bool) -> Pair {
    Pair::new(capabilities(ordered, Resend::Tries(1), false), config())
}

impl Pair {
    fn data(&mut self, offset: u64, fin: bool, bytes: &[u8]) -> Result<(), Violation> {
        self.act(B, |channel, cx, fx| channel.on_data(cx, offset, fin, bytes, None, fx))
    }

    fn part(&mut self, number: Option<u64>, end: bool, offset: u64, bytes: &[u8]) -> Result<(), Violation> {
        self.act(B, |channel, cx, fx| channel.on_part(cx, Part { number, end, offset, bytes }, fx))
    }

    fn fin(&mut self, final_offset: u64, messages: u64) -> Result<(), Violation> {
        self.act(B, |channel, cx, fx| channel.on_message_fin(cx, final_offset, messages, fx))
    }

    fn abandon(&mut self, start: u64, length: u64, messages: u64) -> Result<(), Violation> {
        let range = AbandonedRange { start, length, messages };
        self.act(B, |channel, cx, fx| channel.on_abandon(cx, range, fx))
    }

    fn reset(&mut self, final_offset: u64) -> Result<(), Violation> {
        self.act(B, |channel, cx, fx| channel.on_reset(cx, code(1), final_offset, fx))
    }
}

#[test]
fn nothing_comes_beyond_the_window() {
    assert_eq!(stream().data(4000, false, &[0; 96]), Ok(()));
    assert_eq!(stream().data(4000, false, &[0; 97]), Err(Violation::Window));
    assert_eq!(stream().data(MAX - 1, false, &[0]), Err(Violation::Window));
    assert_eq!(stream().data(MAX, true, &[]), Err(Violation::Window));
    assert_eq!(stream().reset(4097), Err(Violation::Window));
    for ordered in [false, true] {
        assert_eq!(messages(ordered).part(None, false, 4096, &[0]), Err(Violation::Window));
        assert_eq!(messages(ordered).part(Some(0), true, MAX - 1, &[]), Err(Violation::Window));
        assert_eq!(messages(ordered).part(Some(16), true, 100, &[0]), Err(Violation::Window));
        assert_eq!(messages(ordered).part(Some(15), true, 100, &[0]), Ok(()));
        assert_eq!(messages(ordered).abandon(0, MAX, 1), Err(Violation::Window));
        assert_eq!(messages(ordered).abandon(MAX, 0, 1), Err(Violation::Boundary));
        assert_eq!(messages(ordered).abandon(0, 4096, 17), Err(Violation::Window));
        assert_eq!(messages(ordered).fin(MAX, 3), Err(Violation::Window));
        assert_eq!(messages(ordered).fin(10, 17), Err(Violation::Window));
    }
}

#[test]
fn an_end_stays_where_it_is() {
    let mut pair = stream();
    assert_eq!(pair.data(10, true, &[0; 10]), Ok(()));
    assert_eq!(pair.data(10, true, &[0; 10]), Ok(()), "once more is no harm");
    assert_eq!(pair.data(0, true, &[0; 10]), Err(Violation::FinalSize));
    assert_eq!(pair.data(15, false, &[0; 10]), Err(Violation::FinalSize));
    assert_eq!(pair.reset(21), Err(Violation::FinalSize));
    let mut pair = stream();
    assert_eq!(pair.data(10, false, &[0; 10]), Ok(()));
    assert_eq!(pair.data(0, true, &[0; 10]), Err(Violation::FinalSize));
    assert_eq!(pair.reset(19), Err(Violation::FinalSize));
    assert_eq!(pair.reset(25), Ok(()));
    assert_eq!(pair.data(25, false, &[0]), Err(Violation::FinalSize), "a reset channel still counts");
    let mut pair = messages(true);
    assert_eq!(pair.part(Some(0), true, 0, &[0; 10]), Ok(()));
    assert_eq!(pair.fin(10, 2), Err(Violation::Boundary), "one message, not two");
    let mut pair = messages(true);
    assert_eq!(pair.fin(10, 2), Ok(()));
    assert_eq!(pair.fin(10, 3), Err(Violation::Boundary));
    assert_eq!(pair.fin(11, 2), Err(Violation::FinalSize));
    assert_eq!(pair.abandon(5, 6, 2), Err(Violation::FinalSize));
}

#[test]
fn boundaries_do_not_move() {
    for ordered in [false, true] {
        // (parts that came, the part that contradicts them)
        type Given = (Option<u64>, bool, u64, usize);
        let whole: Given = (Some(0), true, 0, 100);
        let cases: [(&[Given], Given); 11] = [
            (&[whole], (None, false, 100, 10)),
            (&[whole], (Some(1), false, 90, 20)),
            (&[whole], (Some(0), false, 0, 120)),
            (&[whole], (Some(2), false, 100, 10)),
            (&[(Some(0), false, 0, 100)], (None, true, 0, 50)),
            (&[(Some(0), false, 0, 100)], (Some(1), false, 100, 50)),
            (&[(Some(0), false, 0, 100), (None, true, 100, 10)], (None, true, 100, 20)),
            (&[(Some(3), true, 300, 10)], (Some(3), true, 500, 10)),
            (&[(Some(3), true, 300, 10)], (Some(4), true, 200, 10)),
            (&[(None, true, 300, 10)], (None, false, 305, 10)),
            (&[(Some(0), true, 0, 0)], (None, true, 1, 10)),
        ];
        for (at, (given, last)) in cases.into_iter().enumerate() {
            let mut pair = messages(ordered);
            for &(number, end, offset, len) in given {
                assert_eq!(pair.part(number, end, offset, &pattern(1, len)), Ok(()), "case {at}");
            }
            let (number, end, offset, len) = last;
            let refused = pair.part(number, end, offset, &pattern(1, len));
            assert_eq!(refused, Err(Violation::Boundary), "case {at}");
        }
        let mut pair = messages(ordered);
        assert_eq!(pair.part(None, false, 10, &[]), Err(Violation::Boundary), "nothing, and no message");
        assert_eq!(pair.part(Some(0), false, 10, &[]), Err(Violation::Boundary));
    }
}

#[test]
fn what_is_abandoned_fits_what_came() {
    for ordered in [false, true] {
        let mut pair = messages(ordered);
        assert_eq!(pair.part(Some(0), true, 0, &[1; 100]), Ok(()));
        assert_eq!(pair.part(Some(2), false, 200, &[1; 50]), Ok(()));
        assert_eq!(pair.abandon(50, 100, 2), Err(Violation::Boundary), "it cuts a message");
        assert_eq!(pair.abandon(100, 120, 2), Err(Violation::Boundary), "this one, too");
        assert_eq!(pair.abandon(100, 100, 3), Err(Violation::Boundary), "a number that is not so");
        let mut pair = messages(ordered);
        assert_eq!(pair.part(Some(0), true, 0, &[1; 100]), Ok(()));
        assert_eq!(pair.part(Some(2), false, 200, &[1; 50]), Ok(()));
        assert_eq!(pair.abandon(0, 300, 3), Ok(()), "what arrived stays");
        assert_eq!(pair.abandon(0, 300, 3), Ok(()), "twice is once");
        assert_eq!(pair.abandon(100, 50, 9), Ok(()), "nothing is known of the inside of what is gone");
        assert_eq!(pair.part(None, true, 250, &[1; 50]), Ok(()), "late, and ignored");
        assert_eq!(pair.part(None, true, 250, &[1; 51]), Err(Violation::Boundary), "across the end of it");
        assert_eq!(pair.read_all(B), [vec![1; 100]]);
        assert_eq!(pair.heard[B].lost_received, 2);
        assert_eq!(pair.heard[B].consumed, 300);
    }
}

#[test]
fn messages_have_their_place() {
    assert_eq!(stream().part(Some(0), true, 0, &[1]), Err(Violation::OutOfPlace(kind::PART)));
    assert_eq!(stream().fin(0, 0), Err(Violation::OutOfPlace(kind::MESSAGE_FIN)));
    assert_eq!(stream().abandon(0, 1, 1), Err(Violation::OutOfPlace(kind::ABANDON)));
    assert_eq!(messages(true).data(0, false, &[1]), Err(Violation::OutOfPlace(kind::DATA)));
    let mut forever = Pair::new(capabilities(false, Resend::Forever, true), config());
    assert_eq!(forever.abandon(0, 1, 1), Err(Violation::OutOfPlace(kind::ABANDON)));
}

#[test]
fn no_message_is_longer_than_allowed() {
    for ordered in [false, true] {
        let mut pair = messages(ordered);
        assert_eq!(pair.part(Some(0), true, 0, &[1; 1001]), Err(Violation::Limit));
        let mut pair = messages(ordered);
        assert_eq!(pair.part(Some(0), false, 0, &[1; 600]), Ok(()));
        assert_eq!(pair.part(None, false, 600, &[1; 401]), Err(Violation::Limit), "as soon as it shows");
        let mut pair = messages(ordered);
        assert_eq!(pair.part(None, true, 600, &[1; 401]), Ok(()));
        assert_eq!(pair.part(Some(0), false, 0, &[1; 600]), Err(Violation::Limit));
    }
}

#[test]
fn crumbs_are_bounded() {
    let config = Config { initial_window: 1 << 20, ..Config::default() };
    let mut pair = Pair::new(Capabilities::stream(), config);
    let refused = (0..1 << 19).map(|at| pair.data(at * 2 + 1, false, &[1])).find_map(Result::err);
    assert_eq!(refused, Some(Violation::Limit));
    assert!(pair.ends[B].memory() < 1 << 21, "{} bytes", pair.ends[B].memory());
    let mut pair = messages(false);
    let refused = (0..2000).map(|at| pair.part(None, true, at * 2 + 1, &[1])).find_map(Result::err);
    assert_eq!(refused, Some(Violation::Window), "more ends of messages than messages");
    assert!(pair.ends[B].memory() < 16 << 10);
}

#[test]
fn a_window_of_any_size_can_be_granted() {
    for kind in every_kind() {
        let mut pair = Pair::new(kind, config());
        pair.act(A, |channel, _, fx| channel.on_window(MAX, MAX, fx));
        pair.act(A, |channel, _, fx| channel.on_window(0, 0, fx));
        assert_eq!(pair.ends[A].send_window().0, MAX, "and is not taken back");
    }
}

#[test]
fn what_follows_an_end_is_ignored() {
    let mut pair = stream();
    pair.act(B, |channel, cx, fx| channel.reset(cx, code(3), fx));
    assert_eq!(pair.data(0, true, &[1; 100]), Ok(()));
    assert_eq!(pair.reset(100), Ok(()));
    pair.act(B, |channel, cx, fx| channel.on_stop(cx, code(4), fx));
    assert_eq!(pair.heard[B].ended, [Reason::Local(code(3))]);
    assert_eq!((pair.heard[B].received, pair.heard[B].consumed), (100, 100));
    assert_eq!(pair.heard[B].readable, 0);
}

#[derive(Clone, Debug)]
enum Attack {
    Data(u64, bool, u64),
    Part(Option<u64>, bool, u64, u64),
    Fin(u64, u64),
    Abandon(u64, u64, u64),
    Reset(u64),
    Stop,
    Window(u64, u64),
    Write(u64),
    Send,
    Read,
    Wait,
}

fn attacks() -> impl Strategy<Value = Vec<Attack>> {
    let offset = || prop_oneof![20 => 0_u64..40, 5 => 0_u64..5000, 1 => Just(MAX / 2)];
    let len = || prop_oneof![20 => 0_u64..12, 1 => 0_u64..1200];
    let number = || prop_oneof![20 => 0_u64..8, 1 => 0_u64..40, 1 => Just(MAX)];
    let attack = prop_oneof![
        2 => (offset(), any::<bool>(), len()).prop_map(|(o, f, l)| Attack::Data(o, f, l)),
        12 => (proptest::option::of(number()), any::<bool>(), offset(), len())
            .prop_map(|(n, e, o, l)| Attack::Part(n, e, o, l)),
        1 => (offset(), number()).prop_map(|(o, n)| Attack::Fin(o, n)),
        4 => (offset(), len(), number()).prop_map(|(o, l, n)| Attack::Abandon(o, l, n)),
        1 => offset().prop_map(Attack::Reset),
        1 => Just(Attack::Stop),
        2 => (offset(), number()).prop_map(|(o, n)| Attack::Window(o, n)),
        2 => len().prop_map(Attack::Write),
        2 => Just(Attack::Send),
        4 => Just(Attack::Read),
        2 => Just(Attack::Wait),
    ];
    prop::collection::vec(attack, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// The peer goes on after breaking rules, which a connection would not let it.
    #[test]
    fn anything_may_come(kind in prop::sample::select(every_kind()), attacks in attacks()) {
        let mut pair = Pair::new(kind, config());
        for attack in attacks {
            let _ = match attack {
                Attack::Data(offset, fin, len) => pair.data(offset, fin, &pattern(offset, len as usize)),
                Attack::Part(number, end, offset, len) => pair.part(number, end, offset, &pattern(offset, len as usize)),
                Attack::Fin(offset, messages) => pair.fin(offset, messages),
                Attack::Abandon(start, length, messages) => pair.abandon(start, length, messages),
                Attack::Reset(offset) => pair.reset(offset),
                Attack::Stop => {
                    pair.act(B, |channel, cx, fx| channel.on_stop(cx, code(1), fx));
                    Ok(())
                }
                Attack::Window(offset, messages) => {
                    pair.act(B, |channel, _, fx| channel.on_window(offset, messages, fx));
                    Ok(())
                }
                Attack::Write(len) => {
                    let _ = pair.write(B, &pattern(len, len as usize));
                    Ok(())
                }
                Attack::Send => {
                    pair.send(B);
                    Ok(())
                }
                Attack::Read => {
                    let promised = pair.ends[B].readable();
                    if let Ok(bytes) = pair.read(B) {
                        prop_assert_eq!(promised, Some(bytes.len()));
                        prop_assert!(kind.is_stream() || bytes.len() <= 1000);
                    }
                    Ok(())
                }
                Attack::Wait => {
                    pair.wait(Duration::from_millis(30));
                    Ok(())
                }
            };
            let heard = &pair.heard[B];
            prop_assert!(heard.consumed <= heard.received, "{} of {}", heard.consumed, heard.received);
            prop_assert!(pair.ends[B].memory() < 80 << 10);
        }
    }
}
