//! Large values leave piece by piece.
//!
//! A value of 64 KiB is some fifty datagrams, and a put sends it to eight nodes at once. Sent in one go they overflow
//! the receive buffers of nodes, and the queue of the line before those; the value then comes again after a
//! second, all of it. So parts of values wait for their turn, and what follows them to the same node behind them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use towline_dht::fragment::PART_BYTES;
use towline_dht::node::Transmit;

/// Datagrams from this size on are parts of values, but for the last one.
const LARGE: usize = PART_BYTES;
/// Parts that go to a node at once: a fifth of the buffer that Linux gives a socket by default.
const BURST: usize = 16;
/// Then so many with each tick: 5 MB/s, so that the largest value takes 9 ms.
const PER_TICK: usize = 4;
const TICK: Duration = Duration::from_millis(1);
/// Nodes with a recent burst. Sending to more at once, we are slow enough by that.
const MAX_LANES: usize = 1024;
/// Parts waiting for all nodes together: about 20 MB. More are lost, as in a full queue of the network.
const MAX_WAITING: usize = 16 * 1024;

/// The parts that wait, by destination.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    lanes: BTreeMap<SocketAddr, Lane>,
    waiting: usize,
}

#[derive(Debug)]
struct Lane {
    waiting: VecDeque<Transmit>,
    credit: usize,
    /// When credit was last counted.
    counted: Instant,
}

impl Lane {
    fn count(&mut self, now: Instant) {
        let ticks = now.saturating_duration_since(self.counted).as_millis();
        let earned = usize::try_from(ticks).unwrap_or(usize::MAX).saturating_mul(PER_TICK);
        if earned > 0 {
            self.credit = self.credit.saturating_add(earned).min(BURST);
            self.counted = now;
        }
    }
}

impl Pacer {
    /// The datagram, if it may go now; else it waits.
    pub(super) fn admit(&mut self, now: Instant, transmit: Transmit) -> Option<Transmit> {
        let behind_others = self.lanes.get(&transmit.to).is_some_and(|lane| !lane.waiting.is_empty());
        // The last part of a value is small too, and old nodes drop what does not come in order.
        if transmit.payload.len() < LARGE && !behind_others {
            return Some(transmit);
        }
        if self.lanes.len() >= MAX_LANES && !self.lanes.contains_key(&transmit.to) {
            self.lanes.retain(|_, lane| {
                lane.count(now);
                !lane.waiting.is_empty() || lane.credit < BURST
            });
            if self.lanes.len() >= MAX_LANES {
                return Some(transmit);
            }
        }
        let fresh = || Lane { waiting: VecDeque::new(), credit: BURST, counted: now };
        let lane = self.lanes.entry(transmit.to).or_insert_with(fresh);
        lane.count(now);
        if lane.waiting.is_empty() && lane.credit > 0 {
            lane.credit -= 1;
            return Some(transmit);
        }
        if self.waiting < MAX_WAITING {
            self.waiting += 1;
            lane.waiting.push_back(transmit);
        }
        None
    }

    /// The datagrams whose turn has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Transmit> {
        let mut due = Vec::new();
        if self.waiting == 0 {
            return due;
        }
        for lane in self.lanes.values_mut().filter(|lane| !lane.waiting.is_empty()) {
            lane.count(now);
            let count = lane.credit.min(lane.waiting.len());
            lane.credit -= count;
            self.waiting -= count;
            due.extend(lane.waiting.drain(..count));
        }
        due
    }

    /// When the next turn comes.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        let waiting = self.lanes.values().filter(|lane| !lane.waiting.is_empty());
        waiting.map(|lane| lane.counted + TICK).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(host: u8, number: u16) -> Transmit {
        let mut payload = vec![0; LARGE];
        payload[..2].copy_from_slice(&number.to_be_bytes());
        Transmit { to: SocketAddr::from(([10, 0, 0, host], 4222)), payload: payload.into() }
    }

    #[test]
    fn parts_leave_in_order_and_not_all_at_once() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        let mut sent: Vec<_> = (0..49).filter_map(|number| pacer.admit(start, part(1, number))).collect();
        assert_eq!(sent.len(), BURST);
        let small = |host| Transmit { payload: vec![0; 100].into(), ..part(host, 0) };
        assert!(pacer.admit(start, small(3)).is_some(), "small ones do not wait");
        assert!(pacer.admit(start, part(2, 0)).is_some(), "nor do those to others");
        assert!(pacer.admit(start, small(1)).is_none(), "but none overtakes");
        let mut now = start;
        while let Some(at) = pacer.poll_timeout() {
            assert!(at > now && pacer.take_due(now).is_empty());
            now = at;
            let due = pacer.take_due(now);
            assert_eq!(due.len(), PER_TICK.min(50 - sent.len()));
            sent.extend(due);
        }
        assert_eq!(now, start + 9 * TICK);
        assert_eq!(sent.pop(), Some(small(1)));
        assert_eq!(sent, (0..49).map(|number| part(1, number)).collect::<Vec<_>>());
        // Credit comes back.
        now += 4 * TICK;
        assert_eq!((0..50).filter_map(|number| pacer.admit(now, part(1, number))).count(), BURST);
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        for _ in 0..2 * MAX_WAITING {
            pacer.admit(start, part(1, 0));
        }
        assert_eq!(pacer.waiting, MAX_WAITING);
        for number in 0..2 * MAX_LANES as u32 {
            let to = SocketAddr::from((std::net::Ipv4Addr::from_bits(number), 1));
            assert!(pacer.admit(start, Transmit { to, ..part(1, 0) }).is_some());
        }
        assert_eq!(pacer.lanes.len(), MAX_LANES);
        let later = start + 10 * TICK;
        pacer.admit(later, part(200, 0));
        assert_eq!(pacer.lanes.len(), 2);
    }
}
