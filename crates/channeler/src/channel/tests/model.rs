//! Random stories of all kinds of channels against what was written and read.

use std::time::Duration;

use proptest::{prelude::*, test_runner::FileFailurePersistence};

use super::{A, B, Pair, capabilities, pattern};
use crate::{Capabilities, Config, Reason, Resend, WriteError};

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    Read(usize, u8),
    Send(usize, u8),
    /// The data of a packet goes out on two links.
    SendTwice(usize),
    /// A packet arrives and is acknowledged.
    Deliver(prop::sample::Index),
    /// It arrives; the acknowledgement does not, yet.
    Arrive(prop::sample::Index),
    /// It is lost, and noticed.
    Drop(prop::sample::Index),
    /// It is taken for lost, and may still arrive.
    Suspect(prop::sample::Index),
    /// It goes out on another link, too.
    Repeat(prop::sample::Index),
    Wait(u16),
    Finish(usize),
    Stop(usize),
    Reset(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = || prop_oneof![5 => Just(A), 1 => Just(B)];
    let packet = any::<prop::sample::Index>;
    let step = prop_oneof![
        60 => (end(), prop_oneof![0_usize..20, 0_usize..600, 0_usize..3000]).prop_map(|(end, len)| Step::Write(end, len)),
        30 => (0..2_usize, 1_u8..10).prop_map(|(end, times)| Step::Read(end, times)),
        60 => (end(), 1_u8..6).prop_map(|(end, packets)| Step::Send(end, packets)),
        8 => end().prop_map(Step::SendTwice),
        50 => packet().prop_map(Step::Deliver),
        15 => packet().prop_map(Step::Arrive),
        15 => packet().prop_map(Step::Drop),
        6 => packet().prop_map(Step::Suspect),
        6 => packet().prop_map(Step::Repeat),
        15 => (0_u16..90).prop_map(Step::Wait),
        1 => end().prop_map(Step::Finish),
    ];
    let step = prop_oneof![
        600 => step,
        1 => (0..2_usize).prop_map(Step::Stop),
        1 => (0..2_usize).prop_map(Step::Reset),
    ];
    prop::collection::vec(step, 1..160)
}

fn kinds() -> impl Strategy<Value = Capabilities> {
    let resend = prop_oneof![
        Just(Resend::No),
        (1_u8..4).prop_map(Resend::Tries),
        (20_u64..300).prop_map(|ms| Resend::Until(Duration::from_millis(ms))),
        Just(Resend::Forever),
    ];
    (any::<bool>(), resend, any::<bool>()).prop_map(|(o, r, c)| capabilities(o, r, c))
}

fn config() -> Config {
    Config {
        initial_window: 4096,
        max_window: 32 << 10,
        send_buffer: 16 << 10,
        max_messages: 16,
        max_message: 2500,
        ..Config::default()
    }
}

/// One direction as a program sees it, kept in the plainest way.
#[derive(Default)]
struct Direction {
    written: Vec<Vec<u8>>,
    read: Vec<Vec<u8>>,
}

impl Direction {
    fn check(&self, capabilities: Capabilities, all: bool) -> Result<(), TestCaseError> {
        if capabilities.is_stream() {
            let (written, read) = (self.written.concat(), self.read.concat());
            prop_assert!(written.starts_with(&read), "a stream is read as it was written");
            prop_assert!(!all || written.len() == read.len(), "to the end");
        } else if capabilities.ordered {
            let mut written = self.written.iter();
            for message in &self.read {
                prop_assert!(written.any(|other| other == message), "in order, whole, once");
            }
        } else {
            let mut written = self.written.clone();
            for message in &self.read {
                let at = written.iter().position(|other| other == message);
                prop_assert!(at.is_some(), "whole, once");
                written.swap_remove(at.unwrap_or(0));
            }
        }
        if all && capabilities.resend == Resend::Forever && !capabilities.is_stream() {
            prop_assert_eq!(self.written.len(), self.read.len(), "nothing is missing");
        }
        Ok(())
    }
}

fn run(kind: Capabilities, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(kind, config());
    pair.room = 500;
    let mut directions = [Direction::default(), Direction::default()];
    let mut cut = false;
    let mut number = 0;
    for step in steps {
        let flying = pair.in_flight();
        let pick = |index: prop::sample::Index| (!flying.is_empty()).then(|| *index.get(&flying));
        match step {
            Step::Write(end, len) => {
                number += 1;
                let bytes = pattern(number, len);
                match pair.write(end, &bytes) {
                    Ok(taken) => directions[end].written.push(bytes[..taken].to_vec()),
                    Err(WriteError::TooLong(most)) => prop_assert!(len > most && most == 2500),
                    Err(WriteError::Blocked | WriteError::Finished | WriteError::Ended(_)) => {}
                    Err(other) => prop_assert!(false, "{other}"),
                }
            }
            Step::Read(end, times) => {
                for _ in 0..times {
                    let promised = pair.ends[end].readable();
                    match pair.read(end) {
                        Ok(bytes) => {
                            prop_assert_eq!(promised, Some(bytes.len()));
                            directions[1 - end].read.push(bytes);
                        }
                        Err(_) => break,
                    }
                }
            }
            Step::Send(end, packets) => {
                for _ in 0..packets {
                    pair.send(end);
                }
            }
            Step::SendTwice(end) => {
                pair.send_twice(end);
            }
            Step::Deliver(index) => pick(index).into_iter().for_each(|packet| pair.deliver(packet)),
            Step::Arrive(index) => pick(index).into_iter().for_each(|packet| pair.arrive(packet)),
            Step::Drop(index) => pick(index).into_iter().for_each(|packet| pair.drop(packet)),
            Step::Suspect(index) => pick(index).into_iter().for_each(|packet| pair.lose(packet)),
            Step::Repeat(index) => pick(index).into_iter().for_each(|packet| pair.repeat(packet)),
            Step::Wait(ms) => pair.wait(Duration::from_millis(ms.into())),
            Step::Finish(end) => pair.finish(end),
            Step::Stop(end) => {
                cut = true;
                pair.act(end, |channel, cx, fx| channel.stop(cx, super::code(1), fx));
            }
            Step::Reset(end) => {
                cut = true;
                pair.act(end, |channel, cx, fx| channel.reset(cx, super::code(2), fx));
            }
        }
        for end in [A, B] {
            prop_assert!(pair.ends[end].memory() < 160 << 10, "memory is bounded");
            prop_assert!(pair.heard[end].ended.len() <= 1);
            prop_assert!(pair.heard[end].finished <= 1);
        }
    }
    // Everything arrives from now on; both programs finish and read to the end.
    pair.finish(A);
    pair.finish(B);
    for _ in 0..200 {
        pair.settle();
        for end in [A, B] {
            directions[1 - end].read.extend(pair.read_all(end));
        }
        pair.wait(Duration::from_millis(50));
    }
    let closed = pair.heard.iter().any(|heard| heard.ended.contains(&Reason::Loss));
    for (from, to) in [(A, B), (B, A)] {
        let direction = &directions[from];
        direction.check(kind, !cut && !closed)?;
        prop_assert_eq!(pair.heard[from].ended.len(), 1, "an end comes, once");
        prop_assert!(pair.ends[from].is_gone());
        prop_assert_eq!(pair.heard[from].sent, pair.heard[to].received, "both count the same offsets");
        prop_assert_eq!(pair.heard[to].consumed, pair.heard[to].received, "all credit comes back");
        let (sent, received) = (pair.heard[from].lost_sent, pair.heard[to].lost_received);
        if !cut && !closed {
            prop_assert_eq!(pair.heard[from].ended[0], Reason::Finished);
            prop_assert_eq!(pair.heard[from].finished, 1);
            if !kind.is_stream() {
                let total = direction.read.len() as u64 + received;
                prop_assert_eq!(total, direction.written.len() as u64, "each was read or told as lost");
            }
            if kind.resend == Resend::No && kind.ordered {
                // The receiver may be less patient than the sender.
            } else {
                prop_assert!(received <= sent, "lost {received}, given up {sent}");
            }
            prop_assert!(!kind.close_on_loss || sent + received == 0, "a loss closes");
        }
        if kind.resend == Resend::Forever {
            prop_assert_eq!(sent + received, 0);
            prop_assert!(!closed);
        }
        prop_assert!(!closed || kind.close_on_loss);
        if closed && !cut {
            prop_assert_eq!(&pair.heard[from].ended, &[Reason::Loss], "on both sides");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_kind_of_channel_keeps_its_promise(kind in kinds(), steps in steps()) {
        run(kind, steps)?;
    }
}
