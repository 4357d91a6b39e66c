//! Which channel sends next.
//!
//! * Classes are strict: [`Class::Urgent`] before [`Class::Normal`] before [`Class::Background`], decided anew for
//!   each frame, so an urgent byte waits for one frame of at most 16 KiB.
//! * No class starves: after [`PATIENCE`] frames of higher classes a waiting lower class sends one frame.
//! * Inside a class channels take turns; a turn is `weight` KiB (the default weight is one full frame).
//!
//! Every step is O(1), however many channels there are.

use std::collections::VecDeque;

use crate::{ChannelId, Class, Priority};

/// Frames of higher classes a waiting class lets pass before it sends one of its own.
const PATIENCE: u32 = 32;

/// Bytes of a turn per unit of weight. What is left of a turn below this is forfeited, so that turns do not end
/// in tiny frames.
const WEIGHT_UNIT: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    rings: [Ring; Class::ALL.len()],
}

#[derive(Debug, Default)]
struct Ring {
    waiting: VecDeque<Entry>,
    /// Frames of higher classes sent since this class last sent, while it was waiting.
    passed_over: u32,
}

#[derive(Debug)]
struct Entry {
    id: ChannelId,
    weight: u8,
    /// Bytes left of the present turn.
    left: usize,
}

impl Entry {
    fn turn(weight: u8) -> usize {
        usize::from(weight.max(1)) * WEIGHT_UNIT
    }
}

/// The channel whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) id: ChannelId,
    /// Body bytes it may send in one frame.
    pub(crate) allowance: usize,
    class: Class,
    weight: u8,
}

impl Turn {
    /// Whether the channel still has the priority it was queued with.
    pub(crate) fn has(self, priority: Priority) -> bool {
        self.class == priority.class && self.weight == priority.weight
    }
}

impl Scheduler {
    /// Puts a channel behind the others of its class. The caller sees to it that it is there once.
    pub(crate) fn push(&mut self, id: ChannelId, priority: Priority) {
        let entry = Entry { id, weight: priority.weight, left: Entry::turn(priority.weight) };
        self.rings[priority.class as usize].waiting.push_back(entry);
    }

    /// Whose turn it is; the same until it is [`charge`](Self::charge)d or [`remove`](Self::remove)d.
    pub(crate) fn peek(&self) -> Option<Turn> {
        let waiting = |class: &&Class| !self.rings[**class as usize].waiting.is_empty();
        let starved = |class: &&Class| waiting(class) && self.rings[**class as usize].passed_over >= PATIENCE;
        let class = *Class::ALL.iter().rev().find(starved).or_else(|| Class::ALL.iter().find(waiting))?;
        let entry = self.rings[class as usize].waiting.front()?;
        Some(Turn { id: entry.id, allowance: entry.left, class, weight: entry.weight })
    }

    /// The channel sent a frame of `bytes`; `more` says whether it has more to send.
    pub(crate) fn charge(&mut self, turn: Turn, bytes: usize, more: bool) {
        let own = turn.class as usize;
        self.rings[own].passed_over = 0;
        for lower in &mut self.rings[own + 1..] {
            if !lower.waiting.is_empty() {
                lower.passed_over += 1;
            }
        }
        let waiting = &mut self.rings[own].waiting;
        if !more {
            waiting.pop_front();
        } else if let Some(entry) = waiting.front_mut() {
            entry.left = entry.left.saturating_sub(bytes);
            if entry.left < WEIGHT_UNIT {
                entry.left = Entry::turn(entry.weight);
                waiting.rotate_left(1);
            }
        }
        self.tidy(own);
    }

    /// The channel has nothing to send after all.
    pub(crate) fn remove(&mut self, turn: Turn) {
        self.rings[turn.class as usize].waiting.pop_front();
        self.tidy(turn.class as usize);
    }

    fn tidy(&mut self, class: usize) {
        if self.rings[class].waiting.is_empty() {
            self.rings[class].passed_over = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(serial: u64) -> ChannelId {
        ChannelId { serial, slot: 0, number: 1 }
    }

    fn run(scheduler: &mut Scheduler, frames: usize) -> Vec<u64> {
        (0..frames)
            .map(|_| {
                let turn = scheduler.peek().unwrap();
                scheduler.charge(turn, turn.allowance.min(crate::MAX_BODY), true);
                turn.id.serial
            })
            .collect()
    }

    #[test]
    fn equals_take_turns() {
        let mut scheduler = Scheduler::default();
        (0..3).for_each(|serial| scheduler.push(id(serial), Priority::default()));
        assert_eq!(run(&mut scheduler, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn weights_share_bytes_in_proportion() {
        let mut scheduler = Scheduler::default();
        let weights = [1, 16, 48];
        for (serial, weight) in (0..).zip(weights) {
            scheduler.push(id(serial), Priority { weight, ..Priority::default() });
        }
        let mut sent = [0; 3];
        for _ in 0..50_000 {
            let turn = scheduler.peek().unwrap();
            let bytes = turn.allowance.min(crate::MAX_BODY);
            sent[turn.id.serial as usize] += bytes;
            scheduler.charge(turn, bytes, true);
        }
        let per_weight = (0..3).map(|at| sent[at] / usize::from(weights[at]));
        let (low, high) = (per_weight.clone().min().unwrap(), per_weight.max().unwrap());
        assert!(high - low < low / 10, "{sent:?}");
    }

    #[test]
    fn urgent_goes_first_and_nobody_starves() {
        let mut scheduler = Scheduler::default();
        scheduler.push(id(2), Class::Background.into());
        scheduler.push(id(1), Class::Normal.into());
        scheduler.push(id(0), Class::Urgent.into());
        let order = run(&mut scheduler, 340);
        assert!(order[..32].iter().all(|serial| *serial == 0));
        assert!((8..=12).contains(&order.iter().filter(|serial| **serial == 1).count()), "{order:?}");
        assert!((8..=12).contains(&order.iter().filter(|serial| **serial == 2).count()), "{order:?}");
    }
}
