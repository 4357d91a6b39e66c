//! The largest packet that a path carries (DPLPMTUD, RFC 8899).
//!
//! Starts at the size that every path carries, tries the largest that is wanted at once, since most paths are Ethernet all
//! the way, and halves the interval between the two if that fails. A size that stops to arrive is left at the first sign,
//! and tried again right after: a mistake costs one round trip of smaller packets.

use std::time::{Duration, Instant};

/// Attempts per size (RFC 8899, section 5.1.2).
const MAX_PROBES: u8 = 3;
/// Intervals shorter than this are not worth a probe.
const RESOLUTION: u16 = 16;
/// How long until a larger size is tried again (RFC 8899, section 5.1.1).
const RAISE: Duration = Duration::from_mins(10);
/// Large packets lost in succession, while smaller and later ones arrive, that show a hole.
const HOLE: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The path is not validated, or packets are not datagrams.
    Off,
    /// `high` is the largest size not known to fail; `probe` the one that is tried, `lost` times in vain.
    Searching { high: u16, probe: u16, lost: u8, in_flight: bool },
    /// As large as it gets, until then.
    Done(Instant),
}

#[derive(Debug)]
pub(super) struct MtuSearch {
    /// The largest size known to arrive.
    current: u16,
    base: u16,
    ceiling: u16,
    phase: Phase,
    /// Large packets lost since the last one that arrived, and the newest of them.
    large_lost: u32,
    large_lost_at: u64,
    /// The newest large packet that arrived, plus one.
    large_arrived: u64,
    /// The newest small packet that arrived, plus one.
    small_arrived: u64,
    /// A probe timeout came since a large one arrived.
    silent: bool,
}

impl MtuSearch {
    pub(super) fn new(base: u16, ceiling: u16) -> Self {
        Self {
            current: base,
            base,
            ceiling: ceiling.max(base),
            phase: Phase::Off,
            large_lost: 0,
            large_lost_at: 0,
            large_arrived: 0,
            small_arrived: 0,
            silent: false,
        }
    }

    /// Size of packets on a stream, which carries any.
    pub(super) fn fixed(size: u16) -> Self {
        let mut fixed = Self::new(size, size);
        fixed.base = 0;
        fixed
    }

    #[inline]
    pub(super) fn current(&self) -> u16 {
        self.current
    }

    pub(super) fn base(&self) -> u16 {
        self.base
    }

    /// The peer takes no more than this.
    pub(super) fn limit(&mut self, most: u16) {
        self.ceiling = self.ceiling.min(most.max(self.base));
        self.current = self.current.min(self.ceiling);
    }

    /// The path is validated: search begins.
    pub(super) fn start(&mut self) {
        if self.phase == Phase::Off && self.base > 0 {
            self.search(self.ceiling);
        }
    }

    /// The path may be another one.
    pub(super) fn restart(&mut self) {
        if self.base > 0 {
            *self = Self::new(self.base, self.ceiling);
        }
    }

    /// The time has come to try larger sizes again.
    pub(super) fn start_over(&mut self) {
        self.search(self.ceiling);
    }

    fn search(&mut self, probe: u16) {
        self.phase = Phase::Searching { high: self.ceiling, probe, lost: 0, in_flight: false };
    }

    /// The size to try now, if any.
    pub(super) fn probe(&mut self, now: Instant) -> Option<u16> {
        let Phase::Searching { high, probe, in_flight, .. } = self.phase else { return None };
        if in_flight {
            return None;
        }
        if high < self.current + RESOLUTION.min(self.ceiling - self.current).max(1) {
            self.phase = Phase::Done(now + RAISE);
            return None;
        }
        Some(probe)
    }

    /// When a search begins again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Done(again) => Some(again),
            _ => None,
        }
    }

    pub(super) fn on_probe_sent(&mut self) {
        if let Phase::Searching { in_flight, .. } = &mut self.phase {
            *in_flight = true;
        }
    }

    /// A probe of this size arrived. Whether packets may be larger now.
    pub(super) fn on_probe_acked(&mut self, pn: u64, size: u16) -> bool {
        self.on_acked(pn, size);
        let larger = size > self.current;
        if let Phase::Searching { high, probe, lost, in_flight } = &mut self.phase {
            if larger {
                self.current = size;
                *probe = middle(size, *high);
                *lost = 0;
            }
            *in_flight = false;
        }
        larger
    }

    pub(super) fn on_probe_lost(&mut self, size: u16) {
        if let Phase::Searching { high, probe, lost, in_flight } = &mut self.phase {
            *in_flight = false;
            if size != *probe {
                return;
            }
            *lost += 1;
            if *lost >= MAX_PROBES {
                *high = size - 1;
                *probe = middle(self.current, *high);
                *lost = 0;
            }
        }
    }

    #[inline]
    pub(super) fn on_acked(&mut self, pn: u64, size: u16) {
        if size > self.base {
            self.large_arrived = self.large_arrived.max(pn + 1);
            if self.large_arrived > self.large_lost_at {
                self.large_lost = 0;
                self.silent = false;
            }
        } else {
            self.small_arrived = self.small_arrived.max(pn + 1);
        }
    }

    #[inline]
    pub(super) fn on_lost(&mut self, pn: u64, size: u16) {
        if size > self.base && pn >= self.large_arrived {
            self.large_lost += 1;
            self.large_lost_at = self.large_lost_at.max(pn);
        }
    }

    /// Nothing was heard for a probe timeout.
    pub(super) fn on_probe_timeout(&mut self) {
        self.silent = true;
    }

    /// Whether large packets stopped to arrive while small ones do; then they are small from now on, and the old size is
    /// the first that is tried.
    pub(super) fn found_hole(&mut self) -> bool {
        if self.large_lost == 0 || self.small_arrived <= self.large_lost_at || self.current == self.base {
            return false;
        }
        if !self.silent && self.large_lost < HOLE {
            return false;
        }
        let before = self.current;
        self.current = self.base;
        self.large_lost = 0;
        self.silent = false;
        self.search(before);
        true
    }
}

fn middle(low: u16, high: u16) -> u16 {
    low + (high - low).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches on a path that carries `path` bytes; the sizes that were tried.
    fn search(search: &mut MtuSearch, now: Instant, path: u16) -> Vec<u16> {
        let mut tried = Vec::new();
        while let Some(size) = search.probe(now) {
            search.on_probe_sent();
            assert_eq!(search.probe(now), None, "one at a time");
            if size <= path {
                search.on_probe_acked(1000 + tried.len() as u64, size);
            } else {
                search.on_probe_lost(size);
            }
            tried.push(size);
            assert!(tried.len() < 50);
        }
        tried
    }

    #[test]
    fn ethernet_needs_one_probe() {
        let now = Instant::now();
        let mut mtu = MtuSearch::new(1200, 1452);
        assert_eq!(mtu.probe(now), None, "not before validation");
        mtu.start();
        assert_eq!(search(&mut mtu, now, 1452), [1452]);
        assert_eq!(mtu.current(), 1452);
        assert_eq!(mtu.probe(now + RAISE), None, "nothing above");
    }

    #[test]
    fn any_path_is_found_within_the_resolution() {
        for path in (1200..=1500).step_by(7) {
            let now = Instant::now();
            let mut mtu = MtuSearch::new(1200, 1452);
            mtu.start();
            let tried = search(&mut mtu, now, path);
            assert!(mtu.current() <= path.min(1452));
            assert!(mtu.current() + RESOLUTION > path.min(1452), "{path}: {}", mtu.current());
            assert!(tried.len() <= 20, "{tried:?}");
            if path < 1400 {
                assert_eq!(mtu.deadline(), Some(now + RAISE));
                mtu.start_over();
                assert!(!search(&mut mtu, now + RAISE, path).is_empty(), "it tries again later");
            }
        }
    }

    #[test]
    fn lost_probe_is_tried_again() {
        let now = Instant::now();
        let mut mtu = MtuSearch::new(1200, 1452);
        mtu.start();
        for _ in 0..2 {
            assert_eq!(mtu.probe(now), Some(1452));
            mtu.on_probe_sent();
            mtu.on_probe_lost(1452);
        }
        assert_eq!(mtu.probe(now), Some(1452));
        mtu.on_probe_sent();
        assert!(mtu.on_probe_acked(3, 1452));
    }

    fn large(now: Instant) -> MtuSearch {
        let mut mtu = MtuSearch::new(1200, 1452);
        mtu.start();
        search(&mut mtu, now, 1452);
        mtu
    }

    #[test]
    fn hole_after_silence_needs_one_loss() {
        let now = Instant::now();
        let mut mtu = large(now);
        mtu.on_probe_timeout();
        mtu.on_lost(2000, 1452);
        assert!(!mtu.found_hole(), "nothing arrives at all");
        mtu.on_acked(2001, 1200);
        assert!(mtu.found_hole());
        assert_eq!((mtu.current(), mtu.probe(now)), (1200, Some(1452)));
        assert_eq!(search(&mut mtu, now, 1300)[..3], [1452, 1452, 1452]);
        assert!(mtu.current() > 1270);
    }

    #[test]
    fn hole_in_a_mixture_needs_four_and_none_that_arrives() {
        let now = Instant::now();
        let mut mtu = large(now);
        for pn in 0..3 {
            mtu.on_lost(2000 + 2 * pn, 1452);
            mtu.on_acked(2001 + 2 * pn, 300);
            assert!(!mtu.found_hole());
        }
        mtu.on_acked(2010, 1400);
        mtu.on_lost(2011, 1452);
        mtu.on_acked(2012, 300);
        assert!(!mtu.found_hole(), "large ones arrive");
        for pn in 0..3 {
            mtu.on_lost(2013 + 2 * pn, 1452);
            mtu.on_acked(2014 + 2 * pn, 300);
        }
        assert!(mtu.found_hole());
    }

    #[test]
    fn streams_have_one_size() {
        let mut mtu = MtuSearch::fixed(16_384);
        mtu.start();
        assert_eq!((mtu.current(), mtu.probe(Instant::now())), (16_384, None));
        mtu.limit(9000);
        assert_eq!(mtu.current(), 9000);
    }
}
