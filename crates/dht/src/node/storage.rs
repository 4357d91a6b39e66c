//! Handing stored values on to nodes that are nearer to their keys (`dht.md` 2.11, off by default).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Node;
use super::ops::Op;
use super::timers::Timer;
use crate::store::Origin;
use crate::{InfoHash, Value, types};

/// How often the storage is looked through; values with no more than this to live are not worth the way.
pub(super) const MAINTAIN_PERIOD: Duration = Duration::from_mins(10);
/// Values handed on in one round, so that a large storage does not go out in one burst.
const PER_ROUND: usize = 256;

impl Node {
    pub(super) fn maintain_storage(&mut self, now: Instant) {
        let families = self.families();
        self.hand_on_where(now, |node, key| {
            families.iter().all(|&family| node.is_far_from(now, family, key))
        });
        self.timers.set(Timer::Maintain, now + MAINTAIN_PERIOD);
    }

    /// Before the node goes: hands all that others stored here on. Drive it until [`Node::is_handing_on`] is false, or
    /// for as long as the program can wait.
    pub fn hand_over(&mut self, now: Instant) {
        self.hand_on_where(now, |_, _| true);
        self.settle(now);
    }

    /// Whether values are on their way to other nodes.
    pub fn is_handing_on(&self) -> bool {
        self.ops.values().any(|op| matches!(op, Op::Put(put) if put.hand_on))
    }

    fn hand_on_where(&mut self, now: Instant, which: impl Fn(&Self, &InfoHash) -> bool) {
        let unix = self.unix_seconds(now);
        let worth = |expires: Instant| expires.saturating_duration_since(now) > MAINTAIN_PERIOD;
        let remote = self.store.iter().filter(|(_, it)| it.origin != Origin::Local && worth(it.expires));
        let chosen: Vec<(InfoHash, Arc<Value>, Instant)> = remote
            .filter(|(key, _)| which(self, key))
            .take(PER_ROUND)
            .map(|(key, it)| (key, Arc::clone(&it.value), it.expires))
            .collect();
        for (key, value, expires) in chosen {
            let life = types::expiry(value.value_type());
            let age = life.saturating_sub(expires.saturating_duration_since(now));
            let created = unix.saturating_sub(age.as_secs().try_into().unwrap_or(i64::MAX));
            self.hand_on(now, key, value, created);
        }
    }
}
