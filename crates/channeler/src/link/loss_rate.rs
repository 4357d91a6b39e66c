//! How many of the latest packets were lost.

/// Packets per half: the rate is over the last 500 to 1000.
const HALF: u32 = 500;

#[derive(Debug, Default)]
pub(super) struct LossRate {
    /// Packets and losses: of the half that is being filled, and of the one before.
    halves: [(u32, u32); 2],
}

impl LossRate {
    #[inline]
    pub(super) fn on_acked(&mut self) {
        self.count(0);
    }

    #[inline]
    pub(super) fn on_lost(&mut self) {
        self.count(1);
    }

    #[inline]
    fn count(&mut self, lost: u32) {
        if self.halves[0].0 == HALF {
            self.halves = [(0, 0), self.halves[0]];
        }
        self.halves[0].0 += 1;
        self.halves[0].1 += lost;
    }

    /// A loss was none.
    pub(super) fn on_spurious(&mut self) {
        let half = usize::from(self.halves[0].1 == 0);
        self.halves[half].1 = self.halves[half].1.saturating_sub(1);
    }

    /// In thousandths.
    pub(super) fn thousandths(&self) -> u16 {
        let [new, old] = self.halves;
        (1000 * (new.1 + old.1) / (new.0 + old.0).max(1)) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_latest() {
        let mut rate = LossRate::default();
        assert_eq!(rate.thousandths(), 0);
        (0..1000).for_each(|i| if i % 10 == 0 { rate.on_lost() } else { rate.on_acked() });
        assert_eq!(rate.thousandths(), 100);
        rate.on_spurious();
        assert_eq!(rate.thousandths(), 99);
        (0..1000).for_each(|_| rate.on_acked());
        assert_eq!(rate.thousandths(), 0);
    }
}
