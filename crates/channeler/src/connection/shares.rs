//! How much of what was written each channel may hold, and who may write next where many want to.
//!
//! Few channels share out what all of them may hold. Many of them would have little each, which costs: short turns, short
//! batches, and memory of all that has left the caches when it is sent. So where there are many, those who write streams take
//! turns: a channel that holds nothing may begin at once, and who has more waits until little is left to send. Then it writes
//! as much as it may send in one turn.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{Placement, Priority, channel::Load};

/// What every channel may hold, however many there are.
pub(super) const LEAST: u64 = 16 << 10;

/// Channels that hold something or wait, beyond which they take turns.
const CROWD: usize = 16;

/// Turns that wait to be sent, or are being written.
const TURNS: u64 = 4;

/// Who is to write and does not is not waited for longer than this.
const PATIENCE: Duration = Duration::from_millis(10);

/// Channels of one priority and placement are held up by the same links.
pub(super) type Key = (Priority, Placement);

#[derive(Debug)]
struct Class {
    key: Key,
    /// Channels that hold something, and sums of their loads.
    holders: usize,
    held: u64,
    unsent: u64,
    /// What those whose turn it is have not yet written, and since when there is such.
    granted: u64,
    since: Option<Instant>,
    /// Slots of those who wait for their turn.
    waiting: VecDeque<u32>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Highest priority first.
    classes: Vec<Class>,
}

impl Class {
    fn new(key: Key) -> Self {
        Self { key, holders: 0, held: 0, unsent: 0, granted: 0, since: None, waiting: VecDeque::new() }
    }

    fn is_crowded(&self) -> bool {
        self.holders + self.waiting.len() > CROWD
    }

    /// Whether so little is left to send that one more may write.
    fn has_room(&self, turn: u32) -> bool {
        self.unsent + self.granted < TURNS * u64::from(turn)
    }

    fn grant(&mut self, now: Instant, turn: u32) {
        self.granted += u64::from(turn);
        self.since.get_or_insert(now);
    }
}

impl Shares {
    fn find(&mut self, key: Key) -> Option<&mut Class> {
        self.classes.iter_mut().find(|class| class.key == key)
    }

    /// The class, which is made if there was nobody in it.
    #[inline]
    fn class(&mut self, key: Key) -> &mut Class {
        let known = self.classes.iter().position(|class| class.key == key);
        let at = known.unwrap_or_else(|| self.add(key));
        &mut self.classes[at]
    }

    #[cold]
    fn add(&mut self, key: Key) -> usize {
        self.classes.retain(|class| class.holders > 0 || !class.waiting.is_empty());
        let at = self.classes.partition_point(|class| class.key.0 >= key.0);
        self.classes.insert(at, Class::new(key));
        at
    }

    /// What a channel of this class holds has changed.
    #[inline]
    pub(super) fn update(&mut self, key: Key, before: Load, after: Load) {
        let class = self.class(key);
        class.holders = class.holders + usize::from(after.held > 0) - usize::from(before.held > 0);
        class.held = class.held + u64::from(after.held) - u64::from(before.held);
        class.unsent = class.unsent + u64::from(after.unsent) - u64::from(before.unsent);
    }

    /// How much a channel of this class may hold that has this load, of what all of a priority may hold together. It counts
    /// only those of its own priority and above, for it goes before all others.
    #[inline]
    pub(super) fn of(&self, (priority, _): Key, load: Load, all: u64) -> u64 {
        let above = self.classes.iter().take_while(|class| class.key.0 >= priority);
        let holders: u64 = above.map(|class| class.holders as u64).sum();
        (all / (holders + u64::from(load.held == 0))).max(LEAST.min(all))
    }

    /// Whether those of this class that write streams take turns.
    #[inline]
    pub(super) fn is_crowded(&self, key: Key) -> bool {
        self.classes.iter().any(|class| class.key == key && class.is_crowded())
    }

    /// How much a channel of a crowded class may hold in its turn. Those who cannot get rid of what they hold must not keep others from
    /// holding anything.
    pub(super) fn most(&self, (priority, _): Key, turn: u32, all: u64) -> u64 {
        let above = self.classes.iter().take_while(|class| class.key.0 >= priority);
        let held: u64 = above.map(|class| class.held).sum();
        if held + u64::from(turn) <= all { all } else { LEAST.min(all) }
    }

    /// Takes a turn to write so many bytes, if nobody waits for one and little is left to send.
    pub(super) fn take_turn(&mut self, now: Instant, key: Key, turn: u32) -> bool {
        let class = self.class(key);
        let free = class.waiting.is_empty() && class.has_room(turn);
        if free {
            class.grant(now, turn);
        }
        free
    }

    /// A channel waits for its turn.
    pub(super) fn wait(&mut self, key: Key, slot: u32) {
        self.class(key).waiting.push_back(slot);
    }

    /// It does so no longer.
    pub(super) fn leave(&mut self, key: Key, slot: u32) {
        if let Some(class) = self.find(key)
            && let Some(at) = class.waiting.iter().position(|waiting| *waiting == slot)
        {
            class.waiting.remove(at);
        }
    }

    /// Whose turn it is to write so many bytes.
    #[inline]
    pub(super) fn next(&mut self, now: Instant, turn: u32) -> Option<u32> {
        for class in &mut self.classes {
            if !class.waiting.is_empty() && (class.has_room(turn) || !class.is_crowded()) {
                class.grant(now, turn);
                return class.waiting.pop_front();
            }
        }
        None
    }

    /// So much of a turn was written, or will not be.
    #[inline]
    pub(super) fn spend(&mut self, key: Key, bytes: u32) {
        if let Some(class) = self.find(key) {
            class.granted = class.granted.saturating_sub(bytes.into());
            if class.granted == 0 {
                class.since = None;
            }
        }
    }

    /// When somebody was waited for long enough.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let wanted = self.classes.iter().filter(|class| !class.waiting.is_empty());
        wanted.filter_map(|class| class.since).min().and_then(|since| since.checked_add(PATIENCE))
    }

    /// Others get the turns that were not used.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for class in &mut self.classes {
            if class.since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE) {
                class.granted = 0;
                class.since = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 16 << 20;
    const TURN: u32 = 62_000;
    const NORMAL: Key = (Priority::NORMAL, Placement::Aggregate);
    const NOTHING: Load = Load { held: 0, unsent: 0 };

    fn load(held: u32, unsent: u32) -> Load {
        Load { held, unsent }
    }

    fn crowd(count: usize) -> Shares {
        let mut shares = Shares::default();
        for _ in 0..count {
            shares.update(NORMAL, NOTHING, load(1000, 0));
        }
        shares
    }

    #[test]
    fn those_of_a_priority_share_and_lower_ones_do_not_matter() {
        let mut shares = Shares::default();
        let held = load(1, 1);
        assert_eq!(shares.of(NORMAL, NOTHING, ALL), ALL);
        for _ in 0..4 {
            shares.update(NORMAL, NOTHING, held);
        }
        let background = (Priority::BACKGROUND, Placement::Aggregate);
        shares.update(background, NOTHING, held);
        assert_eq!(shares.of(NORMAL, held, ALL), ALL / 4);
        assert_eq!(shares.of(background, held, ALL), ALL / 5);
        let urgent = (Priority::URGENT, Placement::Duplicate);
        assert_eq!(shares.of(urgent, NOTHING, ALL), ALL);
        for _ in 0..4 {
            shares.update(NORMAL, held, NOTHING);
        }
        assert_eq!(shares.of(background, held, ALL), ALL);
    }

    #[test]
    fn no_share_is_too_small() {
        assert_eq!(crowd(4096).of(NORMAL, NOTHING, 32 << 20), LEAST);
    }

    #[test]
    fn in_a_crowd_those_who_wait_longest_write_next() {
        let now = Instant::now();
        let mut shares = crowd(CROWD);
        assert!(!shares.is_crowded(NORMAL));
        shares.update(NORMAL, NOTHING, load(9, 9));
        assert!(shares.is_crowded(NORMAL));
        for _ in 0..TURNS {
            assert!(shares.take_turn(now, NORMAL, TURN));
        }
        assert!(!shares.take_turn(now, NORMAL, TURN), "enough is about to be written");
        for slot in [7, 5, 6] {
            shares.wait(NORMAL, slot);
        }
        assert_eq!(shares.next(now, TURN), None);
        // One has written, and it was sent.
        shares.spend(NORMAL, TURN);
        assert_eq!(shares.next(now, TURN), Some(7));
        assert_eq!(shares.next(now, TURN), None);
        shares.leave(NORMAL, 5);
        shares.spend(NORMAL, TURN);
        assert!(!shares.take_turn(now, NORMAL, TURN), "nobody overtakes those who wait");
        assert_eq!(shares.next(now, TURN), Some(6));
        // Written, but not sent.
        shares.wait(NORMAL, 8);
        shares.update(NORMAL, NOTHING, load(TURN, TURN));
        shares.spend(NORMAL, TURN);
        assert_eq!(shares.next(now, TURN), None);
        shares.update(NORMAL, load(TURN, TURN), load(TURN, 0));
        assert_eq!(shares.next(now, TURN), Some(8));
    }

    #[test]
    fn who_does_not_use_its_turn_is_not_waited_for() {
        let now = Instant::now();
        let mut shares = crowd(CROWD + 1);
        while shares.take_turn(now, NORMAL, TURN) {}
        assert_eq!(shares.poll_timeout(), None, "nobody waits");
        shares.wait(NORMAL, 3);
        assert_eq!(shares.poll_timeout(), Some(now + PATIENCE));
        shares.handle_timeout(now + PATIENCE / 2);
        assert_eq!(shares.next(now, TURN), None);
        shares.handle_timeout(now + PATIENCE);
        assert_eq!(shares.next(now, TURN), Some(3));
    }

    #[test]
    fn those_who_cannot_send_hold_up_nobody_else() {
        let mut shares = crowd(CROWD);
        let stuck = load(ALL as u32 - TURN, 0);
        shares.update(NORMAL, NOTHING, stuck);
        assert_eq!(shares.most(NORMAL, TURN, ALL), LEAST, "nor do they take all");
        assert!(shares.take_turn(Instant::now(), NORMAL, TURN), "what may not be sent is not waited for");
        let other = (Priority::NORMAL, Placement::Duplicate);
        assert!(!shares.is_crowded(other), "others take other links");
        shares.update(NORMAL, stuck, load(1, 0));
        assert_eq!(shares.most(NORMAL, TURN, ALL), ALL);
    }

    #[test]
    fn when_the_crowd_has_gone_nobody_waits_any_longer() {
        let now = Instant::now();
        let mut shares = crowd(CROWD);
        shares.update(NORMAL, NOTHING, load(4 * TURN, 4 * TURN));
        shares.wait(NORMAL, 1);
        assert_eq!(shares.next(now, TURN), None);
        for _ in 0..2 {
            shares.update(NORMAL, load(1000, 0), NOTHING);
        }
        assert_eq!(shares.next(now, TURN), Some(1));
    }
}
