//! Channels whose keys are at hand. Keys take more memory than all else of an idle channel, and cost two microseconds to
//! derive again, so they are dropped after some seconds without use.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Seconds without use after which keys are dropped.
pub(super) const KEPT: u32 = 5;

/// The channels with keys at hand, about in the order of their last use.
#[derive(Debug)]
pub(super) struct Warm {
    began: Instant,
    ring: VecDeque<(u32, u32)>,
    /// By slot number: whether it is in the ring. So the ring is never longer than there are slots.
    member: Vec<bool>,
}

impl Warm {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, ring: VecDeque::new(), member: Vec::new() }
    }

    /// The clock that use is noted by.
    #[inline]
    pub(super) fn second(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.began).as_secs() as u32
    }

    /// A key of this channel was used in this second.
    #[inline]
    pub(super) fn note(&mut self, slot: u32, second: u32) {
        match self.member.get(slot as usize) {
            Some(true) => {}
            _ => self.add(slot, second),
        }
    }

    #[cold]
    fn add(&mut self, slot: u32, second: u32) {
        if self.member.len() <= slot as usize {
            self.member.resize(slot as usize + 1, false);
        }
        self.member[slot as usize] = true;
        self.ring.push_back((second, slot));
    }

    /// Takes one that was added long enough ago.
    pub(super) fn pop(&mut self, now: Instant) -> Option<u32> {
        let second = self.second(now);
        let (added, slot) = *self.ring.front()?;
        (added + KEPT <= second).then(|| {
            self.ring.pop_front();
            self.member[slot as usize] = false;
            slot
        })
    }

    /// When there is one to take.
    pub(super) fn next(&self) -> Option<Instant> {
        let (added, _) = self.ring.front()?;
        Some(self.began + Duration::from_secs(u64::from(added + KEPT)))
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.ring.clear();
        self.member.clear();
    }
}
