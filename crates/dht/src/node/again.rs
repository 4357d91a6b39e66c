//! Looking again whether nearer nodes have come, where a search keeps something near its key (`dht.md` 2.7).
//!
//! Whoever joins near a key is not told what belongs there or who listens, and who keeps it there hears of newcomers
//! only by chance, unless they are near himself. So in a network that grows, or comes together again after an outage,
//! it would stay on nodes that nobody asks any more, until all are asked anew after ten minutes. Therefore one of the
//! nearest nodes is asked again soon after a new one was found, and ever more rarely while there is nothing new.

use std::time::{Duration, Instant};

use super::Node;
use super::search::{Heads, SYNC_TIME, Search, SearchKey};

/// The first look comes so long after a node was new.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// When a search looks again.
#[derive(Debug)]
pub(super) struct Again {
    pause: Duration,
    due: Option<Instant>,
}

impl Default for Again {
    fn default() -> Self {
        Self { pause: FIRST_PAUSE, due: None }
    }
}

impl Again {
    /// A node that was not known here has answered: there may be more of them.
    pub(super) fn found(&mut self) {
        *self = Self::default();
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to look now. The next time is set.
    fn is_due(&mut self, now: Instant) -> bool {
        match self.due {
            Some(due) if now < due => return false,
            Some(_) => self.pause = (self.pause * 2).min(SYNC_TIME),
            None => {}
        }
        self.due.replace(now + self.pause).is_some()
    }
}

impl Node {
    /// Asks one of the nearest nodes, each in its turn, if it is time.
    pub(super) fn look_again(&mut self, now: Instant, key: SearchKey, search: &mut Search, heads: &Heads) {
        if !search.keeps() {
            search.again = Again::default();
            return;
        }
        if !heads.synced || !search.again.is_due(now) {
            return;
        }
        let free = |place: &usize| search.members[*place].asking == 0;
        let longest_ago = heads.nearest.iter().copied().filter(free);
        let Some(place) = longest_ago.min_by_key(|&place| search.members[place].synced_until()) else {
            return;
        };
        if self.find(now, key, search.members[place].id) {
            search.members[place].asking += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_ever_more_rarely_until_something_is_new() {
        let start = Instant::now();
        let mut again = Again::default();
        let mut looks = Vec::new();
        let until = |again: &mut Again, from: u64, to: u64, looks: &mut Vec<u64>| {
            looks.clear();
            looks.extend((from..to).filter(|&second| again.is_due(start + Duration::from_secs(second))));
        };
        until(&mut again, 0, 3600, &mut looks);
        assert_eq!(looks, [5, 15, 35, 75, 155, 315, 635, 1235, 1835, 2435, 3035]);
        again.found();
        until(&mut again, 3600, 3700, &mut looks);
        assert_eq!(looks, [3605, 3615, 3635, 3675]);
    }
}
