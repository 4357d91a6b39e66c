//! Which channel sends next: by priority, and among equals in turn.

use std::collections::VecDeque;

use crate::{Placement, Priority};

/// Bytes that a channel may send before its turn ends: what its link sends in a millisecond, but at least eight datagrams and at
/// most a whole batch. Long turns are cheap, as keys and rings stay in the caches; others must not wait long for theirs.
#[inline]
pub(super) fn turn(rate: u64) -> i32 {
    (rate / 1000).clamp(8 * 1452, 1 << 16) as i32
}

/// Queues beyond which empty ones are forgotten.
const KEPT: usize = 32;

/// Channels that have something to send, in the order of their turns.
///
/// There is a queue for each pair of priority and placement in use, because channels of one placement are held up by the same
/// links: when they are, the whole queue is passed over at once. In a queue, channels that had nothing on their way when they
/// came go first: they are the ones that a full window does not hold up, and that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Highest priority first; among equals the one that is to be asked next.
    queues: Vec<Queue>,
}

#[derive(Debug)]
struct Queue {
    priority: Priority,
    placement: Placement,
    fresh: VecDeque<u32>,
    ring: VecDeque<u32>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.ring.is_empty()
    }
}

impl Schedule {
    /// Adds a channel, which must not be in any queue, at the end of its queue; `fresh` if nothing of it is on its way.
    pub(super) fn push(&mut self, slot: u32, priority: Priority, placement: Placement, fresh: bool) {
        let known =
            self.queues.iter().position(|queue| queue.priority == priority && queue.placement == placement);
        let at = known.unwrap_or_else(|| {
            if self.queues.len() >= KEPT {
                self.queues.retain(|queue| !queue.is_empty());
            }
            let at = self.queues.partition_point(|queue| queue.priority >= priority);
            self.queues
                .insert(at, Queue { priority, placement, fresh: VecDeque::new(), ring: VecDeque::new() });
            at
        });
        let queue = &mut self.queues[at];
        if fresh { &mut queue.fresh } else { &mut queue.ring }.push_back(slot);
    }

    /// Whether nobody has anything to send.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(Queue::is_empty)
    }

    /// How many queues there are: numbers below it name one.
    pub(super) fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Priority and placement of a queue.
    pub(super) fn class(&self, queue: usize) -> (Priority, Placement) {
        (self.queues[queue].priority, self.queues[queue].placement)
    }

    /// Whose turn it is in a queue.
    pub(super) fn front(&self, queue: usize) -> Option<u32> {
        let queue = &self.queues[queue];
        queue.fresh.front().or(queue.ring.front()).copied()
    }

    /// Takes the front of a queue out.
    pub(super) fn pop(&mut self, queue: usize) -> Option<u32> {
        let queue = &mut self.queues[queue];
        queue.fresh.pop_front().or_else(|| queue.ring.pop_front())
    }

    /// Ends the turn of the front of a queue.
    #[inline]
    pub(super) fn rotate(&mut self, queue: usize) {
        let queue = &mut self.queues[queue];
        if let Some(slot) = queue.fresh.pop_front().or_else(|| queue.ring.pop_front()) {
            queue.ring.push_back(slot);
        }
    }

    /// Lets another queue of the same priority be asked first next time.
    pub(super) fn yield_queue(&mut self, queue: usize) {
        let priority = self.queues[queue].priority;
        let same = self.queues[queue..].iter().take_while(|other| other.priority == priority).count();
        if same > 1 {
            self.queues[queue..queue + same].rotate_left(1);
        }
    }

    /// Forgets everybody.
    pub(super) fn clear(&mut self) {
        self.queues.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_priorities_come_first_and_equals_take_turns() {
        let mut schedule = Schedule::default();
        schedule.push(1, Priority::NORMAL, Placement::Aggregate, false);
        schedule.push(2, Priority::BACKGROUND, Placement::Aggregate, false);
        schedule.push(3, Priority::URGENT, Placement::Aggregate, false);
        schedule.push(4, Priority::NORMAL, Placement::Aggregate, false);
        let order: Vec<_> = (0..schedule.queues()).map(|queue| schedule.class(queue).0).collect();
        assert_eq!(order, [Priority::URGENT, Priority::NORMAL, Priority::BACKGROUND]);
        assert_eq!(schedule.front(1), Some(1));
        schedule.rotate(1);
        assert_eq!(schedule.pop(1), Some(4));
        assert_eq!(schedule.pop(1), Some(1));
        assert_eq!(schedule.pop(1), None);
    }

    #[test]
    fn what_is_fresh_goes_first_once() {
        let mut schedule = Schedule::default();
        schedule.push(1, Priority::NORMAL, Placement::Aggregate, false);
        schedule.push(2, Priority::NORMAL, Placement::Aggregate, true);
        assert_eq!(schedule.front(0), Some(2));
        schedule.rotate(0);
        assert_eq!(schedule.front(0), Some(1));
        schedule.rotate(0);
        assert_eq!(schedule.front(0), Some(2));
    }

    #[test]
    fn queues_of_one_priority_take_turns() {
        let mut schedule = Schedule::default();
        schedule.push(1, Priority::NORMAL, Placement::Aggregate, false);
        schedule.push(2, Priority::NORMAL, Placement::Duplicate, false);
        assert_eq!(schedule.front(0), Some(1));
        schedule.yield_queue(0);
        assert_eq!(schedule.front(0), Some(2));
    }

    #[test]
    fn empty_queues_are_forgotten_when_there_are_many() {
        let mut schedule = Schedule::default();
        for priority in 0..=255 {
            schedule.push(1, Priority(priority), Placement::Aggregate, false);
            let queue = (0..schedule.queues()).find(|queue| schedule.front(*queue).is_some()).unwrap();
            schedule.pop(queue);
        }
        assert!(schedule.queues() <= KEPT);
        assert!(schedule.is_empty());
    }
}
