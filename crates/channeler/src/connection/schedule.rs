//! Which channel sends next: by priority, and among equals in turn.

use std::collections::VecDeque;

use crate::{Placement, Priority};

/// Bytes that a channel may send before its turn ends: about eight datagrams, so that a turn fills most of a batch.
pub(super) const QUANTUM: i32 = 8 * 1452;

/// Queues beyond which empty ones are forgotten.
const KEPT: usize = 32;

/// Channels that have something to send, in the order of their turns.
///
/// There is a queue for each pair of priority and placement in use, because channels of one placement are held up by the same
/// links: when they are, the whole queue is passed over at once.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Highest priority first; among equals the one that is to be asked next.
    queues: Vec<Queue>,
}

#[derive(Debug)]
struct Queue {
    priority: Priority,
    placement: Placement,
    ring: VecDeque<u32>,
}

impl Schedule {
    /// Adds a channel, which must not be in any queue, at the end of its queue.
    pub(super) fn push(&mut self, slot: u32, priority: Priority, placement: Placement) {
        let known = self.queues.iter_mut().find(|queue| queue.priority == priority && queue.placement == placement);
        if let Some(queue) = known {
            queue.ring.push_back(slot);
            return;
        }
        if self.queues.len() >= KEPT {
            self.queues.retain(|queue| !queue.ring.is_empty());
        }
        let at = self.queues.partition_point(|queue| queue.priority >= priority);
        self.queues.insert(at, Queue { priority, placement, ring: VecDeque::from([slot]) });
    }

    /// Whether nobody has anything to send.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.ring.is_empty())
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
        self.queues[queue].ring.front().copied()
    }

    /// How many wait in a queue.
    pub(super) fn len(&self, queue: usize) -> usize {
        self.queues[queue].ring.len()
    }

    /// Takes the front of a queue out.
    pub(super) fn pop(&mut self, queue: usize) -> Option<u32> {
        self.queues[queue].ring.pop_front()
    }

    /// Ends the turn of the front of a queue. Queues of the same priority take turns, too.
    pub(super) fn rotate(&mut self, queue: usize) {
        let ring = &mut self.queues[queue].ring;
        if ring.len() > 1 {
            ring.rotate_left(1);
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
        schedule.push(1, Priority::NORMAL, Placement::Aggregate);
        schedule.push(2, Priority::BACKGROUND, Placement::Aggregate);
        schedule.push(3, Priority::URGENT, Placement::Aggregate);
        schedule.push(4, Priority::NORMAL, Placement::Aggregate);
        let order: Vec<_> = (0..schedule.queues()).map(|queue| schedule.class(queue).0).collect();
        assert_eq!(order, [Priority::URGENT, Priority::NORMAL, Priority::BACKGROUND]);
        assert_eq!(schedule.front(1), Some(1));
        schedule.rotate(1);
        assert_eq!(schedule.pop(1), Some(4));
        assert_eq!(schedule.pop(1), Some(1));
        assert_eq!(schedule.pop(1), None);
    }

    #[test]
    fn queues_of_one_priority_take_turns() {
        let mut schedule = Schedule::default();
        schedule.push(1, Priority::NORMAL, Placement::Aggregate);
        schedule.push(2, Priority::NORMAL, Placement::Duplicate);
        assert_eq!(schedule.front(0), Some(1));
        schedule.yield_queue(0);
        assert_eq!(schedule.front(0), Some(2));
    }

    #[test]
    fn empty_queues_are_forgotten_when_there_are_many() {
        let mut schedule = Schedule::default();
        for priority in 0..=255 {
            schedule.push(1, Priority(priority), Placement::Aggregate);
            let queue = (0..schedule.queues()).find(|queue| schedule.front(*queue).is_some()).unwrap();
            schedule.pop(queue);
        }
        assert!(schedule.queues() <= KEPT);
        assert!(schedule.is_empty());
    }
}
